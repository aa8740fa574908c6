"""The SUB socket: takes what has arrived; `foretell.part_reader` tells apart which parts are frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import zmq

from foretell.config import InputConfig
from foretell.connections import ConnectionChanges, ConnectionMonitor
from foretell.native_zmq import NotNativeError
from foretell.part_reader import Inbox, Next, PartReader, count_records
from foretell.sockets import ZAP_DOMAIN, Transport, ZmqContext, ZmqSocket, configure, open_endpoints
from foretell.wire import PACKED_FRAME, Array

if TYPE_CHECKING:
    from foretell.native_receive import NativeReceiver

# Plain integers: libzmq's binding takes them without a look into an enum.
_NOBLOCK = int(zmq.NOBLOCK)
_RCVMORE = int(zmq.RCVMORE)

# Topic, header and payload: the most parts that one frame needs. Bounds a drain where parts carry no frames.
_MAX_PARTS_A_FRAME = 3

# Parts that are received one by one before it is worth while to look for a run of them.
_FEW = 16

# Room for a run of parts: 4,096 frames of some 500 channels. A longer one is taken in the next drain.
_RUN_BYTES = 8 << 20


class Receiver:
    """A SUB socket that binds or connects all endpoints of its settings. Raises EndpointError where it cannot.

    context: one from `sockets.open_context`; without its authenticator no peer gets in.
    """

    def __init__(self, context: ZmqContext, config: InputConfig) -> None:
        self.socket: ZmqSocket = context.socket(zmq.SUB)
        self._monitor = ConnectionMonitor(context, self.socket, config.mode)
        try:
            self._configure(config)
            self.endpoints = open_endpoints(self.socket, config.endpoints, config.mode)
        except BaseException:
            self.close()
            raise
        self._reader = PartReader(self._has_more)
        # Of the packed part before: magic and channels, length, number of records. Parts that agree in the first two
        # agree in the third. No part is like this first one.
        self._packed_like = PACKED_FRAME, 0, 0
        self._native = _open_native(self.socket)

    @property
    def monitor(self) -> ZmqSocket:
        """Can be read when `read_monitor` has news."""
        return self._monitor.socket

    def drain(self, max_frames: int) -> Inbox:
        """Take what is there, at once, until it is about `max_frames` frames.

        Frames refused here count too. The last part can go beyond with its own records; a message can be cut between
        two drains, and the next one goes on where this one ended. Never waits.
        """
        inbox = self._reader.inbox = Inbox()
        most_parts = _MAX_PARTS_A_FRAME * max_frames
        if self._native is None or max_frames <= _FEW:
            self._read(most_parts, max_frames)
            return inbox
        num_frames = self._read(_FEW, max_frames)
        if num_frames is None:
            return inbox
        if self._is_run(inbox.bodies):
            num_more = self._read_run(self._native, max_frames - num_frames)
            if num_more is None:
                return inbox
            num_frames += num_more
        if num_frames < max_frames:
            self._read(most_parts, max_frames - num_frames)
        return inbox

    def _is_run(self, bodies: Sequence[bytes | Array]) -> bool:
        """Whether all parts so far are packed ones like the last, so that more of them can be expected."""
        start, length, _ = self._packed_like
        return (
            len(bodies) == _FEW
            and self._reader.next is Next.ANYTHING
            and all(isinstance(body, bytes) and len(body) == length and body[:6] == start for body in bodies)
        )

    def _read_run(self, native: NativeReceiver, max_frames: int) -> int | None:
        """Take parts like those before for as long as they come; how many frames, None where nothing more is there."""
        inbox, num_records = self._reader.inbox, self._packed_like[2]
        first = cast("list[bytes]", inbox.bodies)
        most = max(1, min(-(-max_frames // num_records), _RUN_BYTES // len(first[0])))
        inbox.run, other = native.take(first, most)
        num_parts, inbox.bodies = len(inbox.run) - len(first), []
        if other is None:
            return None
        return num_parts * num_records + self._reader.take(other)

    def _read(self, most_parts: int, max_frames: int) -> int | None:
        """Take parts one by one; how many frames they are, None where no more are there or wanted."""
        reader, recv = self._reader, self.socket.recv
        append = reader.inbox.bodies.append
        anything, after_topic = Next.ANYTHING, Next.AFTER_TOPIC
        start, length, num_records = self._packed_like
        expected = reader.next
        num_frames = 0
        try:
            for _ in range(most_parts):
                part = recv(_NOBLOCK)
                is_alike = part[:6] == start and len(part) == length
                # The reader would do the same with a packed part, with or without a topic; this is faster.
                if (expected is anything or expected is after_topic) and (
                    is_alike or part[:4] == PACKED_FRAME
                ):
                    if not is_alike:
                        start, length, num_records = part[:6], len(part), count_records(part)
                    append(part)
                    num_frames += num_records
                    expected = anything
                else:
                    reader.next = expected
                    num_frames += reader.take(part)
                    expected = reader.next
                if num_frames >= max_frames:
                    break
            is_over = num_frames >= max_frames
        except zmq.Again:
            is_over = True
        reader.next = expected
        self._packed_like = start, length, num_records
        return None if is_over else num_frames

    def read_monitor(self) -> ConnectionChanges:
        """What became of the connections since the last call; connects again what libzmq has given up. Never waits.

        Call it when `monitor` can be read, and every few tenths of a second: that a connection was given up shows in
        what libzmq does not say.
        """
        return self._monitor.read()

    def close(self) -> None:
        """Close at once; what has not been drained is dropped."""
        self._monitor.close()
        self.socket.close(linger=0)

    def _has_more(self) -> bool:
        return self.socket.get(_RCVMORE) == 1

    def _configure(self, config: InputConfig) -> None:
        configure(
            self.socket,
            Transport(
                heartbeat_interval_ms=config.heartbeat_interval_ms,
                heartbeat_timeout_ms=config.heartbeat_timeout_ms,
                handshake_interval_ms=config.handshake_interval_ms,
                reconnect_interval_ms=config.reconnect_interval_ms,
                reconnect_interval_max_ms=config.reconnect_interval_max_ms,
                linger_ms=0,  # a subscriber sends nothing that could be lost
            ),
        )
        self.socket.zap_domain = ZAP_DOMAIN
        self.socket.rcvhwm = config.high_water_mark
        self.socket.maxmsgsize = config.max_message_bytes
        self.socket.sndhwm = 0  # subscriptions are sent: beyond a mark libzmq drops them without a word
        for prefix in config.subscribe:
            self.socket.subscribe(prefix)


def _open_native(socket: ZmqSocket) -> NativeReceiver | None:
    """What takes runs of parts by machine code, None where it cannot."""
    try:
        from foretell.native_receive import NativeReceiver  # llvmlite may be absent
    except ImportError:
        return None
    try:
        return NativeReceiver(socket)
    except NotNativeError:
        return None
