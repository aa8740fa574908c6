"""Synthetic signals: repeatable, finite, and not always observed."""

from __future__ import annotations

import numpy as np

from foretell.training.signals import make_series


def test_same_seed_same_series() -> None:
    """A seed fixes every bit of a series, and another seed gives another."""
    first, again, other = (make_series((seed,), 60, 200) for seed in (1, 1, 2))
    assert first.values.tobytes() == again.values.tobytes()
    assert first.observed.tobytes() == again.observed.tobytes()
    assert first.values.tobytes() != other.values.tobytes()


def test_series_are_finite_float32() -> None:
    """What the normaliser gets is finite float32."""
    values = make_series((3,), 300, 400).values
    assert values.dtype == np.float32
    assert np.isfinite(values).all()


def test_missing_values_repeat_the_last() -> None:
    """Some values are missing, never the first, and each of them repeats the one before."""
    series = make_series((4,), 300, 400)
    missing = ~series.observed
    assert missing.any()
    assert not missing[0].any()
    assert (series.values[1:] == series.values[:-1])[missing[1:]].all()
