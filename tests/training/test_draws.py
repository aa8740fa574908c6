"""What synthetic signals are built from."""

from __future__ import annotations

import numpy as np

from foretell.training.draws import filtered, held, runs


def test_held_keeps_each_value_until_the_next_update() -> None:
    """A value held back stays until the next update."""
    given = np.arange(6.0)[:, None]
    updates = np.array([True, False, True, False, False, True])[:, None]
    assert held(given, updates)[:, 0].tolist() == [0, 0, 2, 2, 2, 5]


def test_filtered_is_the_recursion() -> None:
    """The filter's answer to one kick is the recursion's."""
    kick = np.zeros((5, 1))
    kick[0] = 1.0
    response = filtered(kick, np.array([0.5]), np.array([0.25]))[:, 0]
    assert response.tolist() == [1.0, 0.5, 0.5, 0.375, 0.3125]


def test_runs_are_no_longer_than_the_longest() -> None:
    """No run lasts longer than the longest unless another begins in it, and none begins with the first frame."""
    rng = np.random.default_rng(1)
    seldom, long = np.full(200, 400.0), np.full(200, 50.0)
    is_in = runs(rng, 300, seldom, long, 20)
    assert is_in.any()
    assert not is_in[0].any()
    begins = (is_in[1:] & ~is_in[:-1]).sum(axis=0)
    alone = begins == 1
    assert (is_in.sum(axis=0)[alone] <= 40).all()
    assert np.median(is_in.sum(axis=0)[alone]) <= 20
