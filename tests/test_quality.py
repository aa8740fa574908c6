"""Skill and coverage: what is counted of a batch, and how it fades."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from foretell import surprise as tails
from foretell.quality import HALF_LIFE_S, Quality, central_bands
from foretell.stepped import Errors, Stepped
from observing import Clock, Observed, accepted_of, stepped_of

BUILTIN = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
HALF_LIFE_NS = HALF_LIFE_S * 10**9
NO_ERRORS = Errors(0.0, 0.0)


@pytest.fixture
def observed() -> Observed:
    """An observer that nothing was told."""
    return Observed()


def judged(surprise: object, errors: Errors = NO_ERRORS) -> Stepped:
    """What stepping gave, with these surprises [frames, channels]; the forecasts are of no concern."""
    return stepped_of(np.zeros((1, 1, 1)), surprise, errors)


class Judge:
    """The quality of a model's forecasts, on a clock that stands still."""

    def __init__(self, quantiles: tuple[float, ...] = BUILTIN) -> None:
        self.clock = Clock()
        self.quality = Quality(quantiles, self.clock)

    def judge(self, surprise: object, errors: Errors = NO_ERRORS) -> None:
        """A batch."""
        self.quality.judge(judged(surprise, errors))

    def shown(self) -> dict[str, float]:
        """Every sample, by name or by level."""
        samples = [sample for family in self.quality.collect() for sample in family.samples]
        return {sample.labels.get("level", sample.name): sample.value for sample in samples}


@pytest.mark.parametrize(
    ("quantiles", "labels"),
    [
        (BUILTIN, ["0.98", "0.9", "0.5"]),
        ((0.05, 0.5, 0.95), ["0.9"]),
        ((0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9), ["0.8", "0.6", "0.4"]),
        ((0.0005, 0.5, 0.9995), ["0.999"]),
        ((0.1, 0.5, 0.8), []),
        ((0.5,), []),
    ],
)
def test_each_pair_of_levels_alike_far_from_the_median_is_a_band(
    quantiles: tuple[float, ...], labels: list[str]
) -> None:
    """The label is the share between the two, without the noise of the subtraction; a level alone is no band."""
    assert [label for label in Judge(quantiles).shown() if label[0] == "0"] == labels


def test_before_anything_was_judged_ratios_are_nan_and_counts_are_0() -> None:
    """Neither good nor bad is said of what is not known."""
    shown = Judge().shown()
    assert shown.pop("foretell_values_judged_total") == 0
    assert shown.pop("foretell_surprising_values_total") == 0
    assert set(shown) == {"foretell_skill_ratio", "0.5", "0.9", "0.98"}
    assert all(math.isnan(value) for value in shown.values())


def test_skill_is_the_error_of_forecasts_in_that_of_persistence() -> None:
    """Errors are summed over batches before they are divided, so that each value counts alike."""
    judge = Judge()
    judge.judge([[0.0]], Errors(1.0, 4.0))
    judge.judge([[0.0]], Errors(2.0, 1.0))
    assert judge.shown()["foretell_skill_ratio"] == pytest.approx(3 / 5)


def test_skill_is_nan_where_persistence_makes_no_error() -> None:
    """A constant tells nothing about a forecast, and nothing is divided by 0."""
    judge = Judge()
    judge.judge([[0.0]], Errors(0.0, 0.0))
    assert math.isnan(judge.shown()["foretell_skill_ratio"])


def test_what_cannot_be_said_counts_nowhere() -> None:
    """A NaN among the surprises is no value judged, neither within nor outside of a band."""
    judge = Judge()
    judge.judge([[np.nan, 0.1], [5.0, np.nan]])
    shown = judge.shown()
    assert (shown["foretell_values_judged_total"], shown["foretell_surprising_values_total"]) == (2, 1)
    assert (shown["0.5"], shown["0.98"]) == (0.5, 0.5)


def test_a_batch_of_which_nothing_can_be_said_changes_nothing() -> None:
    """New streams, of which nothing was forecast before, move no ratio."""
    judge = Judge()
    judge.judge([[0.1, 5.0]], Errors(1.0, 2.0))
    before = judge.shown()
    judge.judge([[np.nan, np.nan]])
    assert judge.shown() == before


def test_a_value_is_surprising_above_2() -> None:
    """At 2 it is not yet."""
    judge = Judge()
    judge.judge([[2.0, np.nextafter(np.float32(2), np.float32(3)), 12.0]])
    assert judge.shown()["foretell_surprising_values_total"] == 2


@given(st.integers(0, 6), st.sampled_from([-1, 0, 1]))
def test_a_value_on_an_edge_is_within(quantile: int, ulps: int) -> None:
    """What surprise says of a value on a published quantile, or next to it by rounding, counts as within that band."""
    edges = np.array([-9, -3, -1, 0, 2, 4, 11], np.float32)
    value = np.nextafter(edges[quantile], edges[quantile] + np.float32(ulps)).reshape(1)
    beyond = np.array([0.5, 0.25, 0.05, 0.01], np.float32)
    lower = [np.full(1, edge, np.float32) for edge in (*edges[3::-1], -12)]
    upper = [np.full(1, edge, np.float32) for edge in (*edges[3:], 14)]
    judge = Judge()
    judge.judge(tails.surprise(value, lower, upper, (beyond, beyond))[:, None])
    is_within = {f"{band.level:g}": band.lower <= quantile <= band.upper for band in central_bands(BUILTIN)}
    assert {level: judge.shown()[level] for level in is_within} == is_within


def test_coverage_is_the_share_of_a_band() -> None:
    """Where tail probabilities are spread evenly, as they are if the bands are right, each band covers its level."""
    p = (np.arange(10_000, dtype=np.float32) + 0.5) / 10_000
    judge = Judge()
    judge.judge(-np.log10(p).reshape(100, 100))
    shown = judge.shown()
    for level in ("0.5", "0.9", "0.98"):
        assert shown[level] == pytest.approx(float(level), abs=2e-4)
    assert shown["foretell_surprising_values_total"] == 100


def test_after_a_half_life_what_was_weighs_half() -> None:
    """Ratios are of recent values; counters keep all."""
    judge = Judge()
    judge.judge([[0.0, 0.0]], Errors(4.0, 2.0))
    judge.clock.now_ns += HALF_LIFE_NS
    judge.judge([[9.0]], Errors(0.0, 1.0))
    shown = judge.shown()
    assert shown["foretell_skill_ratio"] == pytest.approx(2 / 2)
    assert shown["0.9"] == pytest.approx(1 / 2)
    assert shown["foretell_values_judged_total"] == 3


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=8))
def test_it_fades_with_time_not_with_batches(pauses_ns: list[int]) -> None:
    """Batches that judge nothing in between change no weight, however many and whenever they come."""
    often, seldom = Judge(), Judge()
    for judge in (often, seldom):
        judge.judge([[0.0, 0.0]], Errors(4.0, 2.0))
    for pause_ns in pauses_ns:
        often.clock.now_ns += pause_ns
        often.judge([[np.nan]])
    seldom.clock.now_ns += sum(pauses_ns)
    for judge in (often, seldom):
        judge.judge([[9.0]], Errors(0.0, 1.0))
    assert often.shown() == pytest.approx(seldom.shown())


def test_without_new_batches_a_ratio_stays() -> None:
    """What was judged last is shown for as long as nothing comes."""
    judge = Judge()
    judge.judge([[0.0, 9.0]], Errors(1.0, 2.0))
    judge.clock.now_ns += 100 * HALF_LIFE_NS
    assert (judge.shown()["foretell_skill_ratio"], judge.shown()["0.9"]) == (0.5, 0.5)


def test_what_was_judged_hours_ago_is_not_shown_as_recent() -> None:
    """Long after, with batches of which nothing can be said, a ratio is NaN again, not one of two vanishing numbers."""
    judge = Judge()
    judge.judge([[0.0]], Errors(1.0, 2.0))
    judge.clock.now_ns += 1060 * HALF_LIFE_NS  # sums of 1e-320, of three digits
    judge.judge([[np.nan]])
    assert math.isnan(judge.shown()["foretell_skill_ratio"])
    assert math.isnan(judge.shown()["0.9"])


# -- through the observer


def tell(observed: Observed, stepped: Stepped) -> None:
    """Tell of a frame that was stepped."""
    values: NDArray[np.float32] = np.zeros((1, 1), np.float32)
    observed.observer.stepped(accepted_of([b"pump"], [0], values), stepped, {b"pump": 0})


def test_a_model_that_is_not_calibrated_has_no_quality(observed: Observed) -> None:
    """There is not even the name of a metric that would never have a value."""
    observed.load_model(is_calibrated=False)
    tell(observed, stepped_of(np.zeros((1, 3, 1))))
    for name in ("skill", "coverage", "judged", "surprising"):
        assert name not in observed.scrape()


def test_an_engine_that_says_no_surprise_is_not_judged(observed: Observed) -> None:
    """Without surprise and errors nothing is counted."""
    observed.load_model()
    tell(observed, stepped_of(np.zeros((1, 3, 1))))
    assert observed.sample("foretell_values_judged_total") == 0


def test_the_observer_shows_quality(observed: Observed) -> None:
    """What stepping told of a calibrated model is in the next scrape."""
    observed.load_model()
    tell(observed, judged([[3.0]], Errors(1.0, 2.0)))
    assert observed.sample("foretell_skill_ratio") == 0.5
    assert observed.sample("foretell_coverage_ratio", level="0.9") == 0
    assert observed.sample("foretell_surprising_values_total") == 1
