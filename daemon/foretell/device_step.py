"""One time step of many rows on a device: gather, normalise, LSTM, calibrate, scatter, without a look at any value.

Everything is a fixed sequence of operations on tensors that stay where they are, so that a CUDA graph can replay it.
For the same reason numbers are arguments of operations (`masked_fill`, not `where`), and never copied to the device.
"""

from __future__ import annotations

from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Final, NamedTuple

import torch

from foretell.bands_torch import publish
from foretell.calibrate import Calibrator
from foretell.calibrate_torch import TorchCalibrator
from foretell.normalize import LAST, Normalizer
from foretell.normalize_torch import TorchNormalizer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from foretell.model import Model, ModelSpec

States = list[torch.Tensor]

FINE, BAD, BAD_FROM_THE_START = 0.0, 1.0, 2.0
"""What became of a step: outputs are finite; are not; are not although the state was empty."""

_ALIGNMENT: Final = 4
"""Rows are whole multiples of so many float32: 16 bytes, which cuBLAS reads at once."""


class DeviceArena:
    """The states of all rows as one tensor float32 [rows + 1, width], so that a batch is one gather and one scatter.

    A row holds of each layer h and c; of each channel the states of normaliser and calibrator; what stands in for
    a missing value; and whether it was stepped since it began: 1 or 0. The last row is nobody's: padding of a batch is
    stepped there.
    """

    def __init__(self, model: Model, num_rows: int, device: torch.device) -> None:
        spec = model.spec
        num_channels = spec.input_channels
        scaling = 0 if spec.normalizer is None else Normalizer.state_size
        habits = 0 if spec.calibrator is None else Calibrator(spec.calibrator, spec.quantiles).state_size
        sizes = [spec.hidden_size] * (2 * spec.num_layers)
        sizes += [num_channels * scaling, num_channels * habits, num_channels, 1]
        sizes.append(-sum(sizes) % _ALIGNMENT)
        self.sizes, self.num_rows = sizes, num_rows
        self.state = torch.zeros(num_rows + 1, sum(sizes), device=device)
        self.is_stepped = torch.ones(1, 1, device=device)
        self.padding = torch.zeros(1, sizes[-1], device=device)

    @torch.inference_mode()
    def restart(self, rows: NDArray[np.int64]) -> None:
        """Let the states of `rows` begin anew."""
        self.state[torch.from_numpy(rows).to(self.state.device)] = 0.0


def device_bytes_per_row(model: Model) -> int:
    """Bytes that one row takes on a device."""
    return 4 * sum(DeviceArena(model, 0, torch.device("meta")).sizes)


class _Memory(NamedTuple):
    """What a step goes by: of each layer h and c [n, hidden]; the normaliser's and the calibrator's state [S, lanes].

    A lane is one channel of one row. The last two have no rows where the model has no use for them.
    """

    h: States
    c: States
    scaling: torch.Tensor
    habits: torch.Tensor


class _Made(NamedTuple):
    """What a step makes: the memory after it, forecasts [n, Q, C], and whether outputs were not finite, bool [n, 1].

    surprise [n, C] and errors [2, n, C] are those of the calibrator.
    """

    memory: _Memory
    forecast: torch.Tensor
    is_bad: torch.Tensor
    surprise: torch.Tensor | None
    errors: torch.Tensor | None


class DeviceStep:
    """The step of one model on one device."""

    def __init__(self, model: Model, arena: DeviceArena, horizon: int) -> None:
        spec, device = model.spec, arena.state.device
        weights = {name: tensor.to(device) for name, tensor in model.weights.items()}
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        self._layers = [
            tuple(weights[f"lstm.{name}_l{layer}"] for name in names) for layer in range(spec.num_layers)
        ]
        self._linear = weights["linear.weight"], weights["linear.bias"]
        self._spec, self._arena, self._horizon = spec, arena, horizon
        self._normalizer = None if spec.normalizer is None else TorchNormalizer(spec.normalizer, device)
        self._calibrator: TorchCalibrator | None = None
        if spec.calibrator is not None:
            self._calibrator = TorchCalibrator(spec.calibrator, spec.quantiles, device)
        self._median = spec.median_index

    def __call__(self, rows: torch.Tensor, begins: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """Step distinct `rows`, i64 [n], by `values`, float32 [n, channels], NaN where missing.

        begins: bool [n, 1], where the state begins anew before. Gives float32 [n, columns], see `Results`. A row of
        which an output is not finite is left empty.
        """
        arena = self._arena
        state = arena.state.index_select(0, rows).masked_fill(begins, 0.0)
        *layers, scaling, habits, guess, is_stepped, _ = torch.split_with_sizes(state, arena.sizes, dim=1)
        is_missing = values.isnan()
        entered = torch.where(is_missing, guess, values)
        memory = _Memory(layers[0::2], layers[1::2], _by_lane(scaling, values), _by_lane(habits, values))
        made = self._advance(memory, entered, ~is_missing)
        self._keep(rows, made, entered)

        is_bad = made.is_bad
        verdict = is_bad * (BAD_FROM_THE_START - is_stepped)  # BAD where it was stepped before
        told = [made.forecast.flatten(1), *self._roll(made)]
        if made.surprise is not None:
            told.append(made.surprise)
        columns = [verdict, torch.cat(told, dim=1).masked_fill(is_bad, torch.nan)]
        if made.errors is not None:
            columns += [made.errors.sum(dim=2).T.masked_fill(is_bad, 0.0), entered]
        return torch.cat(columns, dim=1)

    def _keep(self, rows: torch.Tensor, made: _Made, entered: torch.Tensor) -> None:
        """Put the states back, and beside them what stands in for a value that is missing next."""
        arena, memory = self._arena, made.memory
        layers = [part for pair in zip(memory.h, memory.c, strict=True) for part in pair]
        *_, scaling_size, habits_size, _, _, _ = arena.sizes
        scaling = memory.scaling.T.reshape(len(rows), scaling_size)
        habits = memory.habits.T.reshape(len(rows), habits_size)
        guess = made.forecast[:, self._median] if self._spec.outputs_are_inputs else entered
        ones, padding = arena.is_stepped.expand(len(rows), 1), arena.padding.expand(len(rows), -1)
        new = torch.cat([*layers, scaling, habits, guess, ones, padding], dim=1)
        arena.state.index_copy_(0, rows, new.masked_fill(made.is_bad, 0.0))

    def _advance(self, memory: _Memory, values: torch.Tensor, observed: torch.Tensor) -> _Made:
        """Take in values [n, channels], and say what follows."""
        if self._normalizer is None:
            y, h, c = self._run(values, memory)
            forecast = y.view(len(y), len(self._spec.quantiles), -1)
            return _Made(memory._replace(h=h, c=c), forecast, _is_bad(y), None, None)
        lanes, was_observed = values.reshape(-1), observed.reshape(-1)
        scaled = self._normalizer.advance(memory.scaling, lanes, was_observed)
        y, h, c = self._run(scaled.features.T.reshape(len(values), -1), memory)
        # By quantile and lane, as the calibrator has them.
        levels = self._order(y).transpose(0, 1).reshape(len(self._spec.quantiles), -1)
        surprise = errors = None
        habits = memory.habits
        if self._calibrator is not None:
            before = memory.scaling[LAST]
            habits, levels, surprise, errors = self._calibrator.advance(
                habits, lanes, before, scaled.unit, levels, was_observed
            )
            surprise, errors = surprise.view_as(values), errors.view(2, *values.shape)
        forecast = publish(scaled.base, scaled.unit, levels).view(-1, *values.shape).transpose(0, 1)
        return _Made(_Memory(h, c, scaled.state, habits), forecast, _is_bad(y), surprise, errors)

    def _run(self, x: torch.Tensor, memory: _Memory) -> tuple[torch.Tensor, States, States]:
        """Input [n, input_size] to outputs [n, Q C], by the layers of the LSTM and the output layer."""
        h_next, c_next = [], []
        for weights, h_l, c_l in zip(self._layers, memory.h, memory.c, strict=True):
            # Two matrix products and, on a GPU, one kernel for all that is elementwise.
            x, c_new = torch.lstm_cell(x, (h_l, c_l), *weights)
            h_next.append(x)
            c_next.append(c_new)
        weight, bias = self._linear
        return torch.addmm(bias, x, weight.T), h_next, c_next

    def _order(self, y: torch.Tensor) -> torch.Tensor:
        """Outputs [n, Q C] to quantiles in units [n, Q, C] that do not cross, see `foretell.step.Engine`."""
        levels = y.view(len(y), len(self._spec.quantiles), -1)
        rising, falling = [levels[:, self._median]], [levels[:, self._median]]
        for above in range(self._median + 1, levels.shape[1]):
            rising.append(torch.maximum(levels[:, above], rising[-1]))
        for below in range(self._median - 1, -1, -1):
            falling.append(torch.minimum(levels[:, below], falling[-1]))
        return torch.stack([*falling[:0:-1], *rising], dim=1)

    def _roll(self, made: _Made) -> States:
        """The medians [n, C] of the leads beyond the first; what was forecast was not observed."""
        medians = []
        for _ in range(1, self._horizon):
            median = made.forecast[:, self._median]
            made = self._advance(made.memory, median, torch.zeros_like(median, dtype=torch.bool))
            medians.append(made.forecast[:, self._median])
        return medians


class Results:
    """Columns of what a step gives, for each of the rows; all but the verdict and the values NaN where it is bad.

    verdict: what became of the step. first: all quantiles of the first lead, [Q, C]. medians: of the further leads,
    [horizon - 1, C]. And of a calibrated model, surprise [C]; errors [2], sums over the channels; and values [C], as
    they entered the model.
    """

    def __init__(self, spec: ModelSpec, horizon: int) -> None:
        num_channels = spec.output_channels
        sizes = [1, len(spec.quantiles) * num_channels, (horizon - 1) * num_channels]
        sizes += [0, 0, 0] if spec.calibrator is None else [num_channels, 2, num_channels]
        ends = list(accumulate(sizes, initial=0))
        self.first, self.medians, self.surprise, self.errors, self.values = (
            slice(start, end) for start, end in pairwise(ends[1:])
        )
        self.verdict, self.num_columns = 0, ends[-1]


def _by_lane(state: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """From [n, C S] to [S, n C]."""
    return state.reshape(values.numel(), state.shape[1] // values.shape[1]).T.contiguous()


def _is_bad(y: torch.Tensor) -> torch.Tensor:
    return ~y.isfinite().all(dim=1, keepdim=True)
