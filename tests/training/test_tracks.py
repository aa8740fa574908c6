"""Recordings become tracks: the later part is kept apart, missing values are filled in as in service."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from foretell.errors import RecordingError
from foretell.evaluation.served import serve
from foretell.model import Channels
from foretell.normalize import NUM_FEATURES, Normalizer
from foretell.training.plan import Plan
from foretell.training.tracks import make_tracks
from made_recordings import noisy_cycle, recording_of
from small_models import independent_spec, model_of

INDEPENDENT = Plan()
JOINT = Plan(channels=Channels.JOINT, num_channels=2)


def test_channels_are_tracks_of_their_own_or_one_together() -> None:
    """Independent channels are a track each, joint ones one track; all of the recording's length less one."""
    recordings = [recording_of(noisy_cycle(100, 2), "a"), recording_of(noisy_cycle(60, 2), "b")]
    alone = make_tracks(recordings, INDEPENDENT, None)
    together = make_tracks(recordings, JOINT, None)
    assert [track.features.shape for track in alone] == [(99, NUM_FEATURES)] * 2 + [(59, NUM_FEATURES)] * 2
    assert [track.features.shape for track in together] == [(99, 2 * NUM_FEATURES), (59, 2 * NUM_FEATURES)]
    for channel in range(2):
        part = slice(channel * NUM_FEATURES, (channel + 1) * NUM_FEATURES)
        np.testing.assert_array_equal(together[0].features[:, part], alone[channel].features)
        np.testing.assert_array_equal(together[0].target[:, channel], alone[channel].target[:, 0])


@pytest.mark.parametrize(("validation", "num_fitted"), [(0.25, 74), (0.5, 49)])
def test_the_later_part_is_not_fitted_to(validation: float, num_fitted: int) -> None:
    """Frames that forecast the last rows of a recording are those that tell when to stop."""
    plan = msgspec.structs.replace(INDEPENDENT, validation=validation)
    (track,) = make_tracks([recording_of(noisy_cycle(100))], plan, None)
    assert track.num_fitted == num_fitted


def test_costs_are_in_deviations_of_the_fitted_rows() -> None:
    """What comes later, however large, does not change the scale; target times cost is the scaled change."""
    values = noisy_cycle(100)
    values[80:] *= 1000.0
    (track,) = make_tracks([recording_of(values)], INDEPENDENT, None)
    deviation = values[1:75].astype(np.float64).std()
    changes = np.diff(values[:70].astype(np.float64), axis=0)
    scaled = (track.target * track.cost)[:69]
    np.testing.assert_allclose(scaled[1:], changes[1:] / deviation, rtol=1e-3, atol=1e-4)
    assert scaled[0] == 0.0  # a first frame has no unit yet


def test_missing_values_are_filled_with_the_model_s_own_forecast() -> None:
    """A hole enters the features as the daemon would fill it; it is no target, and its neighbours stay."""
    values = noisy_cycle(60)
    values[[0, 30, 31, 32]] = np.nan
    model = model_of(independent_spec())
    assert model.spec.normalizer is not None
    plan = msgspec.structs.replace(INDEPENDENT, normalizer=model.spec.normalizer)
    (track,) = make_tracks([recording_of(values)], plan, model)
    (served,) = serve(model, [recording_of(values)])
    filled = values[:, 0].copy()
    filled[0] = values[1, 0]
    filled[30:33] = served.medians[29:32, 0]
    normalizer = Normalizer(plan.normalizer)
    state = normalizer.initial_state(1)
    for t in range(59):
        advanced = normalizer.advance(state, filled[t : t + 1], ~np.isnan(values[t]))
        state = advanced.state
        np.testing.assert_array_equal(track.features[t], advanced.features[:, 0])
    assert (track.weight[29:32] == 0.0).all()
    assert (track.cost[29:32] == 0.0).all()
    assert (track.cost[32:] > 0.0).all()


def test_infinite_values_count_as_missing() -> None:
    """What the daemon refuses is no target either, and everything stays finite."""
    values = noisy_cycle(60)
    values[20] = np.inf
    (track,) = make_tracks([recording_of(values)], INDEPENDENT, None)
    assert np.isfinite(track.features).all()
    assert np.isfinite(track.target).all()
    assert track.weight[19, 0] == 0.0


def test_a_channel_at_rest_costs_nothing() -> None:
    """A constant has no deviation to count in, and takes no part in when to stop."""
    (track,) = make_tracks([recording_of(np.full((60, 1), 3.0, np.float32))], INDEPENDENT, None)
    assert (track.cost == 0.0).all()


@pytest.mark.parametrize(
    ("num_rows", "num_channels", "plan", "said"),
    [
        (20, 1, INDEPENDENT, "pump: too short to train on: 15 rows to fit to and 5 that tell when to stop"),
        (60, 1, msgspec.structs.replace(INDEPENDENT, validation=0.9), "6 rows to fit to and 54"),
        (60, 1, msgspec.structs.replace(INDEPENDENT, validation=0.02), "59 rows to fit to and 1"),
        (60, 3, JOINT, "pump: has 3 channels; a joint model of these recordings takes 2"),
    ],
)
def test_recordings_that_do_not_do_are_refused(
    num_rows: int, num_channels: int, plan: Plan, said: str
) -> None:
    """A recording too short, or of other channels, is named with what is allowed."""
    with pytest.raises(RecordingError, match=said):
        make_tracks([recording_of(noisy_cycle(num_rows, num_channels))], plan, None)


def test_a_channel_without_a_number_in_the_rows_used_is_refused() -> None:
    """Of nothing nothing can be learnt: the channel is named."""
    values = noisy_cycle(60, 2)
    values[:, 1] = np.inf
    with pytest.raises(RecordingError, match="no finite number in channel 'b'"):
        make_tracks([recording_of(values)], INDEPENDENT, None)
