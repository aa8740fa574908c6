"""Surprise is -log10 of the two-sided tail probability, from 0 to 12."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from foretell.surprise import MOST, log10, surprise

TAILS = np.array([0.5, 0.25, 0.05, 0.01], np.float32)
EDGES = [0.0, 1.0, 2.0, 4.0, 5.0]  # from the median outwards; the last leaves half of .01


def surprise_of(*values: float, edges: list[float] = EDGES) -> NDArray[np.float32]:
    """Under a forecast that is the same on both sides of 0."""
    n = len(values)
    upper = [np.full(n, edge, np.float32) for edge in edges]
    return surprise(np.array(values, np.float32), [-edge for edge in upper], upper, (TAILS, TAILS))


def test_log10_is_that_of_the_library() -> None:
    """Our own logarithm is the library's to seven decimals."""
    p = np.concatenate([2.0 ** -np.arange(16.0), np.geomspace(2.0**-15, 1.0, 1000)]).astype(np.float32)
    np.testing.assert_allclose(log10(p), np.log10(p.astype(np.float64)), atol=5e-7)


@pytest.mark.parametrize(
    ("value", "probability"),
    [(0.0, 1.0), (1.0, 0.5), (1.5, 0.3), (2.0, 0.1), (4.0, 0.02), (5.0, 0.01), (6.0, 0.005)],
)
def test_levels_are_met_on_both_sides(value: float, probability: float) -> None:
    """On an edge it is twice the probability beyond it, between edges interpolated, beyond the last halved again."""
    expected = -math.log10(probability)
    np.testing.assert_allclose(surprise_of(value, -value), [expected, expected], atol=1e-6)


def test_is_limited() -> None:
    """Nothing is more surprising than 12, and no forecast so narrow that it is not a number."""
    assert (surprise_of(1e38, -1e38) == MOST).all()
    np.testing.assert_allclose(
        surprise_of(0.0, 1.0, edges=[0.0] * 5), np.array([0.0, MOST], np.float32), atol=1e-6
    )


def test_does_not_depend_on_the_place() -> None:
    """A lane has the same bits alone and among others."""
    values = np.random.default_rng(1).normal(size=37) * 3
    together = surprise_of(*values)
    assert together.tobytes() == np.concatenate([surprise_of(value) for value in values]).tobytes()
