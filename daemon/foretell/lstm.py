"""Which code steps the LSTM: our own kernel where it can be compiled and agrees with PyTorch, else PyTorch.

The result of a row never depends on the other rows of its batch, nor on whether its steps are made one by one or
several in a call. The kernel has that by construction (`foretell.kernel`), the fallback because of how oneDNN works
(`foretell.torch_step`); for the kernel it is tried at start.
"""

from __future__ import annotations

import enum
from itertools import pairwise
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

from foretell.arena import Arena
from foretell.choices import Precision
from foretell.torch_step import TorchStepper

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from foretell.model import Model

_TOLERANCE: Final = {Precision.FLOAT32: 1e-5, Precision.BFLOAT16: 0.05}
"""By how much the kernel may differ from nn.LSTM after a few steps, states being within -1 and 1."""


class Kernel(enum.StrEnum):
    """Which code steps the LSTM; a label of `foretell_model_info`."""

    NATIVE = "native"
    TORCH = "torch"


class Stepper(Protocol):
    """Steps the rows of arenas of one model; knows neither streams nor slots.

    num_threads: how many step a large batch. row_ns: what a time step of a row costs in a batch, known once warmed up.
    errors: of a calibrated model the sums of `calibrate.Calibrated.errors` so far, of the forecasts and of persistence.
    """

    num_threads: int
    row_ns: int
    errors: tuple[float, float]

    def advance(
        self,
        arena: Arena,
        rows: NDArray[np.int64],
        values: NDArray[np.float32],
        observed: NDArray[np.bool_] | None,
        forecast: NDArray[np.float32],
        surprise: NDArray[np.float32] | None = None,
    ) -> NDArray[np.bool_] | None:
        """Step distinct `rows` i64 [rows] by values float32 [steps, rows, channels], all finite.

        observed: bool as `values`, None where all were. What follows each step goes to forecast float32 [steps, rows,
        quantiles, channels]; how unexpected the values were goes to surprise, float32 as values, which a calibrated
        model needs and no other. All arrays are C-contiguous. Gives the rows, bool [rows], of which an output of the
        model is not finite, None for none; all of theirs in the arena is as it was, their forecasts have no meaning.
        The others' guess is the median of their last forecast, or their last values where these are of other channels.
        """
        ...

    def warm_up(self, arena: Arena) -> None:
        """Do what takes longer the first time, on an arena of which all rows are empty and stay so."""
        ...


def choose_stepper(
    model: Model, precision: Precision = Precision.FLOAT32, num_threads: int = 1
) -> tuple[Stepper, Kernel, str]:
    """What steps the model here, and why it was chosen."""
    plain = TorchStepper(model, precision)
    try:
        from foretell.native import NativeKernel, NotNativeError
    except ImportError as error:
        return plain, Kernel.TORCH, f"llvmlite cannot be used here: {error}"
    try:
        weights = {name: tensor.numpy() for name, tensor in model.weights.items()}
        native = NativeKernel(model.spec, weights, precision, num_threads)
    except NotNativeError as error:
        return plain, Kernel.TORCH, str(error)
    except RuntimeError as error:  # what llvmlite raises where LLVM refuses
        return plain, Kernel.TORCH, f"the kernel cannot be compiled here: {str(error).splitlines()[0]}"
    if reason := _find_disagreement(model, native, plain, _TOLERANCE[precision]):
        return plain, Kernel.TORCH, reason
    return native, Kernel.NATIVE, "compiled for this processor, agrees with nn.LSTM"


def _find_disagreement(model: Model, native: Stepper, plain: Stepper, tolerance: float) -> str:
    """In which way the kernel is not PyTorch, or a row is not the same in any batch; nothing where all is well."""
    spec, num_steps, num_rows = model.spec, 5, 40
    rng = np.random.default_rng(1)
    rows = rng.permutation(num_rows)
    values = rng.normal(size=(num_steps, num_rows, spec.input_channels)).astype(np.float32)
    arenas = [Arena(model, num_rows) for _ in range(3)]
    for state in (*arenas[0].h, *arenas[0].c):
        state[:] = np.tanh(rng.normal(size=state.shape))
    for arena in arenas[1:]:
        arena.state[:] = arenas[0].state
    shape = (num_steps, num_rows, len(spec.quantiles), spec.output_channels)
    together, expected, apart = (np.empty(shape, np.float32) for _ in range(3))
    surprise = np.empty_like(values)
    native.advance(arenas[0], rows, values, None, together, surprise)
    plain.advance(arenas[1], rows, values, None, expected, surprise)
    for start, end in pairwise((0, 1, 4, 17, num_rows)):
        for step in range(num_steps):
            part = np.ascontiguousarray(values[step : step + 1, start:end])
            forecast = np.empty((1, end - start, *shape[2:]), np.float32)
            native.advance(arenas[2], rows[start:end], part, None, forecast, np.empty_like(part))
            apart[step, start:end] = forecast[0]
    scale = float(np.abs(expected[np.isfinite(expected)]).max(initial=1.0))
    if not np.allclose(arenas[0].state, arenas[1].state, rtol=0.0, atol=tolerance):
        return "the kernel's states are not those of nn.LSTM here"
    if not np.allclose(together, expected, rtol=0.0, atol=tolerance * scale, equal_nan=True):
        return "the kernel's forecasts are not those of nn.LSTM here"
    if not np.array_equal(together, apart, equal_nan=True) or not np.array_equal(
        arenas[0].state, arenas[2].state
    ):
        return "the kernel's rows depend on their batch here"
    return ""
