"""The bare loop: what a frame costs when nothing is checked, counted or configurable, written as well as we can.

Receive, decode a whole batch at once, look up the streams, step with oneDNN's LSTM on weights packed once, publish.
Several frames of a stream go in rounds, rounds of equal size in one call of several time steps. A frame that came
alone takes a shorter way. It trusts its input entirely, and leaves flags, count and model of the forecast
at 0.
"""

from __future__ import annotations

import struct
import time
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from benchmarks.bare_step import STEPS, PackedStep
from benchmarks.contender import BATCH_TOPIC, MAX_FRAMES, Publish, Task, serve
from benchmarks.records import FORECAST, FRAME, NUM_CHANNELS

# In words of 4 bytes. A frame and its forecast begin alike, but for the two of horizon and quantiles at byte 28.
_FRAME_WORDS: Final = FRAME.itemsize // 4
_FORECAST_WORDS: Final = FORECAST.itemsize // 4
_KEY: Final = slice(8 // 4, 28 // 4)  # frame, timestamp, epoch
_SOURCE: Final = slice(32 // 4, 96 // 4)
_VALUES_IN: Final = slice(96 // 4, None)
_VALUES_OUT: Final = slice(156 // 4, 188 // 4)
_FORECAST_OUT: Final = slice(188 // 4, None)

# A lone frame's forecast is put together from pieces of its own bytes.
_HEAD_OUT: Final = b"FTC1" + NUM_CHANNELS.to_bytes(2, "little") + bytes(2)
_SIZES_OUT: Final = struct.pack("<HH", 1, 1)  # horizon, quantiles
_STAMPS: Final = struct.Struct("<QqQf")  # model, latency_ns, count, the one quantile
_SURPRISE_OUT: Final = np.full(NUM_CHANNELS, np.nan, "<f4").tobytes()


class Step(Protocol):
    """Steps the states of slots; up to `few` frames that came in parts of their own are faster one by one."""

    few: int

    def block(self, slots: NDArray[np.int64], values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Distinct slots [n] by values [steps, n, channels]; gives forecasts of that shape."""
        ...

    def lone(self, slot: int, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """One slot by values [channels]; gives its forecast [channels]."""
        ...


class BareLoop:
    """A turn of the loop, with the states of as many streams as the task says, by oneDNN or by `step`."""

    def __init__(self, task: Task, step: Step | None = None) -> None:
        self._is_packed = task.is_packed
        self._slots: dict[bytes, int] = {}
        self._step = step or PackedStep(task)
        self._out = np.zeros(MAX_FRAMES, FORECAST)
        self._out["magic"], self._out["channels"] = b"FTC1", NUM_CHANNELS
        self._out["horizon"], self._out["num_quantiles"], self._out["quantiles"] = 1, 1, 0.5
        self._out["surprise"] = np.nan
        self._out_words = self._out.view("<u4").reshape(MAX_FRAMES, _FORECAST_WORDS)
        self._out_floats = self._out.view("<f4").reshape(MAX_FRAMES, _FORECAST_WORDS)

    def turn(self, parts: list[bytes], publish: Publish) -> None:
        """From the parts of a batch to its forecasts, published in order of arrival."""
        received_ns = time.monotonic_ns()
        if len(parts) <= self._step.few and len(parts[0]) == FRAME.itemsize:
            for part in parts:
                self._turn_lone(part, received_ns, publish)
            return
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

    def _turn_lone(self, part: bytes, received_ns: int, publish: Publish) -> None:
        """One frame: nothing is joined, looked up at once or laid out as columns."""
        name = part[32:96].rstrip(b"\0")
        slot = self._slots.setdefault(name, len(self._slots))
        forecast = self._step.lone(slot, np.frombuffer(part, "<f4", NUM_CHANNELS, 96)).tobytes()
        stamps = _STAMPS.pack(0, time.monotonic_ns() - received_ns, 0, 0.5)
        pieces = (_HEAD_OUT, part[8:28], _SIZES_OUT, part[32:96], stamps, _SURPRISE_OUT, part[96:], forecast)
        publish(BATCH_TOPIC if self._is_packed else name, b"".join(pieces))

    def _forecast(self, slots: NDArray[np.int64], values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Step slots [n], in rounds where one occurs again, and give the forecasts [n, channels]."""
        rounds = _rounds(slots)
        if rounds is None:
            return self._step.block(slots, values[None]).reshape(values.shape)
        order, sizes = rounds
        slots, values = slots[order], values[order]
        by_round, forecasts = np.empty_like(values), np.empty_like(values)
        start = index = 0
        while index < len(sizes):
            size = sizes[index]
            # Rounds of one size are of the same slots, in the same order: a slot with a k-th frame has all before it.
            num_equal = _num_equal(sizes, index)
            num_steps = next(num for num in STEPS if num <= num_equal and num * size <= MAX_FRAMES)
            end = start + num_steps * size
            block = (num_steps, size, NUM_CHANNELS)
            by_round[start:end].reshape(block)[:] = self._step.block(
                slots[start : start + size], values[start:end].reshape(block)
            )
            start, index = end, index + num_steps
        forecasts[order] = by_round
        return forecasts


def _num_equal(sizes: list[int], index: int) -> int:
    """How many rounds from `index` on are of its size, up to the most that are stepped at once."""
    last = index
    while last < len(sizes) and sizes[last] == sizes[index] and last - index < STEPS[0]:
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


if __name__ == "__main__":
    serve(lambda task: BareLoop(task).turn, __doc__)
