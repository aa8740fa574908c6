"""Evaluation forecasts what the daemon would have published, to the byte."""

from __future__ import annotations

import numpy as np
import pytest

from foretell.config import StreamsConfig
from foretell.errors import ConfigError, RecordingError
from foretell.evaluation.served import Series, serve
from foretell.model import Model
from made_recordings import noisy_cycle, recording_of
from pipeline import Pipeline, frames_of
from small_models import calibrated, independent_spec, joint_spec, model_of, normalized_joint_spec


def _with_holes(
    num_rows: int, num_channels: int, seed: int = 1
) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    values = noisy_cycle(num_rows, num_channels, seed)
    values[np.random.default_rng(seed).random(values.shape) < 0.1] = np.nan
    return values


def _bytes(series: list[Series]) -> list[tuple[str, bytes, bytes, bytes]]:
    return [(one.name, one.levels.tobytes(), one.medians.tobytes(), one.surprise.tobytes()) for one in series]


@pytest.mark.parametrize("horizon", [1, 3])
@pytest.mark.parametrize(
    "model",
    [
        model_of(independent_spec()),
        model_of(normalized_joint_spec(2)),
        model_of(calibrated(independent_spec())),
    ],
    ids=["independent", "joint", "calibrated"],
)
def test_forecasts_are_the_bytes_of_the_daemon(model: Model, horizon: int) -> None:
    """Every forecast is that of admission and engine for the same frames, missing values included."""
    values = _with_holes(60, 2)
    series = serve(model, [recording_of(values)], horizon)
    pipeline = Pipeline(model, StreamsConfig(capacity=4, max_channels=4), horizon)
    for row in range(60):
        ((_, _, forecast),) = pipeline.feed(frames_of([b"pump"], [row], values[row : row + 1]))
        for channel, one in enumerate(series):
            assert one.levels[row].tobytes() == forecast[0, :, channel].tobytes()
            assert one.medians[row].tobytes() == forecast[:, model.spec.median_index, channel].tobytes()


@pytest.mark.parametrize("most_rounds", [1, 7, 256])
def test_batches_cut_differently_give_the_same(most_rounds: int) -> None:
    """How many frames go through the engine at once changes no byte."""
    model = model_of(independent_spec())
    recordings = [recording_of(_with_holes(90, 2), "a"), recording_of(noisy_cycle(40), "b")]
    assert _bytes(serve(model, recordings, most_rounds=most_rounds)) == _bytes(serve(model, recordings))


def test_streams_of_unequal_length_do_not_disturb_one_another() -> None:
    """A recording beside longer and shorter ones is forecast as it is alone."""
    model = model_of(independent_spec())
    recordings = [
        recording_of(noisy_cycle(length, 1, seed), f"r{length}")
        for seed, length in enumerate((30, 80, 55, 80))
    ]
    alone = [one for recording in recordings for one in serve(model, [recording])]
    assert _bytes(serve(model, recordings)) == _bytes(alone)


def test_a_frame_with_an_infinite_value_is_a_hole() -> None:
    """What admission refuses never reaches the state: the whole frame counts as missing."""
    model = model_of(independent_spec())
    values = noisy_cycle(50, 2)
    values[20, 0] = np.inf
    (series, beside) = serve(model, [recording_of(values)])
    values[20] = np.nan
    (expected, _) = serve(model, [recording_of(values)])
    assert series.levels.tobytes() == expected.levels.tobytes()
    assert np.isnan(beside.values[20])


def test_without_calibration_there_is_no_surprise() -> None:
    """A model whose forecasts are not calibrated leaves surprise missing."""
    (series,) = serve(model_of(independent_spec()), [recording_of(noisy_cycle(20))])
    assert np.isnan(series.surprise).all()


def test_a_joint_model_takes_its_own_number_of_channels() -> None:
    """A recording of another number of channels is the user's mistake, named with both numbers."""
    with pytest.raises(RecordingError, match="pump: has 2 channels; the model takes 3"):
        serve(model_of(joint_spec(3)), [recording_of(noisy_cycle(20, 2))])


def test_a_model_of_other_outputs_is_refused() -> None:
    """Forecasts of other channels than those that come in cannot be held against the recording."""
    with pytest.raises(ConfigError, match="3 channels in and 2 out"):
        serve(model_of(joint_spec(3, 2)), [recording_of(noisy_cycle(20, 3))])


def test_progress_tells_of_every_value() -> None:
    """What is told of progress adds up to all values."""
    told: list[int] = []
    recordings = [recording_of(noisy_cycle(30, 2), "a"), recording_of(noisy_cycle(70), "b")]
    serve(model_of(independent_spec()), recordings, on_progress=told.append)
    assert sum(told) == 30 * 2 + 70
