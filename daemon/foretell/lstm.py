"""How the LSTM is stepped: by our own kernel where it can be compiled and agrees with PyTorch, else by PyTorch.

The result of a row never depends on the other rows of its batch, nor on whether its steps are made one by one or
several in a call. The kernel has that by construction (`foretell.kernel`). `nn.LSTM` has it from two rows on, as it
runs on a CPU; one row alone takes several steps with other bits in the layers above the first. So it is never given
one row.
"""

from __future__ import annotations

import enum
from itertools import pairwise
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np
import torch

from foretell.arena import Arena
from foretell.config import Precision

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from foretell.model import Model

MAX_STEPS: Final = 256
"""Time steps that are made in one call."""

MAX_ROWS: Final = 4096
"""Rows, steps included, that are computed in one call: beyond about 6,000 the working set falls out of the cache."""

_TOLERANCE: Final = {Precision.FLOAT32: 1e-5, Precision.BFLOAT16: 0.05}
"""By how much the kernel may differ from nn.LSTM after a few steps, states being within -1 and 1."""


class Kernel(enum.StrEnum):
    """Which code steps the LSTM; a label of `foretell_model_info`."""

    NATIVE = "native"
    TORCH = "torch"


class Stepper(Protocol):
    """Steps the rows of arenas of one model; knows neither streams nor slots."""

    def advance(
        self, arena: Arena, rows: NDArray[np.int64], x: NDArray[np.float32], y: NDArray[np.float32]
    ) -> NDArray[np.bool_] | None:
        """Step distinct `rows` by x [steps, rows, input_size]; outputs go to y [steps, rows, outputs].

        All arrays are C-contiguous. Gives the rows, bool [rows], of which an output is not finite, None for none; their
        state is as it was.
        """
        ...

    def warm_up(self, arena: Arena) -> None:
        """Run what takes longer the first time, on an arena of which all rows are empty and stay so."""
        ...


class TorchStepper:
    """The public `nn.LSTM` between gather and scatter, and the output layer as products and sums."""

    def __init__(self, model: Model, precision: Precision = Precision.FLOAT32) -> None:
        self._model = model
        self.lstm = plain_lstm(model)
        self._weight, self._bias = model.weights["linear.weight"], model.weights["linear.bias"]
        if precision is Precision.BFLOAT16:
            for weights in self.lstm.parameters():
                weights.data = weights.bfloat16().float()
            self._weight = self._weight.bfloat16().float()
        self._hidden_size = model.spec.hidden_size

    @torch.inference_mode()
    def advance(
        self, arena: Arena, rows: NDArray[np.int64], x: NDArray[np.float32], y: NDArray[np.float32]
    ) -> NDArray[np.bool_] | None:
        """See `Stepper`."""
        num_rows, bucket = rows.size, bucket_of(rows.size)
        padded = np.zeros((len(x), bucket, x.shape[2]), np.float32)
        padded[:, :num_rows] = x
        h, c = (torch.stack([_gather(part, rows, bucket) for part in parts]) for parts in (arena.h, arena.c))
        out, (h, c) = self.lstm(torch.from_numpy(padded), (h, c))
        # Not F.linear: with few rows or one output it takes other code, which rounds otherwise.
        outputs = (out.view(-1, 1, self._hidden_size) * self._weight).sum(dim=2) + self._bias
        y[:] = outputs.view(len(x), bucket, -1)[:, :num_rows].numpy()
        is_good: NDArray[np.bool_] = np.asarray(np.isfinite(y).all(axis=(0, 2)))
        good = rows[is_good]
        for parts, new in ((arena.h, h), (arena.c, c)):
            for part, layer in zip(parts, new.numpy(), strict=True):
                part[good] = layer[:num_rows][is_good]
        return None if is_good.all() else ~is_good

    def warm_up(self, arena: Arena) -> None:
        """See `Stepper`. oneDNN builds a primitive for each size that it meets (0.3 ms)."""
        spec = self._model.spec
        for bucket in BUCKETS:
            rows = np.arange(min(bucket, len(arena.state)))
            x = np.zeros((1, rows.size, spec.input_size), np.float32)
            self.advance(arena, rows, x, np.empty((1, rows.size, len(self._bias)), np.float32))
            arena.restart(rows)


def plain_lstm(model: Model) -> torch.nn.LSTM:
    """The model's LSTM as PyTorch's own module, time-major: the reference that the kernel is held against."""
    spec = model.spec
    lstm = torch.nn.LSTM(spec.input_size, spec.hidden_size, spec.num_layers)
    lstm.load_state_dict(_without_prefix(model.weights, "lstm."))
    return lstm.eval().requires_grad_(requires_grad=False)


BUCKETS: Final = tuple(sorted({2, 4, *(m << k for m in (4, 5, 6, 7) for k in range(1, 10)), MAX_ROWS}))
"""Batch sizes that PyTorch is ever given; other sizes are padded up to the next, a quarter more at most."""


def bucket_of(num_rows: int) -> int:
    """The smallest bucket that holds `num_rows` rows (1 to `MAX_ROWS`)."""
    return _BUCKET_OF[num_rows]


_BUCKET_OF: Final[list[int]] = [
    next(bucket for bucket in BUCKETS if bucket >= rows) for rows in range(MAX_ROWS + 1)
]


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
    """In which way the kernel is not nn.LSTM, or a row is not the same in any batch; nothing where all is well."""
    spec, num_steps, num_rows = model.spec, 5, 40
    rng = np.random.default_rng(1)
    rows = rng.permutation(num_rows)
    x = rng.normal(size=(num_steps, num_rows, spec.input_size)).astype(np.float32)
    arenas = [Arena(model, num_rows) for _ in range(3)]
    for state in (*arenas[0].h, *arenas[0].c):
        state[:] = np.tanh(rng.normal(size=state.shape))
    for arena in arenas[1:]:
        arena.state[:] = arenas[0].state
    together, expected, apart = (
        np.empty((num_steps, num_rows, len(spec.quantiles) * spec.output_channels), np.float32)
        for _ in range(3)
    )
    native.advance(arenas[0], rows, x, together)
    plain.advance(arenas[1], rows, x, expected)
    for start, end in pairwise((0, 1, 4, 17, num_rows)):
        for step in range(num_steps):
            y = np.empty((1, end - start, expected.shape[2]), np.float32)
            entered = np.ascontiguousarray(x[step : step + 1, start:end])
            native.advance(arenas[2], rows[start:end], entered, y)
            apart[step, start:end] = y[0]
    scale = max(1.0, float(np.abs(expected).max()))
    if not np.allclose(arenas[0].state, arenas[1].state, rtol=0.0, atol=tolerance):
        return "the kernel's states are not those of nn.LSTM here"
    if not np.allclose(together, expected, rtol=0.0, atol=tolerance * scale, equal_nan=True):
        return "the kernel's outputs are not those of nn.LSTM here"
    if not np.array_equal(together, apart) or not np.array_equal(arenas[0].state, arenas[2].state):
        return "the kernel's rows depend on their batch here"
    return ""


def _gather(state: NDArray[np.float32], rows: NDArray[np.int64], bucket: int) -> torch.Tensor:
    padded = np.zeros((bucket, state.shape[1]), np.float32)
    padded[: rows.size] = state[rows]
    return torch.from_numpy(padded)


def _without_prefix(weights: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}
