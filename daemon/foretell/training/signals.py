"""Synthetic signals with the habits of real sensors: the recipe of the built-in model's training data.

A signal is a weighted sum of a few components, each of unit spread, seen through a sensor with faults of its own. Every
component is a function of a generator, the number of signals and their length in frames, and returns float64
[length, num_signals]; add one to `COMPONENTS`, or a fault to `FAULTS`, and it takes part.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Generator = np.random.Generator
Signals = NDArray[np.float64]
Component = Callable[[Generator, int, int], Signals]
Fault = Callable[[Generator, Signals], Signals]


@dataclass(frozen=True, slots=True)
class Series:
    """Signals and what was seen of them: values float32 [length, n], finite; observed bool [length, n].

    Where a value was not observed it repeats the last one.
    """

    values: NDArray[np.float32]
    observed: NDArray[np.bool_]


def make_series(seed: tuple[int, ...], num_signals: int, length: int) -> Series:
    """`num_signals` signals of `length` frames, the same for the same arguments."""
    rng = np.random.default_rng(seed)
    signals = _mixture(rng, num_signals, length)
    for fault, share in FAULTS:
        chosen = np.flatnonzero(rng.random(num_signals) < share)
        if chosen.size:
            signals[:, chosen] = fault(rng, signals[:, chosen])
    level = rng.choice([0.0, 1.0, 30.0, 1000.0], num_signals, p=[0.4, 0.3, 0.2, 0.1]) * rng.normal(
        size=num_signals
    )
    values = ((signals + level) * _log_uniform(rng, 1e-3, 1e4, num_signals)).astype(np.float32)
    observed = _observed(rng, num_signals, length)
    last_seen = np.maximum.accumulate(np.where(observed, np.arange(length)[:, None], 0), axis=0)
    return Series(np.take_along_axis(values, last_seen, axis=0), observed)


def _mixture(rng: Generator, num_signals: int, length: int) -> Signals:
    """One main component a signal and up to two lesser ones, sometimes multiplied or seen through an exponential."""
    names = list(COMPONENTS)
    shares = np.array([share for _, share in COMPONENTS.values()])
    signals = np.zeros((length, num_signals))
    for rank in range(3):
        kind = rng.choice(len(names), num_signals, p=shares / shares.sum())
        weight = np.ones(num_signals) if rank == 0 else _log_uniform(rng, 0.01, 1.0, num_signals)
        weight *= 1.0 if rank == 0 else rng.random(num_signals) < (0.7, 0.35)[rank - 1]
        for index, name in enumerate(names):
            chosen = np.flatnonzero((kind == index) & (weight > 0.0))
            if chosen.size:
                part = COMPONENTS[name][0](rng, chosen.size, length)
                signals[:, chosen] += weight[chosen] * _unit_spread(part)
    noise = _log_uniform(rng, 0.003, 0.5, num_signals) * (rng.random(num_signals) < 0.6)
    signals = _unit_spread(signals) + noise * _noise(rng, num_signals, length)
    positive = rng.random(num_signals) < 0.15
    signals[:, positive] = np.exp(np.clip(rng.uniform(0.3, 1.2) * signals[:, positive], -8.0, 4.0))
    return _unit_spread(signals)


# Components ----------------------------------------------------------------------------------------------------------


def _harmonics(rng: Generator, n: int, length: int) -> Signals:
    """A cycle of any shape whose phase and strength drift, and which may repeat another day's pattern in a week."""
    common = rng.choice([12, 24, 48, 96, 144, 288], n)
    period = np.where(rng.random(n) < 0.4, common, _log_uniform(rng, 4.0, 400.0, n))
    drift = _log_uniform(rng, 1e-4, 0.03, n) * (rng.random(n) < 0.7)
    phase = np.cumsum(2 * np.pi / period + drift * rng.normal(size=(length, n)), axis=0) + rng.uniform(
        0, 2 * np.pi, n
    )
    decay = rng.uniform(0.5, 2.5, n)
    signals = np.zeros((length, n))
    for order in range(1, 7):
        strength = order**-decay * rng.normal(size=n) * (order * 2.5 < period)
        signals += strength * np.cos(order * phase + rng.uniform(0, 2 * np.pi, n))
    swing = _relaxing(rng, n, length, _log_uniform(rng, 20.0, 500.0, n))
    signals = _unit_spread(signals) * np.maximum(1.0 + rng.uniform(0, 0.4, n) * swing, 0.0)
    week = 1.0 + 0.3 * (rng.random(n) < 0.3) * np.sign(np.cos(phase / 7.0) - 0.45)
    signals *= week
    daylight = rng.random(n) < 0.15
    signals[:, daylight] = np.maximum(signals[:, daylight], rng.uniform(-0.8, 0.5))
    return signals


def _autoregression(rng: Generator, n: int, length: int) -> Signals:
    """AR(2) with real or complex roots from white to nearly unit."""
    radius = 1.0 - _log_uniform(rng, 1e-3, 0.9, n)
    other = radius * rng.uniform(-0.6, 1.0, n)
    angle = 2 * np.pi / _log_uniform(rng, 2.5, 200.0, n)
    complex_pair = rng.random(n) < 0.5
    first = np.where(complex_pair, 2 * radius * np.cos(angle), radius + other)
    second = np.where(complex_pair, -(radius**2), -radius * other)
    return _filtered(_noise(rng, n, length), first, second)


def _random_walk(rng: Generator, n: int, length: int) -> Signals:
    """A walk, some with inertia, so that trends last."""
    memory = np.where(rng.random(n) < 0.5, 0.0, rng.uniform(-0.5, 0.98, n))
    return np.cumsum(_filtered(_noise(rng, n, length), memory, np.zeros(n)), axis=0)


def _pulses(rng: Generator, n: int, length: int) -> Signals:
    """On and off, at random or by the clock, each state with its own mean length; some seen through a slow response."""
    num_switches = 2 * int(np.ceil(length / 2.0)) + 2
    on, off = _log_uniform(rng, 2.0, 150.0, n), _log_uniform(rng, 2.0, 150.0, n)
    jitter = np.where(rng.random(n) < 0.4, 1.0, _log_uniform(rng, 0.005, 0.3, n))
    lengths = np.where(np.arange(num_switches)[:, None] % 2 == 0, on, off)
    spread = np.where(
        jitter < 1.0, 1.0 + jitter * rng.normal(size=lengths.shape), rng.exponential(size=lengths.shape)
    )
    ends = np.cumsum(np.maximum(np.rint(lengths * spread), 1.0), axis=0)
    ends -= rng.uniform(0, 1, n) * (on + off)
    switched = np.stack(
        [np.searchsorted(ends[:, lane], np.arange(length), side="right") for lane in range(n)], axis=1
    )
    heights = np.where(rng.random(n) < 0.5, 0.0, 0.3) * rng.normal(size=(num_switches + 1, n)) + 1.0
    states = np.where(
        switched % 2 == 0, np.take_along_axis(heights, np.minimum(switched, num_switches), axis=0), 0.0
    )
    lag = np.where(rng.random(n) < 0.5, 0.0, np.exp(-1.0 / _log_uniform(rng, 1.0, 40.0, n)))
    return _filtered(states * (1.0 - lag), lag, np.zeros(n))


def _ramps(rng: Generator, n: int, length: int) -> Signals:
    """Straight lines whose slope changes now and then; some reset to nought, as counters and tanks do."""
    breaks = rng.random((length, n)) < 1.0 / _log_uniform(rng, 15.0, 400.0, n)
    breaks[0] = True
    slopes = _held(rng.normal(size=(length, n)), breaks)
    lines = np.cumsum(slopes, axis=0)
    sawtooth = np.flatnonzero(rng.random(n) < 0.35)
    capacity = _log_uniform(rng, 4.0, 200.0, sawtooth.size)
    lines[:, sawtooth] = np.mod(np.cumsum(np.abs(slopes[:, sawtooth]), axis=0), capacity)
    return lines


def _level_shifts(rng: Generator, n: int, length: int) -> Signals:
    """Levels held for a while; a new one is drawn afresh or stepped to from the last."""
    jumps = rng.random((length, n)) < 1.0 / _log_uniform(rng, 10.0, 500.0, n)
    jumps[0] = True
    fresh = _held(rng.standard_t(4, size=(length, n)), jumps)
    stepped = np.cumsum(jumps * rng.standard_t(3, size=(length, n)), axis=0)
    return np.where(rng.random(n) < 0.6, fresh, stepped)


def _shots(rng: Generator, n: int, length: int) -> Signals:
    """Events that strike at random and die away."""
    strikes = (rng.random((length, n)) < 1.0 / _log_uniform(rng, 5.0, 200.0, n)) * rng.gamma(
        0.8, size=(length, n)
    )
    return _filtered(strikes, np.exp(-1.0 / _log_uniform(rng, 0.3, 60.0, n)), np.zeros(n))


def _counts(rng: Generator, n: int, length: int) -> Signals:
    """Events counted by frame (Poisson, some overdispersed), at a rate that follows another component."""
    drive = np.where(
        rng.random(n) < 0.5,
        _unit_spread(_harmonics(rng, n, length)),
        _relaxing(rng, n, length, _log_uniform(rng, 5.0, 300.0, n)),
    )
    rate = _log_uniform(rng, 0.3, 2000.0, n) * np.exp(np.clip(rng.uniform(0.1, 0.9, n) * drive, -4.0, 4.0))
    shape = _log_uniform(rng, 1.5, 300.0, n)
    return rng.poisson(rate * rng.gamma(shape, 1.0 / shape, size=(length, n))).astype(np.float64)


def _noise(rng: Generator, n: int, length: int) -> Signals:
    """White noise of unit scale: Gaussian or heavy-tailed, calm or in bursts."""
    tail = rng.choice([2.5, 4.0, 8.0, 1e6], n, p=[0.15, 0.25, 0.2, 0.4])
    noise: Signals = rng.standard_t(tail, size=(length, n)) * np.sqrt(np.maximum(tail - 2.0, 0.5) / tail)
    bursts = np.exp(0.7 * _relaxing(rng, n, length, _log_uniform(rng, 10.0, 300.0, n)))
    return np.where(rng.random(n) < 0.3, noise * bursts, noise)


COMPONENTS: Final[dict[str, tuple[Component, float]]] = {
    "harmonics": (_harmonics, 0.28),
    "autoregression": (_autoregression, 0.22),
    "random walk": (_random_walk, 0.12),
    "pulses": (_pulses, 0.10),
    "ramps": (_ramps, 0.06),
    "level shifts": (_level_shifts, 0.06),
    "shots": (_shots, 0.05),
    "counts": (_counts, 0.11),
}
"""What signals are made of, and how often."""


# Faults of sensors ---------------------------------------------------------------------------------------------------


def _spiked(rng: Generator, signals: Signals) -> Signals:
    length, n = signals.shape
    hits = rng.random((length, n)) < _log_uniform(rng, 1e-3, 0.03, n)
    heights = _log_uniform(rng, 1.0, 30.0, n)
    return signals + hits * heights * rng.standard_t(3, size=(length, n))


def _smoothed(rng: Generator, signals: Signals) -> Signals:
    memory = np.exp(-1.0 / _log_uniform(rng, 0.4, 12.0, signals.shape[1]))
    return _filtered(signals * (1.0 - memory), memory, np.zeros(signals.shape[1]))


def _shifted(rng: Generator, signals: Signals) -> Signals:
    length, n = signals.shape
    jumps = rng.random((length, n)) < 1.0 / _log_uniform(rng, 100.0, 2000.0, n)
    return signals + np.cumsum(jumps * rng.normal(size=(length, n)) * 3.0, axis=0)


def _clipped(rng: Generator, signals: Signals) -> Signals:
    low, high = np.quantile(signals, [0.15, 0.85], axis=0)
    sides = rng.integers(1, 4, signals.shape[1])
    return np.clip(signals, np.where(sides & 1, low, -np.inf), np.where(sides & 2, high, np.inf))


def _quantised(rng: Generator, signals: Signals) -> Signals:
    quantum = _log_uniform(rng, 0.01, 0.7, signals.shape[1])
    return np.rint(signals / quantum) * quantum


def _held_back(rng: Generator, signals: Signals) -> Signals:
    """Reported every few frames only, by the clock or now and then."""
    length, n = signals.shape
    every = _log_uniform(rng, 1.5, 12.0, n)
    by_clock = np.arange(length)[:, None] % np.rint(every).astype(int) == 0
    reports = np.where(rng.random(n) < 0.5, by_clock, rng.random((length, n)) < 1.0 / every)
    reports[0] = True
    return _held(signals, reports)


FAULTS: Final[tuple[tuple[Fault, float], ...]] = (
    (_smoothed, 0.12),
    (_shifted, 0.12),
    (_spiked, 0.12),
    (_clipped, 0.07),
    (_quantised, 0.25),
    (_held_back, 0.06),
)
"""What sensors do to a signal, in this order, and to what share of them."""


def _observed(rng: Generator, n: int, length: int) -> NDArray[np.bool_]:
    """In one signal of ten some frames are missing."""
    rate = np.where(rng.random(n) < 0.1, _log_uniform(rng, 1e-3, 0.1, n), 0.0)
    observed = rng.random((length, n)) >= rate
    observed[0] = True
    return observed


# Building blocks -----------------------------------------------------------------------------------------------------


def _log_uniform(rng: Generator, low: float, high: float, n: int) -> NDArray[np.float64]:
    return np.exp(rng.uniform(np.log(low), np.log(high), n))


def _unit_spread(signals: Signals) -> Signals:
    spread = signals.std(axis=0)
    unit: Signals = (signals - signals.mean(axis=0)) / np.where(spread > 0.0, spread, 1.0)
    return unit


def _held(signals: Signals, updates: NDArray[np.bool_]) -> Signals:
    """Each value held until the next update."""
    since = np.maximum.accumulate(np.where(updates, np.arange(len(signals))[:, None], 0), axis=0)
    return np.take_along_axis(signals, since, axis=0)


def _filtered(signals: Signals, first: NDArray[np.float64], second: NDArray[np.float64]) -> Signals:
    """The recursion y[t] = first * y[t-1] + second * y[t-2] + x[t] of every signal."""
    out = np.empty_like(signals)
    last = before = np.zeros(signals.shape[1])
    for t, value in enumerate(signals):
        last, before = first * last + second * before + value, last
        out[t] = last
    return out


def _relaxing(rng: Generator, n: int, length: int, memory: NDArray[np.float64]) -> Signals:
    """A stationary Ornstein-Uhlenbeck process of unit variance that forgets within `memory` frames."""
    keep = np.exp(-1.0 / memory)
    kicks = rng.normal(size=(length, n)) * np.sqrt(1.0 - keep**2)
    kicks[0] = rng.normal(size=n)
    return _filtered(kicks, keep, np.zeros(n))
