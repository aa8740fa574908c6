"""The engine: gather rows of state, step them by frames, scatter, and forecast what follows.

Nothing computed for a row depends on the other rows of its batch: the LSTM is batch-invariant (see `foretell.lstm`) and
everything else is arithmetic lane by lane.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from foretell.arena import Arena
from foretell.lstm import MAX_ROWS, STEPS, Lstm, bucket_of
from foretell.normalize import Normalizer

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from foretell.lstm import States
    from foretell.model import Model
    from foretell.rounds import Steps

FLOAT32_MAX: Final = np.finfo(np.float32).max


@dataclass(frozen=True, slots=True)
class Stepped:
    """What stepping `n` frames gave.

    forecast: float32 [n, horizon, quantiles, channels], what was predicted after each frame. Of leads beyond the
    first only the median is given, the other quantiles are NaN.
    restarted: bool [n] where a state was not finite, so that it began anew with that frame; None where none was. If
    the frame alone cannot be stepped either, its forecast is NaN.
    """

    forecast: NDArray[np.float32]
    restarted: NDArray[np.bool_] | None


@dataclass(frozen=True, slots=True)
class _Scale:
    """What turns outputs into forecasts: base and unit [steps, rows, channels], and the normaliser's next state."""

    base: NDArray[np.float32]
    unit: NDArray[np.float32]
    state: NDArray[np.float32]


class Engine:
    """Advances the states in its arena by frames.

    `num_rows` rows are reserved for good. `horizon` leads are forecast after every frame: the first by the model's own
    step, the others by rolling a copy of the state on the median, the state itself untouched.
    """

    def __init__(self, model: Model, num_rows: int, horizon: int = 1) -> None:
        spec = model.spec
        self.horizon = horizon
        self.lstm = Lstm(model)
        self.arena = Arena(model, num_rows)
        self._spec = spec
        self._normalizer = None if spec.normalizer is None else Normalizer(spec.normalizer)
        self._median = spec.median_index
        self._x = torch.zeros(MAX_ROWS, spec.input_size)
        self._h = [torch.zeros(MAX_ROWS, spec.hidden_size) for _ in range(spec.num_layers)]
        self._c = [torch.zeros(MAX_ROWS, spec.hidden_size) for _ in range(spec.num_layers)]

    def warm_up(self) -> None:
        """Run every batch size once, so that the first frames do not wait."""
        self.lstm.warm_up()

    def step(self, steps: Steps) -> Stepped:
        """Step the rounds of a batch in order; the forecasts are in the order of the accepted frames."""
        num_steps, num_rows = steps.rows.shape
        spec = self._spec
        rows, values = steps.rows.reshape(-1), steps.values.reshape(-1, spec.input_channels)
        shape = (rows.size, self.horizon, len(spec.quantiles), spec.output_channels)
        out, restarted = np.empty(shape, np.float32), np.zeros(rows.size, np.bool_)
        for start, end, num_rounds in self._calls(steps):
            if steps.begins is not None and steps.begins[start:end].any():
                self.arena.restart(steps.rows[start:end][steps.begins[start:end]].reshape(-1))
            first, last = start * num_rows, end * num_rows
            width = min((last - first) // num_rounds, MAX_ROWS)
            for at in range(first, last, width * num_rounds):
                part = slice(at, min(at + width * num_rounds, last))
                by_round = (num_rounds, -1)
                self._advance(
                    rows[part][:width],
                    values[part].reshape(*by_round, spec.input_channels),
                    out[part].reshape(*by_round, *shape[1:]),
                    restarted[part].reshape(by_round),
                    has_missing=steps.has_missing,
                )
        return self._in_frame_order(steps, out.reshape(num_steps, num_rows, *shape[1:]), restarted)

    def _calls(self, steps: Steps) -> Iterator[tuple[int, int, int]]:
        """Where the steps of each call begin and end, and how many rounds they are.

        Rounds of equal size are of the same rows, since a stream with a k-th frame has all before it. Several of them
        are made in one call where no step needs to see what was forecast before it.
        """
        ends, start, index = steps.round_ends, 0, 0
        if len(ends) == 1:
            yield 0, ends[0], 1
            return
        may_join = self.horizon == 1 and not steps.has_missing and steps.begins is None
        while index < len(ends):
            size, num_equal = ends[index] - start, 1
            if may_join and size * steps.rows.shape[1] <= MAX_ROWS // 2:
                # No further than one call can take: a stream alone has thousands of equal rounds before it.
                most = min(STEPS[0], len(ends) - index)
                while num_equal < most and ends[index + num_equal] == start + size * (num_equal + 1):
                    num_equal += 1
            bucket = bucket_of(min(size * steps.rows.shape[1], MAX_ROWS))
            num_rounds = next(num for num in STEPS if num <= num_equal and num * bucket <= MAX_ROWS)
            index += num_rounds
            yield start, ends[index - 1], num_rounds
            start = ends[index - 1]

    def _in_frame_order(
        self, steps: Steps, out: NDArray[np.float32], restarted: NDArray[np.bool_]
    ) -> Stepped:
        """From [steps, rows, horizon, quantiles, row's channels] to [frames, horizon, quantiles, channels]."""
        is_single = out.shape[1] == 1
        forecast = out[:, 0] if is_single else np.ascontiguousarray(out[..., 0].transpose(0, 2, 3, 1))
        any_restarted: NDArray[np.bool_] | None = None
        if restarted.any():
            any_restarted = np.asarray(restarted.reshape(out.shape[:2]).any(axis=1))
        if steps.frame is None:
            return Stepped(forecast, any_restarted)
        in_order = np.empty((steps.num_frames, *forecast.shape[1:]), np.float32)
        keep = slice(None) if steps.is_fill is None else ~steps.is_fill
        in_order[steps.frame[keep]] = forecast[keep]
        if any_restarted is not None:
            # A fill that restarted its state counts for the frame that it was made for.
            any_restarted = np.bincount(steps.frame, any_restarted, steps.num_frames) > 0
        return Stepped(in_order, any_restarted)

    def _advance(
        self,
        rows: NDArray[np.int64],
        values: NDArray[np.float32],
        out: NDArray[np.float32],
        restarted: NDArray[np.bool_],
        *,
        has_missing: bool,
        is_retry: bool = False,
    ) -> None:
        """Step distinct `rows` by `values` [steps, rows, channels]; forecasts go to `out` [steps, rows, ...].

        Values can be missing only where there is one step.
        """
        arena, (num_steps, num_rows, _) = self.arena, values.shape
        bucket = bucket_of(num_rows)
        h = [_gather(state, rows, buffer, bucket) for state, buffer in zip(arena.h, self._h, strict=True)]
        c = [_gather(state, rows, buffer, bucket) for state, buffer in zip(arena.c, self._c, strict=True)]
        entered, observed = values, None
        if has_missing:
            observed = ~np.isnan(values)
            entered = np.where(observed, values, arena.guess[rows])
        x = self._x[: num_steps * bucket].view(num_steps, bucket, -1)
        scale = self._enter(x.numpy(), rows, entered, observed)
        y, h, c = self.lstm.step(x, h, c)
        raw = y.numpy().reshape(num_steps, bucket, -1)[:, :num_rows]
        if not np.isfinite(raw).all():
            self._advance_apart(rows, values, out, restarted, raw, has_missing=has_missing, is_retry=is_retry)
            return
        forecast = self._denormalize(raw, scale)
        out[:, :, 0] = forecast
        for state, new in zip((*arena.h, *arena.c), (*h, *c), strict=True):
            state[rows] = new.numpy()[:num_rows]
        if scale is not None and arena.normalizer is not None:
            arena.normalizer[rows] = _by_row(scale.state, num_rows)
        arena.guess[rows] = forecast[-1, :, self._median] if self._spec.outputs_are_inputs else entered[-1]
        if self.horizon > 1:
            self._roll(forecast, scale, h, c, out)

    def _enter(
        self,
        x: NDArray[np.float32],
        rows: NDArray[np.int64],
        values: NDArray[np.float32],
        observed: NDArray[np.bool_] | None,
    ) -> _Scale | None:
        """Fill the LSTM's input from `values`: as they are, or as the normaliser sees them."""
        num_rows = rows.size
        if self._normalizer is None or self.arena.normalizer is None:
            x[:, :num_rows] = values
            return None
        lanes = self.arena.normalizer[rows].reshape(values[0].size, -1)
        state = np.ascontiguousarray(lanes.T)
        base, unit = np.empty_like(values), np.empty_like(values)
        for step, value in enumerate(values):
            is_observed = None if observed is None else observed[step].reshape(-1)
            advanced = self._normalizer.advance(state, value.reshape(-1), is_observed)
            x[step, :num_rows] = _by_row(advanced.features, num_rows)
            base[step], unit[step] = advanced.base.reshape(value.shape), advanced.unit.reshape(value.shape)
            state = advanced.state
        return _Scale(base, unit, state)

    def _denormalize(self, raw: NDArray[np.float32], scale: _Scale | None) -> NDArray[np.float32]:
        """Outputs [steps, rows, quantiles * channels] to forecasts [steps, rows, quantiles, channels].

        Those of a normalised model are put in order: running maxima upwards and minima downwards from the median.
        """
        levels = raw.reshape(*raw.shape[:2], len(self._spec.quantiles), -1)
        if scale is None:
            return levels
        levels = np.ascontiguousarray(levels.transpose(2, 0, 1, 3))
        for above in range(self._median + 1, len(levels)):
            np.maximum(levels[above], levels[above - 1], out=levels[above])
        for below in range(self._median - 1, -1, -1):
            np.minimum(levels[below], levels[below + 1], out=levels[below])
        with np.errstate(over="ignore"):
            levels *= scale.unit
            levels += scale.base
        np.clip(levels, -FLOAT32_MAX, FLOAT32_MAX, out=levels)
        return levels.transpose(1, 2, 0, 3)

    def _roll(
        self,
        forecast: NDArray[np.float32],
        scale: _Scale | None,
        h: States,
        c: States,
        out: NDArray[np.float32],
    ) -> None:
        """Forecast the leads beyond the first from copies of the states."""
        num_rows, bucket = forecast.shape[1], h[0].shape[0]
        x = self._x[:bucket].view(1, bucket, -1)
        out[:, :, 1:] = np.nan
        for lead in range(1, self.horizon):
            median = np.ascontiguousarray(forecast[:, :, self._median])
            if self._normalizer is None or scale is None:
                x.numpy()[:, :num_rows] = median
            else:
                unseen = np.zeros(median.size, np.bool_)
                advanced = self._normalizer.advance(scale.state, median.reshape(-1), unseen)
                x.numpy()[0, :num_rows] = _by_row(advanced.features, num_rows)
                scale = _Scale(
                    advanced.base.reshape(median.shape), advanced.unit.reshape(median.shape), advanced.state
                )
            y, h, c = self.lstm.step(x, h, c)
            forecast = self._denormalize(y.numpy()[None, :num_rows], scale)
            out[:, :, lead, self._median] = forecast[:, :, self._median]

    def _advance_apart(
        self,
        rows: NDArray[np.int64],
        values: NDArray[np.float32],
        out: NDArray[np.float32],
        restarted: NDArray[np.bool_],
        raw: NDArray[np.float32],
        *,
        has_missing: bool,
        is_retry: bool,
    ) -> None:
        """Some outputs are not finite: step the rows where they are as usual, and begin the others anew.

        Nothing of the failed attempt is in the arena yet. A frame that fails from an empty state too has no forecast.
        """
        if len(values) > 1:
            for step in range(len(values)):
                one = slice(step, step + 1)
                self._advance(rows, values[one], out[one], restarted[one], has_missing=has_missing)
            return
        is_bad = ~np.isfinite(raw[0]).all(axis=1)
        self.arena.restart(rows[is_bad])
        restarted[0, is_bad] = True
        for part, is_second in ((~is_bad, is_retry), (is_bad, True)):
            if not part.any():
                continue
            if is_retry and part is is_bad:
                out[0, part] = np.nan
                continue
            part_out = np.empty((1, np.count_nonzero(part), *out.shape[2:]), np.float32)
            again = np.zeros(part_out.shape[:2], np.bool_)
            self._advance(
                rows[part], values[:, part], part_out, again, has_missing=has_missing, is_retry=is_second
            )
            out[:, part] = part_out


def _gather(
    state: NDArray[np.float32], rows: NDArray[np.int64], buffer: torch.Tensor, bucket: int
) -> torch.Tensor:
    """Copy `rows` of `state` into the head of `buffer`, of which a bucket is stepped; the padding holds old rows."""
    part = buffer[:bucket]
    np.take(state, rows, axis=0, out=part.numpy()[: rows.size], mode="clip")
    return part


def _by_row(columns: NDArray[np.float32], num_rows: int) -> NDArray[np.float32]:
    """Columns [k, rows * channels] as [rows, channels * k]."""
    return columns.T.reshape(num_rows, -1)
