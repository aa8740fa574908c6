"""Ratios of pairs: their median, their interval, and the order of the rounds that they are taken in."""

import itertools

import numpy as np

from benchmarks.limits import at_most
from benchmarks.pairs import Ratio, compare, order_of_round


def test_drift_shared_by_a_pair_cancels() -> None:
    """What slows both of a pair by the same factor leaves their ratio alone."""
    drift = np.geomspace(1, 100, 20)
    ratio = compare((1.5 * drift).tolist(), drift.tolist())
    np.testing.assert_allclose([ratio.median, ratio.low, ratio.high], 1.5)


def test_interval_covers_the_true_ratio() -> None:
    """The 95 % interval of 20 pairs holds the true ratio in about 95 of 100 trials."""
    generator = np.random.default_rng(5)
    trials = [
        compare((1.2 * generator.lognormal(0, 0.3, 20)).tolist(), generator.lognormal(0, 0.3, 20).tolist())
        for _ in range(200)
    ]
    num_covering = sum(ratio.low <= 1.2 <= ratio.high for ratio in trials)
    assert 180 <= num_covering <= 199


def test_one_pair_has_no_width() -> None:
    """A single pair gives its ratio and no more."""
    assert compare([3.0], [2.0]) == Ratio(1.5, 1.5, 1.5, 1)


def test_limit_is_exceeded_by_the_whole_interval_only() -> None:
    """A ratio fails where its lower end lies above the limit times the upper end of the equals' ratio."""
    limit, equals = at_most("p50", 1.1), Ratio(1.0, 0.9, 1.1, 20)
    assert Ratio(1.2, 1.1, 1.8, 20).verdict(limit, equals) == ["<= 1.1 x 1.10", "pass"]
    assert Ratio(1.5, 1.22, 1.8, 20).verdict(limit, equals)[1] == "FAIL"


def test_limit_that_noise_alone_keeps_is_told_apart() -> None:
    """Where the interval reaches below a limit that its median is beyond, the verdict says so."""
    limit, equals = at_most("p50", 1.1), Ratio(1.0, 0.9, 1.1, 20)
    assert Ratio(1.5, 1.2, 1.8, 20).verdict(limit, equals)[1] == "pass, but the median is beyond"


def test_equals_never_tighten_a_limit() -> None:
    """Equals of which the second was the faster one loosen nothing, and tighten nothing."""
    assert Ratio(1.05, 1.0, 1.1, 20).verdict(at_most("p50", 1.1), Ratio(0.8, 0.7, 0.9, 20))[1] == "pass"


def test_few_pairs_are_not_judged() -> None:
    """Of fewer than five pairs no limit is said to be kept or not."""
    assert Ratio(9.0, 9.0, 9.0, 4).verdict(at_most("p50", 1.1), Ratio(1.0, 1.0, 1.0, 4))[1] == "too few pairs"


def test_everyone_begins_and_ends_alike() -> None:
    """Over twice as many rounds as contenders each comes at each place twice, and none always follows the same."""
    contenders = ["a", "b", "c"]
    rounds = [order_of_round(contenders, index) for index in range(6)]
    for place in range(3):
        assert sorted(order[place] for order in rounds) == ["a", "a", "b", "b", "c", "c"]
    followed = {pair for order in rounds for pair in itertools.pairwise(order)}
    assert followed == set(itertools.permutations(contenders, 2))
