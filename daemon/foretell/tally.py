"""What forecasts say about the daemon that made them, counted on the subscriber's side alone.

A forecast carries the frame that it was made after, so the forecast before it can be judged by it: its error, the error
of persistence (the frame before as the forecast) and whether its band held. Jumps in `count` are forecasts lost on the
way. Everything is columns of a fixed size: a daemon with 100,000 streams costs no more memory than one with 1,000.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foretell.latency import LatencyHistogram
from foretell.wire import Flag, ForecastBatch

MAX_STREAMS = 1000
MAX_CHANNELS = 8192
HISTORY_FRAMES = 240

_BAND_LEVELS = (0.05, 0.95)  # the two quantiles whose distance is the 90 % band

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Score:
    """How forecasts fared against the frames that they foretold.

    relative_mae: their mean absolute error over that of persistence, below 1 where they were better. Over several
    channels both are averaged over all values in units of each channel's own standard deviation, as is usual for
    series of many units. None before there is anything to compare, or where nothing ever changed.
    coverage: the share of values inside the 90 % band; None where the model has no band.
    """

    num_scored: int
    relative_mae: float | None
    coverage: float | None


@dataclass(frozen=True, slots=True)
class History:
    """The last frames of a channel, oldest first: its value, and what had been forecast for it (NaN: nothing was).

    value is float64 [n], the others [n + 1]: the last forecast is of the frame that has not come yet.
    """

    value: Floats
    median: Floats
    lower: Floats
    upper: Floats


@dataclass(frozen=True, slots=True)
class StreamState:
    """A stream's newest forecast and what is known of its run so far. Arrays are float64 [F], NaN where missing."""

    name: str
    frame: int
    flags: Flag
    latency_ns: int
    num_forecasts: int
    num_lost: int
    value: Floats
    median: Floats
    lower: Floats
    upper: Floats


class Tally:
    """Counts forecasts.

    Streams beyond `max_streams`, or beyond `max_channels` of all streams together, count in the totals only.

    num_forecasts, latency: of all streams; num_untracked: forecasts of the streams beyond.
    """

    def __init__(self, max_streams: int = MAX_STREAMS, max_channels: int = MAX_CHANNELS) -> None:
        self.num_forecasts = 0
        self.num_untracked = 0
        self.latency = LatencyHistogram()
        self._seats: dict[bytes, int] = {}
        self._num_channels = 0
        # One row a stream.
        self._first_channel = np.zeros(max_streams, dtype=np.int64)
        self._width = np.zeros(max_streams, dtype=np.int64)
        self._seen = np.zeros(max_streams, dtype=np.int64)
        self._frame = np.zeros(max_streams, dtype=np.uint64)
        self._epoch = np.zeros(max_streams, dtype=np.uint32)
        self._flags = np.zeros(max_streams, dtype=np.uint16)
        self._count = np.zeros(max_streams, dtype=np.uint64)
        self._lost = np.zeros(max_streams, dtype=np.int64)
        self._latency_ns = np.zeros(max_streams, dtype=np.int64)
        # One row a channel; `_expected` holds median, lower and upper of the next frame.
        self._value = np.zeros(max_channels)
        self._expected = np.zeros((3, max_channels))
        # Mean and summed squared distance from it of the values observed so far.
        self._num_observed = np.zeros(max_channels, dtype=np.int64)
        self._mean = np.zeros(max_channels)
        self._square = np.zeros(max_channels)
        self._error = np.zeros(max_channels)
        self._persistence_error = np.zeros(max_channels)
        self._num_scored = np.zeros(max_channels, dtype=np.int64)
        self._num_banded = np.zeros(max_channels, dtype=np.int64)
        self._num_inside = np.zeros(max_channels, dtype=np.int64)
        # A ring a channel: value, median, lower, upper. Pages never touched cost nothing.
        self._history = np.zeros((max_channels, HISTORY_FRAMES, 4), dtype=np.float32)

    @property
    def num_lost(self) -> int:
        """Forecasts lost on the way, over all streams followed."""
        return int(self._lost.sum())

    @property
    def streams(self) -> list[bytes]:
        """Names of the streams followed one by one, in the order of their first forecasts."""
        return list(self._seats)

    def add(self, batch: ForecastBatch, latency_ns: Rows) -> None:
        """Count n forecasts, in the order of arrival; latency_ns: int64 [n]."""
        self.num_forecasts += len(batch.names)
        self.latency.add(latency_ns)
        width = batch.forecast.shape[3]
        seats = [self._seat(name, width) for name in batch.names]
        rows = np.array([row for row, seat in enumerate(seats) if seat is not None], dtype=np.int64)
        self.num_untracked += len(seats) - rows.size
        followed = np.array([seat for seat in seats if seat is not None], dtype=np.int64)
        for part in _rounds(followed):
            self._update(batch, latency_ns, rows[part], followed[part])

    def state(self, name: bytes) -> StreamState:
        """The newest of a stream in `streams`."""
        seat = self._seats[name]
        channels = self._channels(name)
        return StreamState(
            name=name.decode(errors="replace"),
            frame=int(self._frame[seat]),
            flags=Flag(int(self._flags[seat])),
            latency_ns=int(self._latency_ns[seat]),
            num_forecasts=int(self._seen[seat]),
            num_lost=int(self._lost[seat]),
            value=self._value[channels].copy(),
            median=self._expected[0, channels].copy(),
            lower=self._expected[1, channels].copy(),
            upper=self._expected[2, channels].copy(),
        )

    def score(self, name: bytes | None = None, channel: int | None = None) -> Score:
        """Of one channel of a stream, of a stream, or of all streams followed."""
        channels = slice(0, self._num_channels) if name is None else self._channels(name)
        if channel is not None:
            channels = slice(channels.start + channel, channels.start + channel + 1)
        num_scored = self._num_scored[channels]
        deviation = np.sqrt(self._square[channels] / np.maximum(self._num_observed[channels], 1))
        weight = np.divide(1.0, deviation, out=np.zeros_like(deviation), where=deviation > 0)
        persistence_error = float(weight @ self._persistence_error[channels])
        relative_mae = (
            float(weight @ self._error[channels]) / persistence_error if persistence_error else None
        )
        num_banded = int(self._num_banded[channels].sum())
        coverage = int(self._num_inside[channels].sum()) / num_banded if num_banded else None
        return Score(int(num_scored.sum()), relative_mae, coverage)

    def history(self, name: bytes, channel: int) -> History:
        """The last frames of a channel, at most HISTORY_FRAMES of them, and the forecast of the one to come."""
        row = self._channels(name).start + channel
        end = int(self._seen[self._seats[name]])
        order = np.arange(max(0, end - HISTORY_FRAMES), end) % HISTORY_FRAMES
        past = self._history[row, order].astype(np.float64)
        median, lower, upper = np.vstack([past[:, 1:], self._expected[:, row]]).T
        return History(past[:, 0], median, lower, upper)

    def _channels(self, name: bytes) -> slice:
        seat = self._seats[name]
        first = int(self._first_channel[seat])
        return slice(first, first + int(self._width[seat]))

    def _seat(self, name: bytes, width: int) -> int | None:
        """The row of a stream, given one if it is new and there is room."""
        seat = self._seats.get(name)
        if seat is not None and self._width[seat] == width:
            return seat
        # New, or with another number of channels since a new epoch: then it starts again in fresh rows.
        if self._num_channels + width > self._value.size:
            return None
        if seat is None:
            if len(self._seats) == self._width.size:
                return None
            seat = self._seats[name] = len(self._seats)
        self._seen[seat] = 0
        self._first_channel[seat], self._width[seat] = self._num_channels, width
        self._num_channels += width
        return seat

    def _update(self, batch: ForecastBatch, latency_ns: Rows, rows: Rows, seats: Rows) -> None:
        """Take in the rows of a batch, at most one a stream: judge the forecasts before by them, then keep them."""
        channels = self._first_channel[seats][:, None] + np.arange(batch.forecast.shape[3])
        known = self._seen[seats] > 0
        frame, epoch, count = batch.frame[rows], batch.epoch[rows], batch.count[rows]
        follows = known & (frame == self._frame[seats] + np.uint64(1)) & (epoch == self._epoch[seats])
        jumped = known & (count > self._count[seats])  # a smaller count is a daemon that started again
        self._lost[seats] += np.where(jumped, count - self._count[seats] - np.uint64(1), 0).astype(np.int64)

        value = batch.values[rows].astype(np.float64)  # NaN where the model's outputs are not its inputs
        expected = np.where(follows[:, None], self._expected[:, channels], np.nan)
        # A forecast that says it is warming up asks not to be judged.
        is_warm = (self._flags[seats] & Flag.WARMING) == 0
        self._judge(channels, value, np.where(is_warm[:, None], expected, np.nan))
        self._observe(channels, value)

        position = (self._seen[seats] % HISTORY_FRAMES)[:, None]
        self._history[channels, position] = np.concatenate([value[None], expected]).transpose(1, 2, 0)
        self._value[channels] = value
        self._expected[:, channels] = _expected_next(batch, rows)
        self._frame[seats], self._epoch[seats], self._count[seats] = frame, epoch, count
        self._flags[seats], self._latency_ns[seats] = batch.flags[rows], latency_ns[rows]
        self._seen[seats] += 1

    def _observe(self, channels: Rows, value: Floats) -> None:
        """Take values into their channels' mean and deviation (B. P. Welford, 1962)."""
        is_observed = np.isfinite(value)
        self._num_observed[channels] += is_observed
        distance = np.where(is_observed, value - self._mean[channels], 0)
        self._mean[channels] += distance / np.maximum(self._num_observed[channels], 1)
        self._square[channels] += np.where(is_observed, distance * (value - self._mean[channels]), 0)

    def _judge(self, channels: Rows, value: Floats, expected: Floats) -> None:
        median, lower, upper = expected
        error = np.abs(median - value)
        persistence_error = np.abs(self._value[channels] - value)
        is_scored = np.isfinite(error) & np.isfinite(persistence_error)
        self._error[channels] += np.where(is_scored, error, 0)
        self._persistence_error[channels] += np.where(is_scored, persistence_error, 0)
        self._num_scored[channels] += is_scored
        is_banded = is_scored & np.isfinite(lower) & np.isfinite(upper)
        self._num_banded[channels] += is_banded
        self._num_inside[channels] += is_banded & (value >= lower) & (value <= upper)


def _rounds(seats: Rows) -> Iterator[Rows]:
    """Positions in `seats`, split so that a part holds each seat at most once and the parts keep a seat's order."""
    order = np.argsort(seats, kind="stable")
    ranked = seats[order]
    starts = np.searchsorted(ranked, ranked)  # where the run of each seat begins
    turn = np.arange(seats.size) - starts
    for number in range(int(turn.max(initial=-1)) + 1):
        yield order[turn == number]


def _expected_next(batch: ForecastBatch, rows: Rows) -> Floats:
    """Median, lower and upper end of the next frame's 90 % band, float64 [3, n, F]; NaN where there is none."""
    levels = batch.quantiles.astype(np.float64)
    next_frame = batch.forecast[rows, 0].astype(np.float64)  # [n, Q, F]
    expected = np.full((3, rows.size, next_frame.shape[2]), np.nan)
    expected[0] = next_frame[:, int(np.abs(levels - 0.5).argmin())]
    for i, level in enumerate(_BAND_LEVELS, start=1):
        matching = np.flatnonzero(np.isclose(levels, level, atol=1e-4))
        if matching.size:
            expected[i] = next_frame[:, matching[0]]
    return expected
