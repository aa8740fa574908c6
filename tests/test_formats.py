"""Numbers, durations, flags and small histories as a person reads them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretell.formats import describe_flags, format_duration, format_number, sparkline
from foretell.wire import Flag

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


def test_numbers_beside_larger_ones_have_their_decimals() -> None:
    """What is next to nothing beside its neighbours is shown as nothing, without a sign."""
    assert format_number(-2e-7, scale=30.0) == "0.00"
    assert format_number(-2e-7) == "-2.00e-07"


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


@pytest.mark.parametrize(
    ("duration_ns", "expected"), [(None, "–"), (250_000, "250 µs"), (1_234_567, "1.23 ms"), (2.5e9, "2.5 s")]
)
def test_durations_are_in_readable_units(duration_ns: float | None, expected: str) -> None:
    """A duration is shown in the unit that leaves it between 1 and 1000."""
    assert format_duration(duration_ns) == expected


def test_flags_are_named() -> None:
    """Flags are shown by the names of the wire format."""
    assert describe_flags(Flag.WARMING | Flag.GAP) == "warming gap"
    assert describe_flags(Flag(0)) == ""
