"""Recordings made up for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from foretell.recording import Recording


def recording_of(values: NDArray[np.float32], name: str = "pump") -> Recording:
    """Values [n, F], a row a second, channels a, b, ..."""
    channels = tuple("abcdefgh"[: values.shape[1]])
    return Recording(name, channels, np.arange(len(values)) * 10**9, values.astype(np.float32))


def noisy_cycle(num_rows: int, num_channels: int = 1, seed: int = 1) -> NDArray[np.float32]:
    """Something that can be forecast, [rows, channels]."""
    rng = np.random.default_rng(seed)
    phase = np.arange(num_rows)[:, None] / 4.0 + rng.uniform(0, 6, num_channels)
    return (20.0 + 5.0 * np.sin(phase) + 0.5 * rng.normal(size=phase.shape)).astype(np.float32)


def write_csv(path: Path, values: NDArray[np.float32]) -> Path:
    """A row a second, channels a, b, ...; missing values are empty cells."""
    header = ",".join(["time", *"abcdefgh"[: values.shape[1]]])
    rows = (
        ",".join([str(t), *("" if np.isnan(value) else repr(float(value)) for value in row)])
        for t, row in enumerate(values)
    )
    path.write_text("\n".join([header, *rows]) + "\n")
    return path
