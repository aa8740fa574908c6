"""Components of synthetic signals: finite, moving, and each with its habit."""

from __future__ import annotations

import numpy as np
import pytest

from foretell.training.components import COMPONENTS, counters
from foretell.training.cycles import bang_bang, sines


@pytest.mark.parametrize("name", COMPONENTS)
def test_components_move_and_are_finite(name: str) -> None:
    """Every component gives finite signals of the shape asked for, and few of them stand still."""
    part = COMPONENTS[name][0](np.random.default_rng(1), 40, 600)
    assert part.shape == (600, 40)
    assert np.isfinite(part).all()
    assert (part.std(axis=0) > 0.0).mean() > 0.9


def test_counters_are_whole_and_rise_but_for_resets() -> None:
    """A counter is a whole number, never below nought, and falls seldom."""
    counted = counters(np.random.default_rng(2), 60, 1000)
    assert (counted == np.rint(counted)).all()
    assert (counted >= 0.0).all()
    falls = (np.diff(counted, axis=0) < 0.0).mean(axis=0)
    assert (falls > 0.0).mean() > 0.5
    assert np.median(falls) < 0.05


def test_sines_are_predictable_from_their_past() -> None:
    """Up to three sines obey a linear recursion of order six, as sums of sines do."""
    signals = sines(np.random.default_rng(3), 40, 400)
    lags = np.stack([signals[lag : 394 + lag] for lag in range(6)], axis=-1)
    for lane in range(40):
        _, residual, _, _ = np.linalg.lstsq(lags[:, lane], signals[6:, lane], rcond=1e-12)
        assert residual.sum() < 1e-6 * (signals[:, lane] ** 2).sum()


def test_a_controller_holds_between_its_thresholds() -> None:
    """What a controller holds is mostly within its thresholds, and it turns round again and again."""
    held = bang_bang(np.random.default_rng(4), 60, 1000)
    assert (np.abs(held) <= 1.0).mean() > 0.8
    turns = (np.diff(np.sign(np.diff(held, axis=0)), axis=0) != 0).sum(axis=0)
    assert np.median(turns) > 10
