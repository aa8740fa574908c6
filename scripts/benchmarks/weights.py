"""The plain models that every contender can run: joint, 8 channels, a point one frame ahead, from a seed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from benchmarks.models import PLAIN_SIZES, ModelName, Size
from benchmarks.records import NUM_CHANNELS

if TYPE_CHECKING:
    from pathlib import Path

    from foretell.model import Model


def plain_model(model: ModelName = ModelName.PLAIN_64) -> tuple[torch.nn.LSTM, torch.nn.Linear]:
    """The model as PyTorch's own modules, with PyTorch's own initial weights; the same in every process."""
    return seeded_model(PLAIN_SIZES[model])


def seeded_model(size: Size) -> tuple[torch.nn.LSTM, torch.nn.Linear]:
    """A plain model of any size."""
    torch.manual_seed(0)
    lstm = torch.nn.LSTM(NUM_CHANNELS, size.hidden_size, size.num_layers)
    linear = torch.nn.Linear(size.hidden_size, NUM_CHANNELS)
    return lstm.eval().requires_grad_(requires_grad=False), linear.eval().requires_grad_(requires_grad=False)


def as_daemons(lstm: torch.nn.LSTM, linear: torch.nn.Linear) -> Model:
    """The same model as the daemon holds one."""
    from foretell.model import Channels, Model, ModelSpec

    spec = ModelSpec(
        channels=Channels.JOINT,
        input_channels=NUM_CHANNELS,
        output_channels=NUM_CHANNELS,
        input_size=NUM_CHANNELS,
        hidden_size=lstm.hidden_size,
        num_layers=lstm.num_layers,
        provenance={"made_by": "the benchmark, from a seed; untrained"},
    )
    tensors = {f"lstm.{name}": tensor for name, tensor in lstm.state_dict().items()}
    tensors |= {f"linear.{name}": tensor for name, tensor in linear.state_dict().items()}
    return Model(spec, tensors, fingerprint=0)


def write_model_file(path: Path, model: ModelName = ModelName.PLAIN_64) -> None:
    """The same model as a file for the daemon."""
    from foretell.model import save_model

    made = as_daemons(*plain_model(model))
    save_model(path, made.spec, made.weights)
