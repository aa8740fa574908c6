"""`Producer`: sends frames to a daemon."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import numpy as np
import zmq
from numpy.typing import ArrayLike, NDArray

from foretell.choices import Mode, OutputFormat
from foretell.errors import EndpointError
from foretell.sockets import Transport, ZmqContext, ZmqSocket, configure, open_endpoints
from foretell.wire import FrameBatch, encode_frame_array, encode_frames, is_valid_name
from foretell.wire_types import CHANNELS_MAX

# Of one part: well below the largest that a daemon takes (input.max_message_bytes), so that none is ever dropped.
_MAX_PART_BYTES = 256 * 1024
_PACKED_HEADER_BYTES = 96
_MESSAGES_BETWEEN_LOOKS = 1024


Values = ArrayLike | Sequence[float | None] | Sequence[Sequence[float | None]]


class PeerTimeoutError(EndpointError, TimeoutError):
    """Nobody was there in the time given. Raised by sending and by waiting for a daemon; names the endpoint."""


class Producer:
    """Sends frames, numbers them stream by stream, and loses none while a subscriber is there.

    Its first frame waits until a subscriber has asked for frames, since PUB drops what nobody asked for; later ones
    wait while a subscriber is `high_water_mark` messages behind; closing waits until all are sent. While a daemon that
    it connected to starts again, its frames wait for it.

    mode: "connect" to a daemon that binds, the default on both sides, or "bind".
    format: "packed" records, or "array-1.0" with its readable header.
    epoch: the start of this producer; frame numbers are comparable inside one epoch. By default the time now in
        seconds, so that a producer that starts again is recognised. One that ends within its first second then closes
        with the next, since another that starts at once would be taken for the same and its frames for duplicates.
    topic: send a stream's name before its frames, for daemons that subscribe to prefixes.
    wait_s: how long to wait for a subscriber, or for room, before PeerTimeoutError. 0 never waits: frames that nobody
        takes are dropped, which suits a live sensor that must not be held up.
    linger_s: how long closing waits at most for frames to be sent.
    endpoint: as opened, with the port that was found for port 0 or `*`.

    Raises EndpointError where the endpoint cannot be opened.
    """

    def __init__(
        self,
        endpoint: str,
        mode: Mode | str = Mode.CONNECT,
        *,
        format: OutputFormat | str = OutputFormat.PACKED,  # noqa: A002 - the name of the setting
        epoch: int | None = None,
        topic: bool = True,
        wait_s: float = 10.0,
        high_water_mark: int = 100_000,
        linger_s: float = 10.0,
    ) -> None:
        self._is_packed = OutputFormat(format) is OutputFormat.PACKED
        self._epoch = int(time.time()) if epoch is None else epoch
        self._is_epoch_from_clock = epoch is None
        self._has_topic = topic
        self._wait_s = wait_s
        self._next_frame: dict[str, int] = {}  # by stream; those whose name was found good
        self._has_subscriber = wait_s == 0
        self._num_messages = 0
        self._context: ZmqContext = zmq.Context()
        # XPUB is PUB that lets us see subscriptions arrive, and wait for room.
        self._socket: ZmqSocket = self._context.socket(zmq.XPUB)
        try:
            configure(
                self._socket, Transport(linger_ms=round(1000 * linger_s), reconnect_interval_max_ms=1_000)
            )
            self._socket.sndhwm = high_water_mark
            self._socket.xpub_nodrop = wait_s > 0
            self._socket.sndtimeo = round(1000 * wait_s)
            (self.endpoint,) = open_endpoints(self._socket, (endpoint,), Mode(mode))
        except BaseException:
            self._context.destroy(linger=0)
            raise

    def send(
        self, source: str, values: Values, *, frame: int | None = None, timestamp_ns: int | None = None
    ) -> None:
        """Send one frame of the stream `source`.

        values: [F] numbers; NaN or None is a missing value. frame: its number, by default the one after the stream's
        last. timestamp_ns: UTC epoch, by default now.

        Raises ValueError for a name or a shape that no daemon takes, PeerTimeoutError where nobody takes the frame.
        """
        self.send_many(source, _to_float32(values)[np.newaxis], frame=frame, timestamp_ns=timestamp_ns)

    def send_many(
        self,
        sources: str | Sequence[str],
        values: Values,
        *,
        frame: int | None = None,
        timestamp_ns: int | Sequence[int] | NDArray[np.int64] | None = None,
    ) -> None:
        """Send n frames at once, for speed: packed, as one part, or several where they fill more than 256 KiB.

        sources: the stream of all, or one name a row. values: [n, F]. frame: the number of the first row, where all
        are of one stream; by default every stream is numbered on. timestamp_ns: of all, or one a row.

        Frames of several streams in one part have no topic. Raises as `send`.
        """
        columns = _to_float32(values)
        if columns.ndim != 2 or not 1 <= columns.shape[1] <= CHANNELS_MAX:
            raise ValueError(
                f"values of 1 to {CHANNELS_MAX} channels a frame expected, not shape {columns.shape}"
            )
        times = np.full(len(columns), time.time_ns() if timestamp_ns is None else timestamp_ns, np.int64)
        names = [sources] * len(columns) if isinstance(sources, str) else sources
        if not 0 < len(names) == len(columns):
            raise ValueError(f"{len(names)} names for {len(columns)} frames")
        self._await_subscriber()
        frames = self._number(names, frame)
        send = self._send_packed if self._is_packed else self._send_arrays
        send(names, frames, times, columns)

    def close(self) -> None:
        """Wait until all frames are sent, for `linger_s` at most, and close. Closing twice does nothing more."""
        self._socket.close()
        self._context.term()
        if self._is_epoch_from_clock and self._num_messages:
            # Should the clock have been set back meanwhile, there is nothing to wait for.
            time.sleep(min(max(0.0, self._epoch + 1 - time.time()), 1.0))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _number(self, names: Sequence[str], first: int | None) -> NDArray[np.uint64]:
        streams = set(names)
        for name in streams - self._next_frame.keys():
            if not is_valid_name(name.encode()):
                raise ValueError(f"no stream can be called {name!r}")
            self._next_frame[name] = 0
        if first is not None:
            if len(streams) > 1:
                raise ValueError("one frame number for several streams")
            self._next_frame[names[0]] = first
        numbers = []
        for name in names:
            numbers.append(self._next_frame[name])
            self._next_frame[name] += 1
        return np.array(numbers, np.uint64)

    def _send_packed(
        self,
        names: Sequence[str],
        frames: NDArray[np.uint64],
        times: NDArray[np.int64],
        values: NDArray[np.float32],
    ) -> None:
        sources = [name.encode() for name in names]
        num_rows = max(1, _MAX_PART_BYTES // (_PACKED_HEADER_BYTES + values.shape[1] * values.itemsize))
        for start in range(0, len(values), num_rows):
            rows = slice(start, start + num_rows)
            part = sources[rows]
            batch = FrameBatch(
                names=part,
                frame=frames[rows],
                timestamp_ns=times[rows],
                epoch=np.full(len(part), self._epoch, np.uint32),
                unnumbered=np.zeros(len(part), np.bool_),
                values=values[rows],
            )
            self._send_message(part[0] if part.count(part[0]) == len(part) else None, encode_frames(batch))

    def _send_arrays(
        self,
        names: Sequence[str],
        frames: NDArray[np.uint64],
        times: NDArray[np.int64],
        values: NDArray[np.float32],
    ) -> None:
        for name, frame, timestamp_ns, row in zip(
            names, frames.tolist(), times.tolist(), values, strict=True
        ):
            source = name.encode()
            array = encode_frame_array(source, row, frame=frame, timestamp_ns=timestamp_ns, epoch=self._epoch)
            self._send_message(source, *array)

    def _send_message(self, topic: bytes | None, *parts: bytes) -> None:
        message = (topic, *parts) if self._has_topic and topic is not None else parts
        try:
            self._socket.send_multipart(message)
        except zmq.Again as error:
            raise PeerTimeoutError(f"{self.endpoint}: nobody took a frame for {self._wait_s:g} s") from error
        self._num_messages += 1
        if self._num_messages % _MESSAGES_BETWEEN_LOOKS == 0:
            while self._socket.poll(0):  # subscriptions that came and went would pile up
                self._socket.recv()

    def _await_subscriber(self) -> None:
        if self._has_subscriber:
            return
        if not self._socket.poll(round(1000 * self._wait_s)):
            raise PeerTimeoutError(f"{self.endpoint}: no subscriber for {self._wait_s:g} s")
        self._has_subscriber = True


def _to_float32(values: Values) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # what overflows becomes infinite, which the daemon refuses and counts
        return np.ascontiguousarray(values, np.float32)
