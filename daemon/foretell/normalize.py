"""Causal scaling of every channel by its own past: what the network sees, and the scale that its outputs come back in.

One implementation serves training and the daemon. A lane is one channel of one stream. Arrays have one row for each
quantity and one column for each lane, so that a batch is a few dozen array operations whatever its size. Only
additions, multiplications, divisions, square roots and comparisons are used: IEEE 754 fixes every bit of their results,
while `exp` or `log` may round differently at the end of an array. So a lane never depends on its neighbours.

All averages are exponentially weighted with bias correction: after n frames their weights sum to `w = 1 - (1 - a)^n`,
`w` is carried along, and frame n enters with weight `a / w`, so that the first frame counts in full (D. Kingma and
J. Ba, "Adam", ICLR 2015, section 3).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

NUM_FEATURES: Final = 6
STATE_SIZE: Final = 8

# Rows of the state. Pairs hold a fast and a slow average, updated as one array.
LAST: Final = 0  # the last value, observed or not
MEAN: Final = slice(1, 3)  # of the values
CHANGE: Final = slice(3, 5)  # of the absolute changes from frame to frame
WEIGHT: Final = slice(5, 7)  # sums of the weights; 0 until the first observation
DEVIATION: Final = 7  # mean absolute deviation from the slow mean

LARGEST: Final = np.float32(1e38)  # differences are limited to this, so that sums of two stay finite
SMALLEST: Final = np.float32(1e-35)  # what is smaller counts as 0: subnormal numbers are slow
RESOLUTION: Final = np.float32(2.0**-23)  # of a float32, relative: smaller changes cannot be seen
OUTLIER: Final = np.float32(16.0)  # what exceeds the recent scale so many times enters the scale only as much
SATURATION: Final = np.float32(64.0)  # scaled quantities are limited to this before they are squashed


class NormalizerSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Memory of the averages: the age in frames at which an observation counts half."""

    fast_half_life: Annotated[float, msgspec.Meta(ge=1.0, le=1e6)] = 12.0
    slow_half_life: Annotated[float, msgspec.Meta(ge=1.0, le=1e6)] = 256.0


@dataclass(frozen=True, slots=True)
class Advanced:
    """What a frame gave: the next state [S, n], features [K, n], and per lane the base and unit of a forecast, [n].

    The next value is forecast as `base + unit * output`: an output of 0 is persistence. All are finite float32, and
    `unit` is positive.
    """

    state: Floats
    features: Floats
    base: Floats
    unit: Floats


class Normalizer:
    """Scales lanes by their own past; see `advance` for what it computes."""

    num_features: Final = NUM_FEATURES
    state_size: Final = STATE_SIZE

    def __init__(self, spec: NormalizerSpec) -> None:
        half_lives = np.array([[spec.fast_half_life], [spec.slow_half_life]])
        self._rate: Floats = (1.0 - 0.5 ** (1.0 / half_lives)).astype(np.float32)

    @property
    def rate(self) -> Floats:
        """The weight of a new observation in the fast and in the slow averages, [2, 1]."""
        return self._rate

    def initial_state(self, num_lanes: int) -> Floats:
        """The state [S, n] of lanes that have seen nothing."""
        return np.zeros((STATE_SIZE, num_lanes), np.float32)

    def advance(self, state: Floats, values: Floats, observed: NDArray[np.bool_] | None = None) -> Advanced:
        """Take in one value of every lane: finite float32 [n]. `observed`, bool [n], is None where all are.

        Imputed values (not observed) move the last value but no average. The features are, in this order: the last
        change and the distance from the fast mean, both in units of the recent absolute change; the distance from the
        slow mean in units of the mean deviation; the recent absolute change against the older, and against the
        deviation, as (a - b) / (a + b); and how much history there is, 0 to 1.
        """
        with np.errstate(over="ignore", under="ignore"):
            return self._advance(state, values, observed)

    def _advance(self, state: Floats, values: Floats, observed: NDArray[np.bool_] | None) -> Advanced:
        old_weight = state[WEIGHT]
        has_past = old_weight[1] > 0.0
        rate = self._rate if observed is None else observed.astype(np.float32) * self._rate
        new = np.empty_like(state)
        new[LAST] = values
        weight = np.add(old_weight, rate * (1.0 - old_weight), out=new[WEIGHT])
        # Values are counted from the first on, changes from the second on: one frame behind, hence the old weight.
        value_share: Floats = np.divide(rate, np.maximum(weight, self._rate))
        change_share: Floats = np.divide(rate, np.maximum(old_weight, self._rate))

        step = np.where(has_past, _limit(values - state[LAST], LARGEST), np.float32(0.0))
        smaller = np.minimum(np.abs(values), np.abs(state[LAST]))
        resolution = np.maximum(smaller * RESOLUTION, SMALLEST)
        change = _averaged(state[CHANGE], np.abs(step), change_share, resolution, new[CHANGE])

        distance = _limit(values - state[MEAN], LARGEST)
        largest = _outlier_limit(np.maximum(state[DEVIATION], state[CHANGE][1]), resolution)
        distance[1] = _limit(distance[1], largest)
        mean = np.add(state[MEAN], value_share * distance, out=new[MEAN])
        mean[np.abs(mean) < SMALLEST] = 0.0
        deviation = state[DEVIATION] + change_share[1] * (np.abs(distance[1]) * has_past - state[DEVIATION])
        np.maximum(deviation, SMALLEST, out=new[DEVIATION])

        unit = np.maximum(np.sqrt(change[0]) * np.sqrt(change[1]), resolution)
        spread = np.maximum(new[DEVIATION], resolution)
        features = np.empty((NUM_FEATURES, values.size), np.float32)
        features[0] = step / unit
        features[1:3] = values - mean
        features[1] /= unit
        features[2] /= spread
        _squash(features[:3])
        features[3] = _contrast(change[0], change[1])
        features[4] = _contrast(unit, spread)
        features[5] = weight[1]
        if observed is not None:
            features *= weight[1] > 0.0
        return Advanced(new, features, values, unit)


def _averaged(old: Floats, size: Floats, share: Floats, resolution: Floats, out: Floats) -> Floats:
    """Fast and slow means of `size` moved on, where an outlier counts as the largest size that is none."""
    size = np.minimum(size, _outlier_limit(np.maximum(old[0], old[1]), resolution))
    np.add(old, share * (size - old), out=out)
    return np.maximum(out, SMALLEST, out=out)


def _outlier_limit(scale: Floats, resolution: Floats) -> Floats:
    """What counts as an outlier; where nothing but rest was seen so far, nothing does."""
    return np.where(scale > resolution, OUTLIER * scale, LARGEST)


def _limit(x: Floats, largest: Floats | np.float32) -> Floats:
    return np.minimum(np.maximum(x, -largest), largest)


def _squash(x: Floats) -> None:
    """In place x / sqrt(1 + |x|): linear near 0, a square root far out, limited."""
    np.clip(x, -SATURATION, SATURATION, out=x)
    x /= np.sqrt(1.0 + np.abs(x))


def _contrast(a: Floats, b: Floats) -> Floats:
    """How positive `a` compares with positive `b`, from -1 to 1."""
    return (a - b) / (a + b)
