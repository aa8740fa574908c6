"""Stepping by PyTorch's own modules: the fallback of the kernel, and the reference that it is held against.

`nn.LSTM` between gather and scatter, the normaliser of `foretell.normalize` before and behind it. On a CPU the result
of a row does not depend on its batch from two rows on; one row alone takes several steps in a call with other bits in
the layers above the first. So `nn.LSTM` is never given one row.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from foretell.bands import publish
from foretell.calibrate import Calibrator
from foretell.choices import Precision
from foretell.normalize import LAST, Normalizer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from foretell.arena import Arena
    from foretell.model import Model

MAX_ROWS: Final = 4096
"""Rows, steps included, that are computed in one call: beyond about 6,000 the working set falls out of the cache."""

BUCKETS: Final = tuple(sorted({2, 4, *(m << k for m in (4, 5, 6, 7) for k in range(1, 10)), MAX_ROWS}))
"""Batch sizes that PyTorch is ever given; other sizes are padded up to the next, a quarter more at most."""


def bucket_of(num_rows: int) -> int:
    """The smallest bucket that holds `num_rows` rows (1 to `MAX_ROWS`)."""
    return _BUCKET_OF[num_rows]


_BUCKET_OF: Final[list[int]] = [
    next(bucket for bucket in BUCKETS if bucket >= rows) for rows in range(MAX_ROWS + 1)
]


@dataclass(frozen=True, slots=True)
class _Scale:
    """What turns outputs into forecasts.

    before, base, unit: [steps, rows, channels], the value before and as in `normalize.Advanced`; state: the
    normaliser's next. observed: as `Stepper.advance` takes it.
    """

    before: NDArray[np.float32]
    base: NDArray[np.float32]
    unit: NDArray[np.float32]
    state: NDArray[np.float32]
    observed: NDArray[np.bool_] | None


class TorchStepper:
    """See `foretell.lstm.Stepper`."""

    def __init__(self, model: Model, precision: Precision = Precision.FLOAT32) -> None:
        self._spec = model.spec
        self._lstm = plain_lstm(model)
        self._weight, self._bias = model.weights["linear.weight"], model.weights["linear.bias"]
        if precision is Precision.BFLOAT16:
            for weights in self._lstm.parameters():
                weights.data = weights.bfloat16().float()
            self._weight = self._weight.bfloat16().float()
        self._normalizer = None if self._spec.normalizer is None else Normalizer(self._spec.normalizer)
        self._calibrator = (
            None if self._spec.calibrator is None else Calibrator(self._spec.calibrator, self._spec.quantiles)
        )
        self.num_threads, self.row_ns = torch.get_num_threads(), 0
        self.errors = 0.0, 0.0

    def advance(
        self,
        arena: Arena,
        rows: NDArray[np.int64],
        values: NDArray[np.float32],
        observed: NDArray[np.bool_] | None,
        forecast: NDArray[np.float32],
        surprise: NDArray[np.float32] | None = None,
    ) -> NDArray[np.bool_] | None:
        """See `foretell.lstm.Stepper`."""
        x, scale = self._enter(arena, rows, values, observed)
        raw, is_good = self._step(arena, rows, x)
        levels = self._levels(raw, is_ordered=scale is not None)
        if scale is not None:
            with np.errstate(invalid="ignore"):  # of rows whose outputs are not finite
                if surprise is not None and arena.calibrator is not None:
                    self._calibrate(arena.calibrator, rows, levels, scale, surprise, is_good)
                levels = publish(scale.base[:, :, None], scale.unit[:, :, None], levels)
        forecast[:] = levels
        guess = forecast[-1, :, self._spec.median_index] if self._spec.outputs_are_inputs else values[-1]
        arena.guess[rows[is_good]] = guess[is_good]
        if scale is not None and arena.normalizer is not None:
            arena.normalizer[rows[is_good]] = _by_row(scale.state, rows.size)[is_good]
        return None if is_good.all() else ~is_good

    def warm_up(self, arena: Arena) -> None:
        """See `foretell.lstm.Stepper`. oneDNN builds a primitive for each size that it meets (0.3 ms)."""
        spec = self._spec
        for bucket in BUCKETS:
            rows = np.arange(min(bucket, len(arena.state)))
            values = np.zeros((1, rows.size, spec.input_channels), np.float32)
            forecast = np.empty((1, rows.size, len(spec.quantiles), spec.output_channels), np.float32)
            self.advance(arena, rows, values, None, forecast, np.empty_like(values))
            start_ns = time.perf_counter_ns()
            self.advance(arena, rows, values, None, forecast, np.empty_like(values))
            self.row_ns = (time.perf_counter_ns() - start_ns) // rows.size  # in the largest bucket, at last
            arena.restart(rows)
        self.errors = 0.0, 0.0

    def _enter(
        self,
        arena: Arena,
        rows: NDArray[np.int64],
        values: NDArray[np.float32],
        observed: NDArray[np.bool_] | None,
    ) -> tuple[NDArray[np.float32], _Scale | None]:
        """The LSTM's input [steps, rows, input_size] from `values`: as they are, or as the normaliser sees them."""
        if self._normalizer is None or arena.normalizer is None:
            return values, None
        num_rows = rows.size
        x = np.empty((len(values), num_rows, self._spec.input_size), np.float32)
        state = np.ascontiguousarray(arena.normalizer[rows].reshape(values[0].size, -1).T)
        before, base, unit = (np.empty_like(values) for _ in range(3))
        for step, value in enumerate(values):
            is_observed = None if observed is None else observed[step].reshape(-1)
            before[step] = state[LAST].reshape(value.shape)
            advanced = self._normalizer.advance(state, value.reshape(-1), is_observed)
            x[step] = _by_row(advanced.features, num_rows)
            base[step], unit[step] = advanced.base.reshape(value.shape), advanced.unit.reshape(value.shape)
            state = advanced.state
        return x, _Scale(before, base, unit, state, observed)

    @torch.inference_mode()
    def _step(
        self, arena: Arena, rows: NDArray[np.int64], x: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Outputs [steps, rows, outputs] of the LSTM's time steps, and the rows of which all are finite."""
        num_rows, bucket = rows.size, bucket_of(rows.size)
        padded = np.zeros((len(x), bucket, x.shape[2]), np.float32)
        padded[:, :num_rows] = x
        h, c = (torch.stack([_gather(part, rows, bucket) for part in parts]) for parts in (arena.h, arena.c))
        out, (h, c) = self._lstm(torch.from_numpy(padded), (h, c))
        # Not F.linear: with few rows or one output it takes other code, which rounds otherwise.
        outputs = (out.view(-1, 1, self._spec.hidden_size) * self._weight).sum(dim=2) + self._bias
        raw = outputs.view(len(x), bucket, -1)[:, :num_rows].numpy()
        is_good: NDArray[np.bool_] = np.asarray(np.isfinite(raw).all(axis=(0, 2)))
        good = rows[is_good]
        for parts, new in ((arena.h, h), (arena.c, c)):
            for part, layer in zip(parts, new.numpy(), strict=True):
                part[good] = layer[:num_rows][is_good]
        return raw, is_good

    def _levels(self, raw: NDArray[np.float32], *, is_ordered: bool) -> NDArray[np.float32]:
        """Outputs [steps, rows, quantiles * channels] as [steps, rows, quantiles, channels].

        Those of a normalised model are put in order: running maxima upwards and minima downwards from the median.
        """
        levels = raw.reshape(*raw.shape[:2], len(self._spec.quantiles), -1)
        if not is_ordered:
            return levels
        levels = levels.copy()
        for above in range(self._spec.median_index + 1, levels.shape[2]):
            np.maximum(levels[:, :, above], levels[:, :, above - 1], out=levels[:, :, above])
        for below in range(self._spec.median_index - 1, -1, -1):
            np.minimum(levels[:, :, below], levels[:, :, below + 1], out=levels[:, :, below])
        return levels

    def _calibrate(
        self,
        states: NDArray[np.float32],
        rows: NDArray[np.int64],
        levels: NDArray[np.float32],
        scale: _Scale,
        surprise: NDArray[np.float32],
        is_good: NDArray[np.bool_],
    ) -> None:
        """Correct `levels` in place by what the lanes really did, and move on the good rows' part of `states`."""
        assert self._calibrator is not None
        num_steps, num_rows, num_quantiles, num_channels = levels.shape
        state = np.ascontiguousarray(states[rows].reshape(num_rows * num_channels, -1).T)
        for step in range(num_steps):
            said = levels[step].transpose(1, 0, 2).reshape(num_quantiles, -1)
            values, before, unit = (part[step].reshape(-1) for part in (scale.base, scale.before, scale.unit))
            observed = None if scale.observed is None else scale.observed[step].reshape(-1)
            calibrated = self._calibrator.advance(state, values, before, unit, said, observed)
            state = calibrated.state
            by_row = calibrated.levels.reshape(num_quantiles, num_rows, num_channels)
            levels[step] = by_row.transpose(1, 0, 2)
            surprise[step] = calibrated.surprise.reshape(num_rows, num_channels)
            if is_good.all():  # what is stepped anew would count twice
                forecast, persistence = calibrated.errors.sum(axis=1, dtype=np.float64).tolist()
                self.errors = self.errors[0] + forecast, self.errors[1] + persistence
        states[rows[is_good]] = _by_row(state, num_rows)[is_good]


def plain_lstm(model: Model) -> torch.nn.LSTM:
    """The model's LSTM as PyTorch's own module, time-major: the reference that the kernel is held against."""
    spec = model.spec
    lstm = torch.nn.LSTM(spec.input_size, spec.hidden_size, spec.num_layers)
    lstm.load_state_dict(_without_prefix(model.weights, "lstm."))
    return lstm.eval().requires_grad_(requires_grad=False)


def _gather(state: NDArray[np.float32], rows: NDArray[np.int64], bucket: int) -> torch.Tensor:
    padded = np.zeros((bucket, state.shape[1]), np.float32)
    padded[: rows.size] = state[rows]
    return torch.from_numpy(padded)


def _without_prefix(weights: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}


def _by_row(columns: NDArray[np.float32], num_rows: int) -> NDArray[np.float32]:
    """Columns [k, rows * channels] as [rows, channels * k]."""
    return columns.T.reshape(num_rows, -1)
