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
from foretell.choices import Precision
from foretell.lead_arena import LeadArena
from foretell.lstm import choose_stepper
from foretell.stepped import Errors, Stepped, in_frame_order
from foretell.torch_step import MAX_ROWS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from foretell.model import Model
    from foretell.rounds import Steps

MAX_STEPS: Final = 256
"""Time steps that are made in one call."""


class Engine:
    """Advances the states in its arena by frames.

    `num_rows` rows are reserved for good. `horizon` leads are forecast after every frame: the first by the model's own
    step, the others by rolling a copy of the state on the median, the state itself untouched; of a calibrated model
    these are calibrated too. Public attributes beside `horizon` and `arena`: `kernel`, which code steps the LSTM, and
    `reason`, the words why.
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
        self._median = spec.median_index
        self._ahead = Arena(
            model, MAX_ROWS if horizon > 1 else 1
        )  # copies of states, rolled beyond the first lead
        self._leads: LeadArena | None = None
        if horizon > 1 and spec.calibrator is not None:
            self._leads = LeadArena(spec, num_rows, horizon)

    def warm_up(self) -> None:
        """Do what takes longer the first time, so that the first frames do not wait; the arena must be empty."""
        self._stepper.warm_up(self.arena)

    @property
    def timing(self) -> dict[str, int]:
        """What was found out while warming up: time of a row's step in a batch, and threads that step a large one."""
        return {"row_ns": self._stepper.row_ns, "threads": self._stepper.num_threads}

    def step(self, steps: Steps) -> Stepped:
        """Step the rounds of a batch in order; the forecasts are in the order of the accepted frames."""
        num_steps, num_rows = steps.rows.shape
        spec, errors = self._spec, self._stepper.errors
        # The kernel takes addresses: what it reads must lie in one piece.
        rows = np.ascontiguousarray(steps.rows).reshape(-1)
        values = np.ascontiguousarray(steps.values, np.float32).reshape(-1, spec.input_channels)
        out = _Out(
            np.empty((rows.size, self.horizon, len(spec.quantiles), spec.output_channels), np.float32),
            None if spec.calibrator is None else np.empty(values.shape, np.float32),
        )
        in_rounds = out.forecast.reshape(num_steps, num_rows, *out.forecast.shape[1:])
        restarted: NDArray[np.bool_] | None = None
        if len(steps.round_ends) == 1 and rows.size <= MAX_ROWS and steps.begins is None:
            whole = out.part(slice(0, rows.size), (1, rows.size))
            restarted = self._advance(rows, values[None], whole, has_missing=steps.has_missing)
            return in_frame_order(steps, in_rounds, restarted, out.surprise, self._errors_since(errors))
        for start, end, num_rounds in self._calls(steps):
            if steps.begins is not None and steps.begins[start:end].any():
                self._restart(steps.rows[start:end][steps.begins[start:end]].reshape(-1))
            first, last = start * num_rows, end * num_rows
            width = min((last - first) // num_rounds, MAX_ROWS)
            for at in range(first, last, width * num_rounds):
                part = slice(at, min(at + width * num_rounds, last))
                by_round = (num_rounds, (part.stop - at) // num_rounds)
                anew = self._advance(
                    rows[at : at + by_round[1]],
                    values[part].reshape(*by_round, spec.input_channels),
                    out.part(part, by_round),
                    has_missing=steps.has_missing,
                )
                if anew is not None:
                    restarted = np.zeros(rows.size, np.bool_) if restarted is None else restarted
                    restarted[part] = anew.reshape(-1)
        return in_frame_order(steps, in_rounds, restarted, out.surprise, self._errors_since(errors))

    def _restart(self, rows: NDArray[np.int64]) -> None:
        self.arena.restart(rows)
        if self._leads is not None:
            self._leads.restart(rows)

    def _errors_since(self, before: tuple[float, float]) -> Errors | None:
        """How far off the forecasts were that were judged since."""
        if self._spec.calibrator is None:
            return None
        forecast, persistence = self._stepper.errors
        return Errors(forecast - before[0], persistence - before[1])

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

    def _advance(
        self,
        rows: NDArray[np.int64],
        values: NDArray[np.float32],
        out: _Out,
        *,
        has_missing: bool,
        is_retry: bool = False,
    ) -> NDArray[np.bool_] | None:
        """Step distinct `rows` by `values` [steps, rows, channels]; what follows goes to `out`, [steps, rows, ...].

        Gives bool [steps, rows] where states began anew, None for nowhere. Values can be missing only where there is
        one step.
        """
        arena, forecast = self.arena, out.forecast
        entered, observed = values, None
        if has_missing:
            observed = ~np.isnan(values)
            entered = np.where(observed, values, arena.guess[rows])
        first = forecast[:, :, 0] if self.horizon == 1 else np.empty(forecast[:, :, 0].shape, np.float32)
        bad = self._stepper.advance(arena, rows, entered, observed, first, out.surprise)
        if self.horizon > 1:
            forecast[:, :, 0] = first
            self._roll(rows, first, forecast)
            if self._leads is not None:
                good = slice(None) if bad is None else ~bad
                paths = forecast[0, good, 1:, self._median]
                was_observed = None if observed is None else observed[0, good]
                forecast[0, good, 1:] = self._leads.advance(rows[good], entered[0, good], paths, was_observed)
        if bad is None:
            return None
        return self._step_anew(rows, values, out, bad, has_missing=has_missing, is_retry=is_retry)

    def _roll(self, rows: NDArray[np.int64], forecast: NDArray[np.float32], out: NDArray[np.float32]) -> None:
        """Forecast the leads beyond the first from copies of the states; what was forecast was not observed."""
        copies = np.arange(rows.size)
        self._ahead.copy(self.arena, rows)
        out[:, :, 1:] = np.nan
        for lead in range(1, self.horizon):
            median = np.ascontiguousarray(forecast[:, :, self._median])
            unobserved = np.zeros(median.shape, np.bool_)
            surprise = None if self._spec.calibrator is None else np.empty_like(median)
            self._stepper.advance(self._ahead, copies, median, unobserved, forecast, surprise)
            out[:, :, lead, self._median] = forecast[:, :, self._median]

    def _step_anew(
        self,
        rows: NDArray[np.int64],
        values: NDArray[np.float32],
        out: _Out,
        bad: NDArray[np.bool_],
        *,
        has_missing: bool,
        is_retry: bool,
    ) -> NDArray[np.bool_]:
        """Outputs of `bad` rows are not finite: begin their states anew with the first frame of which this is so.

        Nothing of the failed attempt is in the arena. A frame that fails from an empty state too has no forecast. Gives
        bool [steps, rows] where states began anew.
        """
        rows, part = rows[bad], out.of(bad)
        frames = np.ascontiguousarray(values[:, bad])
        anew = np.zeros(frames.shape[:2], np.bool_)
        if len(frames) > 1:
            for step in range(len(frames)):
                one = slice(step, step + 1)
                restarted = self._advance(rows, frames[one], part.steps(one), has_missing=has_missing)
                anew[step] = False if restarted is None else restarted[0]
        else:
            anew[:] = True
            self._restart(rows)
            if is_retry:
                part.fail()
            else:
                self._advance(rows, frames, part, has_missing=has_missing, is_retry=True)
        out.put(bad, part)
        everywhere = np.zeros(values.shape[:2], np.bool_)
        everywhere[:, bad] = anew
        return everywhere


@dataclass(frozen=True, slots=True)
class _Out:
    """What leaves a call: forecast float32 [..., horizon, quantiles, channels], surprise [..., channels] or None."""

    forecast: NDArray[np.float32]
    surprise: NDArray[np.float32] | None

    def part(self, lanes: slice, shape: tuple[int, int]) -> _Out:
        """Some of the lanes, as [steps, rows, ...]."""
        forecast = self.forecast[lanes].reshape(shape + self.forecast.shape[1:])
        if self.surprise is None:
            return _Out(forecast, None)
        return _Out(forecast, self.surprise[lanes].reshape(shape + self.surprise.shape[1:]))

    def steps(self, steps: slice) -> _Out:
        """Some of the steps."""
        return _Out(self.forecast[steps], None if self.surprise is None else self.surprise[steps])

    def of(self, rows: NDArray[np.bool_]) -> _Out:
        """A copy of some rows."""
        surprise = None if self.surprise is None else np.ascontiguousarray(self.surprise[:, rows])
        return _Out(np.ascontiguousarray(self.forecast[:, rows]), surprise)

    def put(self, rows: NDArray[np.bool_], part: _Out) -> None:
        """Take back what `of` gave."""
        self.forecast[:, rows] = part.forecast
        if self.surprise is not None and part.surprise is not None:
            self.surprise[:, rows] = part.surprise

    def fail(self) -> None:
        """There is nothing to say."""
        self.forecast[:] = np.nan
        if self.surprise is not None:
            self.surprise[:] = np.nan
