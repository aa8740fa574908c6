"""The yardsticks: forecasts that anybody could make, against figures by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretell.evaluation.baselines import (
    Autoregression,
    carried_forward,
    find_period,
    linear,
    persistence,
    seasonal,
)


def test_missing_values_carry_the_last_one_forward() -> None:
    """A missing value is the last one seen, and before the first one that."""
    values = np.array([np.nan, 2, np.nan, 5, np.nan], np.float32)
    assert carried_forward(values).tolist() == [2, 2, 2, 5, 5]


def test_persistence_repeats_the_last_value() -> None:
    """Every lead is the last value."""
    assert persistence(np.array([1.0, 4.0]), 2).tolist() == [[1, 1], [4, 4]]


def test_linear_goes_on_by_the_last_change() -> None:
    """Every lead adds the last change once more; before the second value there is none."""
    assert linear(np.array([1.0, 4.0]), 2).tolist() == [[1, 1], [7, 10]]


def test_seasonal_says_what_was_one_period_before() -> None:
    """A lead beyond the period looks back two; where there is no past yet, the last value stands in."""
    values = np.array([1.0, 2.0, 3.0, 4.0])
    assert seasonal(values, 3, period=2).tolist() == [[1, 1, 1], [1, 2, 1], [2, 3, 2], [3, 4, 3]]


@pytest.mark.parametrize("period", [5, 24, 60])
def test_the_period_of_a_cycle_is_found(period: int) -> None:
    """The season of a noisy cycle is its period, or a multiple of it."""
    rng = np.random.default_rng(1)
    phase = np.arange(20 * period) * 2 * np.pi / period
    found = find_period(np.sin(phase) + 0.5 * np.sin(2 * phase) + 0.1 * rng.normal(size=phase.size))
    assert found is not None
    assert found % period == 0


@pytest.mark.parametrize("offset", [0.0, 100.0])
@pytest.mark.parametrize("period", [2, 8, 200, 500])
def test_the_period_of_a_pure_sine_is_found(period: int, offset: float) -> None:
    """However slow it is and however far from 0, a sine of three turns has its period."""
    values = offset + np.sin(2 * np.pi * np.arange(3 * period + 8) / period + 0.3)
    assert find_period(values.astype(np.float32).astype(np.float64)) == period


def test_a_season_is_found_under_slow_wandering() -> None:
    """A cycle of 24 on top of a walk that is larger by far shows in the changes."""
    rng = np.random.default_rng(1)
    walk = np.cumsum(rng.normal(size=2000))
    assert find_period(walk + 6.0 * np.sin(2 * np.pi * np.arange(2000) / 24)) == 24


def test_small_wiggles_are_no_season() -> None:
    """Of a slow cycle under noise the period is found, not a lag within which the noise happens to agree."""
    rng = np.random.default_rng(1)
    values = np.sin(2 * np.pi * np.arange(1200) / 288) + 0.3 * rng.normal(size=1200)
    found = find_period(values)
    assert found is not None
    assert abs(found - 288) < 30


@given(
    st.lists(st.floats(-1e30, 1e30), min_size=1, max_size=60)
    | st.lists(st.integers(0, 2).map(float), min_size=1, max_size=60)
)
def test_any_series_has_a_period_that_fits_or_none(numbers: list[float]) -> None:
    """Whatever the values, a period is at least two frames and at most half of them."""
    found = find_period(np.array(numbers))
    assert found is None or 2 <= found <= len(numbers) // 2 + 1


@pytest.mark.parametrize(
    "values",
    [np.zeros(100), np.random.default_rng(1).normal(size=1000), np.arange(2.0), np.arange(50.0)],
    ids=["constant", "noise", "two values", "ramp"],
)
def test_what_has_no_season_gets_none(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> None:
    """Where nothing repeats no period is made up."""
    assert find_period(values) is None


def test_an_ar_finds_the_recursion_that_made_a_series() -> None:
    """The rows after the fitted ones are forecast exactly where the series is an AR without noise."""
    values = np.zeros(400)
    values[:2] = 1.0, 0.5
    for t in range(2, 400):
        values[t] = 1.6 * values[t - 1] - values[t - 2] + 0.3
    ar = Autoregression(values, np.ones(400, np.bool_), 200)
    forecast = ar.forecast(values, 3)
    for lead in range(3):
        np.testing.assert_allclose(forecast[200 : 397 - lead, lead], values[201 + lead : 398], atol=1e-6)


def test_an_ar_is_fitted_to_the_first_rows_alone() -> None:
    """What comes after the fitted rows has no part in the coefficients."""
    rng = np.random.default_rng(1)
    values, known = rng.normal(size=500), np.ones(500, np.bool_)
    changed = values.copy()
    changed[300:] *= 100.0
    one, other = (Autoregression(series, known, 300).forecast(values, 1) for series in (values, changed))
    np.testing.assert_array_equal(one, other)


def test_an_ar_does_not_learn_from_what_was_not_observed() -> None:
    """Missing values, whatever stands in their place, leave the coefficients as they are without those rows."""
    rng = np.random.default_rng(1)
    values, known = np.cumsum(rng.normal(size=500)), np.ones(500, np.bool_)
    known[100:110] = False
    other = values.copy()
    other[100:110] = 1e6
    clean = values.copy()
    clean[100:110] = 0.0
    first, second = (Autoregression(series, known, 400) for series in (other, clean))
    np.testing.assert_allclose(first.forecast(values, 1), second.forecast(values, 1), rtol=1e-9)


@pytest.mark.parametrize(("num_rows", "order"), [(16, 4), (100, 25), (1000, 48)])
def test_the_order_goes_by_the_rows(num_rows: int, order: int) -> None:
    """A coefficient has four rows at least, and there are 48 at most."""
    values = np.random.default_rng(1).normal(size=num_rows)
    assert Autoregression(values, np.ones(num_rows, np.bool_), num_rows).order == order


def test_an_ar_of_a_constant_says_the_constant() -> None:
    """Where nothing moves, what is forecast stays."""
    values = np.full(100, 7.0)
    np.testing.assert_allclose(Autoregression(values, np.ones(100, np.bool_), 50).forecast(values, 2), 7.0)
