"""The models that are measured, by name. Their weights are in `benchmarks.weights`, which imports torch."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final


class ModelName(enum.StrEnum):
    """A model of 8 channels, one frame ahead."""

    PLAIN_64 = "plain-64"  # joint, a point, one layer of 64: the benchmark's own
    PLAIN_128X2 = "plain-128x2"  # joint, a point, two layers of 128
    BUILTIN = "builtin"  # the daemon's: a row of state a channel, a normaliser and quantiles


@dataclass(frozen=True)
class Size:
    """Of an LSTM."""

    hidden_size: int
    num_layers: int


PLAIN_SIZES: Final = {ModelName.PLAIN_64: Size(64, 1), ModelName.PLAIN_128X2: Size(128, 2)}
"""The plain models, which every loop can run; the built-in is the daemon's alone."""

NUM_QUANTILES: Final = {ModelName.PLAIN_64: 1, ModelName.PLAIN_128X2: 1, ModelName.BUILTIN: 7}
"""Levels that each forecasts, which say how long the record of a forecast is."""
