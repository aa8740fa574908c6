"""Recordings as what a network is trained on: a track a row of state, of any length, by the normaliser that serves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from foretell.errors import RecordingError
from foretell.evaluation.judge import LEAST_FITTED
from foretell.evaluation.served import serve
from foretell.model import Channels, Model
from foretell.normalize import Floats
from foretell.recording import Recording
from foretell.training.evaluate import as_series
from foretell.training.examples import Examples, make_examples
from foretell.training.plan import Plan
from foretell.training.signals import Series

LEAST_LATER: Final = 4  # rows


@dataclass(frozen=True, slots=True)
class Track:
    """float32 arrays over T frames of the C channels of a row of state, 1 where channels are independent.

    features: [T, K]. target, weight: [T, C], the change to the value that follows, in units, and how much it counts: 0
    where that was not observed. cost: [T, C], units in standard deviations of the fitted rows, 0 likewise. The first
    `num_fitted` frames are fitted to, the others tell when to stop.
    """

    features: Floats
    target: Floats
    weight: Floats
    cost: Floats
    num_fitted: int


def make_tracks(recordings: Sequence[Recording], plan: Plan, begins_from: Model | None) -> list[Track]:
    """The tracks of recordings, in order.

    A missing value is filled in as the daemon would fill it with the model that the run begins from, and with the last
    value where there is none. Raises RecordingError for what cannot be trained on.
    """
    tracks = []
    for recording in recordings:
        _check(recording, plan)
        examples = make_examples(_filled(recording, begins_from), plan.normalizer)
        num_fitted = len(examples.base) - round(plan.validation * len(recording.values))
        lanes = [slice(lane, lane + 1) for lane in range(len(recording.channels))]
        if plan.channels is Channels.JOINT:
            lanes = [slice(None)]
        tracks += [_track(_lanes(examples, lane), num_fitted) for lane in lanes]
    return tracks


def _check(recording: Recording, plan: Plan) -> None:
    num_later = round(plan.validation * len(recording.values))
    num_fitted = len(recording.values) - num_later
    if num_fitted < LEAST_FITTED or num_later < LEAST_LATER:
        raise RecordingError(
            f"{recording.name}: too short to train on: {num_fitted} rows to fit to and {num_later} that tell when to "
            f"stop; allowed: {LEAST_FITTED} and {LEAST_LATER} at least"
        )
    if plan.channels is Channels.JOINT and len(recording.channels) != plan.num_channels:
        raise RecordingError(
            f"{recording.name}: has {len(recording.channels)} channels; a joint model of these recordings takes "
            f"{plan.num_channels}"
        )
    unseen = np.flatnonzero(~np.isfinite(recording.values).any(axis=0))
    if unseen.size:
        raise RecordingError(
            f"{recording.name}: no finite number in channel {recording.channels[unseen[0]]!r}"
        )


def _filled(recording: Recording, begins_from: Model | None) -> Series:
    values = np.where(np.isfinite(recording.values), recording.values, np.float32(np.nan))
    series = as_series(values)
    if begins_from is None or series.observed.all():
        return series
    forecast = np.stack([one.medians[:, 0] for one in serve(begins_from, [recording])], axis=1)
    was_seen = np.maximum.accumulate(series.observed, axis=0)[:-1]
    series.values[1:] = np.where(series.observed[1:] | ~was_seen, series.values[1:], forecast[:-1])
    return series


def _lanes(examples: Examples, lane: slice) -> Examples:
    """Some lanes of examples."""
    return Examples(
        examples.features[:, lane],
        examples.base[:, lane],
        examples.unit[:, lane],
        examples.actual[:, lane],
        examples.is_known[:, lane],
    )


def _track(examples: Examples, num_fitted: int) -> Track:
    known = examples.is_known[:num_fitted]
    fitted = np.where(known, examples.actual[:num_fitted].astype(np.float64), 0.0)
    num_known = np.maximum(known.sum(axis=0), 1)
    mean = fitted.sum(axis=0) / num_known
    deviation = np.sqrt((np.square(fitted - mean) * known).sum(axis=0) / num_known)
    scale = np.where(deviation > 0.0, 1.0 / np.maximum(deviation, 1e-300), 0.0)
    cost = (examples.unit.astype(np.float64) * scale * examples.is_known).astype(np.float32)
    cost[0] = 0.0  # a first frame has no unit yet
    num_frames = len(examples.base)
    return Track(
        examples.features.reshape(num_frames, -1), examples.target, examples.weight, cost, num_fitted
    )
