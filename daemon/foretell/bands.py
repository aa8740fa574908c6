"""Quantiles around a median that are kept at their levels by the values that they meet.

Each quantile's distance from the median is the model's, scaled twice: by how large the errors recently were against the
model's band, which all share, and by a factor of its own. The factor grows when a value falls beyond the quantile and
shrinks when not, in the proportion that keeps the quantile at its level whatever the data are (I. Gibbs and E. Candes,
"Adaptive conformal inference under distribution shift", NeurIPS 2021; as quantile tracking: A. Angelopoulos, E. Candes
and R. Tibshirani, "Conformal PID control for time series prediction", NeurIPS 2023, here on the logarithm of the
distance, so that no scale has to be known). What was published is judged as it was, and never rewritten.

One more edge on each side, with half of the outermost level beyond it, makes the tails of `foretell.surprise`.
"""

from __future__ import annotations

import math
from itertools import pairwise
from statistics import NormalDist
from typing import TYPE_CHECKING, Final

import numpy as np

from foretell.normalize import Floats
from foretell.surprise import surprise

if TYPE_CHECKING:
    from collections.abc import Sequence

LEAST_WIDTH: Final = np.float32(1e-6)  # in units: a model that is sure still leaves room to be widened
LEAST_FACTOR: Final = np.float32(2.0**-10)
LARGEST_FACTOR: Final = np.float32(2.0**10)
_LARGEST_FLOAT: Final = np.float32(np.finfo(np.float32).max)
_REFERENCE: Final = 0.05  # the level nearest to this tells how wide the model's band is
ROOT_ERROR: Final = 0.6761  # (mean square root)^2 of |x|, x standard normal
_NORMAL: Final = NormalDist()


class Side:
    """The edges on one side, outwards from the median: the model's quantiles and one that halves the outermost level.

    at: the model's quantile that each edge is made from. issued: where each stands among the issued. beyond:
    probabilities beyond the median and the model's quantiles. reach: by what the model's distance is multiplied.
    step_in, step_out: by what an edge's factor is multiplied after a value within, or beyond. gap: how far the last
    edge is beyond the one before it at least, as a share of that one's distance: a quarter of what it is in a normal
    tail. Were they one, a value a hair beyond both would count as impossible.
    """

    def __init__(self, at: Sequence[int], probabilities: Sequence[float], last: int) -> None:
        self.at = [*at, at[-1]]
        self.issued = [*at, last]
        self.beyond = np.array([0.5, *probabilities], np.float32)
        edges = [*probabilities, probabilities[-1] / 2]
        farther = _NORMAL.inv_cdf(edges[-1]) / _NORMAL.inv_cdf(edges[-2])  # if the tail is normal
        self.reach = np.array([1.0] * len(at) + [farther], np.float32)
        self.gap = np.float32((farther - 1.0) / 4.0)
        # The tails hear of a value beyond them seldom, so they go further each time.
        rates = [min(0.01 / math.sqrt(p), 0.1) for p in edges]
        outwards = [math.exp(rate * (1.0 - p)) for rate, p in zip(rates, edges, strict=True)]
        inwards = [math.exp(-rate * p) for rate, p in zip(rates, edges, strict=True)]
        self.step_out, self.step_in = np.array(outwards, np.float32), np.array(inwards, np.float32)


class Bands:
    """The edges of both sides of a model with these quantile levels, ascending, the median among them.

    sides: below and above; none for a model that has not quantiles on both. num_factors: float32 a lane that are
    carried. num_issued: quantiles and then the last edge of each side. usual: what the errors' squared mean square root
    is against the width where the model's band is right.
    """

    def __init__(self, quantiles: Sequence[float]) -> None:
        self.median = quantiles.index(0.5)
        self.num_levels = len(quantiles)
        below, above = range(self.median - 1, -1, -1), range(self.median + 1, self.num_levels)
        self.sides: tuple[Side, ...] = ()
        self.usual = np.float32(1.0)
        if below and above:
            self.sides = (
                Side(below, [quantiles[k] for k in below], self.num_levels),
                Side(above, [1.0 - quantiles[k] for k in above], self.num_levels + 1),
            )
            self.reference = low, high = (
                min(below, key=lambda k: abs(quantiles[k] - _REFERENCE)),
                min(above, key=lambda k: abs(1.0 - quantiles[k] - _REFERENCE)),
            )
            normal = (_NORMAL.inv_cdf(quantiles[high]) - _NORMAL.inv_cdf(quantiles[low])) / 2.0
            self.usual = np.float32(ROOT_ERROR / normal)
        self.num_factors = sum(len(side.at) for side in self.sides)
        self.num_issued = self.num_levels + len(self.sides)

    def width(self, outputs: Floats) -> Floats:
        """Half the model's own band [n], in units; outputs: the model's quantiles [Q, n]."""
        if not self.sides:
            return np.ones_like(outputs[0])
        low, high = self.reference
        width: Floats = np.maximum(np.float32(0.5) * (outputs[high] - outputs[low]), LEAST_WIDTH)
        return width

    def issue(self, center: Floats, outputs: Floats, scale: Floats, factors: Floats, issued: Floats) -> None:
        """Write the quantiles around `center` [n] to `issued` [num_issued, n], in order.

        A model without a band keeps the distances that it gave itself.
        """
        if not self.sides:
            np.add(center, outputs - outputs[self.median], out=issued)
        issued[self.median] = center
        start = 0
        for is_upper, side in enumerate(self.sides):
            for k, (row, model_row) in enumerate(zip(side.issued, side.at, strict=True)):
                distance = side.reach[k] * np.abs(outputs[model_row] - outputs[self.median])
                distance = np.maximum(distance, LEAST_WIDTH)
                reach = factors[start + k] * scale * distance
                issued[row] = center + reach if is_upper else center - reach
            order = np.maximum if is_upper else np.minimum
            for inner, outer in pairwise(side.issued):
                order(issued[outer], issued[inner], out=issued[outer])
            *_, outermost, last = side.issued
            farther = issued[outermost] + side.gap * (issued[outermost] - center)
            order(issued[last], farther, out=issued[last])
            start += len(side.at)

    def judge(
        self, values: Floats, published: Floats, counts: Floats, old: Floats, factors: Floats
    ) -> Floats:
        """Move the factors from `old` to `factors` by where `values` fell; gives the surprise [n].

        published: [num_issued, n], in the values' own units; a value on an edge is within. counts: 0 where nothing is
        learnt.
        """
        if not self.sides:
            return np.full(values.shape, np.nan, np.float32)
        start = 0
        for is_upper, side in enumerate(self.sides):
            for k, row in enumerate(side.issued):
                is_beyond = values > published[row] if is_upper else values < published[row]
                factor = old[start + k]
                moved = factor * np.where(is_beyond, side.step_out[k], side.step_in[k])
                moved = np.where(counts > 0.0, moved, factor)
                factors[start + k] = np.minimum(np.maximum(moved, LEAST_FACTOR), LARGEST_FACTOR)
            start += len(side.at)
        lower, upper = self.sides
        below, above = ([published[row] for row in (self.median, *side.issued)] for side in self.sides)
        return surprise(values, below, above, (lower.beyond, upper.beyond))


def publish(base: Floats, unit: Floats, levels: Floats) -> Floats:
    """Levels in units as finite values, as they are published."""
    with np.errstate(over="ignore"):
        return np.minimum(np.maximum(base + unit * levels, -_LARGEST_FLOAT), _LARGEST_FLOAT)
