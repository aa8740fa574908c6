"""Which device steps the model, and what fits into its memory."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

import torch

from foretell.choices import Device
from foretell.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

CPU: Final = torch.device("cpu")

STATE_SHARE: Final = 0.75
"""Of a GPU's free memory at start, what states may take; the rest is for weights, intermediate results and graphs."""


def choose_device(wanted: Device) -> torch.device:
    """The device that `model.device` means here. Raises ConfigError for a GPU that cannot be had."""
    if wanted is Device.CPU or (wanted is Device.AUTO and not torch.cuda.is_available()):
        return CPU
    if not torch.cuda.is_available():
        raise ConfigError(f'model.device = "cuda": {why_no_gpu()}; allowed here is "cpu" or "auto"')
    return torch.device("cuda", torch.cuda.current_device())


def why_no_gpu() -> str:
    """Why there is no GPU to step a model on."""
    if torch.version.cuda is None and torch.version.hip is None:
        return "this build of torch is for the CPU alone"
    return "torch finds no GPU that it can use"


def describe_device(device: torch.device) -> str:
    """The device in words: `cpu`, or `cuda: ` and the GPU's name."""
    return f"cuda: {torch.cuda.get_device_name(device)}" if device.type == "cuda" else device.type


def find_state_bytes(device: torch.device) -> int:
    """Bytes that states may take on a GPU: a share of what is free now."""
    free_bytes, _ = torch.cuda.mem_get_info(device)
    return int(STATE_SHARE * free_bytes)


@contextlib.contextmanager
def naming_what_takes_memory(num_rows: int, bytes_per_row: int) -> Iterator[None]:
    """Turn a device that is out of memory into a ConfigError that says what to set."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise ConfigError(
            f"model.device: the GPU's memory does not hold {num_rows} states of {bytes_per_row} bytes and the work "
            "beside them; set a smaller streams.capacity, streams.max_channels or streams.max_state_bytes"
        ) from error
