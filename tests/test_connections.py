"""What is read out of the socket monitor's events."""

from __future__ import annotations

import zmq

from foretell.connections import ConnectionLog, Disconnect

MS = 1_000_000
LATER_NS = 150 * MS
A, B = "tcp://sensor-a:5555", "tcp://192.0.2.1:5555"


def test_a_connection_counts_from_its_first_packet() -> None:
    """Connections are counted by their descriptor, so that one that ends in its handshake leaves no trace."""
    log = ConnectionLog(connects=False)
    for descriptor in (7, 8, 9):
        log.note(zmq.Event.ACCEPTED, descriptor, A, 0)
    log.note(zmq.Event.DISCONNECTED, 8, A, 0)
    assert log.take_changes().num_connections == 2
    log.note(zmq.Event.ACCEPTED, 8, A, 0)
    assert log.take_changes().num_connections == 3


def test_disconnects_have_their_reason_once() -> None:
    """An end is a handshake's, an established connection's or the authenticator's doing, and is told once."""
    log = ConnectionLog(connects=False)
    log.note(zmq.Event.ACCEPTED, 7, A, 0)
    log.note(zmq.Event.DISCONNECTED, 7, A, 0)
    log.note(zmq.Event.ACCEPTED, 7, A, 0)
    log.note(zmq.Event.HANDSHAKE_SUCCEEDED, 0, A, 0)
    log.note(zmq.Event.ACCEPTED, 8, A, 0)
    log.note(zmq.Event.HANDSHAKE_FAILED_AUTH, 400, A, 0)
    log.note(zmq.Event.DISCONNECTED, 8, A, 0)
    log.note(zmq.Event.DISCONNECTED, 7, A, 0)
    assert log.take_changes().disconnects == {
        Disconnect.HANDSHAKE: 1,
        Disconnect.AUTHENTICATION: 1,
        Disconnect.CLOSED: 1,
    }
    assert log.take_changes().disconnects == {}


def test_a_handshake_is_not_credited_to_an_idle_stranger() -> None:
    """Of several connections in their handshake, the youngest is the one that completes it."""
    log = ConnectionLog(connects=False)
    log.note(zmq.Event.ACCEPTED, 7, A, 0)  # says nothing
    log.note(zmq.Event.ACCEPTED, 8, A, 0)
    log.note(zmq.Event.HANDSHAKE_SUCCEEDED, 0, A, 0)
    log.note(zmq.Event.DISCONNECTED, 7, A, 0)
    assert log.take_changes().disconnects == {Disconnect.HANDSHAKE: 1}


def lose(log: ConnectionLog, endpoint: str, now_ns: int = 0) -> None:
    """An established connection that ends."""
    log.note(zmq.Event.CONNECTED, 7, endpoint, now_ns)
    log.note(zmq.Event.HANDSHAKE_SUCCEEDED, 0, endpoint, now_ns)
    log.note(zmq.Event.DISCONNECTED, 7, endpoint, now_ns)


def test_what_is_tried_again_is_not_given_up() -> None:
    """A lost connection that libzmq tries again is closed, and left to it."""
    log = ConnectionLog(connects=True)
    lose(log, B)
    log.note(zmq.Event.CONNECT_RETRIED, 100, B, 0)
    assert log.take_given_up(LATER_NS) == []
    assert log.take_changes().disconnects == {Disconnect.CLOSED: 1}


def test_silence_means_given_up() -> None:
    """A lost connection that libzmq does not try again is given up after a tenth of a second, and said once."""
    log = ConnectionLog(connects=True)
    lose(log, B, now_ns=1000 * MS)
    assert log.take_given_up(1099 * MS) == []
    assert log.take_given_up(1100 * MS) == [B]
    assert log.take_given_up(9999 * MS) == []
    assert log.take_changes().disconnects == {Disconnect.PROTOCOL: 1}


def test_a_host_is_known_by_its_address() -> None:
    """A retry under a host's address is that of the host's name, and a given-up neighbour is not confused with it."""
    log = ConnectionLog(connects=True)
    lose(log, "tcp://192.0.2.9:5555")
    lose(log, A)
    log.note(zmq.Event.CONNECT_RETRIED, 100, B, 0)
    assert log.take_given_up(LATER_NS) == ["tcp://192.0.2.9:5555"]


def test_other_ports_and_paths_are_other_endpoints() -> None:
    """A retry elsewhere does not hide that an endpoint was given up."""
    log = ConnectionLog(connects=True)
    for endpoint in ("tcp://sensor-a:6666", "tcp://[2001:db8::1]:5555", "ipc:///run/frames"):
        lose(log, endpoint)
    log.note(zmq.Event.CONNECT_RETRIED, 100, B, 0)
    log.note(zmq.Event.CONNECT_RETRIED, 100, "ipc:///run/others", 0)
    assert len(log.take_given_up(LATER_NS)) == 3


def test_a_bound_socket_has_nothing_to_connect() -> None:
    """Peers of a bound socket come back by themselves."""
    log = ConnectionLog(connects=False)
    log.note(zmq.Event.ACCEPTED, 7, A, 0)
    log.note(zmq.Event.DISCONNECTED, 7, A, 0)
    assert log.take_given_up(LATER_NS) == []
