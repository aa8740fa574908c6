"""What all sockets share: endpoints that are opened or named in an error."""

from __future__ import annotations

import socket as unix
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from foretell.choices import Mode
from foretell.errors import EndpointError
from foretell.sockets import (
    Transport,
    ZmqSocket,
    configure,
    is_ipv6,
    open_context,
    open_endpoints,
)
from peers import has_ipv6


@pytest.fixture
def socket() -> Iterator[ZmqSocket]:
    """A SUB socket as the receiver would set it."""
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        configure(socket, Transport())
        yield socket


def test_a_free_port_is_found(socket: ZmqSocket) -> None:
    """Port `*` and port 0 bind a free one, which is told."""
    for endpoint in open_endpoints(socket, ["tcp://127.0.0.1:*", "tcp://127.0.0.1:0"], Mode.BIND):
        assert int(endpoint.removeprefix("tcp://127.0.0.1:")) > 0


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 on this machine")
def test_all_addresses_are_both_kinds(socket: ZmqSocket) -> None:
    """`tcp://*` is reached over IPv4 and over IPv6."""
    (endpoint,) = open_endpoints(socket, ["tcp://*:*"], Mode.BIND)
    port = int(endpoint.rpartition(":")[2])
    for host in ("127.0.0.1", "::1"):
        unix.create_connection((host, port)).close()


@pytest.mark.parametrize(
    ("endpoint", "is_on"),
    [
        ("tcp://[::1]:5555", True),
        ("tcp://*:5555", True),
        ("tcp://127.0.0.1:5555", False),
        ("tcp://localhost:5555", False),
        ("ipc:///run/foretell/[x]", False),
    ],
)
def test_ipv6_is_asked_for(endpoint: str, *, is_on: bool) -> None:
    """IPv6 is switched on by brackets and by `*`, and a host name means IPv4."""
    assert is_ipv6(endpoint) is is_on


@pytest.mark.parametrize(
    ("endpoint", "reason"),
    [
        ("tcp://192.0.2.1:*", "no such address on this machine"),
        ("tcp://no-such-interface:*", "no such address on this machine"),
        ("ipc:///no/such/folder/frames", "no such file or directory"),
    ],
)
def test_what_cannot_be_bound_is_named(socket: ZmqSocket, endpoint: str, reason: str) -> None:
    """An endpoint that cannot be bound is an error of one line that names it and says why."""
    with pytest.raises(EndpointError) as caught:
        open_endpoints(socket, [endpoint], Mode.BIND)
    assert str(caught.value) == f"{endpoint}: {reason}"


def test_a_bound_ipc_endpoint_is_not_taken_away(socket: ZmqSocket, tmp_path: Path) -> None:
    """A second socket is refused an ipc path that another one serves, which libzmq would silently replace."""
    endpoint = f"ipc://{tmp_path}/frames"
    open_endpoints(socket, [endpoint], Mode.BIND)
    with (
        zmq.Context() as context,
        context.socket(zmq.SUB) as second,
        pytest.raises(EndpointError, match=r"frames: address already in use$"),
    ):
        open_endpoints(second, [endpoint], Mode.BIND)


def test_a_file_is_not_deleted(socket: ZmqSocket, tmp_path: Path) -> None:
    """Something that is not a socket at an ipc path is left alone, which libzmq would delete."""
    path = tmp_path / "recording.csv"
    path.write_text("precious")
    with pytest.raises(EndpointError, match=r"a file that is not a socket$"):
        open_endpoints(socket, [f"ipc://{path}"], Mode.BIND)
    assert path.read_text() == "precious"


def test_a_socket_left_behind_is_replaced(socket: ZmqSocket, tmp_path: Path) -> None:
    """The socket file of a process that was killed does not stop the next start."""
    path = tmp_path / "frames"
    with unix.socket(unix.AF_UNIX) as left_behind:
        left_behind.bind(str(path))
    assert open_endpoints(socket, [f"ipc://{path}"], Mode.BIND) == (f"ipc://{path}",)


def test_a_context_leaves_nothing() -> None:
    """The authenticator's thread and forgotten sockets end with the context, also where an error ends it."""
    before = set(threading.enumerate())
    forgotten: list[ZmqSocket] = []

    def run() -> None:
        with open_context() as context:
            forgotten.append(context.socket(zmq.SUB))
            assert set(threading.enumerate()) > before
            raise EndpointError("tcp://nowhere")

    with pytest.raises(EndpointError):
        run()
    assert forgotten[0].closed
    assert set(threading.enumerate()) == before
