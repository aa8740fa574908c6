"""What a user asks of a run on recordings, and the plan that it comes to."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from foretell.errors import ConfigError
from foretell.model import BUILTIN, Channels, Model, ModelSpec, load_model
from foretell.recording import Recording
from foretell.training.plan import FINE_RATE, FULL_RATE, SCRATCH, Plan


@dataclass(frozen=True, slots=True)
class Wish:
    """What a user asks of a run.

    begins_from: a model's file, "builtin", "scratch", or None for the built-in model where its sizes fit and else for
    scratch. hidden_size, num_layers: None for the sizes of the model that it begins from, or of the plan. until: rows
    of each recording that are used, None for all. learning_rate: None for what suits the beginning. num_epochs:
    None for the plan's. Others as in `Plan`.
    """

    channels: Channels = Channels.INDEPENDENT
    begins_from: str | None = None
    hidden_size: int | None = None
    num_layers: int | None = None
    until: int | None = None
    validation: float = 0.25
    seed: int = 1
    learning_rate: float | None = None
    num_epochs: int | None = None


def make_plan(recordings: Sequence[Recording], wish: Wish) -> tuple[Plan, Model | None]:
    """The plan of a wish, and the model whose weights it begins with, None for scratch.

    Raises ConfigError where that model is not of the kind or the sizes that are asked for.
    """
    is_joint = wish.channels is Channels.JOINT
    has_sizes = wish.hidden_size is not None or wish.num_layers is not None
    source = wish.begins_from or (SCRATCH if is_joint or has_sizes else BUILTIN)
    num_channels = len(recordings[0].channels) if is_joint else 1
    plan = Plan(
        channels=wish.channels,
        num_channels=num_channels,
        seed=wish.seed,
        validation=wish.validation,
        num_epochs=wish.num_epochs or Plan().num_epochs,
        recordings=digest_of(recordings),
        learning_rate=wish.learning_rate or (FULL_RATE if source == SCRATCH else FINE_RATE),
        hidden_size=wish.hidden_size or Plan().hidden_size,
        num_layers=wish.num_layers or Plan().num_layers,
    )
    if source == SCRATCH:
        return plan, None
    model = load_model(source)
    spec = model.spec
    has_channels = (spec.channels, spec.input_channels) == (wish.channels, num_channels)
    has_sizes = wish.hidden_size in {None, spec.hidden_size} and wish.num_layers in {None, spec.num_layers}
    if spec.normalizer is None or not (has_channels and has_sizes):
        raise ConfigError(
            f"{source}: cannot be begun from: it is {_kind(spec)}; allowed: a model with a normaliser and of the sizes "
            "and kind that are asked for, or --from scratch"
        )
    return msgspec.structs.replace(
        plan,
        begins_from=f"{model.fingerprint:016x}",
        hidden_size=spec.hidden_size,
        num_layers=spec.num_layers,
        quantiles=spec.quantiles,
        normalizer=spec.normalizer,
        calibrator=plan.calibrator if spec.calibrator is None else spec.calibrator,
    ), model


def _kind(spec: ModelSpec) -> str:
    width = "" if spec.channels is Channels.INDEPENDENT else f" of {spec.input_channels} channels"
    normalizer = "" if spec.normalizer is not None else ", without normaliser"
    return f"{spec.channels}{width}, {spec.num_layers} layers of {spec.hidden_size}{normalizer}"


def digest_of(recordings: Sequence[Recording]) -> str:
    """The 64-bit BLAKE2b hash of names and values, in hex: other recordings, another digest."""
    digest = hashlib.blake2b(digest_size=8)
    for recording in recordings:
        digest.update(repr((recording.name, recording.channels, recording.values.shape)).encode())
        digest.update(recording.values.tobytes())
    return digest.hexdigest()
