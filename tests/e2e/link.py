"""Both ends of a daemon as plain sockets: what is sent is seen, and what comes back is seen one by one."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np
import zmq
from numpy.typing import NDArray

from foretell.wire import Flag, FrameBatch, decode_forecasts, encode_frames

DEADLINE_S = 30.0
"""Guards a test against waiting for ever; nothing is expected to take long."""

_PROBE_MS = 20

Socket = zmq.Socket[bytes]


@dataclass(frozen=True)
class Forecast:
    """One forecast as it arrived."""

    name: bytes
    frame: int
    timestamp_ns: int
    epoch: int
    flags: Flag
    count: int
    values: NDArray[np.float32]  # [F]
    forecast: NDArray[np.float32]  # [H, Q, F]


def forecasts_of(parts: Sequence[bytes]) -> list[Forecast]:
    """The forecasts of one message."""
    batch, _ = decode_forecasts(parts)
    return [
        Forecast(*row)
        for row in zip(
            batch.names,
            batch.frame.tolist(),
            batch.timestamp_ns.tolist(),
            batch.epoch.tolist(),
            map(Flag, batch.flags.tolist()),
            batch.count.tolist(),
            batch.values,
            batch.forecast,
            strict=True,
        )
    ]


class Link:
    """A producer and a subscriber. Once made, both ends are listened to: no frame and no forecast is lost after.

    The producer is an XPUB, which sees the daemon's subscription and waits rather than drops. That the daemon knows of
    the subscriber shows in the forecasts of a new stream `probe-...`, sent until one comes; `num_probes` were sent.

    prefix: what the subscriber subscribes to, beside the probes. Where `binds`, the daemon connects to both ends.
    """

    def __init__(
        self,
        input_endpoint: str,
        output_endpoint: str,
        *,
        prefix: bytes = b"",
        num_channels: int = 1,
        binds: bool = False,
    ) -> None:
        self.num_probes = 0
        probe = b"probe-%d" % time.monotonic_ns()
        self._context: zmq.Context[Socket] = zmq.Context()
        self.producer = self._context.socket(zmq.XPUB)
        self.producer.setsockopt(zmq.XPUB_NODROP, 1)
        self.subscriber = self._context.socket(zmq.SUB)
        for socket, endpoint in ((self.producer, input_endpoint), (self.subscriber, output_endpoint)):
            socket.ipv6 = True
            socket.linger = 0
            socket.sndtimeo = socket.rcvtimeo = round(DEADLINE_S * 1000)
            socket.rcvhwm = 0
            (socket.bind if binds else socket.connect)(endpoint)
        self.subscriber.subscribe(prefix)
        self.subscriber.subscribe(probe)
        self.producer.recv()  # the daemon's subscription
        self._probe(probe, num_channels)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.producer.close()
        self.subscriber.close()
        self._context.term()

    def send(self, *parts: bytes) -> None:
        """One message."""
        self.producer.send_multipart(parts)

    def receive(self) -> list[Forecast]:
        """The forecasts of the next message."""
        return forecasts_of(self.subscriber.recv_multipart())

    def take(self, num_forecasts: int) -> list[Forecast]:
        """So many forecasts, in the order of their arrival."""
        taken: list[Forecast] = []
        while len(taken) < num_forecasts:
            taken += self.receive()
        return taken

    def until(self, name: bytes) -> list[Forecast]:
        """All forecasts up to and with the first of that stream."""
        taken = self.receive()
        while taken[-1].name != name:
            taken += self.receive()
        return taken

    def pending(self) -> Iterator[Forecast]:
        """What has arrived already."""
        while self.subscriber.poll(0):
            yield from self.receive()

    def _probe(self, name: bytes, num_channels: int) -> None:
        """Send probes until one is answered, and then wait for the answer to the last."""
        deadline_s = time.monotonic() + DEADLINE_S
        while not self.subscriber.poll(_PROBE_MS):
            assert time.monotonic() < deadline_s, "no forecast of a probe arrived"
            self.num_probes += 1
            self.send(name, frames([name], [self.num_probes], np.zeros((1, num_channels), np.float32)))
        while self.receive()[-1].count < self.num_probes:
            pass


def frames(
    names: Iterable[bytes],
    numbers: Iterable[int],
    values: NDArray[np.float32],
    *,
    timestamp_ns: int = 0,
    epoch: int = 0,
) -> bytes:
    """One part of packed records; values [frames, channels]."""
    name_list = list(names)
    num_frames = len(name_list)
    return encode_frames(
        FrameBatch(
            names=name_list,
            frame=np.array(list(numbers), np.uint64),
            timestamp_ns=np.full(num_frames, timestamp_ns, np.int64),
            epoch=np.full(num_frames, epoch, np.uint32),
            unnumbered=np.zeros(num_frames, np.bool_),
            values=np.ascontiguousarray(values, np.float32),
        )
    )


def frame(name: bytes, number: int, *values: float, epoch: int = 0) -> bytes:
    """One packed record."""
    return frames([name], [number], np.array([values], np.float32), epoch=epoch)


def by_stream(forecasts: Iterable[Forecast]) -> dict[bytes, list[Forecast]]:
    """Forecasts of each stream in the order of their arrival."""
    streams: dict[bytes, list[Forecast]] = {}
    for forecast in forecasts:
        streams.setdefault(forecast.name, []).append(forecast)
    return streams
