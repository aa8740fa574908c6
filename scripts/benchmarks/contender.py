"""What the loops beside the daemon share: their sockets and their command line."""

from __future__ import annotations

import argparse
import gc
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import zmq

from benchmarks.models import PLAIN_SIZES, ModelName
from benchmarks.records import FRAME

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_FRAMES: Final = 4096
"""Frames in a batch, as the daemon's `batch.max_frames`."""

BATCH_TOPIC: Final = b"*"
_HIGH_WATER_MARK: Final = 100_000


class Publish(Protocol):
    """Sends a message of two parts, topic and body."""

    def __call__(self, topic: bytes, body: bytes | memoryview) -> None: ...  # noqa: D102


class Turn(Protocol):
    """Takes the parts of a batch and publishes their forecasts."""

    def __call__(self, parts: list[bytes], publish: Publish) -> None: ...  # noqa: D102


def serve(make_loop: Callable[[Task], Turn], description: str | None) -> None:
    """Run a loop until the process is ended; `make_loop` gives the function of its turn."""
    args = parse(description)
    turn = make_loop(Task(args.model, args.capacity, args.packed))
    source, publish = bind(args.input, args.output)
    gc.collect()
    gc.freeze()
    gc.disable()
    while True:
        turn(drain(source), publish)


@dataclass(frozen=True)
class Task:
    """What a loop is to do: step a model for up to `capacity` streams, and publish whole batches where `is_packed`."""

    model: ModelName
    capacity: int
    is_packed: bool


def parse(description: str | None) -> argparse.Namespace:
    """The command line of every loop."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--input", required=True, help="endpoint to bind for frames")
    parser.add_argument("--output", required=True, help="endpoint to bind for forecasts")
    parser.add_argument("--capacity", required=True, type=int, help="streams at most")
    parser.add_argument("--packed", action="store_true", help="publish whole batches")
    parser.add_argument("--model", required=True, type=ModelName, choices=list(PLAIN_SIZES))
    return parser.parse_args()


def bind(input_: str, output: str) -> tuple[zmq.Socket[bytes], Publish]:
    """The socket of the frames, and what publishes forecasts, on one I/O thread."""
    context = zmq.Context()
    source, sink = context.socket(zmq.SUB), context.socket(zmq.PUB)
    for socket in (source, sink):
        socket.set_hwm(_HIGH_WATER_MARK)
    source.subscribe(b"")
    source.bind(input_)
    sink.bind(output)
    # The binding's own `send` and plain integers for flags: half the time of the Python around them.
    send, more = super(zmq.Socket, sink).send, int(zmq.SNDMORE)

    def publish(topic: bytes, body: bytes | memoryview) -> None:
        send(topic, more)
        send(body)

    return source, publish


def drain(source: zmq.Socket[bytes], *, is_waiting: bool = True) -> list[bytes]:
    """Wait for a part, then take what is there: parts of one size, so that their number bounds the batch's frames.

    Without `is_waiting` nothing is waited for, and there may be none.
    """
    receive, no_wait = source.recv, int(zmq.NOBLOCK)
    try:
        first = receive(0 if is_waiting else no_wait)
    except zmq.Again:
        return []
    parts = [first]
    append = parts.append
    try:
        for _ in range(MAX_FRAMES * FRAME.itemsize // len(first) - 1):
            append(receive(no_wait))
    except zmq.Again:
        pass
    return parts
