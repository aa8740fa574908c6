"""A loop that forecasts one frame after the other, as most would write it; what forecasts is given to it."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.contender import BATCH_TOPIC, Publish, Task
from benchmarks.records import FRAME, NUM_CHANNELS

_HEADER: Final = struct.Struct("<4sHHQqIHH64sQqQf")
_SURPRISE: Final = np.full(NUM_CHANNELS, np.nan, "<f4").tobytes()

Forecast = Callable[[bytes, NDArray[np.float32]], NDArray[np.float32]]
"""From a stream's name and its next values [channels] to the forecast of those after them, of that size."""


class FrameByFrame:
    """A turn of the loop: one call of `forecast` a frame."""

    def __init__(self, task: Task, forecast: Forecast) -> None:
        self._is_packed = task.is_packed
        self._forecast = forecast

    def turn(self, parts: list[bytes], publish: Publish) -> None:
        """Forecast frame by frame; a message of many frames is answered by one of as many forecasts."""
        received_ns = time.monotonic_ns()
        for part in parts:
            records = []
            for frame in np.frombuffer(part, FRAME):
                name = bytes(frame["source"])
                records.append(write_record(frame, self._forecast(name, frame["values"]), received_ns))
            publish(BATCH_TOPIC if self._is_packed else name, b"".join(records))


def write_record(frame: np.void, forecast: NDArray[np.float32], received_ns: int) -> bytes:
    """The packed record of a frame's forecast."""
    latency_ns = time.monotonic_ns() - received_ns
    number, timestamp_ns, name = int(frame["frame"]), int(frame["timestamp_ns"]), bytes(frame["source"])
    header = _HEADER.pack(
        b"FTC1", NUM_CHANNELS, 0, number, timestamp_ns, 0, 1, 1, name, 0, latency_ns, 0, 0.5
    )
    return b"".join((header, _SURPRISE, frame["values"].tobytes(), forecast.tobytes()))
