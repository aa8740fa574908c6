"""What the two loops beside the daemon share: their sockets and their command line."""

from __future__ import annotations

import argparse
import gc
from typing import TYPE_CHECKING, Final, Protocol

import zmq

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


def serve(make_loop: Callable[[int, bool], Turn], description: str | None) -> None:
    """Run a loop until the process is ended.

    `make_loop(capacity, is_packed)` gives the function of a turn; it publishes whole batches where `is_packed`.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--input", required=True, help="endpoint to bind for frames")
    parser.add_argument("--output", required=True, help="endpoint to bind for forecasts")
    parser.add_argument("--capacity", required=True, type=int, help="streams at most")
    parser.add_argument("--packed", action="store_true", help="publish whole batches")
    args = parser.parse_args()

    turn = make_loop(args.capacity, args.packed)
    context = zmq.Context()
    source, sink = context.socket(zmq.SUB), context.socket(zmq.PUB)
    for socket in (source, sink):
        socket.set_hwm(_HIGH_WATER_MARK)
    source.subscribe(b"")
    source.bind(args.input)
    sink.bind(args.output)
    # The binding's own `send` and plain integers for flags: half the time of the Python around them.
    send, more = super(zmq.Socket, sink).send, int(zmq.SNDMORE)

    def publish(topic: bytes, body: bytes | memoryview) -> None:
        send(topic, more)
        send(body)

    gc.collect()
    gc.freeze()
    gc.disable()
    while True:
        turn(_drain(source), publish)


def _drain(source: zmq.Socket[bytes]) -> list[bytes]:
    """Wait for a part, then take what is there: parts of one size, so that their number bounds the batch's frames."""
    receive, no_wait = source.recv, int(zmq.NOBLOCK)
    first = receive()
    parts = [first]
    append = parts.append
    try:
        for _ in range(MAX_FRAMES * FRAME.itemsize // len(first) - 1):
            append(receive(no_wait))
    except zmq.Again:
        pass
    return parts
