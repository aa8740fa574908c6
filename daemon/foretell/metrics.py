"""Metrics as plain numbers: written by the loop once a batch, read by a scrape in one piece.

`prometheus_client`'s own counters and histograms cost up to a microsecond a value and each has its own lock, so that a
scrape may see one before and another after the same batch. Here a whole batch is written under one lock, and a scrape
copies everything under the same one.
"""

from __future__ import annotations

import math
import threading
from bisect import bisect_left
from functools import partial
from itertools import accumulate
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray
    from prometheus_client.core import Metric as Family

NS_PER_S = 1e9

DURATION_BOUNDS_NS = (
    *(round(step * 10**decade) for decade in range(4, 10) for step in (1, 1.8, 3.2, 5.6)),
    10**10,
)
"""10 us to 10 s, four to a decade, so that a quantile read from the buckets is at most 1.8 times off."""

BATCH_BOUNDS = tuple(1 << power for power in range(17))
"""1 to 65,536 frames, the most that `batch.max_frames` allows."""

_LEAST_WHOLE = 1e-9  # of values or of errors in units of recent change; smaller only if it was long ago


class Metric(Protocol):
    """What a `MetricSet` holds."""

    def read(self) -> Callable[[], Family]:
        """Copy the numbers, which is cheap; the result makes of them what `prometheus_client` exposes, which is not."""


M = TypeVar("M", bound=Metric)


class Counter:
    """Counts that only grow, one for each value of `label`, all there from the start; without a label a single one.

    unit: how many of what is counted make one of what is exposed (`NS_PER_S`: nanoseconds counted, seconds exposed).
    """

    def __init__(
        self, name: str, meaning: str, label: str = "", values: Sequence[str] = (), unit: float = 1
    ) -> None:
        self.name = name
        self._meaning = meaning
        self._label = label
        self._unit = unit
        self.counts: dict[str, int] = dict.fromkeys(values if label else ("",), 0)

    def add(self, count: int, value: str = "") -> None:
        """Count `count` more. Raises KeyError for a label's value that is not of the closed set."""
        self.counts[value] += count

    @property
    def total(self) -> int:
        """The sum over all values of the label."""
        return sum(self.counts.values())

    def read(self) -> Callable[[], Family]:
        """As `Metric.read`."""
        return partial(self._expose, self.counts.copy())

    def _expose(self, counts: Mapping[str, int]) -> Family:
        family = CounterMetricFamily(self.name, self._meaning, labels=[self._label] if self._label else [])
        for value, count in counts.items():
            family.add_metric([value] if self._label else [], count / self._unit)
        return family


class Gauge:
    """A number that goes up and down; `unit` as in `Counter`."""

    def __init__(self, name: str, meaning: str, unit: float = 1) -> None:
        self.name = name
        self.value = 0
        self._meaning = meaning
        self._unit = unit

    def read(self) -> Callable[[], Family]:
        """As `Metric.read`."""
        return partial(GaugeMetricFamily, self.name, self._meaning, self.value / self._unit)


class Ratio:
    """Sums over a sum, one for each value of `label`, all of which fade; NaN where next to nothing is left of them."""

    def __init__(self, name: str, meaning: str, label: str = "", values: Sequence[str] = ()) -> None:
        self.name = name
        self._meaning = meaning
        self._label = label
        self._parts = dict.fromkeys(values if label else ("",), 0.0)
        self._whole = 0.0

    def add(self, parts: Sequence[float], whole: float, kept: float) -> None:
        """Keep the share `kept` of what was counted and count more: parts in the order of the label's values."""
        self._parts = {
            value: kept * before + part
            for (value, before), part in zip(self._parts.items(), parts, strict=True)
        }
        self._whole = kept * self._whole + whole

    def read(self) -> Callable[[], Family]:
        """As `Metric.read`."""
        return partial(self._expose, self._parts, self._whole)

    def _expose(self, parts: Mapping[str, float], whole: float) -> Family:
        family = GaugeMetricFamily(self.name, self._meaning, labels=[self._label] if self._label else [])
        for value, part in parts.items():
            ratio = part / whole if whole > _LEAST_WHOLE else math.nan
            family.add_metric([value] if self._label else [], ratio)
        return family


class Info:
    """Facts as labels of a metric that is always 1; nothing is exposed while there are none. Named without `_info`."""

    def __init__(self, name: str, meaning: str) -> None:
        self.name = name
        self.facts: Mapping[str, str] = {}
        self._meaning = meaning

    def read(self) -> Callable[[], Family]:
        """As `Metric.read`."""
        return partial(self._expose, dict(self.facts))

    def _expose(self, facts: dict[str, str]) -> Family:
        family = InfoMetricFamily(self.name, self._meaning)
        if facts:
            family.add_metric([], facts)
        return family


class Buckets:
    """How many observations fell to each bucket, and their exact sum; integers throughout.

    bounds: ascending; an observation belongs to the first bound that is not below it, or to a bucket beyond the last.
    """

    def __init__(self, bounds: Sequence[int]) -> None:
        self._bounds = np.array(bounds, np.int64)
        self.bounds = list(bounds)
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0

    def observe(self, value: int, count: int = 1) -> None:
        """Count `count` observations of the same value, not negative."""
        self.counts[bisect_left(self.bounds, value)] += count
        self.sum += value * count

    def observe_array(self, values: NDArray[np.int64]) -> None:
        """Count every one of n values, none negative."""
        if values.size == 1:  # a lone frame is the case that must be quick
            self.observe(int(values[0]))
            return
        found = np.bincount(self._bounds.searchsorted(values), minlength=len(self.counts))
        self.counts = [before + more for before, more in zip(self.counts, found.tolist(), strict=True)]
        # In two halves, since a few timestamps that make no sense are enough for a sum of i64 to overflow.
        self.sum += (int((values >> 32).sum()) << 32) + int((values & 0xFFFFFFFF).sum())


class Histogram:
    """Buckets, one set of them for each value of `label`, all there from the start; `unit` as in `Counter`."""

    def __init__(
        self,
        name: str,
        meaning: str,
        bounds: Sequence[int] = DURATION_BOUNDS_NS,
        unit: float = NS_PER_S,
        label: str = "",
        values: Sequence[str] = (),
    ) -> None:
        self.name = name
        self._meaning = meaning
        self._label = label
        self._les = [repr(bound / unit) for bound in bounds] + ["+Inf"]
        self._unit = unit
        self.buckets = {value: Buckets(bounds) for value in (values if label else ("",))}

    def of(self, value: str = "") -> Buckets:
        """The buckets of one value of the label."""
        return self.buckets[value]

    def read(self) -> Callable[[], Family]:
        """As `Metric.read`."""
        return partial(
            self._expose,
            {value: (buckets.counts.copy(), buckets.sum) for value, buckets in self.buckets.items()},
        )

    def _expose(self, observed: Mapping[str, tuple[list[int], int]]) -> Family:
        family = HistogramMetricFamily(self.name, self._meaning, labels=[self._label] if self._label else [])
        for value, (counts, total) in observed.items():
            cumulative = list(zip(self._les, accumulate(counts), strict=True))
            family.add_metric([value] if self._label else [], cumulative, total / self._unit)
        return family


class MetricSet(Collector):
    """Metrics that change and are read together: whoever writes any of them holds `lock`."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._metrics: list[Metric] = []

    def register(self, metric: M) -> M:
        """Add a metric; returns it."""
        self._metrics.append(metric)
        return metric

    def collect(self) -> Iterator[Family]:
        """All metrics as of one moment; the lock is held for as long as copying takes, some 20 us."""
        with self.lock:
            exposures = [metric.read() for metric in self._metrics]
        for expose in exposures:
            yield expose()
