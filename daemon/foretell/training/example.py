"""The first exercise: a sine made, learnt from nothing in seconds, and ready to be forecast frame by frame."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
from rich.console import Console

from foretell.errors import ConfigError
from foretell.model import ModelSpec
from foretell.recording import Recording, read_recording
from foretell.training.recorded import fit
from foretell.training.wish import Wish

PERIOD: Final = 50  # frames
NUM_ROWS: Final = 2000
INTERVAL_S: Final = 0.1
NUM_EPOCHS: Final = 60


def train_on_sine(output: Path, seed: int, console: Console) -> tuple[ModelSpec, Path]:
    """Write a sine as a recording beside `output`, fit a small model to it, and give both.

    Raises ConfigError where the recording cannot be written, otherwise as `foretell.training.recorded.fit`.
    """
    path = output.with_name("sine.csv")
    recording = write_sine(path)
    wish = Wish(
        begins_from="scratch", hidden_size=32, num_layers=1, seed=seed, learning_rate=1e-2, num_epochs=60
    )
    return fit([recording], wish, output, console, trained_on=path.name), path


def write_sine(path: Path) -> Recording:
    """A sine of 50 frames a turn, ten frames a second, as a CSV file; gives what is read from it."""
    rows = (f"{row * INTERVAL_S:.1f},{np.sin(2.0 * np.pi * row / PERIOD):.6f}" for row in range(NUM_ROWS))
    try:
        path.write_text("time,value\n" + "\n".join(rows) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from error
    return read_recording(path)
