"""How good a network's forecasts are, one frame ahead, against persistence; on synthetic signals and on recordings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from foretell.normalize import NormalizerSpec
from foretell.training.examples import Examples, make_examples
from foretell.training.network import Network, State, ordered
from foretell.training.signals import Series

CHUNK: Final = 2048  # frames in one call: bounds the memory


@dataclass(frozen=True, slots=True)
class Score:
    """Of one series: mean absolute errors, and the share of values that the band held."""

    error: float
    persistence_error: float
    coverage: float

    @property
    def ratio(self) -> float:
        """The error against that of persistence; below 1 is better. NaN where the series never changes."""
        return self.error / self.persistence_error if self.persistence_error > 0.0 else float("nan")


@torch.inference_mode()
def forecast(network: Network, examples: Examples, quantiles: tuple[float, ...]) -> NDArray[np.float32]:
    """Quantiles [t, n, Q] of every next value, in the units of the values; each sees nothing but the past."""
    parts = []
    state: State | None = None
    for frame in range(0, len(examples.base), CHUNK):
        part = slice(frame, frame + CHUNK)
        outputs, state = network(torch.from_numpy(examples.features[part]), state)
        levels = ordered(outputs, quantiles.index(0.5)).numpy()
        parts.append(examples.base[part, :, None] + examples.unit[part, :, None] * levels)
    return np.concatenate(parts)


def score(
    network: Network,
    series: Series,
    spec: NormalizerSpec,
    quantiles: tuple[float, ...],
    first: int,
    band: tuple[float, float] = (0.05, 0.95),
) -> list[Score]:
    """Score the forecasts of frame `first` and later of every series; the state runs from the beginning."""
    examples = make_examples(series, spec)
    levels = forecast(network, examples, quantiles)[first - 1 :].astype(np.float64)
    actual, known = examples.actual[first - 1 :].astype(np.float64), examples.is_known[first - 1 :]
    base = examples.base[first - 1 :].astype(np.float64)
    low, high = (levels[..., quantiles.index(level)] for level in band)
    median = levels[..., quantiles.index(0.5)]
    # float32 rounding of base + unit * output, so that a value at rest is inside its band
    slack = 2.0**-22 * np.abs(actual)
    held = (actual >= low - slack) & (actual <= high + slack)
    scores = []
    for lane in range(actual.shape[1]):
        seen = known[:, lane]
        errors = np.abs(actual - median)[seen, lane], np.abs(actual - base)[seen, lane]
        scores.append(Score(float(errors[0].mean()), float(errors[1].mean()), float(held[seen, lane].mean())))
    return scores


def from_recording(values: NDArray[np.float32]) -> Series:
    """The channels float32 [length, n] of a recording, NaN where missing, each with at least one number, as series.

    A missing value repeats the last one; those before the first value are that value.
    """
    observed = np.isfinite(values)
    last_seen = np.maximum.accumulate(np.where(observed, np.arange(len(values))[:, None], 0), axis=0)
    last_seen = np.maximum(last_seen, observed.argmax(axis=0))
    return Series(np.take_along_axis(values, last_seen, axis=0), observed)
