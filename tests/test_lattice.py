"""The lattice learns what least squares would, from changes alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from foretell.lattice import CHANGE_ORDERS, MISS_ORDERS, REFLECTION, STATE_SIZE, Learnt, learn

RATE = np.float32(1.0 - 0.5 ** (1.0 / 1000.0))


def run(changes: NDArray[np.float64], medians: float = 0.0, unit: float = 1.0) -> list[Learnt]:
    """Learn from changes [frames], the model having said `medians` every time; changes are given in `unit`."""
    state, results = np.zeros((STATE_SIZE, 1), np.float32), []
    one = np.ones(1, np.float32)
    for t, change in enumerate(changes):
        result = learn(
            state,
            one * np.float32(change / unit),
            one * np.float32(medians),
            one,
            one,
            RATE,
            one * (t == 0),
        )
        state = result.state
        results.append(result)
    return results


def autoregression(num_frames: int) -> NDArray[np.float64]:
    """Changes that follow their last two, with noise of unit variance."""
    rng, x = np.random.default_rng(3), np.zeros(num_frames)
    for t in range(2, num_frames):
        x[t] = 1.2 * x[t - 1] - 0.7 * x[t - 2] + rng.normal()
    return x


def test_learns_an_autoregression() -> None:
    """Of changes that follow their last two, every order is off by little more than what cannot be known."""
    results = run(autoregression(2000))[1000:]
    for k in range(len(CHANGE_ORDERS)):
        off = np.mean([result.change_errors[k][0] for result in results])
        assert off < 1.06 * np.sqrt(2 / np.pi)


def test_its_first_coefficients_are_those_of_the_process() -> None:
    """The reflection coefficients are a1 / (1 - a2) and a2, and those of higher order small."""
    reflection = run(autoregression(2500))[-1].state[REFLECTION][:, 0]
    np.testing.assert_allclose(reflection[:2], [1.2 / 1.7, -0.7], atol=0.05)
    assert np.abs(reflection[2:]).max() < 0.2


def test_learns_what_the_median_misses() -> None:
    """Where the model says the same every time, what it misses is predicted as well as the change."""
    results = run(autoregression(2000), medians=0.5)[1000:]
    for k in range(len(MISS_ORDERS)):
        off = np.mean([result.miss_errors[k][0] for result in results])
        assert off < 1.15 * np.sqrt(2 / np.pi)


def test_a_prediction_is_judged_by_what_comes() -> None:
    """The error given with a frame is that of the prediction given with the frame before."""
    changes = autoregression(200)
    results = run(changes)
    for k in range(len(CHANGE_ORDERS)):
        said = np.array([result.changes[k][0] for result in results[:-1]])
        off = np.array([result.change_errors[k][0] for result in results[1:]])
        np.testing.assert_allclose(off, np.abs(changes[1:] - said), atol=1e-4)


def test_a_unit_that_moves_changes_nothing_but_the_unit() -> None:
    """Given in another unit every frame, the same changes give the same predictions in that unit."""
    changes, one = autoregression(300), np.ones(1, np.float32)
    units = np.exp(0.3 * np.random.default_rng(4).normal(size=301))
    units[:2] = 1.0  # the first energy is 1 in whatever unit there is
    state, moving = np.zeros((STATE_SIZE, 1), np.float32), []
    for t, change in enumerate(changes):
        rescale = one * np.float32(units[t] / units[t + 1])
        result = learn(
            state, one * np.float32(change / units[t]), one * 0, one, rescale, RATE, one * (t == 0)
        )
        state = result.state
        moving.append(result.changes[-1][0] * units[t + 1])
    still = [result.changes[-1][0] for result in run(changes)]
    np.testing.assert_allclose(moving, still, atol=1e-3)


def test_an_imputed_change_teaches_nothing() -> None:
    """Where nothing was observed the coefficients stay as they are."""
    before, one = run(autoregression(100))[-1].state, np.ones(1, np.float32)
    after = learn(before, one * 3, one, one * 0, one, RATE, one * 0).state
    coefficients = slice(REFLECTION.start, STATE_SIZE)
    assert (before[coefficients] == after[coefficients]).all()
