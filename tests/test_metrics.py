"""The plain numbers behind a scrape."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretell.metrics import (
    BATCH_BOUNDS,
    DURATION_BOUNDS_NS,
    Buckets,
    Counter,
    Gauge,
    Histogram,
    Info,
    MetricSet,
    Ratio,
)

NOT_NEGATIVE = st.integers(0, 2**63 - 1)
ANY_SIZE = st.one_of(NOT_NEGATIVE, st.sampled_from(DURATION_BOUNDS_NS), st.integers(0, 10**11))


def naive(bounds: list[int], values: list[int]) -> list[int]:
    """Counts by bucket as the definition says: the first bound that is not below the value."""
    counts = [0] * (len(bounds) + 1)
    for value in values:
        counts[next((at for at, bound in enumerate(bounds) if value <= bound), len(bounds))] += 1
    return counts


@given(st.lists(ANY_SIZE))
def test_observing_an_array_counts_every_value_in_its_bucket_and_sums_exactly(values: list[int]) -> None:
    """Whatever the values, an array's counts are those of the definition and its sum is that of Python's integers."""
    buckets = Buckets(DURATION_BOUNDS_NS)
    buckets.observe_array(np.array(values, np.int64))
    assert buckets.counts == naive(list(DURATION_BOUNDS_NS), values)
    assert buckets.sum == sum(values)


@given(ANY_SIZE, st.integers(1, 65_536))
def test_observing_a_value_many_times_is_observing_an_array_of_it(value: int, count: int) -> None:
    """`observe(value, count)` equals `count` times the value in an array."""
    at_once, one_by_one = Buckets(DURATION_BOUNDS_NS), Buckets(DURATION_BOUNDS_NS)
    at_once.observe(value, count)
    one_by_one.observe_array(np.full(count, value))
    assert (at_once.counts, at_once.sum) == (one_by_one.counts, one_by_one.sum)


def test_bounds_of_durations_go_from_10_us_to_10_s_four_to_a_decade() -> None:
    """No duration between 10 us and 10 s is more than 1.8 times off by its bucket."""
    assert (DURATION_BOUNDS_NS[0], DURATION_BOUNDS_NS[-1]) == (10_000, 10**10)
    ratios = np.diff(np.log(DURATION_BOUNDS_NS))
    assert len(DURATION_BOUNDS_NS) == 6 * 4 + 1
    assert ratios.max() <= np.log(1.81)


def test_bounds_of_batches_are_powers_of_two_up_to_the_largest_batch() -> None:
    """A full batch of any allowed size has a bucket."""
    assert list(BATCH_BOUNDS) == [2**power for power in range(17)]


def test_buckets_are_exposed_cumulatively() -> None:
    """Each exposed bucket holds all observations up to its bound, the last one all there are."""
    histogram = Histogram("h_seconds", "", bounds=(10**8, 10**9))
    histogram.of().observe(10**8, 2)
    histogram.of().observe(5 * 10**8)
    histogram.of().observe(2 * 10**9)
    samples = {(sample.name, sample.labels.get("le")): sample.value for sample in histogram.read()().samples}
    assert samples == {
        ("h_seconds_bucket", "0.1"): 2,
        ("h_seconds_bucket", "1.0"): 3,
        ("h_seconds_bucket", "+Inf"): 4,
        ("h_seconds_count", None): 4,
        ("h_seconds_sum", None): pytest.approx(2.7),
    }


def test_labels_are_all_there_from_the_start() -> None:
    """A counter and a histogram with a label expose 0 for each of its values before anything happened."""
    counter = Counter("c", "", "reason", ["late", "malformed"])
    assert [(sample.labels, sample.value) for sample in counter.read()().samples] == [
        ({"reason": "late"}, 0),
        ({"reason": "malformed"}, 0),
    ]
    histogram = Histogram("h", "", label="phase", values=["step", "publish"])
    counts = [sample for sample in histogram.read()().samples if sample.name == "h_count"]
    assert [(sample.labels["phase"], sample.value) for sample in counts] == [("step", 0), ("publish", 0)]


def test_a_label_takes_no_value_beyond_its_set() -> None:
    """Nothing can add a time series."""
    with pytest.raises(KeyError):
        Counter("c", "", "reason", ["late"]).add(1, "early")


def test_counts_may_exceed_64_bits() -> None:
    """A gap may be as long as frame numbers go, and then come again."""
    counter = Counter("c", "")
    counter.add(2**64 - 1)
    counter.add(2**64 - 1)
    assert counter.total == 2**65 - 2
    assert counter.read()().samples[0].value == pytest.approx(2.0**65)


def test_what_was_read_does_not_change() -> None:
    """What a scrape read shows that moment, whatever is counted before it is exposed."""
    counter, gauge, histogram, info = Counter("c", ""), Gauge("g", ""), Histogram("h", ""), Info("i", "")
    ratio = Ratio("r", "")
    ratio.add([0.0], 1.0, 1.0)
    read = [metric.read() for metric in (counter, gauge, histogram, info, ratio)]
    counter.add(1)
    gauge.value = 1
    histogram.of().observe(1)
    info.facts = {"a": "b"}
    ratio.add([1.0], 1.0, 1.0)
    assert [sample.value for expose in read for sample in expose().samples if sample.value] == []


def test_a_scrape_waits_for_whoever_writes() -> None:
    """While the lock is held nothing is read, so that what is written under it shows whole or not at all."""
    metrics = MetricSet()
    one, other = metrics.register(Counter("one", "")), metrics.register(Counter("other", ""))
    seen: list[list[float]] = []

    def scrape() -> None:
        seen.append([family.samples[0].value for family in metrics.collect()])

    scraper = threading.Thread(target=scrape)
    with metrics.lock:
        one.add(1)
        scraper.start()
        scraper.join(timeout=0.05)  # as long as it takes, it cannot get past the lock
        assert not seen
        other.add(1)
    scraper.join(timeout=10)
    assert seen == [[1, 1]]
