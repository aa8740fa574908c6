"""The bare loop: what a frame costs when nothing is checked, counted or configurable, written as well as we can.

Receive, decode a whole batch at once, look up the streams, step with oneDNN's LSTM on weights packed once, publish.
Several frames of a stream go in rounds, rounds of equal size in one call of several time steps. It trusts its input
entirely, and leaves flags, count and model of the forecast at 0.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.contender import BATCH_TOPIC, MAX_FRAMES, Publish, Task, serve
from benchmarks.records import FORECAST, FRAME, NUM_CHANNELS
from benchmarks.weights import plain_model

# In words of 4 bytes. A frame and its forecast begin alike, but for the two of horizon and quantiles at byte 28.
_FRAME_WORDS: Final = FRAME.itemsize // 4
_FORECAST_WORDS: Final = FORECAST.itemsize // 4
_KEY: Final = slice(8 // 4, 28 // 4)  # frame, timestamp, epoch
_SOURCE: Final = slice(32 // 4, 96 // 4)
_VALUES_IN: Final = slice(96 // 4, None)
_VALUES_OUT: Final = slice(156 // 4, 188 // 4)
_FORECAST_OUT: Final = slice(188 // 4, None)

# oneDNN builds a primitive for every shape it meets (0.3 ms): a few shapes, all met before the first frame. The bits of
# a row depend neither on the number of rows nor on the number of time steps in a call.
_BUCKETS: Final = sorted({*range(1, 17), *(m << k for m in range(8, 17) for k in range(1, 9))})
_BUCKET_OF: Final = [next(bucket for bucket in _BUCKETS if bucket >= size) for size in range(MAX_FRAMES + 1)]
_STEPS: Final = (256, 128, 64, 32, 16, 8, 4, 2, 1)


Step = Callable[[NDArray[np.int64], NDArray[np.float32]], NDArray[np.float32]]
"""Steps a block: distinct slots [n] and values [steps, n, channels] to forecasts of that shape."""


class BareLoop:
    """A turn of the loop, with the states of as many streams as the task says, by oneDNN or by `step`."""

    def __init__(self, task: Task, step: Step | None = None) -> None:
        self._is_packed = task.is_packed
        self._slots: dict[bytes, int] = {}
        self._step = step or _packed_step(task)
        self._out = np.zeros(MAX_FRAMES, FORECAST)
        self._out["magic"], self._out["channels"] = b"FTC1", NUM_CHANNELS
        self._out["horizon"], self._out["num_quantiles"], self._out["quantiles"] = 1, 1, 0.5
        self._out["surprise"] = np.nan
        self._out_words = self._out.view("<u4").reshape(MAX_FRAMES, _FORECAST_WORDS)
        self._out_floats = self._out.view("<f4").reshape(MAX_FRAMES, _FORECAST_WORDS)

    def turn(self, parts: list[bytes], publish: Publish) -> None:
        """From the parts of a batch to its forecasts, published in order of arrival."""
        received_ns = time.monotonic_ns()
        frames = np.frombuffer(b"".join(parts), FRAME)
        names = frames["source"].tolist()
        try:
            slots = list(map(self._slots.__getitem__, names))
        except KeyError:
            slots = [self._slots.setdefault(name, len(self._slots)) for name in names]
        n = len(slots)
        self._out_floats[:n, _FORECAST_OUT] = self._forecast(np.array(slots), frames["values"])

        words = frames.view("<u4").reshape(n, _FRAME_WORDS)
        out = self._out_words[:n]
        out[:, _KEY] = words[:, _KEY]
        out[:, _SOURCE] = words[:, _SOURCE]
        out[:, _VALUES_OUT] = words[:, _VALUES_IN]
        self._out["latency_ns"][:n] = time.monotonic_ns() - received_ns
        if self._is_packed:
            publish(BATCH_TOPIC, self._out[:n].data.cast("B"))
        else:
            for name, body in zip(names, self._out[:n].view(f"V{FORECAST.itemsize}").tolist(), strict=True):
                publish(name, body)

    def _forecast(self, slots: NDArray[np.int64], values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Step slots [n], in rounds where one occurs again, and give the forecasts [n, channels]."""
        rounds = _rounds(slots)
        if rounds is None:
            return self._step(slots, values[None]).reshape(values.shape)
        order, sizes = rounds
        slots, values = slots[order], values[order]
        by_round, forecasts = np.empty_like(values), np.empty_like(values)
        start = index = 0
        while index < len(sizes):
            size = sizes[index]
            # Rounds of one size are of the same slots, in the same order: a slot with a k-th frame has all before it.
            num_equal = _num_equal(sizes, index)
            num_steps = next(num for num in _STEPS if num <= num_equal and num * size <= MAX_FRAMES)
            end = start + num_steps * size
            block = (num_steps, size, NUM_CHANNELS)
            by_round[start:end].reshape(block)[:] = self._step(
                slots[start : start + size], values[start:end].reshape(block)
            )
            start, index = end, index + num_steps
        forecasts[order] = by_round
        return forecasts


def _num_equal(sizes: list[int], index: int) -> int:
    """How many rounds from `index` on are of its size, up to the most that are stepped at once."""
    last = index
    while last < len(sizes) and sizes[last] == sizes[index] and last - index < _STEPS[0]:
        last += 1
    return last - index


def _rounds(slots: NDArray[np.int64]) -> tuple[NDArray[np.int64], list[int]] | None:
    """The order of a batch in which round follows round, and their sizes; None where the slots are distinct.

    The k-th frame of every slot is in round k; within a round slots ascend.
    """
    n = slots.size
    # Sorting slot and place as one integer takes a fifth of the time of a stable argsort.
    by_slot = np.sort(slots * MAX_FRAMES + np.arange(n))
    sorted_slots = by_slot // MAX_FRAMES
    is_first = np.concatenate(([True], sorted_slots[1:] != sorted_slots[:-1]))
    if is_first.all():
        return None
    index = np.arange(n)
    rank = index - np.maximum.accumulate(np.where(is_first, index, 0))
    in_rounds = np.sort(rank * MAX_FRAMES + index) % MAX_FRAMES
    return by_slot[in_rounds] % MAX_FRAMES, np.bincount(rank).tolist()


def _packed_step(task: Task) -> Step:
    torch.set_num_threads(1)
    lstm, linear = plain_model(task.model)
    H, num_layers = lstm.hidden_size, lstm.num_layers
    layers = []
    for layer in range(num_layers):
        w_ih, w_hh, b_ih, b_hh = (
            getattr(lstm, f"{name}_l{layer}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        packed = torch.ops.mkldnn._reorder_mkldnn_rnn_layer_weight(
            w_ih, w_hh, H, False, True, False, [1, 1, w_ih.shape[1]]
        )
        h, c = torch.zeros(2, MAX_FRAMES, H)  # rows beyond the batch hold what an earlier one left there
        arena_h, arena_c = np.zeros((2, task.capacity, H), np.float32)
        layers.append((*packed, b_ih, b_hh, h, c, arena_h, arena_c))
    linear_weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight, 256)
    run_lstm, run_linear = torch.ops.aten.mkldnn_rnn_layer.default, torch.ops.mkldnn._linear_pointwise.default
    linear_bias = linear.bias

    # The inputs and states of each size, as views made once.
    x_all = torch.zeros(MAX_FRAMES * 9 // 8, NUM_CHANNELS)  # a bucket is an eighth more than its rows at most
    inputs = {
        (steps, size): x_all[: steps * size].view(steps, size, -1)
        for steps in _STEPS
        for size in _BUCKETS
        if steps * size <= len(x_all)
    }

    @torch.inference_mode()
    def step(slots: NDArray[np.int64], values: NDArray[np.float32]) -> NDArray[np.float32]:
        num_steps, n, _ = values.shape
        bucket = _BUCKET_OF[n]
        x = inputs[num_steps, bucket]
        x.numpy()[:, :n] = values
        for w_ih, w_hh, b_ih, b_hh, h_all, c_all, arena_h, arena_c in layers:
            h, c = h_all[:bucket], c_all[:bucket]
            np.take(arena_h, slots, axis=0, out=h.numpy()[:n], mode="clip")
            np.take(arena_c, slots, axis=0, out=c.numpy()[:n], mode="clip")
            # reverse, batch sizes, mode 2 = LSTM, hidden size, layers, biases, bidirectional, batch first, train
            x, h, c, _ = run_lstm(
                x, w_ih, w_hh, b_ih, b_hh, h, c, False, [], 2, H, 1, True, False, False, False
            )
            arena_h[slots] = h.numpy()[:n]
            arena_c[slots] = c.numpy()[:n]
        y = run_linear(x.view(-1, H), linear_weight, linear_bias, "none", [], "")
        forecasts: NDArray[np.float32] = y.numpy().reshape(num_steps, bucket, NUM_CHANNELS)[:, :n]
        return forecasts

    for num_steps, size in inputs:
        step(np.zeros(size, np.int64), np.zeros((num_steps, size, NUM_CHANNELS), np.float32))
    for *_, arena_h, arena_c in layers:
        arena_h[0] = arena_c[0] = 0
    return step


if __name__ == "__main__":
    serve(lambda task: BareLoop(task).turn, __doc__)
