"""Recordings streamed through the engine that serves: what the daemon would have published, frame by frame.

Every recording is a stream, and all streams advance side by side, a frame each a round. Admission has nothing to do
here, since the frames of a file are numbered without gaps; what it would refuse for its values is a hole that the
stream's own forecast fills, as in service.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from foretell.errors import ConfigError, RecordingError
from foretell.model import Channels, Model
from foretell.recording import Recording
from foretell.rounds import Steps
from foretell.step import Engine

Floats = NDArray[np.float32]

MOST_STEPS: Final = 65_536  # in one batch: bounds the memory
MOST_ROUNDS: Final = 256


@dataclass(frozen=True, slots=True)
class Series:
    """A channel of a recording and what was forecast of it. Arrays of T frames, float32, NaN where there is nothing.

    values: [T]. levels: [T, Q], quantiles of the frame that follows each. medians: [T, H], of the H frames that follow.
    surprise: [T], of the frame itself. recording: its name; timestamp_ns: int64 [T].
    """

    name: str
    recording: str
    timestamp_ns: NDArray[np.int64]
    values: Floats
    levels: Floats
    medians: Floats
    surprise: Floats


@dataclass(frozen=True, slots=True)
class _Lane:
    """A row of state: values [T, C] that enter it, and what came out: levels [T, Q, C], medians [T, H, C]."""

    values: Floats
    levels: Floats
    medians: Floats
    surprise: Floats


def serve(
    model: Model,
    recordings: Sequence[Recording],
    horizon: int = 1,
    *,
    most_rounds: int = MOST_ROUNDS,
    on_progress: Callable[[int], None] = lambda _: None,
) -> list[Series]:
    """Forecast every frame of `recordings`; one series a channel, in order.

    most_rounds: frames of a stream in one batch, which changes nothing but the speed. on_progress is told how many
    values more are done. Raises ConfigError for a model whose outputs are not its inputs, and RecordingError for a
    recording without the channels that a joint model takes.
    """
    spec = model.spec
    if not spec.outputs_are_inputs:
        raise ConfigError(
            f"a model of {spec.input_channels} channels in and {spec.output_channels} out is not evaluated: "
            "its forecasts are of other channels than its recordings"
        )
    is_joint = spec.channels is Channels.JOINT
    lanes = []
    for recording in recordings:
        values = _admissible(recording.values)
        if is_joint and values.shape[1] != spec.input_channels:
            raise RecordingError(
                f"{recording.name}: has {values.shape[1]} channels; the model takes {spec.input_channels}"
            )
        parts = [values] if is_joint else np.split(values, values.shape[1], axis=1)
        lanes += [_empty_lane(part, horizon, len(spec.quantiles)) for part in parts]
    _stream(Engine(model, len(lanes), horizon), lanes, spec.median_index, most_rounds, on_progress)
    columns = [(lane, channel) for lane in lanes for channel in range(lane.values.shape[1])]
    names = [(recording, channel) for recording in recordings for channel in recording.channels]
    return [
        Series(
            name=f"{recording.name}/{channel_name}",
            recording=recording.name,
            timestamp_ns=recording.timestamp_ns,
            values=lane.values[:, channel],
            levels=lane.levels[..., channel],
            medians=lane.medians[..., channel],
            surprise=lane.surprise[:, channel],
        )
        for (lane, channel), (recording, channel_name) in zip(columns, names, strict=True)
    ]


def _admissible(values: Floats) -> Floats:
    """A frame with an infinite value is refused, and the stream's own forecast stands in for all of it."""
    is_refused = np.isinf(values).any(axis=1, keepdims=True)
    return np.where(is_refused, np.float32(np.nan), values)


def _empty_lane(values: Floats, horizon: int, num_levels: int) -> _Lane:
    length, num_channels = values.shape
    shapes = (length, num_levels, num_channels), (length, horizon, num_channels), (length, num_channels)
    return _Lane(np.ascontiguousarray(values), *(np.full(shape, np.nan, np.float32) for shape in shapes))


def _stream(
    engine: Engine, lanes: Sequence[_Lane], median: int, most_rounds: int, on_progress: Callable[[int], None]
) -> None:
    """Step all lanes from their first frame to their last, filling in what they are forecast."""
    by_length = sorted(range(len(lanes)), key=lambda lane: -len(lanes[lane].values))
    lengths = [len(lanes[lane].values) for lane in by_length]
    for start, end, num_alive in _batches(lengths, most_rounds):
        alive = by_length[:num_alive]
        values = np.stack([lanes[lane].values[start:end] for lane in alive], axis=1)
        num_rounds = end - start
        steps = Steps(
            rows=np.tile(np.array(alive, np.int64), num_rounds)[:, None],
            values=values.reshape(-1, values.shape[2]),
            round_ends=[num_alive * (k + 1) for k in range(num_rounds)],
            num_frames=num_alive * num_rounds,
            has_missing=bool(np.isnan(values).any()),
        )
        stepped = engine.step(steps)
        forecast = stepped.forecast.reshape(num_rounds, num_alive, *stepped.forecast.shape[1:])
        for place, lane in enumerate(alive):
            lanes[lane].levels[start:end] = forecast[:, place, 0]
            lanes[lane].medians[start:end] = forecast[:, place, :, median]
        if stepped.surprise is not None:
            surprise = stepped.surprise.reshape(num_rounds, num_alive, -1)
            for place, lane in enumerate(alive):
                lanes[lane].surprise[start:end] = surprise[:, place]
        on_progress(values.size)


def _batches(lengths: Sequence[int], most_rounds: int) -> Iterator[tuple[int, int, int]]:
    """From frame, to frame and how many streams have these frames; `lengths` in descending order."""
    for end_of_shorter, end in pairwise([0, *sorted(set(lengths))]):
        num_alive = sum(length >= end for length in lengths)
        num_rounds = max(1, min(most_rounds, MOST_STEPS // num_alive))
        for start in range(end_of_shorter, end, num_rounds):
            yield start, min(start + num_rounds, end), num_alive
