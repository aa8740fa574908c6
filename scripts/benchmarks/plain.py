"""The plain loop: `nn.LSTM` once a frame, the state of every stream in a dict. What one writes first, and right."""

from __future__ import annotations

import struct
import time
from typing import Final

import numpy as np
import torch

from benchmarks.contender import BATCH_TOPIC, Publish, Task, serve
from benchmarks.records import FRAME, NUM_CHANNELS
from benchmarks.weights import plain_model

_HEADER: Final = struct.Struct("<4sHHQqIHH64sQqQf")
_SURPRISE: Final = np.full(NUM_CHANNELS, np.nan, "<f4").tobytes()


class PlainLoop:
    """A turn of the loop: one call of the model a frame."""

    def __init__(self, task: Task) -> None:
        torch.set_num_threads(1)
        self._is_packed = task.is_packed
        self._lstm, self._linear = plain_model(task.model)
        self._states: dict[bytes, tuple[torch.Tensor, torch.Tensor] | None] = {}

    def turn(self, parts: list[bytes], publish: Publish) -> None:
        """Forecast frame by frame; a message of many frames is answered by one of as many forecasts."""
        received_ns = time.monotonic_ns()
        for part in parts:
            forecasts = []
            for frame in np.frombuffer(part, FRAME):
                name, record = self._forecast(frame, received_ns)
                forecasts.append(record)
            publish(BATCH_TOPIC if self._is_packed else name, b"".join(forecasts))

    @torch.inference_mode()
    def _forecast(self, frame: np.void, received_ns: int) -> tuple[bytes, bytes]:
        name = bytes(frame["source"])
        x = torch.tensor(frame["values"]).view(1, 1, NUM_CHANNELS)
        out, self._states[name] = self._lstm(x, self._states.get(name))
        forecast = self._linear(out).numpy().tobytes()
        latency_ns = time.monotonic_ns() - received_ns
        number, timestamp_ns = int(frame["frame"]), int(frame["timestamp_ns"])
        header = _HEADER.pack(
            b"FTC1", NUM_CHANNELS, 0, number, timestamp_ns, 0, 1, 1, name, 0, latency_ns, 0, 0.5
        )
        return name, header + _SURPRISE + frame["values"].tobytes() + forecast


if __name__ == "__main__":
    serve(lambda task: PlainLoop(task).turn, __doc__)
