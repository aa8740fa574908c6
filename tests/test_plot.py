"""Numbers and channels as characters."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretell.plot import BAND_STYLE, FORECAST_STYLE, VALUE_STYLE, format_number, plot, sparkline
from foretell.tally import History

_NAN = float("nan")


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (_NAN, "–"),
        (0.0, "0.000"),
        (-1.5, "-1.500"),
        (12.345, "12.35"),
        (1234.56, "1234.6"),
        (98765.4, "98765"),
    ],
)
def test_numbers_have_about_five_digits(number: float, expected: str) -> None:
    """Numbers are shown with the decimals that their size deserves."""
    assert format_number(number) == expected


@given(st.floats(allow_nan=False, allow_infinity=False, width=32))
def test_numbers_fit_their_column(number: float) -> None:
    """No number needs more than nine characters and a sign."""
    assert len(format_number(number)) <= 9


def test_sparkline_spans_smallest_to_largest() -> None:
    """The smallest value is the lowest bar, the largest the highest, a missing one a blank."""
    assert sparkline(np.array([0.0, 7.0, _NAN, 3.0]), 6) == "  ▁█ ▄"


def test_sparkline_of_nothing_is_blank() -> None:
    """Without a value there is no bar, and the width stays."""
    assert sparkline(np.array([_NAN]), 3) == "   "


def test_plot_draws_values_forecasts_and_band() -> None:
    """All three layers are there, in as many lines and cells as asked for."""
    time = np.arange(41)
    median = 10 * np.sin(time / 6)
    lines = plot(History(median[:-1] + 8, median, median - 3, median + 3), width=60, height=8)
    assert len(lines) == 8
    assert all(line.cell_len == 60 for line in lines)
    styles = {str(span.style) for line in lines for span in line.spans}
    assert VALUE_STYLE in styles
    assert any(style.startswith(FORECAST_STYLE) for style in styles)
    assert BAND_STYLE in styles


@given(
    st.lists(st.floats(allow_infinity=False, width=32), min_size=1, max_size=50),
    st.integers(min_value=12, max_value=40),
    st.integers(min_value=3, max_value=8),
)
def test_plot_of_anything_keeps_its_size(values: list[float], width: int, height: int) -> None:
    """Missing, constant, huge or few values: a plot is always as high and wide as asked for."""
    value = np.array(values)
    other = np.append(value, _NAN)
    lines = plot(History(value, other, other, other), width, height)
    assert len(lines) == height
    assert {line.cell_len for line in lines} == {width}
