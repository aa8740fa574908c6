"""Latencies of a whole run in a fixed number of counters."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Edges 1 % apart from 1 us to 100 s: a percentile read from them is true to 1 %.
_EDGES_NS = np.geomspace(1e3, 1e11, 1853)


class LatencyHistogram:
    """Latencies of a whole run in bounded memory; percentiles true to 1 % between 1 us and 100 s."""

    def __init__(self) -> None:
        self._counts = np.zeros(_EDGES_NS.size + 1, dtype=np.int64)

    def add(self, latency_ns: NDArray[np.int64]) -> None:
        """Count latencies, int64 [n]."""
        buckets = np.searchsorted(_EDGES_NS, latency_ns)
        self._counts += np.bincount(buckets, minlength=self._counts.size)

    def percentile_ns(self, percent: float) -> float | None:
        """The smallest edge below which at least so many percent lie; None before the first latency."""
        cumulated = np.cumsum(self._counts)
        if cumulated[-1] == 0:
            return None
        bucket = int(np.searchsorted(cumulated, np.ceil(cumulated[-1] * percent / 100)))
        return float(_EDGES_NS[min(bucket, _EDGES_NS.size - 1)])
