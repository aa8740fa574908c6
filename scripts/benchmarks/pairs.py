"""Comparison in pairs: two contenders measured one after the other, many times, and the ratios of these pairs.

What drifts on a shared machine drifts for both of a pair. How far two measurements of the same thing differ all the
same is found by pairs of equals (A/A): a limit is exceeded where the whole interval of a ratio lies above the limit
times the upper end of the interval of the equals (`limits.judge`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np

from benchmarks.limits import judge
from benchmarks.report import limit_cells

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.limits import Limit

_MIN_PAIRS: Final = 5
"""With fewer the interval of a median says nothing, and so no verdict is given."""

_NUM_RESAMPLES: Final = 10_000
_T = TypeVar("_T")


@dataclass(frozen=True)
class Ratio:
    """The median of the ratios of so many pairs, and the ends of its 95 % interval."""

    median: float
    low: float
    high: float
    num_pairs: int

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"

    def verdict(self, limit: Limit, equals: Ratio) -> list[str]:
        """The limit, loosened by the upper end of the ratio of equals (never tightened), and whether it is kept.

        Where noise alone lets it pass, the median being beyond, that is said.
        """
        drift = max(1.0, equals.high)
        bound, verdict = limit_cells(limit, self.low, self.high, drift=drift)
        if self.num_pairs < _MIN_PAIRS:
            verdict = "too few pairs"
        elif verdict != judge(limit, self.median, drift=drift):
            verdict += ", but the median is beyond"
        return [bound, verdict]


def compare(above: Sequence[float], below: Sequence[float]) -> Ratio:
    """The ratio of `above` to `below`, pair by pair; the interval by the percentile bootstrap over the pairs.

    (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.) The same pairs give the same interval.
    """
    ratios = np.asarray(above) / np.asarray(below)
    picked = np.random.default_rng(0).integers(ratios.size, size=(_NUM_RESAMPLES, ratios.size))
    low, high = np.percentile(np.median(ratios[picked], axis=1), [2.5, 97.5])
    return Ratio(float(np.median(ratios)), float(low), float(high), ratios.size)


def order_of_round(contenders: Sequence[_T], index: int) -> list[_T]:
    """All contenders once, each round with another at its beginning and every other round backwards.

    So none is always first, and none is always met after the same other.
    """
    shift = index // 2 % len(contenders)
    order = [*contenders[shift:], *contenders[:shift]]
    return order[::-1] if index % 2 else order
