"""Synthetic signals with the habits of real sensors: the recipe of the built-in model's training data.

A signal is a weighted sum of a few components (`foretell.training.components`), each of unit spread, seen through a
sensor with faults of its own (`foretell.training.faults`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foretell.training.components import COMPONENTS
from foretell.training.draws import Generator, Lanes, Signals, log_uniform, noise, unit_spread
from foretell.training.faults import FAULTS, observed


@dataclass(frozen=True, slots=True)
class Series:
    """Signals and what was seen of them: values float32 [length, n], finite; observed bool [length, n].

    Where a value was not observed, what stands there is what was put in for it.
    """

    values: NDArray[np.float32]
    observed: NDArray[np.bool_]


def make_series(seed: tuple[int, ...], num_signals: int, length: int) -> Series:
    """`num_signals` signals of `length` frames, the same for the same arguments; a missing value repeats the last."""
    rng = np.random.default_rng(seed)
    signals = _mixture(rng, num_signals, length)
    for fault, share in FAULTS:
        chosen = np.flatnonzero(rng.random(num_signals) < share)
        if chosen.size:
            signals[:, chosen] = fault(rng, signals[:, chosen])
    level = rng.choice([0.0, 1.0, 30.0, 1000.0], num_signals, p=[0.4, 0.3, 0.2, 0.1])
    level *= rng.normal(size=num_signals)
    values = ((signals + level) * log_uniform(rng, 1e-3, 1e4, num_signals)).astype(np.float32)
    is_observed = observed(rng, num_signals, length)
    last_seen = np.maximum.accumulate(np.where(is_observed, np.arange(length)[:, None], 0), axis=0)
    return Series(np.take_along_axis(values, last_seen, axis=0), is_observed)


def _mixture(rng: Generator, num_signals: int, length: int) -> Signals:
    """One main component a signal and up to two lesser ones, sometimes multiplied or seen through an exponential.

    One signal of ten is its main component alone.
    """
    signals = np.zeros((length, num_signals))
    is_mixed = rng.random(num_signals) < 0.9
    for share in (1.0, 0.7, 0.35):
        weight = np.ones(num_signals)
        if share < 1.0:
            weight = log_uniform(rng, 0.01, 1.0, num_signals)
            weight *= (rng.random(num_signals) < share) & is_mixed
        _add_components(rng, signals, weight)
    strength = log_uniform(rng, 0.003, 0.5, num_signals) * ((rng.random(num_signals) < 0.6) & is_mixed)
    signals = unit_spread(signals) + strength * noise(rng, num_signals, length)
    positive = (rng.random(num_signals) < 0.15) & is_mixed
    signals[:, positive] = np.exp(
        np.clip((rng.uniform(0.3, 1.2, num_signals) * signals)[:, positive], -8.0, 4.0)
    )
    return unit_spread(signals)


def _add_components(rng: Generator, signals: Signals, weight: Lanes) -> None:
    """Add to every signal one component of `weight`, where that is not 0."""
    shares = np.array([share for _, share in COMPONENTS.values()])
    kind = rng.choice(len(shares), weight.size, p=shares / shares.sum())
    for index, (component, _) in enumerate(COMPONENTS.values()):
        chosen = np.flatnonzero((kind == index) & (weight > 0.0))
        if chosen.size:
            signals[:, chosen] += weight[chosen] * unit_spread(component(rng, chosen.size, len(signals)))
