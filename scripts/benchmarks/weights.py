"""The model that every contender runs: joint, 8 channels, one layer of 64, a point one frame ahead, from a seed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch

from benchmarks.records import NUM_CHANNELS

if TYPE_CHECKING:
    from pathlib import Path

HIDDEN_SIZE: Final = 64


def plain_model() -> tuple[torch.nn.LSTM, torch.nn.Linear]:
    """The model as PyTorch's own modules, with PyTorch's own initial weights; the same in every process."""
    torch.manual_seed(0)
    lstm = torch.nn.LSTM(NUM_CHANNELS, HIDDEN_SIZE)
    linear = torch.nn.Linear(HIDDEN_SIZE, NUM_CHANNELS)
    return lstm.eval().requires_grad_(requires_grad=False), linear.eval().requires_grad_(requires_grad=False)


def write_model_file(path: Path) -> None:
    """The same model as a file for the daemon."""
    from foretell.model import Channels, ModelSpec, save_model

    lstm, linear = plain_model()
    spec = ModelSpec(
        channels=Channels.JOINT,
        input_channels=NUM_CHANNELS,
        output_channels=NUM_CHANNELS,
        input_size=NUM_CHANNELS,
        hidden_size=HIDDEN_SIZE,
        num_layers=1,
        provenance={"made_by": "the benchmark, from a seed; untrained"},
    )
    tensors = {f"lstm.{name}": tensor for name, tensor in lstm.state_dict().items()}
    tensors |= {f"linear.{name}": tensor for name, tensor in linear.state_dict().items()}
    save_model(path, spec, tensors)
