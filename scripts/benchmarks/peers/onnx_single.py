"""ONNX Runtime, one call a frame: the states of every stream in a dict, passed in and taken out."""

from __future__ import annotations

from typing import Final

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from benchmarks.by_frame import FrameByFrame
from benchmarks.contender import Task, serve
from benchmarks.peers.onnx_graph import write_graph
from benchmarks.records import NUM_CHANNELS
from benchmarks.weights import plain_model

_TOLERANCE: Final = 1e-5


class OnnxModel:
    """The model with the states of all streams. Raises ValueError where it does not give what PyTorch gives."""

    def __init__(self, task: Task) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        lstm, linear = plain_model(task.model)
        self._session = onnxruntime.InferenceSession(
            write_graph(lstm, linear), options, providers=["CPUExecutionProvider"]
        )
        self._names = [node.name for node in self._session.get_inputs()][1:]
        self._empty = [np.zeros((1, 1, lstm.hidden_size), np.float32)] * len(self._names)
        self._states: dict[bytes, list[NDArray[np.float32]]] = {}
        self._compare(lstm, linear)

    def forecast(self, name: bytes, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """The forecast [channels] after a stream's next values [channels]."""
        feed = dict(zip(self._names, self._states.get(name, self._empty), strict=True))
        feed["x"] = values.reshape(1, 1, NUM_CHANNELS)
        y: NDArray[np.float32]
        y, *self._states[name] = self._session.run(None, feed)
        return y.reshape(-1)

    def _compare(self, lstm: torch.nn.LSTM, linear: torch.nn.Linear) -> None:
        """A few frames of one stream beside PyTorch."""
        values = np.random.default_rng(0).normal(size=(5, NUM_CHANNELS)).astype(np.float32)
        with torch.inference_mode():
            expected = linear(lstm(torch.from_numpy(values).unsqueeze(1))[0]).numpy().squeeze(1)
        given = np.stack([self.forecast(b"", frame) for frame in values])
        self._states.clear()
        if not np.allclose(given, expected, rtol=0.0, atol=_TOLERANCE):
            raise ValueError(f"ONNX Runtime is {np.abs(given - expected).max():.1e} away from PyTorch")


def onnx_single_loop(task: Task) -> FrameByFrame:
    """The loop around it."""
    return FrameByFrame(task, OnnxModel(task).forecast)


if __name__ == "__main__":
    serve(lambda task: onnx_single_loop(task).turn, __doc__)
