"""What is put in for missing values in training is what the serving engine puts in."""

from __future__ import annotations

import numpy as np

from foretell.rounds import Steps
from foretell.step import Engine
from foretell.training.fill import fill_in
from foretell.training.signals import Series
from small_models import independent_spec, model_of


def sparse_series(num_lanes: int = 6, length: int = 60) -> Series:
    """Walks of which a fifth is missing, but for the first lane, which is whole."""
    rng = np.random.default_rng(1)
    values = rng.normal(size=(length, num_lanes)).cumsum(axis=0).astype(np.float32)
    observed = rng.random((length, num_lanes)) >= 0.2
    observed[0] = observed[:, 0] = True
    return Series(values, observed)


def test_a_missing_value_is_the_forecast_of_an_engine_fed_alone() -> None:
    """Fed frame by frame on its own, an engine's last median is what stands where a value was missing, to the bit."""
    series, model = sparse_series(), model_of(independent_spec())
    filled = fill_in(series, model)
    median = model.spec.median_index
    for lane in range(series.values.shape[1]):
        engine = Engine(model, 1)
        engine.arena.restart(np.array([0]))
        forecast = np.float32(np.nan)
        for t, value in enumerate(series.values[:, lane]):
            is_missing = not series.observed[t, lane]
            if is_missing:
                assert filled.values[t, lane] == forecast
            frame = np.array([[np.nan if is_missing else value]], np.float32)
            steps = Steps(np.array([[0]]), frame, [1], 1, has_missing=is_missing)
            forecast = engine.step(steps).forecast[0, 0, median, 0]


def test_what_was_observed_stays() -> None:
    """Only missing values change, and what was observed is told as before."""
    series = sparse_series()
    filled = fill_in(series, model_of(independent_spec()))
    assert (filled.values == series.values)[series.observed].all()
    assert (filled.values != series.values)[~series.observed].all()
    assert filled.observed is series.observed


def test_whole_series_are_not_stepped() -> None:
    """Where nothing is missing, the very series comes back."""
    whole = Series(np.ones((5, 2), np.float32), np.ones((5, 2), np.bool_))
    assert fill_in(whole, model_of(independent_spec())) is whole
