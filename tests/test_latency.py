"""Latencies in a histogram: percentiles of a run of any length."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretell.latency import LatencyHistogram


@given(
    st.lists(st.integers(min_value=1_000, max_value=10**11), min_size=1, max_size=200),
    st.sampled_from([1, 50, 99]),
)
def test_percentiles_are_true_to_one_percent(latency_ns: list[int], percent: int) -> None:
    """A percentile of the histogram is within 1 % of the exact one."""
    histogram = LatencyHistogram()
    histogram.add(np.array(latency_ns, dtype=np.int64))
    exact = float(np.percentile(latency_ns, percent, method="inverted_cdf"))
    assert histogram.percentile_ns(percent) == pytest.approx(exact, rel=0.0101)


def test_percentile_of_nothing_is_none() -> None:
    """Before the first latency there is no percentile."""
    assert LatencyHistogram().percentile_ns(50) is None
