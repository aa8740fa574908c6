"""What all ZeroMQ sockets share: the context and its authenticator, transport settings, opening of endpoints."""

from __future__ import annotations

import contextlib
import errno
import socket as unix
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import zmq

from foretell.choices import Mode
from foretell.errors import EndpointError

ZmqContext = zmq.Context[zmq.Socket[bytes]]
ZmqSocket = zmq.Socket[bytes]

# One I/O thread carries a million messages a second and keeps the monitor's events in order (see connections.py).
IO_THREADS = 1

# Any non-empty domain makes libzmq ask the authenticator about every peer, and turn away the ones that cannot be
# asked about: raw TCP in the framing of ZMTP 1.0 and 2.0, which it would take for frames otherwise.
ZAP_DOMAIN = b"foretell"

# Connections that wait to be accepted, so that a thousand peers may come back at once after a restart. The kernel's
# net.core.somaxconn bounds it. libzmq's default is 100.
BACKLOG = 1024

# Heartbeats notice a dead peer sooner; these find it where they are off, and hold NAT entries open meanwhile.
TCP_KEEPALIVE_IDLE_S = 60
TCP_KEEPALIVE_INTERVAL_S = 15
TCP_KEEPALIVE_COUNT = 4


@dataclass(frozen=True, slots=True)
class Transport:
    """How the connections of a socket are kept, in milliseconds.

    libzmq's own defaults are no heartbeat, 30 s for a handshake, a wait of 100 ms between attempts to connect that
    never grows, and to linger for ever.

    linger_ms: how long closing waits for messages still to be sent.
    """

    heartbeat_interval_ms: int = 5_000
    heartbeat_timeout_ms: int = 15_000
    handshake_interval_ms: int = 10_000
    reconnect_interval_ms: int = 100
    reconnect_interval_max_ms: int = 5_000
    linger_ms: int = 0


@contextlib.contextmanager
def open_context() -> Iterator[ZmqContext]:
    """A context in which sockets with a ZAP domain can be reached; on leaving, sockets are closed as they linger.

    The authenticator is pyzmq's own and accepts every peer that speaks ZMTP 3: sockets here have no keys. It runs in
    a thread that sleeps but for a handshake (about 0.2 ms of Python each), so that peers connect and are turned away
    while the loop is busy or still warming up.
    """
    from zmq.auth.thread import ThreadAuthenticator  # brings asyncio, 0.1 s that clients need not spend

    context: ZmqContext = zmq.Context(IO_THREADS)
    authenticator = ThreadAuthenticator(context)
    authenticator.start()
    try:
        yield context
    finally:
        authenticator.stop()
        context.destroy()


def configure(socket: ZmqSocket, transport: Transport) -> None:
    """Set what every socket sets, before it binds or connects."""
    socket.linger = transport.linger_ms
    socket.backlog = BACKLOG
    socket.heartbeat_ivl = transport.heartbeat_interval_ms
    socket.heartbeat_timeout = transport.heartbeat_timeout_ms
    socket.handshake_ivl = transport.handshake_interval_ms
    socket.reconnect_ivl = transport.reconnect_interval_ms
    socket.reconnect_ivl_max = transport.reconnect_interval_max_ms
    socket.tcp_keepalive = 1
    socket.tcp_keepalive_idle = TCP_KEEPALIVE_IDLE_S
    socket.tcp_keepalive_intvl = TCP_KEEPALIVE_INTERVAL_S
    socket.tcp_keepalive_cnt = TCP_KEEPALIVE_COUNT


def open_endpoints(socket: ZmqSocket, endpoints: Sequence[str], mode: Mode) -> tuple[str, ...]:
    """Bind or connect every endpoint; returns them as they are, with the port that was found for port 0 or `*`.

    Raises EndpointError, which names the first one that cannot be opened.
    """
    return tuple(_open_endpoint(socket, endpoint, mode) for endpoint in endpoints)


def _open_endpoint(socket: ZmqSocket, endpoint: str, mode: Mode) -> str:
    socket.ipv6 = is_ipv6(endpoint)
    try:
        if mode is Mode.CONNECT:
            socket.connect(endpoint)
            return endpoint
        if endpoint.startswith("ipc://"):
            _check_ipc_path(endpoint)
        socket.bind(endpoint)
    except zmq.ZMQError as error:
        raise EndpointError(f"{endpoint}: {_reason(error)}") from error
    return socket.get_string(zmq.LAST_ENDPOINT)


def _reason(error: zmq.ZMQError) -> str:
    if error.errno in {errno.ENODEV, errno.EADDRNOTAVAIL}:
        return "no such address on this machine"
    text = zmq.strerror(error.errno or 0)
    return text[:1].lower() + text[1:]


def is_ipv6(endpoint: str) -> bool:
    """Whether IPv6 is switched on: where the address is written in brackets, and for all addresses (`*`).

    Not for host names: libzmq tries only one address of a name, with IPv6 on that is the IPv6 one, and the peer
    behind `localhost` seldom listens there. `[name]` asks for it.
    """
    return endpoint.startswith(("tcp://[", "tcp://*:"))


def _check_ipc_path(endpoint: str) -> None:
    """Raise EndpointError where something lies at the path that is not a socket left behind.

    libzmq deletes whatever is there, so that a second daemon would take the first one's endpoint unnoticed.
    """
    path = Path(endpoint.removeprefix("ipc://"))
    try:
        mode = path.stat().st_mode
    except OSError:
        return  # nothing there, or binding will say what is wrong
    if not stat.S_ISSOCK(mode):
        raise EndpointError(f"{endpoint}: there is a file that is not a socket")
    with unix.socket(unix.AF_UNIX, unix.SOCK_STREAM) as probe:
        probe.setblocking(False)
        with contextlib.suppress(ConnectionRefusedError, FileNotFoundError):
            try:
                probe.connect(str(path))
            except BlockingIOError:
                pass  # its backlog is full: all the more in use
            except PermissionError as error:
                raise EndpointError(f"{endpoint}: permission denied") from error
            raise EndpointError(f"{endpoint}: address already in use")
