"""What may disturb a daemon: scrapes, streams that join, a subscriber that stalls; each for as long as a `with` lasts.

Every one of them yields a function that says how often it took place, once it is over.
"""

from __future__ import annotations

import contextlib
import http.client
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final

import numpy as np
import zmq

from benchmarks.records import BYSTANDER_NS, FORECAST, FRAME, NUM_CHANNELS, RECORDS_PER_PART

Count = Callable[[], int]
"""How often a disturbance took place; asked for when it is over."""

JOINING: Final = 1_000
"""Streams that join at once."""

_FIRST_S: Final = 0.3
"""When a disturbance takes place first, after its beginning; then every second."""

_GONE_S: Final = 0.5
"""What does not arrive for so long does not arrive any more."""


@contextlib.contextmanager
def scrape_every_second(endpoint: str) -> Iterator[Count]:
    """Read the daemon's metrics at `endpoint` (http://HOST:PORT), as Prometheus does; counts the scrapes."""
    address = endpoint.removeprefix("http://")

    def scrape() -> None:
        with contextlib.closing(http.client.HTTPConnection(address, timeout=10)) as connection:
            connection.request("GET", "/metrics")
            connection.getresponse().read()

    with _every_second(scrape) as count:
        yield count


@contextlib.contextmanager
def join_every_second(endpoint: str) -> Iterator[Count]:
    """Send the first frame of `JOINING` new streams in one burst of packed parts; counts the bursts."""
    records = np.zeros(JOINING, FRAME)
    records["magic"], records["channels"], records["timestamp_ns"] = b"FTL1", NUM_CHANNELS, BYSTANDER_NS
    with zmq.Context() as context, context.socket(zmq.PUB) as sink:
        sink.linger = 0
        sink.connect(endpoint)

        def make_burst() -> list[bytes]:
            first = time.monotonic_ns()  # other names each time
            records["source"] = [f"joining-{first}-{index}".encode() for index in range(JOINING)]
            starts = range(0, JOINING, RECORDS_PER_PART)
            return [records[start : start + RECORDS_PER_PART].tobytes() for start in starts]

        burst = make_burst()

        def join() -> None:
            nonlocal burst
            for part in burst:
                sink.send(part)
            burst = make_burst()  # while nobody waits for it

        with _every_second(join) as count:
            yield count


@contextlib.contextmanager
def stalled_subscriber(endpoint: str) -> Iterator[Count]:
    """Subscribe to all forecasts and read none until the end; counts those that had been kept for it."""
    num_waiting = 0
    with zmq.Context() as context, context.socket(zmq.SUB) as source:
        source.rcvhwm, source.rcvbuf = 1, 1 << 16  # what waits, waits at the daemon
        source.subscribe(b"")
        source.connect(endpoint)
        yield lambda: num_waiting
        while source.poll(int(_GONE_S * 1e3)):
            _, body = source.recv_multipart()
            num_waiting += len(body) // FORECAST.itemsize


@contextlib.contextmanager
def _every_second(act: Callable[[], None]) -> Iterator[Count]:
    """Act once a second in a thread of its own; what it raised is raised at the end."""
    is_over = threading.Event()
    num_done = 0
    errors: list[Exception] = []

    def repeat() -> None:
        nonlocal num_done
        due_s = time.monotonic() + _FIRST_S
        while not is_over.wait(max(0.0, due_s - time.monotonic())):
            try:
                act()
            except Exception as error:  # noqa: BLE001 - told at the end, to the one who asked
                errors.append(error)
                return
            num_done += 1
            due_s += 1.0

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield lambda: num_done
    finally:
        is_over.set()
        thread.join()
    if errors:
        raise errors[0]
