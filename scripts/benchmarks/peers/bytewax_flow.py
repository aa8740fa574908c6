"""Bytewax: a dataflow with `stateful_map` keyed by stream, the state that of torch's LSTM, one call a frame.

Source and sink are the same ZeroMQ sockets as everywhere. The engine asks the source for what is there and, while
there is nothing, again every millisecond.
"""

# mypy: disallow-subclassing-any=False
# Bytewax is not in the environment that types are checked in.

from __future__ import annotations

import gc
import time
from collections.abc import Iterable
from typing import Any

import bytewax.operators as op
import numpy as np
import torch
import zmq
from bytewax.dataflow import Dataflow
from bytewax.inputs import DynamicSource, StatelessSourcePartition
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.run import cli_main

from benchmarks.by_frame import write_record
from benchmarks.contender import BATCH_TOPIC, Publish, Task, bind, drain, parse
from benchmarks.records import FRAME, NUM_CHANNELS
from benchmarks.weights import plain_model

_Frame = tuple[np.void, int]  # the record, and when it was received
_Keyed = tuple[str, _Frame]
_State = tuple[torch.Tensor, torch.Tensor]


class _Frames(StatelessSourcePartition[_Keyed]):
    def __init__(self, source: zmq.Socket[bytes]) -> None:
        self._source = source

    def next_batch(self) -> Iterable[_Keyed]:
        parts, received_ns = drain(self._source, is_waiting=False), time.monotonic_ns()
        if not parts:
            return []
        frames = np.frombuffer(b"".join(parts), FRAME)
        return [
            (name.decode(), (frame, received_ns))
            for name, frame in zip(frames["source"].tolist(), frames, strict=True)
        ]


class _Source(DynamicSource[_Keyed]):
    def __init__(self, source: zmq.Socket[bytes]) -> None:
        self._source = source

    def build(self, _step_id: str, _worker_index: int, _worker_count: int) -> _Frames:
        return _Frames(self._source)


class _Forecasts(StatelessSinkPartition[tuple[str, bytes]]):
    def __init__(self, publish: Publish, *, is_packed: bool) -> None:
        self._publish, self._is_packed = publish, is_packed

    def write_batch(self, items: list[tuple[str, bytes]]) -> None:
        if self._is_packed:
            self._publish(BATCH_TOPIC, b"".join(record for _, record in items))
        else:
            for name, record in items:
                self._publish(name.encode(), record)


class _Sink(DynamicSink[tuple[str, bytes]]):
    def __init__(self, publish: Publish, *, is_packed: bool) -> None:
        self._publish, self._is_packed = publish, is_packed

    def build(self, _step_id: str, _worker_index: int, _worker_count: int) -> _Forecasts:
        return _Forecasts(self._publish, is_packed=self._is_packed)


class Mapper:
    """What `stateful_map` calls with a stream's state and its next frame."""

    def __init__(self, task: Task) -> None:
        torch.set_num_threads(1)
        self._lstm, self._linear = plain_model(task.model)

    @torch.inference_mode()
    def __call__(self, state: _State | None, received: _Frame) -> tuple[_State, bytes]:
        """The state after the frame, and the record of its forecast."""
        frame, received_ns = received
        out, state = self._lstm(torch.tensor(frame["values"]).view(1, 1, NUM_CHANNELS), state)
        forecast = self._linear(out).numpy().reshape(-1)
        return state, write_record(frame, forecast, received_ns)


def make_flow(source: zmq.Socket[bytes], publish: Publish, task: Task) -> Dataflow:
    """The dataflow from socket to socket."""
    flow = Dataflow("forecasts")
    frames: Any = op.input("frames", flow, _Source(source))
    forecasts = op.stateful_map("step", frames, Mapper(task))
    op.output("publish", forecasts, _Sink(publish, is_packed=task.is_packed))
    return flow


if __name__ == "__main__":
    args = parse(__doc__)
    made = make_flow(*bind(args.input, args.output), Task(args.model, args.capacity, args.packed))
    gc.collect()
    gc.freeze()
    gc.disable()
    cli_main(made)
