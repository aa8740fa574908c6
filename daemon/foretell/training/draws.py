"""What components and faults of synthetic signals are built from: random sizes, noise, recursions, things held.

Signals are float64 [length, num_signals], one row a frame.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Generator = np.random.Generator
Signals = NDArray[np.float64]
Lanes = NDArray[np.float64]  # a number for each signal


def log_uniform(rng: Generator, low: float, high: float, n: int) -> Lanes:
    """`n` numbers between `low` and `high` whose logarithm is uniform."""
    return np.exp(rng.uniform(np.log(low), np.log(high), n))


def noise(rng: Generator, n: int, length: int) -> Signals:
    """White noise of unit scale: Gaussian or heavy-tailed, calm or in bursts."""
    tail = rng.choice([2.5, 4.0, 8.0, 1e6], n, p=[0.15, 0.25, 0.2, 0.4])
    white: Signals = rng.standard_t(tail, size=(length, n)) * np.sqrt(np.maximum(tail - 2.0, 0.5) / tail)
    bursts = np.exp(0.7 * relaxing(rng, n, length, log_uniform(rng, 10.0, 300.0, n)))
    return np.where(rng.random(n) < 0.3, white * bursts, white)


def relaxing(rng: Generator, n: int, length: int, memory: Lanes) -> Signals:
    """A stationary Ornstein-Uhlenbeck process of unit variance that forgets within `memory` frames."""
    keep = np.exp(-1.0 / memory)
    kicks = rng.normal(size=(length, n)) * np.sqrt(1.0 - keep**2)
    kicks[0] = rng.normal(size=n)
    return filtered(kicks, keep, np.zeros(n))


def filtered(signals: Signals, first: Lanes, second: Lanes) -> Signals:
    """The recursion y[t] = first * y[t-1] + second * y[t-2] + x[t] of every signal."""
    out = np.empty_like(signals)
    last = before = np.zeros(signals.shape[1])
    for t, value in enumerate(signals):
        last, before = first * last + second * before + value, last
        out[t] = last
    return out


def held(signals: Signals, updates: NDArray[np.bool_]) -> Signals:
    """Each value held until the next update."""
    since = np.maximum.accumulate(np.where(updates, np.arange(len(signals))[:, None], 0), axis=0)
    return np.take_along_axis(signals, since, axis=0)


def runs(rng: Generator, length: int, between: Lanes, lasting: Lanes, longest: int) -> NDArray[np.bool_]:
    """Bool [length, n], true in runs that begin about every `between` frames and last about `lasting`.

    None lasts longer than `longest`, but another may begin in it. The first frame is in none.
    """
    n = between.size
    begins = rng.random((length, n)) < 1.0 / between
    begins[0] = False
    lengths = np.minimum(1.0 + np.floor(rng.exponential(size=(length, n)) * (lasting - 1.0)), longest)
    frames = np.arange(length)[:, None]
    since = np.maximum.accumulate(np.where(begins, frames, 0), axis=0)
    return (since > 0) & (frames - since < np.take_along_axis(lengths, since, axis=0))


def unit_spread(signals: Signals) -> Signals:
    """Signals shifted and scaled to mean 0 and standard deviation 1; constant ones to 0."""
    spread = signals.std(axis=0)
    unit: Signals = (signals - signals.mean(axis=0)) / np.where(spread > 0.0, spread, 1.0)
    return unit
