"""Stand-ins for what is on the other side of a socket."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import zmq

from foretell import wire
from foretell.wire import FrameBatch

DEADLINE_S = 10.0

_QUANTILES = np.array([0.05, 0.5, 0.95], dtype=np.float32)


def wait_until(holds: Callable[[], bool], deadline_s: float = DEADLINE_S) -> None:
    """Return once `holds()`; an AssertionError at the deadline."""
    end_s = time.monotonic() + deadline_s
    while not holds():
        assert time.monotonic() < end_s, "the deadline passed"
        time.sleep(0.005)


class FakeDaemon:
    """A daemon whose every forecast is persistence, with a band of 1 below and above it; in a thread, on ipc sockets.

    batches: what has been received, in order; is_subscribed: set once someone listens to the forecasts.
    """

    def __init__(self, folder: Path) -> None:
        self.input_endpoint = f"ipc://{folder}/frames"
        self.output_endpoint = f"ipc://{folder}/forecasts"
        self.batches: list[FrameBatch] = []
        self.is_subscribed = threading.Event()
        self._counts: Counter[bytes] = Counter()
        self._is_open = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fake-daemon")

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._is_open.wait(DEADLINE_S)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join()

    @property
    def num_frames(self) -> int:
        """Frames received so far."""
        return sum(len(batch.names) for batch in self.batches)

    def values_of(self, name: str) -> list[list[float]]:
        """The frames of a stream so far, in order."""
        return [
            batch.values[row].tolist()
            for batch in self.batches
            for row, other in enumerate(batch.names)
            if other == name.encode()
        ]

    def _run(self) -> None:
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        with context, context.socket(zmq.SUB) as frames, context.socket(zmq.XPUB) as forecasts:
            frames.linger = forecasts.linger = 0
            frames.subscribe(b"")
            frames.bind(self.input_endpoint)
            forecasts.bind(self.output_endpoint)
            self._is_open.set()
            poller = zmq.Poller()
            poller.register(frames, zmq.POLLIN)
            poller.register(forecasts, zmq.POLLIN)
            while not self._stopping.is_set():
                ready = dict(poller.poll(timeout=20))
                if forecasts in ready and forecasts.recv().startswith(b"\x01"):
                    self.is_subscribed.set()
                if frames in ready:
                    self._answer(frames.recv_multipart(), forecasts)

    def _answer(self, parts: Sequence[bytes], forecasts: zmq.Socket[bytes]) -> None:
        bodies: list[bytes | wire.Array] = []
        for i, part in enumerate(parts):
            if part.startswith(wire.PACKED_FRAME):
                bodies.append(part)
            elif part.startswith(wire.ARRAY_START):
                bodies.append((part, parts[i + 1]))
                break
        for batch in wire.decode(bodies, arrival_ns=time.time_ns(), max_channels=64, max_frames=4096).batches:
            self.batches.append(batch)
            answer = self._forecast(batch)
            for name, body in zip(batch.names, wire.encode_packed(answer, latency_ns=1_000_000), strict=True):
                forecasts.send_multipart([name, body])

    def _forecast(self, batch: FrameBatch) -> wire.ForecastBatch:
        counts = []
        for name in batch.names:
            self._counts[name] += 1
            counts.append(self._counts[name])
        spread = np.array([-1, 0, 1], dtype=np.float32)[:, None]
        return wire.ForecastBatch(
            names=batch.names,
            frame=batch.frame,
            timestamp_ns=batch.timestamp_ns,
            epoch=batch.epoch,
            flags=np.zeros(len(counts), dtype=np.uint16),
            count=np.array(counts, dtype=np.uint64),
            values=batch.values,
            surprise=np.full_like(batch.values, np.nan),
            forecast=(batch.values[:, None, :] + spread)[:, None],
            quantiles=_QUANTILES,
            model=1,
        )
