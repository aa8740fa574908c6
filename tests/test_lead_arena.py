"""The leads' states by row: what rows share a batch, and in which order, changes nothing."""

from __future__ import annotations

import numpy as np
import pytest

from foretell.calibrate import CalibratorSpec
from foretell.lead_arena import LeadArena, lead_bytes_per_row
from foretell.leads import LeadCalibrator
from small_models import independent_spec, normalized_joint_spec

HORIZON, FRAMES = 3, 120
SPECS = {"independent": independent_spec(), "joint": normalized_joint_spec(3)}


@pytest.mark.parametrize("name", SPECS)
def test_a_row_is_advanced_as_it_is_alone(name: str) -> None:
    """Rows in any order and company have, channel by channel, the levels that the calibrator gives each alone."""
    spec, rng = SPECS[name], np.random.default_rng(0)
    arena, calibrator = LeadArena(spec, 6, HORIZON), LeadCalibrator(HORIZON, spec.quantiles)
    states = [calibrator.initial_state(spec.input_channels) for _ in range(6)]
    for _ in range(FRAMES):
        rows = rng.permutation(6)[: rng.integers(0, 7)]
        values = rng.normal(size=(rows.size, spec.input_channels)).astype(np.float32)
        paths = rng.normal(size=(rows.size, HORIZON - 1, spec.input_channels)).astype(np.float32)
        observed = rng.random(values.shape) < 0.9
        levels = arena.advance(rows, values, paths, observed)
        for k, row in enumerate(rows.tolist()):
            led = calibrator.advance(states[row], values[k], paths[k], observed[k])
            states[row] = led.state
            assert levels[k].tobytes() == led.levels.tobytes()


def test_a_row_begins_anew() -> None:
    """A row that was restarted knows nothing; the others go on."""
    spec, one = SPECS["independent"], np.ones((2, 1), np.float32)
    arena, rows = LeadArena(spec, 2, HORIZON), np.arange(2)
    for _ in range(150):
        arena.advance(rows, one, one[:, None].repeat(HORIZON - 1, axis=1))
    arena.restart(rows[:1])
    levels = arena.advance(rows, one, one[:, None].repeat(HORIZON - 1, axis=1))
    assert np.isnan(levels[0, :, 0]).all()
    assert np.isfinite(levels[1]).all()


def test_bytes_per_row_are_those_of_the_arena() -> None:
    """The bytes that a row is said to take are what it takes, and none where nothing is calibrated."""
    spec = independent_spec()
    assert lead_bytes_per_row(spec, HORIZON) == 0
    calibrated = independent_spec(calibrator=CalibratorSpec())
    assert lead_bytes_per_row(calibrated, 1) == 0
    assert 7 * lead_bytes_per_row(calibrated, HORIZON) == LeadArena(calibrated, 7, HORIZON).state.nbytes
