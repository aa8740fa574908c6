"""From series of values to what a network is trained on, by the very normaliser that serves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from foretell.normalize import NUM_FEATURES, Floats, Normalizer, NormalizerSpec
from foretell.training.signals import Series

FARTHEST_TARGET: Final = 64.0
"""Changes are learnt up to so many units; after long rest the first change can be a million units."""

SCALE_POWER: Final = 0.8
"""The power of a frame's unit in its weight."""


@dataclass(frozen=True, slots=True)
class Examples:
    """Time-major float32 arrays over `length - 1` frames of n lanes.

    features [t, n, K]; base and unit [t, n], see `foretell.normalize.Advanced`; actual [t, n], the value that follows;
    is_known bool [t, n], whether that value was observed.
    """

    features: Floats
    base: Floats
    unit: Floats
    actual: Floats
    is_known: NDArray[np.bool_]

    @property
    def target(self) -> Floats:
        """The change to the value that follows, in units, at most `FARTHEST_TARGET`."""
        with np.errstate(over="ignore"):
            change: Floats = (self.actual - self.base) / self.unit
        return np.clip(change, -FARTHEST_TARGET, FARTHEST_TARGET)

    @property
    def weight(self) -> Floats:
        """How much a frame counts in the loss.

        Between counting all frames alike (a power of 0) and counting errors in the signal's own units, as the mean
        absolute error does (1), and nearer to that. A first frame has no unit yet and does not count.
        """
        steps = np.abs(self.actual - self.base) * self.is_known
        typical = np.maximum(steps.mean(axis=0, dtype=np.float64), 1e-30)
        weight: Floats = (np.clip(self.unit / typical, 0.0, 10.0) ** SCALE_POWER).astype(np.float32)
        weight *= self.is_known
        weight[0] = 0.0
        return weight


def make_examples(series: Series, spec: NormalizerSpec) -> Examples:
    """Run the normaliser over `series`, all signals side by side."""
    normalizer = Normalizer(spec)
    length, num_lanes = series.values.shape
    state = normalizer.initial_state(num_lanes)
    features = np.empty((length - 1, num_lanes, NUM_FEATURES), np.float32)
    base = np.empty((length - 1, num_lanes), np.float32)
    unit = np.empty_like(base)
    complete = bool(series.observed.all())
    for t in range(length - 1):
        advanced = normalizer.advance(state, series.values[t], None if complete else series.observed[t])
        state, base[t], unit[t] = advanced.state, advanced.base, advanced.unit
        features[t] = advanced.features.T
    return Examples(features, base, unit, series.values[1:], series.observed[1:])
