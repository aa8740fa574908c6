"""All that a training run on recordings depends on."""

from __future__ import annotations

from typing import Final

import msgspec

from foretell.calibrate import CalibratorSpec
from foretell.model import Channels
from foretell.normalize import NUM_FEATURES, NormalizerSpec

QUANTILES: Final = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
SCRATCH: Final = "scratch"
FINE_RATE: Final = 5e-4  # of a model that knows much already
FULL_RATE: Final = 4e-3


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A run; another plan, another run. Lengths are in frames.

    num_channels: of a joint model, 1 of an independent one. recordings: a digest of what is fitted to. begins_from: the
    fingerprint of the model whose weights the run begins with, or "scratch". validation: the share of each recording's
    rows, the last ones, that are not fitted to but tell when to stop. chunk: frames that gradients go back through;
    lanes: rows of state side by side. excerpt: frames of a track in one epoch; of a longer one another part each epoch.
    patience: epochs without gain until the learning rate falls to 0.3 of itself, which it does `num_falls` times before
    the run ends.
    """

    channels: Channels = Channels.INDEPENDENT
    num_channels: int = 1
    recordings: str = ""
    begins_from: str = SCRATCH
    hidden_size: int = 64
    num_layers: int = 2
    quantiles: tuple[float, ...] = QUANTILES
    normalizer: NormalizerSpec = NormalizerSpec()
    calibrator: CalibratorSpec = CalibratorSpec()
    seed: int = 1
    validation: float = 0.25
    chunk: int = 128
    lanes: int = 64
    excerpt: int = 16_384
    learning_rate: float = FULL_RATE
    largest_gradient: float = 1.0
    patience: int = 6
    num_falls: int = 2
    num_epochs: int = 100

    @property
    def input_size(self) -> int:
        """Features that enter the LSTM."""
        return self.num_channels * NUM_FEATURES

    @property
    def output_levels(self) -> tuple[float, ...]:
        """The quantile level of each output, ordered [quantile, channel]."""
        return tuple(level for level in self.quantiles for _ in range(self.num_channels))
