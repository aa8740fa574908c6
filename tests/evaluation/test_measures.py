"""Measures of forecasts against figures by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretell.evaluation.measures import calibration, coverage, measure, pinball_loss

LEVELS = (0.25, 0.5, 0.75)


def test_measures_by_hand() -> None:
    """Errors 1 and -3: mean absolute 2, root mean square root of 5; pinball of three levels by hand."""
    actual, point = np.array([1.0, 1.0]), np.array([0.0, 4.0])
    levels = np.array([[-1.0, 0.0, 1.0], [2.0, 4.0, 6.0]])
    measured = measure(actual, point, levels, LEVELS)
    assert measured.mae == 2.0
    assert measured.rmse == pytest.approx(5.0**0.5)
    # Of the first value .25 * 2, .5 * 1, 0; of the second .75 * 1, .5 * 3, .25 * 5.
    assert measured.pinball == pytest.approx((0.5 + 0.5 + 0.0 + 0.75 + 1.5 + 1.25) / 6)
    assert measured.crps == 2 * measured.pinball


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20), st.floats(-1e6, 1e6))
def test_the_crps_of_a_point_is_its_mean_absolute_error(actual: list[float], point: float) -> None:
    """A model of points only is measured alike by both."""
    values, points = np.array(actual), np.full(len(actual), point)
    measured = measure(values, points, points[:, None], [0.5])
    assert measured.crps == pytest.approx(measured.mae)


def test_the_right_quantiles_have_the_least_pinball_loss() -> None:
    """Of normal values no other quantiles have a smaller loss than the normal ones."""
    rng = np.random.default_rng(1)
    actual, right = rng.normal(size=20_000), np.array([-0.6745, 0.0, 0.6745])
    least = pinball_loss(actual, np.tile(right, (actual.size, 1)), LEVELS)
    for wrong in (0.8 * right, 1.2 * right, right + 0.1):
        assert pinball_loss(actual, np.tile(wrong, (actual.size, 1)), LEVELS) > least


def test_coverage_counts_values_on_an_edge_as_within() -> None:
    """A band holds what lies between its edges and upon them."""
    actual = np.array([0.0, 1.0, 2.0, 3.0])
    levels = np.tile([1.0, 1.5, 2.0], (4, 1))
    assert coverage(actual, levels, LEVELS) == {"0.5": 0.5}


def test_bands_are_central_only() -> None:
    """Levels that are not as far from both ends make no band."""
    levels = np.tile([1.0, 1.5, 2.0, 3.0], (4, 1))
    assert coverage(np.zeros(4), levels, (0.1, 0.5, 0.75, 0.9)) == {"0.8": 0.0}


def test_a_point_model_has_no_bands() -> None:
    """The median alone is no band."""
    assert coverage(np.zeros(4), np.zeros((4, 1)), (0.5,)) == {}


def test_calibration_counts_values_on_a_quantile_half() -> None:
    """Of a value on its quantile one half is below."""
    assert calibration(np.array([0.0, 1.0, 2.0, 1.0]), np.full((4, 1), 1.0)) == [0.5]
