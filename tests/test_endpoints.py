"""What an address may look like."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretell.endpoints import is_http_endpoint, is_zmq_endpoint, split_host_and_port

EITHER_WAY = [
    "tcp://127.0.0.1:5555",
    "tcp://localhost:1",
    "tcp://sensors-1.example.org:65535",
    "tcp://[::1]:5555",
    "tcp://[fe80::1%eth0]:5555",
    "ipc:///run/foretell/frames",
    "ipc://@abstract",
]
TO_BIND_ONLY = ["tcp://*:5555", "tcp://127.0.0.1:0", "tcp://[::1]:0"]
NEITHER_WAY = [
    "",
    "5555",
    "localhost:5555",
    "tcp://",
    "tcp://localhost",
    "tcp://localhost:",
    "tcp://:5555",
    "tcp://localhost:65536",
    "tcp://localhost:-1",
    "tcp://localhost:٣",
    "tcp://::1:5555",
    "tcp://[::g]:5555",
    "tcp://[]:5555",
    "tcp://a b:5555",
    "tcp://localhost:5555/path",
    "tcp://localhost:5555\n",
    "TCP://localhost:5555",
    "udp://localhost:5555",
    "inproc://frames",
    "ipc://",
    "ipc://a\0b",
    "ipc://" + "x" * 108,
]


@pytest.mark.parametrize("endpoint", EITHER_WAY)
@pytest.mark.parametrize("binds", [True, False], ids=["bind", "connect"])
def test_an_address_is_good_for_both_ends(endpoint: str, *, binds: bool) -> None:
    """Host names, IPv4, IPv6 in brackets and paths may be bound and connected."""
    assert is_zmq_endpoint(endpoint, binds=binds)


@pytest.mark.parametrize("endpoint", TO_BIND_ONLY)
def test_an_address_of_any_host_or_port_can_only_be_bound(endpoint: str) -> None:
    """`*` and port 0 leave the choice to the end that binds; nobody can connect to them."""
    assert is_zmq_endpoint(endpoint, binds=True)
    assert not is_zmq_endpoint(endpoint, binds=False)


@pytest.mark.parametrize("endpoint", NEITHER_WAY)
@pytest.mark.parametrize("binds", [True, False], ids=["bind", "connect"])
def test_what_is_no_address_is_told(endpoint: str, *, binds: bool) -> None:
    """Another scheme, a missing or impossible port, IPv6 without brackets, a path too long: none is an address."""
    assert not is_zmq_endpoint(endpoint, binds=binds)


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:9797", "http://[::1]:0", "http://localhost:65535"])
def test_http_is_served_at_host_and_port(endpoint: str) -> None:
    """HTTP takes a host and a port."""
    assert is_http_endpoint(endpoint)


@pytest.mark.parametrize(
    "endpoint", ["https://localhost:1", "http://localhost", "http://*:1", "http://h:1/x", "tcp://h:1"]
)
def test_what_http_cannot_be_served_at_is_told(endpoint: str) -> None:
    """No TLS, no path, no missing port, no star."""
    assert not is_http_endpoint(endpoint)


@given(st.ip_addresses(), st.integers(0, 65535))
def test_host_and_port_come_back(address: object, port: int) -> None:
    """Whatever IP address and port make up an endpoint, it is good to bind and splits into them again."""
    host = str(address)
    endpoint = f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"
    assert is_zmq_endpoint(endpoint, binds=True)
    assert split_host_and_port(endpoint) == (host, port)
