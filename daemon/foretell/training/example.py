"""The first exercise: a sine made, learnt from nothing in seconds, and ready to be forecast frame by frame."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
from rich.console import Console

from foretell.errors import ConfigError
from foretell.evaluation.served import serve
from foretell.model import ModelSpec, load_model
from foretell.recording import read_recording
from foretell.training.plan import SCRATCH
from foretell.training.recorded import train_on
from foretell.training.wish import Wish

PERIOD: Final = 50  # frames
NUM_ROWS: Final = 2000
INTERVAL_S: Final = 0.1
NUM_EPOCHS: Final = 60


def train_on_sine(wish: Wish, output: Path, console: Console) -> tuple[ModelSpec, Path]:
    """Write a sine as a recording beside `output`, fit a model to it, a small one unless others are wished, give both.

    Raises ConfigError where the recording cannot be written, otherwise as `foretell.training.recorded.train_on`.
    """
    if wish.begins_from in {None, SCRATCH}:
        wish = replace(
            wish,
            begins_from=SCRATCH,
            hidden_size=wish.hidden_size or 32,
            num_layers=wish.num_layers or 1,
            learning_rate=wish.learning_rate or 1e-2,
            num_epochs=wish.num_epochs or NUM_EPOCHS,
        )
    path = output.with_name("sine.csv")
    write_sine(path)
    return train_on([path], wish, output, console), path


def write_sine(path: Path) -> None:
    """A sine of 50 frames a turn, ten frames a second, as a CSV file. Another file there is left alone: ConfigError."""
    rows = (f"{row * INTERVAL_S:.1f},{np.sin(2.0 * np.pi * row / PERIOD):.6f}" for row in range(NUM_ROWS))
    text = "time,value\n" + "\n".join(rows) + "\n"
    try:
        if path.exists() and path.read_bytes() != text.encode():
            raise ConfigError(
                f"{path}: is there and is not the example's: move it, or name another folder by -o"
            )
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from error


def draw_sine(picture: Path, model_path: Path, recording_path: Path) -> None:
    """Draw the daemon's forecasts of the first frames of the example as an SVG."""
    from foretell.evaluation.picture import draw_first_frames

    model = load_model(str(model_path))
    (series,) = serve(model, [read_recording(recording_path)])
    draw_first_frames(picture, series, model.spec.quantiles, num_frames=4 * PERIOD)
