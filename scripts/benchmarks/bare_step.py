"""The step of the bare loop: oneDNN's LSTM on weights packed once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.contender import MAX_FRAMES, Task
from benchmarks.records import NUM_CHANNELS
from benchmarks.weights import plain_model

# oneDNN builds a primitive for every shape it meets (0.3 ms): a few shapes, all met before the first frame. The bits of
# a row depend neither on the number of rows nor on the number of time steps in a call.
_BUCKETS: Final = sorted({*range(1, 17), *(m << k for m in range(8, 17) for k in range(1, 9))})
_BUCKET_OF: Final = [next(bucket for bucket in _BUCKETS if bucket >= size) for size in range(MAX_FRAMES + 1)]
STEPS: Final = (256, 128, 64, 32, 16, 8, 4, 2, 1)
"""How many time steps a call makes."""


@dataclass(frozen=True)
class _Layer:
    """Weights as oneDNN packs them, room for a batch's states, and the states of all slots."""

    w_ih: torch.Tensor
    w_hh: torch.Tensor
    b_ih: torch.Tensor
    b_hh: torch.Tensor
    h: torch.Tensor
    c: torch.Tensor
    arena_h: NDArray[np.float32]
    arena_c: NDArray[np.float32]


class PackedStep:
    """Steps the states of as many slots as the task says."""

    few = 1

    def __init__(self, task: Task) -> None:
        torch.set_num_threads(1)
        lstm, self._linear = plain_model(task.model)
        self.hidden_size = lstm.hidden_size
        self.layers = [_layer(lstm, layer, task.capacity) for layer in range(lstm.num_layers)]
        self._linear_weight = torch.ops.mkldnn._reorder_linear_weight(self._linear.weight, 256)

        # The inputs of each size, as views made once. A bucket is an eighth more than its rows at most, and no round
        # has more rows than there are slots.
        x_all = torch.zeros(MAX_FRAMES * 9 // 8, NUM_CHANNELS)
        most = _BUCKET_OF[min(task.capacity, MAX_FRAMES)]
        self._inputs = {
            (steps, size): x_all[: steps * size].view(steps, size, -1)
            for steps in STEPS
            for size in _BUCKETS
            if steps * size <= len(x_all) and size <= most
        }
        for num_steps, size in self._inputs:
            slots = np.zeros(size, np.int64)
            self.block(slots, np.zeros((num_steps, size, NUM_CHANNELS), np.float32))
        for layer in self.layers:
            layer.arena_h[0] = layer.arena_c[0] = 0

    @torch.inference_mode()
    def block(self, slots: NDArray[np.int64], values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Step distinct slots [n] by values [steps, n, channels]; gives forecasts of that shape."""
        num_steps, n, _ = values.shape
        bucket = _BUCKET_OF[n]
        x = self._inputs[num_steps, bucket]
        x.numpy()[:, :n] = values
        for layer in self.layers:
            h, c = layer.h[:bucket], layer.c[:bucket]
            np.take(layer.arena_h, slots, axis=0, out=h.numpy()[:n], mode="clip")
            np.take(layer.arena_c, slots, axis=0, out=c.numpy()[:n], mode="clip")
            # reverse, batch sizes, mode 2 = LSTM, hidden size, layers, biases, bidirectional, batch first, train
            x, h, c, _ = _run_lstm(
                *(x, layer.w_ih, layer.w_hh, layer.b_ih, layer.b_hh, h, c),
                *(False, [], 2, self.hidden_size, 1, True, False, False, False),
            )
            layer.arena_h[slots] = h.numpy()[:n]
            layer.arena_c[slots] = c.numpy()[:n]
        y = _run_linear(x.view(-1, self.hidden_size), self._linear_weight, self._linear.bias, "none", [], "")
        forecasts: NDArray[np.float32] = y.numpy().reshape(num_steps, bucket, NUM_CHANNELS)[:, :n]
        return forecasts

    def lone(self, slot: int, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Step one slot by values [channels]; gives the forecast [channels]: its bits are those of any other batch."""
        forecast: NDArray[np.float32] = self.block(np.array((slot,)), values.reshape(1, 1, -1)).reshape(-1)
        return forecast


_run_lstm: Final = torch.ops.aten.mkldnn_rnn_layer.default
_run_linear: Final = torch.ops.mkldnn._linear_pointwise.default


def _layer(lstm: torch.nn.LSTM, layer: int, capacity: int) -> _Layer:
    H = lstm.hidden_size
    w_ih, w_hh, b_ih, b_hh = (
        getattr(lstm, f"{name}_l{layer}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    packed_ih, packed_hh = torch.ops.mkldnn._reorder_mkldnn_rnn_layer_weight(
        w_ih, w_hh, H, False, True, False, [1, 1, w_ih.shape[1]]
    )
    h, c = torch.zeros(2, MAX_FRAMES, H)  # rows beyond the batch hold what an earlier one left there
    arena_h, arena_c = np.zeros((2, capacity, H), np.float32)
    return _Layer(packed_ih, packed_hh, b_ih, b_hh, h, c, arena_h, arena_c)
