"""`Subscriber`: takes the forecasts of a daemon."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

import numpy as np
import zmq
from numpy.typing import NDArray

from foretell.choices import Mode
from foretell.errors import WireError
from foretell.producer import PeerTimeoutError
from foretell.sockets import Transport, ZmqContext, ZmqSocket, configure, open_endpoints
from foretell.wire import ARRAY_START, BATCH_TOPIC, PACKED_FORECAST, Flag, ForecastBatch, decode_forecasts

_MAX_MESSAGES_AT_ONCE = 4096
_LEVEL_TOLERANCE = 1e-6  # levels travel as float32


@dataclass(frozen=True, slots=True, eq=False)
class Forecast:
    """What is expected after one frame of a stream: of `horizon` H leads, Q quantiles and F channels.

    Row 0 of `forecast` is for frame + 1. NaN in `values` was missing; of leads beyond the first, quantiles but the
    median can be NaN. `flags` say what to know before trusting it.
    """

    source: str
    frame: int
    timestamp_ns: int  # of the frame, UTC epoch
    epoch: int
    flags: Flag
    count: int  # forecasts of this stream since the daemon began
    values: NDArray[np.float32]  # [F], the frame just seen
    surprise: NDArray[np.float32]  # [F], -log10 of the tail probability of `values`, NaN where not known
    quantiles: NDArray[np.float32]  # [Q], levels, ascending
    forecast: NDArray[np.float32]  # [H, Q, F]
    latency_ns: int  # from the frame's receipt to this forecast
    model: int

    @property
    def median(self) -> NDArray[np.float32]:
        """The median, [H, F]."""
        return self.quantile(0.5)

    def quantile(self, level: float) -> NDArray[np.float32]:
        """The quantile of this level, [H, F]. Raises ValueError where the model does not forecast it."""
        (places,) = np.nonzero(np.abs(self.quantiles - level) <= _LEVEL_TOLERANCE)
        if not len(places):
            raise ValueError(
                f"no quantile {level:g}: there are {', '.join(f'{q:g}' for q in self.quantiles)}"
            )
        return self.forecast[:, places[0]]


class Subscriber:
    """Takes forecasts in the order of their arrival: of all streams, or of those named.

    lost: by stream, how many of its forecasts did not arrive between two that did.
    num_unreadable: messages that were no forecasts.
    endpoint: as opened, with the port that was found for port 0 or `*`.
    wait_s: how long to wait for a daemon before PeerTimeoutError, so that no forecast of frames sent from then on is
        missed; 0 does not wait. Forecasts made before the connection stands are not repeated.

    Raises EndpointError where the endpoint cannot be opened.
    """

    def __init__(
        self,
        endpoint: str,
        streams: Sequence[str] = (),
        mode: Mode | str = Mode.CONNECT,
        *,
        wait_s: float = 0,
        high_water_mark: int = 100_000,
    ) -> None:
        self.lost: Counter[str] = Counter()
        self.num_unreadable = 0
        self._streams = frozenset(stream.encode() for stream in streams)
        self._last_count: dict[bytes, int] = {}
        self._rows: deque[Forecast] = deque()  # of the message that is being iterated over
        self._context: ZmqContext = zmq.Context()
        self._socket: ZmqSocket = self._context.socket(zmq.SUB)
        try:
            configure(self._socket, Transport(reconnect_interval_max_ms=1_000))
            self._socket.rcvhwm = high_water_mark
            self._socket.sndhwm = 0  # subscriptions are sent: beyond a mark libzmq drops them without a word
            for prefix in self._prefixes():
                self._socket.subscribe(prefix)
            if wait_s == 0:
                (self.endpoint,) = open_endpoints(self._socket, (endpoint,), Mode(mode))
            else:
                self.endpoint = self._open_and_wait(endpoint, Mode(mode), wait_s)
        except BaseException:
            self._context.destroy(linger=0)
            raise

    def receive(self, timeout_s: float | None = None) -> list[tuple[ForecastBatch, NDArray[np.int64]]]:
        """All forecasts that are there, and the latency of each, i64[n] in ns: a batch for each message.

        Waits for the first one, for `timeout_s` at most; nothing in that time is an empty list.
        """
        taken: list[tuple[ForecastBatch, NDArray[np.int64]]] = []
        if not self._socket.poll(None if timeout_s is None else round(1000 * timeout_s)):
            return taken
        try:
            for _ in range(_MAX_MESSAGES_AT_ONCE):
                taken += self._read(self._socket.recv_multipart(zmq.NOBLOCK))
        except zmq.Again:
            pass
        return taken

    def batches(self) -> Iterator[ForecastBatch]:
        """Forecasts for ever, a batch for each message."""
        while True:
            for batch, _ in self._read(self._socket.recv_multipart()):
                yield batch

    def __iter__(self) -> Iterator[Forecast]:
        """Forecasts for ever, one by one. One that is left loses nothing: the next goes on where it stopped."""
        while True:
            while self._rows:
                yield self._rows.popleft()
            for batch, latency_ns in self._read(self._socket.recv_multipart()):
                self._rows.extend(_rows_of(batch, latency_ns))

    def close(self) -> None:
        """Close at once. Closing twice does nothing more."""
        self._context.destroy(linger=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open_and_wait(self, endpoint: str, mode: Mode, wait_s: float) -> str:
        monitor = self._socket.get_monitor_socket(zmq.Event.HANDSHAKE_SUCCEEDED)
        (opened,) = open_endpoints(self._socket, (endpoint,), mode)
        is_connected = bool(monitor.poll(round(1000 * wait_s)))
        self._socket.disable_monitor()
        monitor.close()
        if not is_connected:
            raise PeerTimeoutError(f"{opened}: no daemon for {wait_s:g} s")
        return opened

    def _prefixes(self) -> Sequence[bytes]:
        if not self._streams:
            return [b""]
        # A message without a topic begins with its body.
        return [*sorted(self._streams), BATCH_TOPIC, ARRAY_START, PACKED_FORECAST]

    def _read(self, parts: list[bytes]) -> list[tuple[ForecastBatch, NDArray[np.int64]]]:
        try:
            batch, latency_ns = decode_forecasts(parts)
        except WireError:
            self.num_unreadable += 1
            return []
        if self._streams:
            rows = [row for row, name in enumerate(batch.names) if name in self._streams]
            if not rows:
                return []
            if len(rows) < len(batch.names):
                batch, latency_ns = _select(batch, rows), latency_ns[rows]
        self._count_lost(batch)
        return [(batch, latency_ns)]

    def _count_lost(self, batch: ForecastBatch) -> None:
        for name, count in zip(batch.names, batch.count.tolist(), strict=True):
            last = self._last_count.get(name, count)
            if count > last + 1:  # a smaller one is of a daemon that started again
                self.lost[name.decode()] += count - last - 1
            self._last_count[name] = count


def _select(batch: ForecastBatch, rows: Sequence[int]) -> ForecastBatch:
    return replace(
        batch,
        names=[batch.names[row] for row in rows],
        frame=batch.frame[rows],
        timestamp_ns=batch.timestamp_ns[rows],
        epoch=batch.epoch[rows],
        flags=batch.flags[rows],
        count=batch.count[rows],
        values=batch.values[rows],
        surprise=batch.surprise[rows],
        forecast=batch.forecast[rows],
    )


def _rows_of(batch: ForecastBatch, latency_ns: NDArray[np.int64]) -> Iterator[Forecast]:
    for row, name in enumerate(batch.names):
        yield Forecast(
            source=name.decode(),
            frame=int(batch.frame[row]),
            timestamp_ns=int(batch.timestamp_ns[row]),
            epoch=int(batch.epoch[row]),
            flags=Flag(int(batch.flags[row])),
            count=int(batch.count[row]),
            values=batch.values[row],
            surprise=batch.surprise[row],
            quantiles=batch.quantiles,
            forecast=batch.forecast[row],
            latency_ns=int(latency_ns[row]),
            model=batch.model,
        )
