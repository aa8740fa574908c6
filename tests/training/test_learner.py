"""A run on recordings is the same again from its seed, goes on where it stopped, and stops by what comes later."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from foretell.evaluation.served import serve
from foretell.model import Channels, Model
from foretell.training.learner import Learner, _excerpt
from foretell.training.outcome import describe
from foretell.training.plan import Plan
from foretell.training.tracks import Track, make_tracks
from foretell.training.validate import validate
from made_recordings import noisy_cycle, recording_of

RECORDINGS = [recording_of(noisy_cycle(300, 2), "a"), recording_of(noisy_cycle(90, 2, seed=2), "b")]
PLAN = Plan(hidden_size=8, num_layers=1, chunk=32, lanes=3, num_epochs=4, patience=2, num_falls=1)
JOINT = msgspec.structs.replace(PLAN, channels=Channels.JOINT, num_channels=2)


def _learner(plan: Plan = PLAN) -> Learner:
    return Learner(plan, make_tracks(RECORDINGS, plan, None), None)


def _run(learner: Learner) -> dict[str, torch.Tensor]:
    while not learner.is_done:
        learner.run_epoch()
    return learner.best


def _assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, other[name], rtol=0.0, atol=0.0)


def test_the_same_seed_gives_the_same_weights() -> None:
    """Two runs of one plan are equal to the bit; another seed is another run."""
    first, again = _run(_learner()), _run(_learner())
    _assert_same(first, again)
    other = _run(_learner(msgspec.structs.replace(PLAN, seed=2)))
    assert not torch.equal(first["lstm.weight_ih_l0"], other["lstm.weight_ih_l0"])


def test_a_run_goes_on_as_if_it_had_never_stopped(tmp_path: Path) -> None:
    """Stopped after every epoch and continued, a run ends with the same weights."""
    path = tmp_path / "checkpoint"
    learner = _learner()
    while not learner.is_done:
        learner.run_epoch()
        learner.save(path)
        learner = _learner()
        assert learner.load(path)
    _assert_same(learner.best, _run(_learner()))


def test_a_checkpoint_of_another_plan_is_not_taken(tmp_path: Path) -> None:
    """What another plan, or other recordings, made so far is not mixed in."""
    path = tmp_path / "checkpoint"
    _learner().save(path)
    assert not _learner(msgspec.structs.replace(PLAN, seed=2)).load(path)


@pytest.mark.parametrize("plan", [PLAN, JOINT], ids=["independent", "joint"])
def test_fitting_gains_on_persistence(plan: Plan) -> None:
    """It begins as persistence, and a few epochs on a noisy cycle forecast the later rows better."""
    learner = _learner(msgspec.structs.replace(plan, num_epochs=8, learning_rate=1e-2))
    assert learner.best_validation.ratio == pytest.approx(1.0, abs=1e-3)
    _run(learner)
    assert learner.best_validation.ratio < 0.8


def test_a_joint_model_learns_that_one_channel_follows_another() -> None:
    """Where one channel is the other a frame later, joint channels foretell it and independent ones cannot."""
    walk = np.cumsum(np.random.default_rng(1).normal(size=401)).astype(np.float32)
    recording = recording_of(np.stack([walk[1:], walk[:-1]], axis=1))
    plan = msgspec.structs.replace(JOINT, num_epochs=30, learning_rate=2e-2, patience=10)
    learner = Learner(plan, make_tracks([recording], plan, None), None)
    _run(learner)
    # Of the leader nothing can be known, and of the follower all: half of persistence's error in the mean of both.
    assert learner.best_validation.ratio < 0.7


def test_an_epoch_takes_an_excerpt_of_a_long_track() -> None:
    """Of a track longer than the excerpt that many frames in a row are fitted, another part each time."""
    plan = msgspec.structs.replace(PLAN, excerpt=40)
    (track,) = make_tracks([recording_of(noisy_cycle(300))], plan, None)
    rng = np.random.default_rng(1)
    parts = [_excerpt(track, plan.excerpt, rng) for _ in range(20)]
    assert {len(part[0]) for part in parts} == {40}
    assert len({part[0].tobytes() for part in parts}) > 10
    whole = _excerpt(track, 1000, rng)
    assert [len(array) for array in whole] == [track.num_fitted] * 3


def test_the_weights_that_are_kept_are_the_best_on_the_later_rows() -> None:
    """A learning rate that ruins everything leaves the weights with which the run began."""
    learner = _learner(msgspec.structs.replace(PLAN, learning_rate=30.0))
    before = {name: tensor.clone() for name, tensor in learner.best.items()}
    first = learner.best_validation
    _run(learner)
    _assert_same(learner.best, before)
    assert learner.best_validation == first


def test_validation_forgets_what_was_long_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """The state that enters the later part is, after the run-up, nearly that of a track streamed from the start."""
    tracks = make_tracks(RECORDINGS, PLAN, None)
    learner = _learner(msgspec.structs.replace(PLAN, learning_rate=1e-2))
    _run(learner)
    whole = validate(learner.network, PLAN, tracks)
    monkeypatch.setattr("foretell.training.validate.RUN_UP", 60)
    assert validate(learner.network, PLAN, tracks).error == pytest.approx(whole.error, rel=1e-2)


def test_a_run_ends_when_nothing_is_gained() -> None:
    """With patience of 2 and one fall of the rate, a run without gain ends after four epochs."""
    learner = _learner(msgspec.structs.replace(PLAN, learning_rate=1e-12, num_epochs=50))
    _run(learner)
    assert learner.num_epochs == 4


def test_fitting_never_sees_the_later_rows() -> None:
    """Whatever comes later, an epoch on the same first rows leaves the same weights."""

    def changed(track: Track) -> Track:
        target = track.target.copy()
        target[track.num_fitted :] = 50.0
        return Track(track.features, target, track.weight, track.cost, track.num_fitted)

    tracks = make_tracks(RECORDINGS, PLAN, None)
    plain, other = Learner(PLAN, tracks, None), Learner(PLAN, [changed(track) for track in tracks], None)
    assert plain.run_epoch() != other.run_epoch()
    _assert_same(dict(plain.network.state_dict()), dict(other.network.state_dict()))


@pytest.mark.parametrize("plan", [PLAN, JOINT], ids=["independent", "joint"])
def test_what_is_validated_is_what_is_served(plan: Plan) -> None:
    """The error on the later rows is that of the forecasts of the engine, in deviations of the rows before."""
    learner = _learner(msgspec.structs.replace(plan, num_epochs=2, learning_rate=1e-2))
    _run(learner)
    learner.network.load_state_dict(learner.best)
    spec = msgspec.structs.replace(describe(plan, RECORDINGS, "a, b"), calibrator=None)
    errors = []
    for recording in RECORDINGS:
        num_later = round(plan.validation * len(recording.values))
        for one in serve(Model(spec, learner.best, fingerprint=0), [recording]):
            later = slice(len(one.values) - num_later, None)
            fitted = one.values[1 : len(one.values) - num_later].astype(np.float64)
            error = one.values[later] - one.medians[len(one.values) - num_later - 1 : -1, 0]
            errors.append(np.abs(error).mean() / fitted.std())
    validation = validate(learner.network, plan, make_tracks(RECORDINGS, plan, None))
    assert validation.error == pytest.approx(np.mean(errors), rel=1e-3)
