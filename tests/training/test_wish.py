"""What a user asks for becomes a plan, or is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from foretell.errors import ConfigError, ModelError
from foretell.model import BUILTIN, Channels, load_model, save_model
from foretell.training.plan import FINE_RATE, FULL_RATE, SCRATCH
from foretell.training.wish import Wish, digest_of, make_plan
from made_recordings import noisy_cycle, recording_of
from small_models import joint_spec, normalized_joint_spec, random_weights

RECORDINGS = [recording_of(noisy_cycle(40, 2))]


def test_by_default_it_begins_from_the_builtin_model() -> None:
    """Sizes, quantiles and normaliser are the built-in model's, and the rate is that of fine-tuning."""
    plan, model = make_plan(RECORDINGS, Wish())
    spec = load_model(BUILTIN).spec
    assert model is not None
    assert (plan.hidden_size, plan.num_layers, plan.quantiles) == (
        spec.hidden_size,
        spec.num_layers,
        spec.quantiles,
    )
    assert plan.normalizer == spec.normalizer
    assert plan.learning_rate == FINE_RATE
    assert plan.begins_from == f"{model.fingerprint:016x}"


@pytest.mark.parametrize(
    "wish",
    [Wish(hidden_size=8), Wish(num_layers=1), Wish(channels=Channels.JOINT), Wish(begins_from=SCRATCH)],
)
def test_other_sizes_and_joint_channels_begin_from_scratch(wish: Wish) -> None:
    """Where the built-in model does not fit, the run begins from nothing, with the full rate."""
    plan, model = make_plan(RECORDINGS, wish)
    assert model is None
    assert plan.begins_from == SCRATCH
    assert plan.learning_rate == FULL_RATE
    assert plan.num_channels == (2 if wish.channels is Channels.JOINT else 1)


def test_a_model_of_one_s_own_can_be_gone_on_from(tmp_path: Path) -> None:
    """A joint model of as many channels is begun from, its quantiles with it."""
    path, spec = tmp_path / "own.safetensors", normalized_joint_spec(2)
    save_model(path, spec, random_weights(spec))
    plan, model = make_plan(RECORDINGS, Wish(channels=Channels.JOINT, begins_from=str(path)))
    assert model is not None
    assert (plan.hidden_size, plan.quantiles) == (spec.hidden_size, spec.quantiles)


@pytest.mark.parametrize(
    "wish",
    [
        Wish(begins_from=BUILTIN, hidden_size=8),
        Wish(begins_from=BUILTIN, num_layers=7),
        Wish(begins_from=BUILTIN, channels=Channels.JOINT),
    ],
)
def test_a_model_of_another_kind_is_refused(wish: Wish) -> None:
    """Sizes or channels that are not those of the model to begin from are named with what it is."""
    with pytest.raises(ConfigError, match="builtin: cannot be begun from: it is independent"):
        make_plan(RECORDINGS, wish)


def test_joint_models_of_other_channels_or_without_normaliser_are_refused(tmp_path: Path) -> None:
    """A model that takes three channels, and one whose outputs are not changes, are no beginning."""
    path = tmp_path / "own.safetensors"
    for spec, said in (
        (normalized_joint_spec(3), "joint of 3 channels"),
        (joint_spec(2), "without normaliser"),
    ):
        save_model(path, spec, random_weights(spec))
        with pytest.raises(ConfigError, match=said):
            make_plan(RECORDINGS, Wish(channels=Channels.JOINT, begins_from=str(path)))


def test_a_model_that_is_not_there_is_named() -> None:
    """A file to begin from that does not exist is the model's error."""
    with pytest.raises(ModelError, match="does not exist"):
        make_plan(RECORDINGS, Wish(begins_from="absent.safetensors"))


def test_a_digest_tells_recordings_apart() -> None:
    """Another value, another name or another cut is another digest."""
    values = noisy_cycle(40, 2)
    digests = {
        digest_of([recording_of(values)]),
        digest_of([recording_of(values, "valve")]),
        digest_of([recording_of(values[:-1])]),
        digest_of([recording_of(-values)]),
    }
    assert len(digests) == 4
    assert digest_of([recording_of(values.copy())]) in digests
