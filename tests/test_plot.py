"""A channel as characters."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from foretell.plot import BAND_STYLE, FORECAST_STYLE, VALUE_STYLE, plot
from foretell.tally import History

_NAN = float("nan")


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
