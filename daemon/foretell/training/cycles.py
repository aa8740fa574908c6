"""Components that come again: cycles of any shape and period, several at once, sines, and controllers that swing."""

from __future__ import annotations

import numpy as np

from foretell.training.draws import (
    Generator,
    Lanes,
    Signals,
    log_uniform,
    noise,
    relaxing,
    unit_spread,
)

LONGEST_PERIOD = 500.0  # frames


def cycles(rng: Generator, n: int, length: int) -> Signals:
    """One cycle or two at once, added or multiplied, the longer one often a whole number of the shorter."""
    common = rng.choice([12, 24, 48, 60, 96, 144, 168, 288], n)
    period = np.where(rng.random(n) < 0.4, common, log_uniform(rng, 4.0, LONGEST_PERIOD, n))
    signals = _cycle(rng, period, length)
    double = np.flatnonzero(rng.random(n) < 0.3)
    multiple = np.where(
        rng.random(double.size) < 0.6,
        rng.integers(2, 15, double.size),
        log_uniform(rng, 1.2, 20.0, double.size),
    )
    longer = _cycle(rng, np.minimum(period[double] * multiple, LONGEST_PERIOD), length)
    weight = log_uniform(rng, 0.2, 2.0, double.size)
    is_product = rng.random(double.size) < 0.3
    swing = np.maximum(1.0 + 0.5 * np.minimum(weight, 1.0) * longer, 0.0)
    signals[:, double] = np.where(
        is_product, signals[:, double] * swing, signals[:, double] + weight * longer
    )
    return signals


def sines(rng: Generator, n: int, length: int) -> Signals:
    """Sines of steady phase and strength, up to three at once."""
    frames = np.arange(length)[:, None]
    signals = np.zeros((length, n))
    for share in (1.0, 0.3, 0.1):
        weight = 1.0 if share == 1.0 else log_uniform(rng, 0.1, 1.0, n) * (rng.random(n) < share)
        period = log_uniform(rng, 4.0, LONGEST_PERIOD, n)
        signals += weight * np.sin(2 * np.pi * (frames / period + rng.random(n)))
    return signals


def bang_bang(rng: Generator, n: int, length: int) -> Signals:
    """What a controller with two thresholds holds between them, or the switch itself: a thermostat, a pump."""
    rise, fall = log_uniform(rng, 0.01, 0.6, n), log_uniform(rng, 0.01, 0.6, n)
    overshoot = log_uniform(
        rng, 1.1, 10.0, n
    )  # where it would go, against the threshold where it is turned back
    kicks = noise(rng, n, length) * log_uniform(rng, 1e-3, 0.1, n)
    level, is_on = rng.uniform(-1, 1, n), rng.random(n) < 0.5
    levels, switch = np.empty((length, n)), np.empty((length, n))
    for t in range(length):
        level = level + np.where(is_on, rise * (overshoot - level), fall * (-overshoot - level)) / overshoot
        level = level + kicks[t]
        is_on = np.where(level > 1.0, False, np.where(level < -1.0, True, is_on))
        levels[t], switch[t] = level, is_on
    return np.where(rng.random(n) < 0.75, levels, switch)


def _cycle(rng: Generator, period: Lanes, length: int) -> Signals:
    """Cycles of unit spread whose phase and strength may drift, and of which two in seven may be weaker."""
    n = period.size
    drift = log_uniform(rng, 1e-4, 0.03, n) * (rng.random(n) < 0.7)
    phase = np.cumsum(2 * np.pi / period + drift * rng.normal(size=(length, n)), axis=0)
    phase += rng.uniform(0, 2 * np.pi, n)
    signals = unit_spread(np.where(rng.random(n) < 0.7, _harmonics(rng, phase, period), _profile(rng, phase)))
    swing = relaxing(rng, n, length, log_uniform(rng, 20.0, 500.0, n))
    signals *= np.maximum(1.0 + rng.uniform(0, 0.4, n) * (rng.random(n) < 0.8) * swing, 0.0)
    signals *= 1.0 + 0.3 * (rng.random(n) < 0.3) * np.sign(np.cos(phase / 7.0) - 0.45)
    daylight = rng.random(n) < 0.15
    signals[:, daylight] = np.maximum(signals, rng.uniform(-0.8, 0.5, n))[:, daylight]
    return signals


def _harmonics(rng: Generator, phase: Signals, period: Lanes) -> Signals:
    """A few harmonics, the higher the weaker."""
    n = period.size
    decay = rng.uniform(0.5, 2.5, n)
    signals = np.zeros(phase.shape)
    for order in range(1, 7):
        strength = order**-decay * rng.normal(size=n) * (order * 2.5 < period)
        signals += strength * np.cos(order * phase + rng.uniform(0, 2 * np.pi, n))
    return signals


def _profile(rng: Generator, phase: Signals) -> Signals:
    """A shape drawn at a few corners and straight between them, or in steps: triangles, trapezia, schedules."""
    n: int = phase.shape[1]
    num_corners = rng.integers(2, 13, n)
    corners = rng.random((12, n))
    heights = rng.normal(size=(12, n))
    turn = np.mod(phase / (2 * np.pi), 1.0)
    in_steps = rng.random(n) < 0.35
    out = np.empty(phase.shape)
    for lane in range(n):
        met = slice(int(num_corners[lane]))
        at, height = np.sort(corners[met, lane]), heights[met, lane]
        if in_steps[lane]:
            out[:, lane] = height[np.searchsorted(at, turn[:, lane]) % at.size]
        else:
            out[:, lane] = np.interp(turn[:, lane], at, height, period=1.0)
    return out
