"""The built-in model, calibrated, on what a sensor does at its worst: finite, sane, flagged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import pytest

from foretell.config import StreamsConfig
from foretell.model import BUILTIN, load_model
from foretell.wire import Flag
from pipeline import Pipeline, frames_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

MODEL: Final = load_model(BUILTIN)
MEDIAN: Final = MODEL.spec.median_index


def forecasts_of(values: NDArray[np.floating]) -> tuple[NDArray[np.float32], list[Flag]]:
    """Levels float32 [frames, quantiles] after each value [frames], and the flags."""
    pipeline = Pipeline(MODEL, StreamsConfig(capacity=1, max_channels=1))
    levels, flags = [], []
    for number, value in enumerate(values.astype(np.float32)):
        for accepted, stepped in pipeline.step_all(frames_of([b"s"], [number], np.array([[value]]))):
            levels.append(stepped.forecast[0, 0, :, 0])
            flags.append(Flag(int(accepted.flags[0])))
    return np.array(levels), flags


def test_a_step_between_two_constants() -> None:
    """At rest the forecast is the value, and a few frames after a step it is the new one."""
    levels, _ = forecasts_of(np.repeat([20.0, 50.0], 200))
    assert np.isfinite(levels).all()
    np.testing.assert_allclose(levels[100:200, MEDIAN], 20.0, rtol=1e-4)
    assert (np.abs(levels[210:, MEDIAN] - 50.0) < 3.0).all()
    np.testing.assert_allclose(levels[300:, MEDIAN], 50.0, rtol=1e-3)
    assert (np.diff(levels, axis=1) >= 0.0).all()


@pytest.mark.parametrize("exponent", [-100, 100])
def test_any_scale_is_forecast_alike(exponent: int) -> None:
    """A stream of tiny or huge numbers (1e-30, 1e30) is forecast as one of ordinary size, in its own unit."""
    ordinary = 5.0 + np.random.default_rng(1).normal(size=300).cumsum()
    scale = 2.0**exponent
    levels, _ = forecasts_of(ordinary * scale)
    expected, _ = forecasts_of(ordinary)
    assert np.isfinite(levels).all()
    # Of the first frames the smallest unit that counts shows, and what follows from it fades.
    np.testing.assert_allclose((levels / np.float64(scale))[20:], expected[20:], rtol=0.0, atol=0.02)


def test_a_hundred_missing_frames_are_filled_in_and_said() -> None:
    """While all values are missing every forecast is finite, within reach of what was, and flagged as imputed."""
    values = 100.0 + np.sin(np.arange(600) / 5.0)
    values[300:400] = np.nan
    levels, flags = forecasts_of(values)
    assert np.isfinite(levels).all()
    assert all(bool(flag & Flag.IMPUTED) == (300 <= frame < 400) for frame, flag in enumerate(flags))
    assert (np.abs(levels[300:400, MEDIAN] - 100.0) < 3.0).all()
    assert (np.abs(levels[450:-1, MEDIAN] - values[451:]) < 0.5).all()


def test_a_stream_that_begins_with_missing_values_is_finite() -> None:
    """Of a stream that has shown nothing yet the forecast is 0, and it learns from the first value on."""
    levels, flags = forecasts_of(np.concatenate([np.full(5, np.nan), np.full(40, 7.0)]))
    assert np.isfinite(levels).all()
    assert all(flag & Flag.IMPUTED for flag in flags[:5])
    np.testing.assert_allclose(levels[5:, MEDIAN], 7.0, rtol=1e-3)
