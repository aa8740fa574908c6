"""ONNX Runtime in the bare loop: batches, rounds and arena as there, the step by ONNX Runtime's LSTM on one thread.

States are gathered and scattered in numpy, as well as that can be done. Its op takes any number of rows, so nothing is
padded.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchmarks.bare import BareLoop
from benchmarks.contender import Task, serve
from benchmarks.peers.onnx_graph import OnnxStep
from benchmarks.weights import plain_model


class _OnnxStep:
    few = 1

    def __init__(self, task: Task) -> None:
        self._step = OnnxStep(*plain_model(task.model), task.capacity)

    def block(self, slots: NDArray[np.int64], values: NDArray[np.float32]) -> NDArray[np.float32]:
        return self._step(slots, np.ascontiguousarray(values))  # a column of records is not

    def lone(self, slot: int, values: NDArray[np.float32]) -> NDArray[np.float32]:
        return self._step(np.array([slot]), values.reshape(1, 1, -1)).reshape(-1)


def onnx_loop(task: Task) -> BareLoop:
    """The loop with this step in it. Raises ValueError where its forecasts are not PyTorch's to 1e-5."""
    return BareLoop(task, _OnnxStep(task))


if __name__ == "__main__":
    serve(lambda task: onnx_loop(task).turn, __doc__)
