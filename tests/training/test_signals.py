"""Synthetic signals: repeatable, finite, and of many kinds."""

from __future__ import annotations

import numpy as np
import pytest

from foretell.training import signals
from foretell.training.signals import COMPONENTS, FAULTS, make_series


@pytest.mark.parametrize("name", COMPONENTS)
def test_components_move_and_are_finite(name: str) -> None:
    """Every component gives finite signals of the shape asked for, and few of them stand still."""
    part = COMPONENTS[name][0](np.random.default_rng(1), 40, 600)
    assert part.shape == (600, 40)
    assert np.isfinite(part).all()
    assert (part.std(axis=0) > 0.0).mean() > 0.9


@pytest.mark.parametrize("fault", [fault for fault, _ in FAULTS], ids=lambda fault: fault.__name__)
def test_faults_change_signals_and_keep_them_finite(fault: signals.Fault) -> None:
    """Every fault gives finite signals of the same shape that are not those that it was given."""
    clean = np.random.default_rng(1).normal(size=(3000, 20)).cumsum(axis=0)
    faulty = fault(np.random.default_rng(2), clean)
    assert faulty.shape == clean.shape
    assert np.isfinite(faulty).all()
    assert (faulty != clean).any(axis=0).mean() > 0.8


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


def test_held_keeps_each_value_until_the_next_update() -> None:
    """A value held back stays until the next update."""
    given = np.arange(6.0)[:, None]
    updates = np.array([True, False, True, False, False, True])[:, None]
    assert signals._held(given, updates)[:, 0].tolist() == [0, 0, 2, 2, 2, 5]


def test_filtered_is_the_recursion() -> None:
    """The filter's answer to one kick is the recursion's."""
    kick = np.zeros((5, 1))
    kick[0] = 1.0
    response = signals._filtered(kick, np.array([0.5]), np.array([0.25]))[:, 0]
    assert response.tolist() == [1.0, 0.5, 0.5, 0.375, 0.3125]
