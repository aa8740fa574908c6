"""How good a network's forecasts are, one frame ahead, against persistence; on synthetic signals and on recordings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from foretell.errors import ConfigError
from foretell.model import MEDIAN, Channels, Model
from foretell.normalize import Floats
from foretell.recording import read_recording
from foretell.training.examples import Examples, make_examples
from foretell.training.network import Network, State, ordered
from foretell.training.signals import Series

BAND: Final = (0.05, 0.95)  # the levels between which 90 % of the values should lie
CHUNK: Final = 2048  # frames in one call: bounds the memory


@dataclass(frozen=True, slots=True)
class Score:
    """Of one series: mean absolute errors of the median and of persistence, and the share of values in the 90 % band.

    Not a number where no value was observed.
    """

    error: float
    persistence_error: float
    coverage: float

    @property
    def ratio(self) -> float:
        """The error against that of persistence; below 1 is better. Not a number where the series never changes."""
        return self.error / self.persistence_error if self.persistence_error > 0.0 else math.nan


@dataclass(frozen=True, slots=True)
class Portion:
    """The rows of a recording that are scored, from `first` to before `until` (None: the end), and in what unit.

    The state runs from row 0 whatever is scored. Errors are in standard deviations of the first `scale_rows` rows, or
    in the recording's own units where that is None.
    """

    first: int = 500
    until: int | None = None
    scale_rows: int | None = None


@torch.inference_mode()
def forecast(network: Network, examples: Examples, quantiles: Sequence[float]) -> Floats:
    """Quantiles [t, n, Q] of every next value, in the units of the values; each sees nothing but the past."""
    parts = []
    state: State | None = None
    for frame in range(0, len(examples.base), CHUNK):
        part = slice(frame, frame + CHUNK)
        outputs, state = network(torch.from_numpy(examples.features[part]), state)
        levels = ordered(outputs, quantiles.index(MEDIAN)).numpy()
        parts.append(examples.base[part, :, None] + examples.unit[part, :, None] * levels)
    return np.concatenate(parts)


def score(
    network: Network, examples: Examples, quantiles: Sequence[float], portion: Portion = Portion()
) -> list[Score]:
    """Score the forecasts of the frames of `portion`, in the series' own units."""
    # Forecast t is of frame t + 1.
    scored = slice(portion.first - 1, None if portion.until is None else portion.until - 1)
    levels = forecast(network, examples, quantiles)[scored].astype(np.float64)
    actual, base = examples.actual[scored].astype(np.float64), examples.base[scored].astype(np.float64)
    low, high = (levels[..., quantiles.index(level)] for level in BAND)
    rounding = 2.0**-22 * np.abs(actual)  # of base + unit * output: a value at rest is inside its band
    is_held = (actual >= low - rounding) & (actual <= high + rounding)
    errors = np.abs(actual - levels[..., quantiles.index(MEDIAN)])
    columns = (errors, np.abs(actual - base), is_held)
    return [
        Score(*(_mean(column[is_known, lane]) for column in columns))
        for lane, is_known in enumerate(examples.is_known[scored].T)
    ]


def score_recording(model: Model, path: Path, portion: Portion) -> dict[str, Score]:
    """Score every channel of a CSV file as a series of its own, by name.

    Raises ConfigError where the model is of a kind that is not evaluated or the file has no rows of that portion, and
    RecordingError where it cannot be read.
    """
    spec = model.spec
    if (
        spec.channels is not Channels.INDEPENDENT
        or spec.normalizer is None
        or not {*BAND} <= {*spec.quantiles}
    ):
        raise ConfigError(
            "only an independent model with a normaliser and the quantiles .05 and .95 is evaluated"
        )
    network = Network(spec.input_size, spec.hidden_size, spec.num_layers, spec.quantiles)
    network.load_state_dict(dict(model.weights))
    recording = read_recording(path)
    length = len(recording.values)
    if not 1 <= portion.first < (portion.until or length) <= length:
        raise ConfigError(f"{path}: has {length} rows; those from --first to --until are not among them")
    examples = make_examples(as_series(recording.values), spec.normalizer)
    scores = score(network, examples, spec.quantiles, portion)
    if portion.scale_rows is not None:
        scales = np.nanstd(recording.values[: portion.scale_rows].astype(np.float64), axis=0)
        scores = [
            replace(one, error=one.error / scale, persistence_error=one.persistence_error / scale)
            for one, scale in zip(scores, scales.tolist(), strict=True)
        ]
    names = [f"{path.stem}/{channel}" for channel in recording.channels]
    return dict(zip(names, scores, strict=True))


def as_series(values: Floats) -> Series:
    """Channels float32 [length, n], NaN where missing, each with at least one number, as series.

    A missing value repeats the last one; those before the first value are that value.
    """
    observed = np.isfinite(values)
    last_seen = np.maximum.accumulate(np.where(observed, np.arange(len(values))[:, None], 0), axis=0)
    last_seen = np.maximum(last_seen, observed.argmax(axis=0))
    return Series(np.take_along_axis(values, last_seen, axis=0), observed)


def summary(scores: Sequence[Score]) -> str:
    """Scores of many series in a line: medians and quartiles."""
    ratios = np.array([one.ratio for one in scores])
    low, median, high = np.nanquantile(ratios, [0.25, 0.5, 0.75])
    held = np.nanquantile([one.coverage for one in scores], [0.25, 0.5, 0.75])
    return (
        f"MAE against persistence {median:.3f} (quartiles {low:.3f} to {high:.3f}), "
        f"better on {int((ratios < 1.0).sum())} of {len(scores)}; "
        f"90 % band held {held[1]:.3f} ({held[0]:.3f} to {held[2]:.3f})"
    )


def _mean(values: NDArray[np.float64] | NDArray[np.bool_]) -> float:
    return float(values.mean()) if values.size else math.nan
