"""The bare loop with numpy's products for frames that came alone: how fast a lone frame can be in plain Python.

Its forecasts have other bits for a frame alone than for the same frame in a batch, which the daemon must never give, so
it stands beside the bare loop and not in its place.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.bare import BareLoop
from benchmarks.bare_step import PackedStep
from benchmarks.contender import Task, serve
from benchmarks.weights import plain_model


class _NumpyStep(PackedStep):
    """Steps a few frames one by one in a tenth of the time that oneDNN takes."""

    few = 8

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        lstm, linear = plain_model(task.model)
        self._output_weight, self._output_bias = linear.weight.numpy(), linear.bias.numpy()
        # A gate's sigmoid(z) is tanh(z / 2) / 2 + 1 / 2: one tanh serves all four.
        H = self.hidden_size
        self._gates, self._product = np.empty(4 * H, np.float32), np.empty(H, np.float32)
        self._half = np.full(4 * H, 0.5, np.float32)
        self._offset = self._half.copy()
        self._half[2 * H : 3 * H], self._offset[2 * H : 3 * H] = 1.0, 0.0
        self._by_layer = [_numpy_layer(lstm, layer) for layer in range(lstm.num_layers)]

    def lone(self, slot: int, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Step one slot by values [channels]; gives the forecast [channels]."""
        H, gates, product, h = self.hidden_size, self._gates, self._product, values
        for layer, (weight, bias, entered) in zip(self.layers, self._by_layer, strict=True):
            entered[:-H], h = h, layer.arena_h[slot]
            entered[-H:] = h
            np.dot(weight, entered, out=gates)
            np.add(gates, bias, out=gates)
            np.tanh(gates, out=gates)
            np.multiply(gates, self._half, out=gates)
            np.add(gates, self._offset, out=gates)
            c = layer.arena_c[slot]
            np.multiply(c, gates[H : 2 * H], out=c)
            np.multiply(gates[:H], gates[2 * H : 3 * H], out=product)
            np.add(c, product, out=c)
            np.tanh(c, out=h)
            np.multiply(h, gates[3 * H :], out=h)
        forecast: NDArray[np.float32] = np.dot(self._output_weight, h)
        forecast += self._output_bias
        return forecast


def _numpy_layer(
    lstm: torch.nn.LSTM, layer: int
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Weights [4 hidden, inputs + hidden] and biases, halved for the gates that are sigmoids, and room for inputs."""
    H = lstm.hidden_size
    w_ih, w_hh, b_ih, b_hh = (
        getattr(lstm, f"{name}_l{layer}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    weight, bias = torch.cat([w_ih, w_hh], 1).numpy(), (b_ih + b_hh).numpy()
    for gates in (slice(0, 2 * H), slice(3 * H, 4 * H)):
        weight[gates] *= 0.5
        bias[gates] *= 0.5
    return weight, bias, np.empty(weight.shape[1], np.float32)


def numpy_loop(task: Task) -> BareLoop:
    """The bare loop with this step in it."""
    return BareLoop(task, _NumpyStep(task))


if __name__ == "__main__":
    serve(lambda task: numpy_loop(task).turn, __doc__)
