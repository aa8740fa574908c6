"""What libzmq's socket monitor tells of a socket's connections, and the one thing that it leaves to be repaired.

libzmq reconnects after every loss but one: where the peer broke the protocol (a part beyond the maximum size, above
all) it ends the connection for good, without an event that says so. What tells is what does not come: after a
`DISCONNECTED` the event `CONNECT_RETRIED` follows within microseconds, or never. Of a bound socket the peer is the one
that connects again, so there is nothing to repair.
"""

from __future__ import annotations

import contextlib
import enum
import struct
import time
from collections import Counter
from dataclasses import dataclass, field

import zmq

from foretell.choices import Mode
from foretell.endpoints import split_host_and_port
from foretell.sockets import ZmqContext, ZmqSocket, is_ipv6

# From a disconnect to the judgement that libzmq has given the connection up. Too early (libzmq's thread may be starved)
# and it is connected twice as soon, no more.
_GIVEN_UP_AFTER_NS = 100_000_000

# Of one look, so that a storm of connections cannot hold the loop; about 3 ms.
_MAX_EVENTS = 1024

_EVENT = struct.Struct("=Hi")  # event, value
# ACCEPT_FAILED is left out: with no file descriptors left, libzmq repeats it without a pause.
_EVENTS = (
    zmq.Event.ACCEPTED
    | zmq.Event.CONNECTED
    | zmq.Event.CONNECT_RETRIED
    | zmq.Event.HANDSHAKE_SUCCEEDED
    | zmq.Event.HANDSHAKE_FAILED_AUTH
    | zmq.Event.DISCONNECTED
)


class Disconnect(enum.StrEnum):
    """Why a connection ended, as far as libzmq says."""

    # The peer left or fell silent. Of a bound socket also what is `PROTOCOL` of one that connects.
    CLOSED = "closed"
    # libzmq gave it up over what the peer sent, a part beyond the maximum size above all; it is connected again.
    PROTOCOL = "protocol"
    # It ended before its handshake did: the peer speaks no ZMTP 3, is no fitting socket, left, or was too slow.
    HANDSHAKE = "handshake"
    # The authenticator turned it away.
    AUTHENTICATION = "authentication"


@dataclass(frozen=True, slots=True)
class ConnectionChanges:
    """How many connections are open now, those in their handshake among them, and those ended since the last look."""

    num_connections: int
    disconnects: dict[Disconnect, int]


@dataclass(frozen=True, slots=True)
class _Lost:
    """A connection of ours that ended, and that libzmq has not yet said it tries again."""

    reason: Disconnect
    due_ns: int


@dataclass(slots=True)
class ConnectionLog:
    """Follows the events of one socket, in the order in which its only I/O thread sent them.

    connects: whether it is the socket that connects again what was lost.
    """

    connects: bool
    _open: dict[int, bool] = field(default_factory=dict)  # file descriptor: is its handshake done
    _ended: Counter[Disconnect] = field(default_factory=Counter)
    _lost: dict[str, _Lost] = field(default_factory=dict)  # by endpoint
    _is_turned_away: bool = False

    def note(self, event: int, value: int, endpoint: str, now_ns: int) -> None:
        """Take in one event of the monitor."""
        match event:
            case zmq.Event.ACCEPTED | zmq.Event.CONNECTED:
                self._open[value] = False
            case zmq.Event.HANDSHAKE_SUCCEEDED:
                self._complete_handshake()
            case zmq.Event.HANDSHAKE_FAILED_AUTH:
                self._is_turned_away = True
            case zmq.Event.DISCONNECTED:
                self._disconnect(value, endpoint, now_ns)
            case zmq.Event.CONNECT_RETRIED:
                self._retry(endpoint)

    def take_given_up(self, now_ns: int) -> list[str]:
        """The endpoints that libzmq has given up, each said once."""
        given_up = [endpoint for endpoint, lost in self._lost.items() if lost.due_ns <= now_ns]
        for endpoint in given_up:
            reason = self._lost.pop(endpoint).reason
            self._ended[Disconnect.PROTOCOL if reason is Disconnect.CLOSED else reason] += 1
        return given_up

    def take_changes(self) -> ConnectionChanges:
        """What has changed since it was last asked."""
        changes = ConnectionChanges(len(self._open), dict(self._ended))
        self._ended.clear()
        return changes

    def _complete_handshake(self) -> None:
        # The event does not say whose. A handshake takes a millisecond, so those that idle are older: the newest's.
        for descriptor in reversed(self._open):
            if not self._open[descriptor]:
                self._open[descriptor] = True
                return

    def _disconnect(self, descriptor: int, endpoint: str, now_ns: int) -> None:
        if self._is_turned_away:
            reason = Disconnect.AUTHENTICATION
        elif self._open.get(descriptor, False):
            reason = Disconnect.CLOSED
        else:
            reason = Disconnect.HANDSHAKE
        self._is_turned_away = False
        self._open.pop(descriptor, None)
        if self.connects:
            self._lost[endpoint] = _Lost(reason, now_ns + _GIVEN_UP_AFTER_NS)
        else:
            self._ended[reason] += 1

    def _retry(self, endpoint: str) -> None:
        if endpoint not in self._lost:
            # From its first retry on, libzmq calls a host by its address. Retries come in the order of disconnects.
            endpoint = next((lost for lost in self._lost if _may_resolve_to(lost, endpoint)), endpoint)
        lost = self._lost.pop(endpoint, None)
        if lost is not None:
            self._ended[lost.reason] += 1


def _may_resolve_to(named: str, endpoint: str) -> bool:
    if not (named.startswith("tcp://") and endpoint.startswith("tcp://")):
        return False
    host, port = split_host_and_port(named)
    is_name = ":" not in host and any(letter.isalpha() for letter in host)
    return is_name and port == split_host_and_port(endpoint)[1]


class ConnectionMonitor:
    """The monitor of one socket: `socket` can be read when there is news.

    mode: whether the monitored socket binds or connects.
    """

    def __init__(self, context: ZmqContext, monitored: ZmqSocket, mode: Mode) -> None:
        self._monitored = monitored
        self._log = ConnectionLog(connects=mode is Mode.CONNECT)
        address = f"inproc://connections-{id(monitored):x}"
        monitored.monitor(address, _EVENTS)
        self.socket: ZmqSocket = context.socket(zmq.PAIR)
        # Unbounded: at a high-water mark libzmq's I/O thread would wait for us with the monitor's lock in its hand.
        self.socket.rcvhwm = 0
        self.socket.linger = 0
        self.socket.connect(address)

    def read(self) -> ConnectionChanges:
        """Take in what there is, and connect again what libzmq gave up a tenth of a second ago. Never waits."""
        now_ns = time.monotonic_ns()
        with contextlib.suppress(zmq.Again):
            for _ in range(_MAX_EVENTS):
                head, endpoint = self.socket.recv_multipart(zmq.NOBLOCK)
                event, value = _EVENT.unpack(head)
                self._log.note(event, value, endpoint.decode(errors="replace"), now_ns)
        for given_up in self._log.take_given_up(now_ns):
            self._reconnect(given_up)
        return self._log.take_changes()

    def close(self) -> None:
        """Stop watching. Call it before the monitored socket is closed."""
        self._monitored.disable_monitor()
        self.socket.close(linger=0)

    def _reconnect(self, endpoint: str) -> None:
        # libzmq ignores a second connect to the same endpoint, so the first goes; what it had still queued goes with
        # it. Where a host was first connected by its name there is no such endpoint, and the address is a new one.
        # (The name must not be disconnected then: libzmq 4.3.5 would reach for the queue that it has freed.)
        with contextlib.suppress(zmq.ZMQError):
            self._monitored.disconnect(endpoint)
        self._monitored.ipv6 = is_ipv6(endpoint)
        self._monitored.connect(endpoint)
