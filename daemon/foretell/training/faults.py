"""What sensors do to a signal: each fault takes signals of unit spread and gives them as such a sensor reports them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from foretell.training.draws import Generator, Signals, filtered, held, log_uniform, runs

Fault = Callable[[Generator, Signals], Signals]

LONGEST_ABSENCE: Final = 20
"""Frames: so long a run of values can be missing."""


def smoothed(rng: Generator, signals: Signals) -> Signals:
    """Seen through a slow response."""
    memory = np.exp(-1.0 / log_uniform(rng, 0.4, 12.0, signals.shape[1]))
    return filtered(signals * (1.0 - memory), memory, np.zeros(signals.shape[1]))


def shifted(rng: Generator, signals: Signals) -> Signals:
    """Its zero jumps now and then."""
    length, n = signals.shape
    jumps = rng.random((length, n)) < 1.0 / log_uniform(rng, 100.0, 2000.0, n)
    return signals + np.cumsum(jumps * rng.normal(size=(length, n)) * 3.0, axis=0)


def spiked(rng: Generator, signals: Signals) -> Signals:
    """Single readings far off."""
    length, n = signals.shape
    hits = rng.random((length, n)) < log_uniform(rng, 1e-3, 0.03, n)
    heights = log_uniform(rng, 1.0, 30.0, n)
    return signals + hits * heights * rng.standard_t(3, size=(length, n))


def saturated(rng: Generator, signals: Signals) -> Signals:
    """Not below a lowest or above a highest reading, or both; some give in gradually."""
    n: int = signals.shape[1]
    low, high = (
        np.take_along_axis(np.sort(signals, axis=0), (share * len(signals)).astype(int)[None], axis=0)[0]
        for share in (rng.uniform(0.02, 0.35, n), rng.uniform(0.65, 0.98, n))
    )
    sides = rng.integers(1, 4, n)
    hard = np.clip(signals, np.where(sides & 1, low, -np.inf), np.where(sides & 2, high, np.inf))
    middle, half = (low + high) / 2.0, np.maximum((high - low) / 2.0, 1e-6)
    return np.where(rng.random(n) < 0.3, np.tanh((signals - middle) / half), hard)


def dead_banded(rng: Generator, signals: Signals) -> Signals:
    """Reported anew only when it has moved by more than a band since the last report."""
    band = log_uniform(rng, 0.03, 0.8, signals.shape[1])
    out = np.empty_like(signals)
    reported = signals[0]
    for t, value in enumerate(signals):
        reported = np.where(np.abs(value - reported) > band, value, reported)
        out[t] = reported
    return out


def quantised(rng: Generator, signals: Signals) -> Signals:
    """Rounded to whole steps."""
    quantum = log_uniform(rng, 0.01, 0.9, signals.shape[1])
    return np.rint(signals / quantum) * quantum


def held_back(rng: Generator, signals: Signals) -> Signals:
    """Reported every few frames only, by the clock or now and then, and repeated between."""
    length, n = signals.shape
    every = log_uniform(rng, 1.2, 12.0, n)
    by_clock = np.arange(length)[:, None] % np.rint(every).astype(int) == 0
    reports = np.where(rng.random(n) < 0.5, by_clock, rng.random((length, n)) < 1.0 / every)
    reports[0] = True
    return held(signals, reports)


def dropping_out(rng: Generator, signals: Signals) -> Signals:
    """For a while it reads nought, whose distance is the sensor's own, or is stuck at its last reading."""
    length, n = signals.shape
    is_out = runs(rng, length, log_uniform(rng, 60.0, 1500.0, n), log_uniform(rng, 1.0, 30.0, n), 200)
    nought = -log_uniform(rng, 1.0, 30.0, n) * rng.choice([-1.0, 1.0], n, p=[0.2, 0.8])
    stuck = held(signals, ~is_out)
    return np.where(is_out, np.where(rng.random(n) < 0.5, nought, stuck), signals)


FAULTS: Final[tuple[tuple[Fault, float], ...]] = (
    (smoothed, 0.12),
    (shifted, 0.10),
    (spiked, 0.12),
    (saturated, 0.07),
    (quantised, 0.25),
    (dead_banded, 0.05),
    (held_back, 0.06),
    (dropping_out, 0.05),
)
"""What sensors do to a signal, in this order, and to what share of them."""


def observed(rng: Generator, num_signals: int, length: int) -> NDArray[np.bool_]:
    """Bool [length, num_signals]: in one signal of eight values are missing, one by one or in runs, never the first."""
    n = num_signals
    is_alone = rng.random((length, n)) < log_uniform(rng, 1e-3, 0.1, n)
    in_runs = runs(
        rng, length, log_uniform(rng, 30.0, 600.0, n), log_uniform(rng, 1.5, 12.0, n), LONGEST_ABSENCE
    )
    kind = rng.choice(3, n, p=[0.875, 0.065, 0.06])
    is_missing: NDArray[np.bool_] = (is_alone & (kind == 1)) | (in_runs & (kind == 2))
    is_missing[0] = False
    return ~is_missing
