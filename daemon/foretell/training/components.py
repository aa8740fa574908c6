"""What synthetic signals are made of, and how often.

Every component is a function of a generator, the number of signals and their length in frames, and returns float64
[length, num_signals] of any scale; add one to `COMPONENTS` and it takes part.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from foretell.training.cycles import bang_bang, cycles, sines
from foretell.training.draws import (
    Generator,
    Signals,
    filtered,
    held,
    log_uniform,
    noise,
    relaxing,
    runs,
    unit_spread,
)

Component = Callable[[Generator, int, int], Signals]


def autoregression(rng: Generator, n: int, length: int) -> Signals:
    """AR(2) with real or complex roots from white to nearly unit."""
    radius = 1.0 - log_uniform(rng, 1e-3, 0.9, n)
    other = radius * rng.uniform(-0.6, 1.0, n)
    angle = 2 * np.pi / log_uniform(rng, 2.5, 200.0, n)
    complex_pair = rng.random(n) < 0.5
    first = np.where(complex_pair, 2 * radius * np.cos(angle), radius + other)
    second = np.where(complex_pair, -(radius**2), -radius * other)
    return filtered(noise(rng, n, length), first, second)


def random_walk(rng: Generator, n: int, length: int) -> Signals:
    """A walk, some with inertia, so that trends last."""
    memory = np.where(rng.random(n) < 0.5, 0.0, rng.uniform(-0.5, 0.98, n))
    return np.cumsum(filtered(noise(rng, n, length), memory, np.zeros(n)), axis=0)


def pulses(rng: Generator, n: int, length: int) -> Signals:
    """On and off, at random or by the clock, each state with its own mean length; some seen through a slow response."""
    num_switches = 2 * int(np.ceil(length / 2.0)) + 2
    on, off = log_uniform(rng, 2.0, 150.0, n), log_uniform(rng, 2.0, 150.0, n)
    jitter = np.where(rng.random(n) < 0.4, 1.0, log_uniform(rng, 0.005, 0.3, n))
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
    lag = np.where(rng.random(n) < 0.5, 0.0, np.exp(-1.0 / log_uniform(rng, 1.0, 40.0, n)))
    return filtered(states * (1.0 - lag), lag, np.zeros(n))


def ramps(rng: Generator, n: int, length: int) -> Signals:
    """Straight lines whose slope changes now and then; some reset to nought, as tanks do, some rest between."""
    breaks = rng.random((length, n)) < 1.0 / log_uniform(rng, 15.0, 400.0, n)
    breaks[0] = True
    slopes = rng.normal(size=(length, n)) * (rng.random((length, n)) >= rng.choice([0.0, 0.5], n))
    slopes = held(slopes, breaks)
    lines = np.cumsum(slopes, axis=0)
    sawtooth = np.flatnonzero(rng.random(n) < 0.35)
    capacity = log_uniform(rng, 4.0, 200.0, sawtooth.size)
    lines[:, sawtooth] = np.mod(np.cumsum(np.abs(slopes[:, sawtooth]), axis=0), capacity)
    return lines


def level_shifts(rng: Generator, n: int, length: int) -> Signals:
    """Levels held for a while; a new one is drawn afresh or stepped to from the last."""
    jumps = rng.random((length, n)) < 1.0 / log_uniform(rng, 10.0, 500.0, n)
    jumps[0] = True
    fresh = held(rng.standard_t(4, size=(length, n)), jumps)
    stepped = np.cumsum(jumps * rng.standard_t(3, size=(length, n)), axis=0)
    return np.where(rng.random(n) < 0.6, fresh, stepped)


def shots(rng: Generator, n: int, length: int) -> Signals:
    """Events that strike at random and die away."""
    is_hit = rng.random((length, n)) < 1.0 / log_uniform(rng, 5.0, 200.0, n)
    strikes = is_hit * rng.gamma(0.8, size=(length, n))
    return filtered(strikes, np.exp(-1.0 / log_uniform(rng, 0.3, 60.0, n)), np.zeros(n))


def counts(rng: Generator, n: int, length: int) -> Signals:
    """Events counted by frame (Poisson, some overdispersed), at a rate that follows another component."""
    drive = np.where(
        rng.random(n) < 0.5,
        unit_spread(cycles(rng, n, length)),
        relaxing(rng, n, length, log_uniform(rng, 5.0, 300.0, n)),
    )
    rate = log_uniform(rng, 0.3, 2000.0, n) * np.exp(np.clip(rng.uniform(0.1, 0.9, n) * drive, -4.0, 4.0))
    shape = log_uniform(rng, 1.5, 300.0, n)
    return rng.poisson(rate * rng.gamma(shape, 1.0 / shape, size=(length, n))).astype(np.float64)


def counters(rng: Generator, n: int, length: int) -> Signals:
    """Whole numbers that only rise: by counts or steadily, until they wrap, or are reset by the clock or at random."""
    steady = np.rint(log_uniform(rng, 1.0, 300.0, n))
    added = np.where(rng.random(n) < 0.7, counts(rng, n, length), steady)
    total = np.cumsum(added, axis=0)
    mean = np.maximum(added.mean(axis=0), 1e-3)
    every = log_uniform(rng, 20.0, 2.0 * length, n)
    wrapped = np.mod(total, np.maximum(np.rint(mean * every), 2.0))
    by_clock = np.arange(length)[:, None] % np.rint(every).astype(int) == 0
    is_reset = np.where(rng.random(n) < 0.5, by_clock, rng.random((length, n)) < 1.0 / every)
    is_reset[0] = True
    return np.where(rng.random(n) < 0.4, wrapped, total - held(total, is_reset))


def regimes(rng: Generator, n: int, length: int) -> Signals:
    """The process itself changes: now one component, now another of its own scale and level."""
    first, second = (_any_of(rng, n, length, _SIMPLE) for _ in range(2))
    second = second * log_uniform(rng, 0.1, 1.0, n) + rng.normal(size=n) * (rng.random(n) < 0.6)
    is_second: NDArray[np.bool_] = runs(
        rng, length, log_uniform(rng, 60.0, 800.0, n), log_uniform(rng, 20.0, 500.0, n), length
    )
    is_second ^= rng.random(n) < 0.5
    return np.where(is_second, second, first)


_SIMPLE: Final[tuple[Component, ...]] = (
    cycles,
    autoregression,
    autoregression,
    random_walk,
    pulses,
    level_shifts,
    counts,
)
"""What regimes change between."""


def _any_of(rng: Generator, n: int, length: int, components: tuple[Component, ...]) -> Signals:
    """Signals of unit spread, each of one of `components`."""
    kind = rng.integers(len(components), size=n)
    signals = np.empty((length, n))
    for index, component in enumerate(components):
        chosen = np.flatnonzero(kind == index)
        if chosen.size:
            signals[:, chosen] = unit_spread(component(rng, chosen.size, length))
    return signals


COMPONENTS: Final[dict[str, tuple[Component, float]]] = {
    "cycles": (cycles, 0.25),
    "sines": (sines, 0.03),
    "bang-bang": (bang_bang, 0.03),
    "autoregression": (autoregression, 0.21),
    "random walk": (random_walk, 0.12),
    "pulses": (pulses, 0.08),
    "ramps": (ramps, 0.05),
    "level shifts": (level_shifts, 0.05),
    "shots": (shots, 0.04),
    "counts": (counts, 0.09),
    "counters": (counters, 0.02),
    "regimes": (regimes, 0.06),
}
"""What signals are made of, and how often."""
