"""Faults of sensors: finite, and each as its name says."""

from __future__ import annotations

import numpy as np
import pytest

from foretell.training import faults
from foretell.training.draws import Signals
from foretell.training.faults import FAULTS, LONGEST_ABSENCE, observed


def walks(seed: int = 1) -> Signals:
    """Random walks, [3000, 20]."""
    return np.random.default_rng(seed).normal(size=(3000, 20)).cumsum(axis=0)


@pytest.mark.parametrize("fault", [fault for fault, _ in FAULTS], ids=lambda fault: fault.__name__)
def test_faults_change_signals_and_keep_them_finite(fault: faults.Fault) -> None:
    """Every fault gives finite signals of the same shape that are not those that it was given."""
    clean = walks() / walks().std(axis=0)
    faulty = fault(np.random.default_rng(2), clean)
    assert faulty.shape == clean.shape
    assert np.isfinite(faulty).all()
    assert (faulty != clean).any(axis=0).mean() > 0.8


def test_a_dead_band_reports_only_moves_beyond_it() -> None:
    """Reports are values of the signal, and none is nearer to the one before than the widest band's lowest."""
    clean = walks() / walks().std(axis=0)
    reported = faults.dead_banded(np.random.default_rng(2), clean)
    moved = np.diff(reported, axis=0) != 0.0
    assert (reported[1:][moved] == clean[1:][moved]).all()
    assert np.abs(np.diff(reported, axis=0))[moved].min() > 0.03


def test_a_dropout_reads_the_same_all_along() -> None:
    """Where a signal that always moves is not itself, its reading is nought or the last one."""
    clean = walks()
    faulty = faults.dropping_out(np.random.default_rng(3), clean)
    is_out = faulty != clean
    both = is_out[1:] & is_out[:-1]
    assert both.any()
    assert (np.diff(faulty, axis=0)[both] == 0.0).mean() > 0.95


def test_values_are_missing_one_by_one_and_in_runs() -> None:
    """Some signals miss values, some of these for long, and never the first."""
    missing = ~observed(np.random.default_rng(4), 400, 1000)
    share = missing.any(axis=0).mean()
    assert 0.05 < share < 0.25
    assert not missing[0].any()
    in_a_row = np.lib.stride_tricks.sliding_window_view(missing, 8, axis=0).all(axis=-1)
    assert in_a_row.any()
    far_too_long = np.lib.stride_tricks.sliding_window_view(missing, 3 * LONGEST_ABSENCE, axis=0).all(axis=-1)
    assert not far_too_long.any()
