"""Evaluation: it scores what the daemon would have published, and the shipped model keeps its promise."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from foretell.config import ForecastConfig, StreamsConfig
from foretell.errors import ConfigError
from foretell.model import BUILTIN, load_model
from foretell.normalize import NormalizerSpec
from foretell.run import as_set
from foretell.training.evaluate import Portion, Score, as_series, forecast, score, score_recording
from foretell.training.examples import make_examples
from foretell.training.network import Network
from foretell.training.signals import Series, make_series
from pipeline import Pipeline, frames_of
from small_models import joint_spec, model_of

LEVELS = (0.05, 0.5, 0.95)


def write_csv(path: Path, values: NDArray[np.float64]) -> Path:
    """One channel `x` at one row a second."""
    path.write_text("time,x\n" + "".join(f"{t},{value}\n" for t, value in enumerate(values)))
    return path


def noisy_cycle(num_rows: int) -> NDArray[np.float64]:
    """Something that can be forecast."""
    noise = np.random.default_rng(1).normal(size=num_rows)
    return 20.0 + 5.0 * np.sin(np.arange(num_rows) / 4.0) + 0.5 * noise


def test_forecasts_are_those_of_the_daemon() -> None:
    """Evaluation forecasts what the engine publishes uncalibrated for the same values, to float32 rounding."""
    model = as_set(load_model(BUILTIN), ForecastConfig(calibrate=False))
    assert model.spec.normalizer is not None
    network = Network(
        model.spec.input_size, model.spec.hidden_size, model.spec.num_layers, model.spec.quantiles
    )
    network.load_state_dict(dict(model.weights))
    values = noisy_cycle(200).astype(np.float32)[:, None]
    offline = forecast(network, make_examples(as_series(values), model.spec.normalizer), model.spec.quantiles)
    pipeline = Pipeline(model, StreamsConfig(capacity=4, max_channels=4))
    served = [pipeline.feed(frames_of([b"s"], [t], values[t : t + 1]))[0][2] for t in range(199)]
    np.testing.assert_allclose(np.stack(served)[:, 0, :, 0], offline[:, 0], rtol=1e-4, atol=1e-4)


def test_an_untrained_network_scores_as_persistence() -> None:
    """A network whose median change is nought has the error of persistence."""
    examples = make_examples(make_series((7,), 30, 200), NormalizerSpec())
    scores = score(Network(6, 8, 1, LEVELS), examples, LEVELS, Portion(first=100))
    ratios = np.array([one.ratio for one in scores])
    assert np.nanmax(np.abs(ratios - 1.0)) < 1e-3


def test_only_the_portion_is_scored() -> None:
    """Persistence's error over a portion is the mean of the changes that lead to its rows."""
    values = np.array([0, 1, 3, 6, 10, 15, 21], np.float32)[:, None]
    examples = make_examples(as_series(values), NormalizerSpec())
    (one,) = score(Network(6, 8, 1, LEVELS), examples, LEVELS, Portion(first=3, until=6))
    assert one.persistence_error == pytest.approx((3 + 4 + 5) / 3)


def test_unobserved_values_are_not_scored() -> None:
    """A value that nobody saw, however far off, adds nothing to the error."""
    values, observed = np.zeros((10, 1), np.float32), np.ones((10, 1), np.bool_)
    values[5], observed[5] = 100.0, False
    values[6:] = 100.0
    examples = make_examples(Series(values, observed), NormalizerSpec())
    (one,) = score(Network(6, 8, 1, LEVELS), examples, LEVELS, Portion(first=3))
    assert one.persistence_error == 0.0
    assert math.isnan(one.ratio)


def test_a_series_at_rest_is_inside_its_band() -> None:
    """Of a constant every value is inside the band, in spite of rounding."""
    examples = make_examples(as_series(np.full((600, 1), 0.1, np.float32)), NormalizerSpec())
    (one,) = score(Network(6, 8, 1, LEVELS), examples, LEVELS)
    assert one.coverage == 1.0


def test_missing_values_repeat_the_last_and_the_first() -> None:
    """Missing values are the last one seen; those at the beginning are the first that will be."""
    series = as_series(np.array([np.nan, 2.0, np.nan, 3.0], np.float32)[:, None])
    assert series.values[:, 0].tolist() == [2.0, 2.0, 2.0, 3.0]
    assert series.observed[:, 0].tolist() == [False, True, False, True]


def test_the_shipped_model_beats_persistence_on_a_recording(tmp_path: Path) -> None:
    """On a noisy cycle the built-in model errs by less than two thirds of persistence, and its band holds 90 %."""
    path = write_csv(tmp_path / "cycle.csv", noisy_cycle(2000))
    one = score_recording(load_model(BUILTIN), path, Portion())["cycle/x"]
    assert one.ratio < 0.66
    assert 0.85 < one.coverage < 0.95


def test_scaled_errors_are_in_standard_deviations(tmp_path: Path) -> None:
    """With scale rows an error is divided by the deviation of those rows, and the ratio stays."""
    values = noisy_cycle(800)
    path, model = write_csv(tmp_path / "cycle.csv", values), load_model(BUILTIN)
    plain = score_recording(model, path, Portion())["cycle/x"]
    scaled = score_recording(model, path, Portion(scale_rows=400))["cycle/x"]
    assert scaled.error == pytest.approx(plain.error / values[:400].std(), rel=1e-5)
    assert scaled.ratio == pytest.approx(plain.ratio)


def test_rows_that_are_not_there_are_refused(tmp_path: Path) -> None:
    """A portion beyond the end of the recording is the user's mistake, named with the file."""
    path = write_csv(tmp_path / "short.csv", noisy_cycle(100))
    with pytest.raises(ConfigError, match=r"short\.csv: has 100 rows"):
        score_recording(load_model(BUILTIN), path, Portion())


def test_models_without_a_normaliser_are_refused(tmp_path: Path) -> None:
    """A joint model cannot be evaluated here, and is refused."""
    path = write_csv(tmp_path / "cycle.csv", noisy_cycle(600))
    with pytest.raises(ConfigError, match="independent"):
        score_recording(model_of(joint_spec()), path, Portion())


def test_ratio_is_of_errors() -> None:
    """The ratio is the error against that of persistence."""
    assert Score(error=1.0, persistence_error=4.0, coverage=0.9).ratio == 0.25
