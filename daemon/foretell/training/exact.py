"""How a model does on signals of which it is known what can be told: walks, noise and sines, as they are published.

They go through the daemon's own stages (`foretell.evaluation.served`), each signal a channel.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from foretell.evaluation.served import serve
from foretell.model import Model
from foretell.normalize import Floats
from foretell.recording import Recording

WALKS: Final = "random walks"
NOISE: Final = "white noise"
_NUM_RANDOM: Final = 40
_LENGTH: Final = 4_000
_FIRST: Final = 500  # random signals are scored from here on
_PERIODS: Final = (8.0, 11.3, 16.0, 24.0, 50.0, 100.0, 250.0, 500.0)
_LEVELS: Final = (0.0, 1.0, 10.0, 100.0)  # in amplitudes
_NUM_PHASES: Final = 3
_CYCLES: Final = 3  # a sine is scored after so many periods, for as many again, and for 500 frames at least


@dataclass(frozen=True, slots=True)
class Signals:
    """Signals of one kind: values float32 [frames, n], scored from frame `first` to before `until`."""

    kind: str
    values: Floats
    first: int
    until: int


def exact_signals() -> Iterator[Signals]:
    """Every kind, the same at every call."""
    rng = np.random.default_rng(20261126)
    steps = rng.normal(size=(_LENGTH, _NUM_RANDOM))
    yield Signals(WALKS, steps.cumsum(axis=0).astype(np.float32), _FIRST, _LENGTH)
    yield Signals(NOISE, rng.normal(size=steps.shape).astype(np.float32), _FIRST, _LENGTH)
    for period in _PERIODS:
        phases = rng.uniform(0.0, 2.0 * np.pi, _NUM_PHASES)
        first = math.ceil(_CYCLES * period)
        until = first + max(first, 500)
        angle = 2.0 * np.pi * np.arange(until)[:, None, None] / period + phases
        values = (np.sin(angle) + np.array(_LEVELS)[:, None]).reshape(until, -1)
        yield Signals(f"sines of period {period:g}", values.astype(np.float32), first, until)


def ratios(model: Model, signals: Signals) -> NDArray[np.float64]:
    """Mean absolute error of what is published, one frame ahead, against that of persistence, [n]."""
    num_signals = signals.values.shape[1]
    recording = Recording(
        name=signals.kind,
        channels=tuple(str(channel) for channel in range(num_signals)),
        timestamp_ns=np.arange(len(signals.values)),
        values=signals.values,
    )
    series = serve(model, [recording])
    medians = np.stack([one.medians[:, 0] for one in series], axis=1).astype(np.float64)
    actual = signals.values.astype(np.float64)
    scored, before = slice(signals.first, signals.until), slice(signals.first - 1, signals.until - 1)
    error = np.abs(actual[scored] - medians[before]).mean(axis=0)
    persistence = np.abs(actual[scored] - actual[before]).mean(axis=0)
    return np.asarray(error / persistence)


def row_of(kind: str, of_signals: Sequence[float]) -> tuple[str, str, str, str]:
    """A row of the table: the kind, how many signals, and the median and the worst of their ratios."""
    return kind, str(len(of_signals)), f"{np.median(of_signals):.4f}", f"{max(of_signals):.4f}"
