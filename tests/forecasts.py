"""Forecasts made up for tests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from foretell.wire import Flag, ForecastBatch


def make_forecasts(
    names: Sequence[str],
    frames: Sequence[int],
    values: Sequence[Sequence[float]],
    medians: Sequence[Sequence[float]],
    *,
    band: float | None = None,
    flags: Flag = Flag(0),  # noqa: B008 - a constant
    counts: Sequence[int] | None = None,
    epoch: int = 0,
) -> ForecastBatch:
    """Forecasts of one lead; values, medians: [n, F]; band: how far the 5 % and 95 % quantiles are from the median."""
    num_frames = len(names)
    value = np.array(values, dtype=np.float32)
    median = np.array(medians, dtype=np.float32)
    levels, quantiles = [0.5], [median]
    if band is not None:
        levels, quantiles = [0.05, 0.5, 0.95], [median - band, median, median + band]
    return ForecastBatch(
        names=[name.encode() for name in names],
        frame=np.array(frames, dtype=np.uint64),
        timestamp_ns=np.zeros(num_frames, dtype=np.int64),
        epoch=np.full(num_frames, epoch, dtype=np.uint32),
        flags=np.full(num_frames, flags, dtype=np.uint16),
        count=np.array(frames if counts is None else counts, dtype=np.uint64),
        values=value,
        surprise=np.full_like(value, np.nan),
        forecast=np.stack(quantiles, axis=1)[:, None],
        quantiles=np.array(levels, dtype=np.float32),
        model=1,
    )


def latencies(num_frames: int, latency_ns: int = 250_000) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Equal latencies, int64 [n]."""
    return np.full(num_frames, latency_ns, dtype=np.int64)
