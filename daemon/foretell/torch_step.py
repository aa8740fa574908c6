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

from foretell.choices import Precision
from foretell.normalize import Normalizer

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

_FLOAT32_MAX: Final = np.finfo(np.float32).max


@dataclass(frozen=True, slots=True)
class _Scale:
    """What turns outputs into forecasts: base and unit [steps, rows, channels], and the normaliser's next state."""

    base: NDArray[np.float32]
    unit: NDArray[np.float32]
    state: NDArray[np.float32]


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
        self.num_threads, self.row_ns = torch.get_num_threads(), 0

    def advance(
        self,
        arena: Arena,
        rows: NDArray[np.int64],
        values: NDArray[np.float32],
        observed: NDArray[np.bool_] | None,
        forecast: NDArray[np.float32],
    ) -> NDArray[np.bool_] | None:
        """See `foretell.lstm.Stepper`."""
        x, scale = self._enter(arena, rows, values, observed)
        raw, is_good = self._step(arena, rows, x)
        forecast[:] = self._denormalize(raw, scale)
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
            self.advance(arena, rows, values, None, forecast)
            start_ns = time.perf_counter_ns()
            self.advance(arena, rows, values, None, forecast)
            self.row_ns = (time.perf_counter_ns() - start_ns) // rows.size  # in the largest bucket, at last
            arena.restart(rows)

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
        base, unit = np.empty_like(values), np.empty_like(values)
        for step, value in enumerate(values):
            is_observed = None if observed is None else observed[step].reshape(-1)
            advanced = self._normalizer.advance(state, value.reshape(-1), is_observed)
            x[step] = _by_row(advanced.features, num_rows)
            base[step], unit[step] = advanced.base.reshape(value.shape), advanced.unit.reshape(value.shape)
            state = advanced.state
        return x, _Scale(base, unit, state)

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

    def _denormalize(self, raw: NDArray[np.float32], scale: _Scale | None) -> NDArray[np.float32]:
        """Outputs [steps, rows, quantiles * channels] to forecasts [steps, rows, quantiles, channels].

        Those of a normalised model are put in order: running maxima upwards and minima downwards from the median.
        """
        levels = raw.reshape(*raw.shape[:2], len(self._spec.quantiles), -1)
        if scale is None:
            return levels
        levels = np.ascontiguousarray(levels.transpose(2, 0, 1, 3))
        for above in range(self._spec.median_index + 1, len(levels)):
            np.maximum(levels[above], levels[above - 1], out=levels[above])
        for below in range(self._spec.median_index - 1, -1, -1):
            np.minimum(levels[below], levels[below + 1], out=levels[below])
        with np.errstate(over="ignore", invalid="ignore"):
            levels *= scale.unit
            levels += scale.base
        np.clip(levels, -_FLOAT32_MAX, _FLOAT32_MAX, out=levels)
        return levels.transpose(1, 2, 0, 3)


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
