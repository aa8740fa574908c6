"""How good the forecasts are: error against persistence and coverage of the bands, recent and over all streams.

Recent means that what was counted fades with time: after `HALF_LIFE_S` it weighs half.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from foretell.metrics import NS_PER_S, Counter, MetricSet, Ratio

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from foretell.stepped import Stepped

HALF_LIFE_S: Final = 300
SURPRISING: Final = 2.0
"""The surprise above which a value counts as surprising: one in a hundred is, where the bands are right."""

EDGE_TOLERANCE: Final = 1e-4
"""How far the surprise of a value on the edge of a band may be off by rounding."""

_SAME_LEVEL: Final = 1e-6
_RECENT: Final = f"over all streams, by weights of a half-life of {HALF_LIFE_S // 60} minutes"


class Band(NamedTuple):
    """A central band: between two quantiles as far below as above the median.

    lower, upper: where they stand among the quantiles. level: the share of values that it is to hold. edge: the
    surprise of a value at its ends.
    """

    lower: int
    upper: int
    level: float
    edge: float


def central_bands(quantiles: Sequence[float]) -> list[Band]:
    """The central bands that the levels of a model make, the widest first; none of a point model."""
    return [
        Band(lower, upper, quantiles[upper] - quantiles[lower], -math.log10(2 * quantiles[lower]))
        for lower in range(len(quantiles))
        for upper in range(lower + 1, len(quantiles))
        if abs(quantiles[lower] + quantiles[upper] - 1) < _SAME_LEVEL
    ]


class Quality(MetricSet):
    """The metrics of a calibrated model's forecasts. One thread judges, any may scrape.

    quantiles: the model's levels. clock: monotonic, in ns.
    """

    def __init__(self, quantiles: Sequence[float], clock: Callable[[], int] = time.monotonic_ns) -> None:
        super().__init__()
        edges = {f"{band.level:g}": band.edge + EDGE_TOLERANCE for band in central_bands(quantiles)}
        self._limits = np.array([[np.inf], [SURPRISING], *([edge] for edge in edges.values())], np.float32)
        self._clock = clock
        self._judged_ns = clock()
        self._skill = self.register(
            Ratio(
                "foretell_skill_ratio",
                f"Recent error of the published medians, that of persistence being 1: {_RECENT}.",
            )
        )
        self._coverage = self.register(
            Ratio(
                "foretell_coverage_ratio",
                f"Share of recent values within the central band of each level: {_RECENT}.",
                "level",
                list(edges),
            )
        )
        self._num_judged = self.register(
            Counter("foretell_values_judged", "Values that a calibrated forecast was made of before.")
        )
        self._num_surprising = self.register(
            Counter(
                "foretell_surprising_values",
                f"Values with a surprise above {SURPRISING:g}: one in a hundred where the bands are right.",
            )
        )

    def judge(self, stepped: Stepped) -> None:
        """Count in how good the forecasts were of a batch that was stepped just now."""
        surprise, errors = stepped.surprise, stepped.errors
        if surprise is None or errors is None:
            return
        # NaN is within no limit: what cannot be said counts nowhere.
        num_judged, num_usual, *num_within = (surprise.ravel() <= self._limits).sum(axis=1).tolist()
        now_ns = self._clock()
        kept = 0.5 ** ((now_ns - self._judged_ns) / (HALF_LIFE_S * NS_PER_S))
        self._judged_ns = now_ns
        with self.lock:
            self._skill.add((errors.forecast,), errors.persistence, kept)
            self._coverage.add(num_within, num_judged, kept)
            self._num_judged.add(num_judged)
            self._num_surprising.add(num_judged - num_usual)
