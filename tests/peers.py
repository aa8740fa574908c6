"""ZeroMQ peers for tests: sockets that close by themselves, and waiting for what a peer does."""

from __future__ import annotations

import socket as raw
import time

import zmq

from foretell.sockets import ZmqSocket

DEADLINE_S = 10.0


def has_ipv6() -> bool:
    """Whether this machine has IPv6: many a container has none."""
    try:
        with raw.socket(raw.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def await_subscription(publisher: ZmqSocket, subscriber: ZmqSocket) -> bytes:
    """The next subscription that an XPUB socket gets; `subscriber` enters libzmq meanwhile, as a loop does."""
    deadline_s = time.monotonic() + DEADLINE_S
    while not publisher.poll(5):
        assert time.monotonic() < deadline_s, "no subscription arrived"
        subscriber.poll(5)
    return publisher.recv()


def await_flow(publisher: ZmqSocket, subscriber: ZmqSocket) -> None:
    """Wait until what a PUB socket sends arrives; only probes are sent meanwhile, and all of them are taken in."""
    deadline_s = time.monotonic() + DEADLINE_S
    num_sent = 0
    while not subscriber.poll(5):
        assert time.monotonic() < deadline_s, "nothing arrives"
        publisher.send(b"probe %d" % num_sent)
        num_sent += 1
    while subscriber.recv() != b"probe %d" % (num_sent - 1):
        pass


def received(subscriber: ZmqSocket, num_messages: int) -> list[list[bytes]]:
    """The next messages, as their parts."""
    messages: list[list[bytes]] = []
    for _ in range(num_messages):
        assert subscriber.poll(round(1000 * DEADLINE_S)), f"only {len(messages)} of {num_messages} arrived"
        messages.append(subscriber.recv_multipart())
    return messages


def endpoint_of(socket: ZmqSocket) -> str:
    """What a socket was bound to last."""
    return socket.get_string(zmq.LAST_ENDPOINT)
