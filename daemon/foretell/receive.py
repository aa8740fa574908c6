"""The SUB socket: takes what has arrived, and tells apart which parts are frames.

Here alone it is known how messages are cut into parts; what a frame means is the next stage's to say.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import zmq

from foretell.config import InputConfig
from foretell.connections import ConnectionChanges, ConnectionMonitor
from foretell.sockets import ZAP_DOMAIN, Transport, ZmqContext, ZmqSocket, configure, open_endpoints
from foretell.wire import ARRAY_START, PACKED_FORECAST, PACKED_FRAME, TOPIC_MAX_BYTES, Array
from foretell.wire_types import CHANNELS_MAX

# Plain integers: libzmq's binding takes them without a look into an enum.
_NOBLOCK = int(zmq.NOBLOCK)
_RCVMORE = int(zmq.RCVMORE)

# Topic, header and payload: the most parts that one frame needs. Bounds a drain where parts carry no frames.
_MAX_PARTS_A_FRAME = 3

_PACKED_HEADER_BYTES = 96
_ROWS = re.compile(rb'"shape"\s*:\s*\[\s*(\d{1,9})\s*,')


@dataclass(slots=True)
class Inbox:
    """What a drain took: bodies in order of arrival, and the number of parts or messages that are none."""

    bodies: list[bytes | Array] = field(default_factory=list)
    num_malformed: int = 0


class Next(enum.Enum):
    """What the next part can be, given those before it in its message."""

    ANYTHING = enum.auto()  # the first part of a message, or the one after a packed body
    AFTER_TOPIC = enum.auto()  # one part came that is the topic if a body follows
    AFTER_STRAYS = enum.auto()  # parts came of which at least one is no topic
    PAYLOAD = enum.auto()  # an array's header came
    REFUSED = enum.auto()  # the message is refused already


class PartReader:
    """Tells bodies from topics and strays, part by part, and never lets one message shift the parts of the next.

    A packed body is judged by itself, so where its message ends is never asked. For every other part it is asked
    whether more parts follow, so that what a part is depends on its own message alone.

    has_more: whether the part just received has another after it in its message.
    """

    def __init__(self, has_more: Callable[[], bool]) -> None:
        self.inbox = Inbox()
        self.next = Next.ANYTHING
        self._has_more = has_more
        self._header = b""
        self._has_strays = False  # whether parts before the body are malformed

    def take(self, part: bytes) -> int:
        """Take the next part in; returns how many frames, refused ones among them, it completes (an estimate)."""
        expected = self.next
        if expected is Next.PAYLOAD:
            if self._has_more():
                return self._refuse(has_more=True)
            return self._accept((self._header, part), count_rows(self._header, part))
        if expected is Next.REFUSED:
            if not self._has_more():
                self._begin()
            return 0
        if part.startswith(PACKED_FRAME):
            return self._accept(part, count_records(part))
        is_header = part.startswith(ARRAY_START)
        has_more = self._has_more()
        if not has_more or (len(part) > TOPIC_MAX_BYTES and not is_header):
            return self._refuse(has_more=has_more)
        if is_header:
            self._header = part
            self.next = Next.PAYLOAD
        elif expected is Next.ANYTHING and not part.startswith(PACKED_FORECAST):
            self.next = Next.AFTER_TOPIC
        else:
            self._has_strays = True
            self.next = Next.AFTER_STRAYS
        return 0

    def _accept(self, body: bytes | Array, num_frames: int) -> int:
        self.inbox.bodies.append(body)
        if self._has_strays:
            self.inbox.num_malformed += 1
            num_frames += 1
        self._begin()
        return num_frames

    def _refuse(self, *, has_more: bool) -> int:
        """Refuse the message, the strays before included, and pass over what it has more."""
        self.inbox.num_malformed += 1
        self._begin()
        if has_more:
            self.next = Next.REFUSED
        return 1

    def _begin(self) -> None:
        self.next = Next.ANYTHING
        self._header = b""
        self._has_strays = False


def count_records(part: bytes) -> int:
    """How many records a packed part of at least four bytes holds if it is sound, and at least 1."""
    channels = min(int.from_bytes(part[4:6], "little"), CHANNELS_MAX)
    return len(part) // (_PACKED_HEADER_BYTES + 4 * channels) or 1


def count_rows(header: bytes, payload: bytes) -> int:
    """About how many rows an array has: what its header says, at least 1 and no more than there is payload for."""
    match = _ROWS.search(header)
    return max(1, min(int(match[1]), len(payload) // 4)) if match else 1


def read_message(parts: Sequence[bytes]) -> Inbox:
    """What one whole message holds."""
    position = 0
    reader = PartReader(lambda: position < len(parts) - 1)
    for position, part in enumerate(parts):  # noqa: B007 - the reader looks at it
        reader.take(part)
    return reader.inbox


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

    @property
    def monitor(self) -> ZmqSocket:
        """Can be read when `read_monitor` has news."""
        return self._monitor.socket

    def drain(self, max_frames: int) -> Inbox:
        """Take what is there, at once, until it is about `max_frames` frames.

        Frames refused here count too. The last part can go beyond with its own records; a message can be cut between
        two drains, and the next one goes on where this one ended. Never waits.
        """
        reader, recv = self._reader, self.socket.recv
        inbox = reader.inbox = Inbox()
        append = inbox.bodies.append
        anything, after_topic = Next.ANYTHING, Next.AFTER_TOPIC
        start, length, num_records = self._packed_like
        expected = reader.next
        num_frames = 0
        try:
            for _ in range(_MAX_PARTS_A_FRAME * max_frames):
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
        except zmq.Again:
            pass
        reader.next = expected
        self._packed_like = start, length, num_records
        return inbox

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
