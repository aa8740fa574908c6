"""The engine: enter frames, step rows of state by them, and turn outputs into forecasts.

Nothing computed for a row depends on the other rows of its batch: the LSTM is batch-invariant (see `foretell.lstm`) and
everything else is arithmetic lane by lane.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from foretell.arena import Arena
from foretell.config import Precision
from foretell.lstm import MAX_ROWS, MAX_STEPS, choose_stepper
from foretell.normalize import Normalizer

if TYPE_CHECKING:
    from numpy.typing import NDArray

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
    step, the others by rolling a copy of the state on the median, the state itself untouched. Public attributes beside
    `horizon` and `arena`: `kernel`, which code steps the LSTM, and `reason`, the words why.
    """

    def __init__(
        self,
        model: Model,
        num_rows: int,
        horizon: int = 1,
        *,
        precision: Precision = Precision.FLOAT32,
        num_threads: int = 1,
    ) -> None:
        spec = model.spec
        self.horizon = horizon
        self.arena = Arena(model, num_rows)
        self._stepper, self.kernel, self.reason = choose_stepper(model, precision, num_threads)
        self._spec = spec
        self._num_outputs = len(spec.quantiles) * spec.output_channels
        self._normalizer = None if spec.normalizer is None else Normalizer(spec.normalizer)
        self._median = spec.median_index
        self._ahead = Arena(
            model, MAX_ROWS if horizon > 1 else 1
        )  # copies of states, rolled beyond the first lead

    def warm_up(self) -> None:
        """Do what takes longer the first time, so that the first frames do not wait; the arena must be empty."""
        self._stepper.warm_up(self.arena)

    def step(self, steps: Steps) -> Stepped:
        """Step the rounds of a batch in order; the forecasts are in the order of the accepted frames."""
        num_steps, num_rows = steps.rows.shape
        spec = self._spec
        rows, values = steps.rows.reshape(-1), steps.values.reshape(-1, spec.input_channels)
        out = np.empty((rows.size, self.horizon, len(spec.quantiles), spec.output_channels), np.float32)
        restarted: NDArray[np.bool_] | None = None
        for start, end, num_rounds in self._calls(steps):
            if steps.begins is not None and steps.begins[start:end].any():
                self.arena.restart(steps.rows[start:end][steps.begins[start:end]].reshape(-1))
            first, last = start * num_rows, end * num_rows
            width = min((last - first) // num_rounds, MAX_ROWS)
            for at in range(first, last, width * num_rounds):
                part = slice(at, min(at + width * num_rounds, last))
                by_round = (num_rounds, (part.stop - at) // num_rounds)
                anew = self._advance(
                    rows[at : at + by_round[1]],
                    values[part].reshape(*by_round, spec.input_channels),
                    out[part].reshape(by_round + out.shape[1:]),
                    has_missing=steps.has_missing,
                )
                if anew is not None:
                    restarted = np.zeros(rows.size, np.bool_) if restarted is None else restarted
                    restarted[part] = anew.reshape(-1)
        return self._in_frame_order(steps, out.reshape(num_steps, num_rows, *out.shape[1:]), restarted)

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
            size, num_rounds = ends[index] - start, 1
            if may_join:
                # No further than one call can take: a stream alone has thousands of equal rounds before it.
                most = min(MAX_STEPS, MAX_ROWS // (size * steps.rows.shape[1]), len(ends) - index)
                while num_rounds < most and ends[index + num_rounds] == start + size * (num_rounds + 1):
                    num_rounds += 1
            index += num_rounds
            yield start, ends[index - 1], num_rounds
            start = ends[index - 1]

    def _in_frame_order(
        self, steps: Steps, out: NDArray[np.float32], restarted: NDArray[np.bool_] | None
    ) -> Stepped:
        """From [steps, rows, horizon, quantiles, row's channels] to [frames, horizon, quantiles, channels]."""
        is_single = out.shape[1] == 1
        forecast = out[:, 0] if is_single else np.ascontiguousarray(out[..., 0].transpose(0, 2, 3, 1))
        if restarted is not None:
            restarted = np.asarray(restarted.reshape(out.shape[:2]).any(axis=1))
        if steps.frame is None:
            return Stepped(forecast, restarted)
        in_order = np.empty((steps.num_frames, *forecast.shape[1:]), np.float32)
        keep = slice(None) if steps.is_fill is None else ~steps.is_fill
        in_order[steps.frame[keep]] = forecast[keep]
        if restarted is not None:
            # A fill that restarted its state counts for the frame that it was made for.
            restarted = np.bincount(steps.frame, restarted, steps.num_frames) > 0
        return Stepped(in_order, restarted)

    def _advance(
        self,
        rows: NDArray[np.int64],
        values: NDArray[np.float32],
        out: NDArray[np.float32],
        *,
        has_missing: bool,
        is_retry: bool = False,
    ) -> NDArray[np.bool_] | None:
        """Step distinct `rows` by `values` [steps, rows, channels]; forecasts go to `out` [steps, rows, ...].

        Gives bool [steps, rows] where states began anew, None for nowhere. Values can be missing only where there is
        one step.
        """
        arena, (num_steps, num_rows, _) = self.arena, values.shape
        entered, observed = values, None
        if has_missing:
            observed = ~np.isnan(values)
            entered = np.where(observed, values, arena.guess[rows])
        x, scale = self._enter(rows, entered, observed)
        is_plain = scale is None and self.horizon == 1  # outputs are forecasts as they are
        raw = out if is_plain else np.empty((num_steps, num_rows, self._num_outputs), np.float32)
        bad = self._stepper.advance(arena, rows, x, raw.reshape(num_steps, num_rows, -1))
        forecast = out[:, :, 0] if is_plain else self._denormalize(raw, scale)
        if not is_plain:
            out[:, :, 0] = forecast
        guess = forecast[-1, :, self._median] if self._spec.outputs_are_inputs else entered[-1]
        if bad is None:
            arena.guess[rows] = guess
            if scale is not None and arena.normalizer is not None:
                arena.normalizer[rows] = _by_row(scale.state, num_rows)
        else:
            good = ~bad
            arena.guess[rows[good]] = guess[good]
            if scale is not None and arena.normalizer is not None:
                arena.normalizer[rows[good]] = _by_row(scale.state, num_rows)[good]
        if self.horizon > 1:
            self._roll(rows, forecast, scale, out)
        if bad is None:
            return None
        return self._step_anew(rows, values, out, bad, has_missing=has_missing, is_retry=is_retry)

    def _enter(
        self, rows: NDArray[np.int64], values: NDArray[np.float32], observed: NDArray[np.bool_] | None
    ) -> tuple[NDArray[np.float32], _Scale | None]:
        """The LSTM's input [steps, rows, input_size] from `values`: as they are, or as the normaliser sees them."""
        if self._normalizer is None or self.arena.normalizer is None:
            return np.ascontiguousarray(values), None
        num_rows = rows.size
        x = np.empty((len(values), num_rows, self._spec.input_size), np.float32)
        lanes = self.arena.normalizer[rows].reshape(values[0].size, -1)
        state = np.ascontiguousarray(lanes.T)
        base, unit = np.empty_like(values), np.empty_like(values)
        for step, value in enumerate(values):
            is_observed = None if observed is None else observed[step].reshape(-1)
            advanced = self._normalizer.advance(state, value.reshape(-1), is_observed)
            x[step] = _by_row(advanced.features, num_rows)
            base[step], unit[step] = advanced.base.reshape(value.shape), advanced.unit.reshape(value.shape)
            state = advanced.state
        return x, _Scale(base, unit, state)

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
        with np.errstate(over="ignore", invalid="ignore"):
            levels *= scale.unit
            levels += scale.base
        np.clip(levels, -FLOAT32_MAX, FLOAT32_MAX, out=levels)
        return levels.transpose(1, 2, 0, 3)

    def _roll(
        self,
        rows: NDArray[np.int64],
        forecast: NDArray[np.float32],
        scale: _Scale | None,
        out: NDArray[np.float32],
    ) -> None:
        """Forecast the leads beyond the first from copies of the states."""
        copies = np.arange(rows.size)
        self._ahead.state[copies] = self.arena.state[rows]
        raw = np.empty((1, rows.size, self._num_outputs), np.float32)
        out[:, :, 1:] = np.nan
        for lead in range(1, self.horizon):
            x = np.ascontiguousarray(forecast[:, :, self._median])
            if self._normalizer is not None and scale is not None:
                unseen = np.zeros(x.size, np.bool_)
                advanced = self._normalizer.advance(scale.state, x.reshape(-1), unseen)
                scale = _Scale(advanced.base.reshape(x.shape), advanced.unit.reshape(x.shape), advanced.state)
                x = np.ascontiguousarray(_by_row(advanced.features, rows.size))[None]
            self._stepper.advance(self._ahead, copies, x, raw)
            forecast = self._denormalize(raw, scale)
            out[:, :, lead, self._median] = forecast[:, :, self._median]

    def _step_anew(
        self,
        rows: NDArray[np.int64],
        values: NDArray[np.float32],
        out: NDArray[np.float32],
        bad: NDArray[np.bool_],
        *,
        has_missing: bool,
        is_retry: bool,
    ) -> NDArray[np.bool_]:
        """Outputs of `bad` rows are not finite: begin their states anew with the first frame of which this is so.

        Nothing of the failed attempt is in the arena. A frame that fails from an empty state too has no forecast. Gives
        bool [steps, rows] where states began anew.
        """
        rows, part_out = rows[bad], np.empty_like(out[:, bad])
        frames = np.ascontiguousarray(values[:, bad])
        anew = np.zeros(frames.shape[:2], np.bool_)
        if len(frames) > 1:
            for step in range(len(frames)):
                one = slice(step, step + 1)
                restarted = self._advance(rows, frames[one], part_out[one], has_missing=has_missing)
                anew[step] = False if restarted is None else restarted[0]
        else:
            anew[:] = True
            self.arena.restart(rows)
            if is_retry:
                part_out[:] = np.nan
            else:
                self._advance(rows, frames, part_out, has_missing=has_missing, is_retry=True)
        out[:, bad] = part_out
        everywhere = np.zeros(values.shape[:2], np.bool_)
        everywhere[:, bad] = anew
        return everywhere


def _by_row(columns: NDArray[np.float32], num_rows: int) -> NDArray[np.float32]:
    """Columns [k, rows * channels] as [rows, channels * k]."""
    return columns.T.reshape(num_rows, -1)
