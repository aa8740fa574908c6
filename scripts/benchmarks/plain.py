"""The plain loop: `nn.LSTM` once a frame, the state of every stream in a dict. What one writes first, and right."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.by_frame import FrameByFrame
from benchmarks.contender import Task, serve
from benchmarks.records import NUM_CHANNELS
from benchmarks.weights import plain_model


class PlainModel:
    """The model with the states of all streams."""

    def __init__(self, task: Task) -> None:
        torch.set_num_threads(1)
        self._lstm, self._linear = plain_model(task.model)
        self._states: dict[bytes, tuple[torch.Tensor, torch.Tensor] | None] = {}

    @torch.inference_mode()
    def forecast(self, name: bytes, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """The forecast [channels] after a stream's next values [channels]."""
        x = torch.tensor(values).view(1, 1, NUM_CHANNELS)
        out, self._states[name] = self._lstm(x, self._states.get(name))
        forecast: NDArray[np.float32] = self._linear(out).numpy().reshape(-1)
        return forecast


def plain_loop(task: Task) -> FrameByFrame:
    """The loop around it."""
    return FrameByFrame(task, PlainModel(task).forecast)


if __name__ == "__main__":
    serve(lambda task: plain_loop(task).turn, __doc__)
