"""Small models for tests: seeded weights, no training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import torch

from foretell.calibrate import CalibratorSpec
from foretell.model import Channels, Model, ModelSpec
from foretell.normalize import Normalizer, NormalizerSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

torch.set_num_threads(
    1
)  # as the daemon does for models so small: threads that wait for one another only cost


def random_weights(spec: ModelSpec, seed: int = 0, scale: float = 0.3) -> dict[str, torch.Tensor]:
    """Weights of the right shapes, normally distributed."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(shape, generator=generator) * scale
        for name, shape in sorted(spec.tensor_shapes().items())
    }


def joint_spec(inputs: int = 3, outputs: int | None = None, hidden: int = 16, layers: int = 1) -> ModelSpec:
    """A joint point model without normaliser, as `foretell convert` makes them."""
    return ModelSpec(
        channels=Channels.JOINT,
        input_channels=inputs,
        output_channels=inputs if outputs is None else outputs,
        input_size=inputs,
        hidden_size=hidden,
        num_layers=layers,
    )


def independent_spec(
    hidden: int = 16,
    layers: int = 2,
    quantiles: Sequence[float] = (0.05, 0.5, 0.95),
    warm_up: int = 3,
    calibrator: CalibratorSpec | None = None,
) -> ModelSpec:
    """An independent quantile model with normaliser, as the built-in one is."""
    normalizer = NormalizerSpec()
    return ModelSpec(
        channels=Channels.INDEPENDENT,
        input_channels=1,
        output_channels=1,
        input_size=Normalizer(normalizer).num_features,
        hidden_size=hidden,
        num_layers=layers,
        quantiles=tuple(quantiles),
        normalizer=normalizer,
        calibrator=calibrator,
        warm_up=warm_up,
    )


def normalized_joint_spec(
    channels: int = 3, hidden: int = 16, quantiles: Sequence[float] = (0.1, 0.5, 0.9)
) -> ModelSpec:
    """A joint quantile model with normaliser, as training makes them."""
    normalizer = NormalizerSpec()
    return ModelSpec(
        channels=Channels.JOINT,
        input_channels=channels,
        output_channels=channels,
        input_size=channels * Normalizer(normalizer).num_features,
        hidden_size=hidden,
        num_layers=2,
        quantiles=tuple(quantiles),
        normalizer=normalizer,
        warm_up=3,
    )


def calibrated(spec: ModelSpec) -> ModelSpec:
    """The same model, its forecasts calibrated."""
    return msgspec.structs.replace(spec, calibrator=CalibratorSpec())


def model_of(spec: ModelSpec, seed: int = 0, scale: float = 0.3) -> Model:
    """A model that lives in memory alone."""
    return Model(spec, random_weights(spec, seed, scale), fingerprint=seed)


def engine_specs() -> dict[str, ModelSpec]:
    """One of each kind that an engine must step, the joint ones of three channels."""
    return {
        "joint, one layer": joint_spec(3, hidden=16),
        "joint, three layers": joint_spec(3, hidden=8, layers=3),
        "joint, other outputs": joint_spec(3, 2, hidden=8),
        "independent, two layers": independent_spec(hidden=16, layers=2),
    }


def calibrated_specs() -> dict[str, ModelSpec]:
    """Models whose forecasts are calibrated, the joint ones of three channels."""
    return {
        "independent, calibrated": calibrated(independent_spec(hidden=16, layers=1)),
        "joint, calibrated": calibrated(normalized_joint_spec(3, hidden=8)),
        "points, calibrated": calibrated(independent_spec(hidden=8, layers=1, quantiles=(0.5,))),
    }
