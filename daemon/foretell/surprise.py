"""How unexpected a frame was under the forecast made before it: -log10 of its two-sided tail probability.

The probability is interpolated linearly between the quantile levels; beyond the outermost it halves with every distance
between that level and the one of half its probability, which calibration tracks too. Only operations whose bits IEEE
754 fixes are used, so that a lane's number does not depend on its place in the batch; hence a logarithm of our own.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

from foretell.normalize import LARGEST, SMALLEST, Floats

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST: Final = np.float32(12.0)

LOG10_2: Final = np.float32(math.log10(2.0))
LEAST_PROBABILITY: Final = np.float32(2.0**-15)

# ln(p / c) = 2 artanh(t) with t = (p - c) / (p + c), by its series; c is the geometric middle of 1/2 and 1.
MIDDLE: Final = np.float32(math.sqrt(0.5))
SERIES: Final = tuple(np.float32(1 / k) for k in (7, 5, 3, 1))
TWO_LOG10_E: Final = np.float32(2.0 / math.log(10.0))


def surprise(
    values: Floats, lower: Sequence[Floats], upper: Sequence[Floats], tails: tuple[Floats, Floats]
) -> Floats:
    """Of values [n], from 0 to `MOST`.

    lower, upper: edges [n] from the median outwards, the median first. tails: for each side the probabilities beyond
    these edges but the last, float32 [number of edges - 1]; the last edge is where half of the outermost is left.
    """
    # What is below the median is mirrored, so that both sides read alike: distances outwards from edge to edge.
    sides = [(values, upper, tails[1]), (-values, [-edge for edge in lower], tails[0])]
    least = np.full(values.shape, 0.5, np.float32)
    beyond = np.zeros(values.shape, np.float32)
    with np.errstate(over="ignore", under="ignore"):
        for side, edges, beyond_edge in sides:
            left = np.full(values.shape, 0.5, np.float32)
            for k in range(len(edges) - 2):
                share = np.minimum(_distance(side, edges[k], edges[k + 1]), np.float32(1.0))
                left = left - (beyond_edge[k] - beyond_edge[k + 1]) * share
            least = np.minimum(least, left)
            beyond = beyond + _distance(side, edges[-2], edges[-1])
        probability = np.maximum(least + least, LEAST_PROBABILITY)
        found: Floats = np.minimum(np.maximum(beyond * LOG10_2 - log10(probability), np.float32(0.0)), MOST)
        return found


def log10(p: Floats) -> Floats:
    """The decimal logarithm of numbers from 2^-15 to 1, to 1e-7."""
    doublings = np.zeros(p.shape, np.float32)
    for power in (8, 4, 2, 1):  # now p is at least 1/2
        is_small = p < 2.0**-power
        p = np.where(is_small, p * np.float32(2.0**power), p)
        doublings = doublings + np.where(is_small, np.float32(power), np.float32(0.0))
    t = (p - MIDDLE) / (p + MIDDLE)
    t2 = t * t
    series = np.full_like(t, SERIES[0])
    for coefficient in SERIES[1:]:
        series = series * t2 + coefficient
    found: Floats = t * series * TWO_LOG10_E - (doublings + np.float32(0.5)) * LOG10_2
    return found


def _distance(values: Floats, start: Floats, end: Floats) -> Floats:
    """How far `values` are from `start`, in units of the way to `end`; 0 before it."""
    gap = np.maximum(np.minimum(end - start, LARGEST), SMALLEST)
    found: Floats = np.maximum(np.minimum(values - start, LARGEST), np.float32(0.0)) / gap
    return found
