"""The state arena and the engine that steps it: gather rows, one LSTM time step, scatter.

A row is one LSTM state. With an `independent` model every channel of a stream has a row of its own, with a `joint` one
a stream has one row. Which rows belong to whom is decided in `foretell.admit`; here rows are only numbers.

Nothing computed for a row depends on the other rows of its batch: the LSTM is batch-invariant (see `foretell.lstm`) and
everything else is arithmetic lane by lane.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from foretell.lstm import MAX_ROWS, Lstm, bucket_of
from foretell.model import Channels
from foretell.normalize import Advanced, Normalizer

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from foretell.rounds import Steps
    from foretell.model import Model

FLOAT32_MAX: Final = np.finfo(np.float32).max


@dataclass(frozen=True, slots=True)
class Stepped:
    """What stepping `n` frames gave.

    forecast: float32 [n, horizon, quantiles, channels], what was predicted after each frame. Of leads beyond the
    first only the median is given, the other quantiles are NaN.
    restarted: bool [n] where a frame made its state non-finite, so that the state began anew with that frame; None
    where no frame did. If the frame alone cannot be stepped either, its forecast is NaN.
    """

    forecast: NDArray[np.float32]
    restarted: NDArray[np.bool_] | None


class Arena:
    """The state of every row, reserved once; pages never touched cost no memory.

    h, c: per layer float32 [rows, hidden]; normalizer: float32 [rows, channels * state size] or None;
    guess: float32 [rows, channels], what stands in for a missing value.
    """

    def __init__(self, model: Model, num_rows: int) -> None:
        spec = model.spec
        self.h = [np.zeros((num_rows, spec.hidden_size), np.float32) for _ in range(spec.num_layers)]
        self.c = [np.zeros((num_rows, spec.hidden_size), np.float32) for _ in range(spec.num_layers)]
        self.guess = np.zeros((num_rows, spec.input_channels), np.float32)
        self.normalizer = None
        self._initial: NDArray[np.float32] | None = None
        if spec.normalizer is not None:
            initial = Normalizer(spec.normalizer).initial_state(spec.input_channels)
            self._initial = np.ascontiguousarray(initial.T).reshape(-1)
            self.normalizer = np.zeros((num_rows, self._initial.size), np.float32)

    def restart(self, rows: NDArray[np.int64]) -> None:
        """Let the states of `rows` begin anew."""
        for state in (*self.h, *self.c, self.guess):
            state[rows] = 0.0
        if self.normalizer is not None:
            self.normalizer[rows] = self._initial


def bytes_per_row(model: Model) -> int:
    """Bytes of state that one row of the arena takes."""
    spec = model.spec
    per_channel = 1 if spec.normalizer is None else 1 + Normalizer(spec.normalizer).state_size
    return 4 * (2 * spec.num_layers * spec.hidden_size + spec.input_channels * per_channel)


def rows_per_stream(model: Model, num_channels: int) -> int:
    """Rows that a stream of `num_channels` channels takes."""
    return num_channels if model.spec.channels is Channels.INDEPENDENT else 1


class Engine:
    """Advances the states in the arena by frames and forecasts what follows them.

    `num_rows` rows are reserved for good. `horizon` leads are forecast after every frame: the first by the model's own
    step, the others by rolling a copy of the state on the median, the state itself untouched.
    """

    def __init__(self, model: Model, num_rows: int, horizon: int = 1) -> None:
        spec = model.spec
        self.spec = spec
        self.horizon = horizon
        self.lstm = Lstm(model)
        self.arena = Arena(model, num_rows)
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
        num_channels = self.spec.input_channels
        rows, values = steps.rows.reshape(-1), steps.values.reshape(-1, num_channels)
        shape = (rows.size, self.horizon, len(self.spec.quantiles), self.spec.output_channels)
        out = np.empty(shape, np.float32)
        restarted = np.zeros(rows.size, np.bool_)
        start = 0
        for end_step in steps.round_ends:
            end = end_step * num_rows
            if steps.begins is not None:
                begins = steps.begins[start // num_rows : end_step]
                if begins.any():
                    self.arena.restart(steps.rows[start // num_rows : end_step][begins].reshape(-1))
            for first in range(start, end, MAX_ROWS):
                part = slice(first, min(first + MAX_ROWS, end))
                self._advance(rows[part], values[part], out[part], restarted[part], has_missing=steps.has_missing)
            start = end
        return self._in_frame_order(steps, out.reshape(num_steps, num_rows, *shape[1:]), restarted)

    def _in_frame_order(self, steps: Steps, out: NDArray[np.float32], restarted: NDArray[np.bool_]) -> Stepped:
        """From [steps, rows, horizon, quantiles, row's channels] to [frames, horizon, quantiles, channels]."""
        if out.shape[1] == 1:
            forecast = out[:, 0]
        else:
            forecast = np.ascontiguousarray(out[..., 0].transpose(0, 2, 3, 1))
        any_restarted = restarted.reshape(out.shape[:2]).any(axis=1) if restarted.any() else None
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
        """Step distinct `rows` (at most `MAX_ROWS`) by `values` [rows, channels] and write the forecasts to `out`."""
        arena, num_rows = self.arena, rows.size
        bucket = bucket_of(num_rows)
        h = [_gather(state, rows, buffer, bucket) for state, buffer in zip(arena.h, self._h, strict=True)]
        c = [_gather(state, rows, buffer, bucket) for state, buffer in zip(arena.c, self._c, strict=True)]
        observed = None
        given = values
        if has_missing:
            observed = ~np.isnan(values)
            values = np.where(observed, values, arena.guess[rows])
        advanced = self._features(rows, values, observed)
        y, h, c = self.lstm.step(self._x[:bucket], h, c)
        raw = y.numpy()[:num_rows]
        forecast = self._denormalize(raw, advanced)
        out[:, 0] = forecast
        for state, new in zip((*arena.h, *arena.c), (*h, *c), strict=True):
            state[rows] = new.numpy()[:num_rows]
        if arena.normalizer is not None and advanced is not None:
            arena.normalizer[rows] = _by_row(advanced.state, num_rows)
        arena.guess[rows] = forecast[:, self._median] if self.spec.outputs_are_inputs else values
        if self.horizon > 1:
            self._roll(forecast, advanced, h, c, out)
        if not np.isfinite(raw).all():
            bad = np.flatnonzero(~np.isfinite(raw).all(axis=1))
            self._restart_non_finite(rows, given, out, restarted, bad, has_missing=has_missing, is_retry=is_retry)

    def _features(
        self, rows: NDArray[np.int64], values: NDArray[np.float32], observed: NDArray[np.bool_] | None
    ) -> Advanced | None:
        """Fill the LSTM's input from `values`: as they are, or as the normaliser sees them."""
        x = self._x.numpy()[: rows.size]
        if self._normalizer is None or self.arena.normalizer is None:
            x[:] = values
            return None
        state = self.arena.normalizer[rows].reshape(values.size, -1)
        seen = None if observed is None else observed.reshape(-1)
        advanced = self._normalizer.advance(np.ascontiguousarray(state.T), values.reshape(-1), seen)
        x[:] = _by_row(advanced.features, rows.size)
        return advanced

    def _denormalize(self, raw: NDArray[np.float32], advanced: Advanced | None) -> NDArray[np.float32]:
        """Network outputs [rows, quantiles * channels] to forecasts [rows, quantiles, channels]."""
        levels = raw.reshape(raw.shape[0], len(self.spec.quantiles), -1)
        if advanced is None:
            return levels
        levels = np.ascontiguousarray(levels.transpose(1, 0, 2))
        for above in range(self._median + 1, len(levels)):
            np.maximum(levels[above], levels[above - 1], out=levels[above])
        for below in range(self._median - 1, -1, -1):
            np.minimum(levels[below], levels[below + 1], out=levels[below])
        shape = levels.shape[1:]
        levels *= advanced.unit.reshape(shape)
        levels += advanced.base.reshape(shape)
        np.clip(levels, -FLOAT32_MAX, FLOAT32_MAX, out=levels)
        return levels.transpose(1, 0, 2)

    def _roll(
        self,
        forecast: NDArray[np.float32],
        advanced: Advanced | None,
        h: list[torch.Tensor],
        c: list[torch.Tensor],
        out: NDArray[np.float32],
    ) -> None:
        """Forecast the leads beyond the first from copies of the states."""
        num_rows = forecast.shape[0]
        x = self._x.numpy()[:num_rows]
        out[:, 1:] = np.nan
        for lead in range(1, self.horizon):
            median = np.ascontiguousarray(forecast[:, self._median])
            if self._normalizer is None or advanced is None:
                x[:] = median
            else:
                unseen = np.zeros(median.size, np.bool_)
                advanced = self._normalizer.advance(advanced.state, median.reshape(-1), unseen)
                x[:] = _by_row(advanced.features, num_rows)
            y, h, c = self.lstm.step(self._x[: h[0].shape[0]], h, c)
            forecast = self._denormalize(y.numpy()[:num_rows], advanced)
            out[:, lead, self._median] = forecast[:, self._median]

    def _restart_non_finite(
        self,
        rows: NDArray[np.int64],
        values: NDArray[np.float32],
        out: NDArray[np.float32],
        restarted: NDArray[np.bool_],
        bad: NDArray[np.int64],
        *,
        has_missing: bool,
        is_retry: bool,
    ) -> None:
        """Begin the states anew that became non-finite, and try their frames once more; then give NaN."""
        self.arena.restart(rows[bad])
        restarted[bad] = True
        if is_retry:
            out[bad] = np.nan
            return
        retried = np.empty((bad.size, *out.shape[1:]), np.float32)
        again = np.zeros(bad.size, np.bool_)
        self._advance(rows[bad], values[bad], retried, again, has_missing=has_missing, is_retry=True)
        out[bad] = retried


def _gather(state: NDArray[np.float32], rows: NDArray[np.int64], buffer: torch.Tensor, bucket: int) -> torch.Tensor:
    """Copy `rows` of `state` into the head of `buffer`, of which a bucket is stepped; the padding holds old rows."""
    part = buffer[:bucket]
    np.take(state, rows, axis=0, out=part.numpy()[: rows.size], mode="clip")
    return part


def _by_row(columns: NDArray[np.float32], num_rows: int) -> NDArray[np.float32]:
    """Columns [k, rows * channels] as [rows, channels * k]."""
    return columns.T.reshape(num_rows, -1)
