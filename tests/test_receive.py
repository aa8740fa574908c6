"""Receiving: which parts are frames, and the SUB socket as peers meet it."""

from __future__ import annotations

import socket as raw
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from foretell.choices import Mode
from foretell.config import InputConfig
from foretell.connections import Disconnect
from foretell.errors import EndpointError
from foretell.part_reader import Inbox, PartReader, count_records, count_rows, read_message
from foretell.receive import Receiver
from foretell.sockets import ZmqContext, ZmqSocket, open_context
from foretell.wire import PACKED_FORECAST, PACKED_FRAME, Array
from peers import DEADLINE_S, await_subscription, endpoint_of, has_ipv6

HEADER = b'{"htype":"array-1.0","type":"float32","shape":[1,1],"source":"a"}'


def packed(frame: int = 0, channels: int = 1, num_records: int = 1, source: bytes = b"pump-1") -> bytes:
    """A sound packed part of records that differ in nothing."""
    header = struct.pack("<4sHHQqII64s", b"FTL1", channels, 0, frame, 0, 0, 0, source)
    return (header + bytes(4 * channels)) * num_records


def frame_of(part: bytes) -> int:
    """The frame number of a packed part."""
    return int.from_bytes(part[8:16], "little")


@pytest.fixture(scope="module")
def context() -> Iterator[ZmqContext]:
    """One context with its authenticator for all sockets of these tests."""
    with open_context() as context:
        yield context


@pytest.fixture
def open_receiver(context: ZmqContext) -> Iterator[Callable[..., Receiver]]:
    """Opens receivers, on a free port of this machine if nothing else is asked for, and closes them."""
    opened: list[Receiver] = []

    def open_one(**settings: object) -> Receiver:
        settings.setdefault("endpoints", ("tcp://127.0.0.1:*",))
        opened.append(Receiver(context, InputConfig(**settings)))  # type: ignore[arg-type]
        return opened[-1]

    yield open_one
    for receiver in opened:
        receiver.close()


@pytest.fixture
def open_peer(context: ZmqContext) -> Iterator[Callable[..., ZmqSocket]]:
    """Opens producers' sockets, XPUB so that a subscription is seen to arrive, and closes them."""
    opened: list[ZmqSocket] = []

    def open_one(*endpoints: str, bind: str | None = None) -> ZmqSocket:
        peer = context.socket(zmq.XPUB)
        peer.ipv6 = any("[" in endpoint for endpoint in endpoints)
        peer.linger = 0
        peer.sndhwm = 0
        opened.append(peer)
        if bind is not None:
            peer.bind(bind)
        for endpoint in endpoints:
            peer.connect(endpoint)
        return peer

    yield open_one
    for peer in opened:
        peer.close()


def drain_until(receiver: Receiver, is_enough: Callable[[Inbox], bool]) -> Inbox:
    """All that drains until it is enough."""
    total = Inbox()
    deadline_s = time.monotonic() + DEADLINE_S
    while not is_enough(total):
        assert time.monotonic() < deadline_s, (
            f"only {len(total.bodies)} bodies, {total.num_malformed} malformed"
        )
        receiver.socket.poll(100)
        inbox = receiver.drain(4096)
        total.bodies += inbox.parts
        total.num_malformed += inbox.num_malformed
    return total


# ---------------------------------------------------------------- parts


@pytest.mark.parametrize(
    ("parts", "num_bodies", "num_malformed"),
    [
        ([packed()], 1, 0),
        ([b"topic", packed()], 1, 0),
        ([b"", packed()], 1, 0),
        ([b"t" * 128, packed()], 1, 0),
        ([b"t" * 129, packed()], 0, 1),
        ([b"x", b"t" * 129, packed()], 0, 1),
        ([b"x", b"y", packed()], 1, 1),
        ([b"x", b"y", b"z", packed()], 1, 1),
        ([packed(), b"x"], 1, 1),
        ([packed(), b"x", packed()], 2, 0),
        ([packed(), b"x", b"y", packed(), b"z"], 2, 2),
        ([packed(), packed(), packed()], 3, 0),
        ([b"x", b"y", b"z"], 0, 1),
        ([b""], 0, 1),
        ([PACKED_FORECAST + bytes(96)], 0, 1),
        ([PACKED_FORECAST, packed()], 1, 1),
        ([PACKED_FORECAST, b"topic", packed()], 1, 1),
        ([HEADER, b"1234"], 1, 0),
        ([b"topic", HEADER, b"1234"], 1, 0),
        ([b"x", b"y", HEADER, b"1234"], 1, 1),
        ([HEADER], 0, 1),
        ([b"topic", HEADER], 0, 1),
        ([HEADER, b"1234", b""], 0, 1),
        ([b"x", b"y", HEADER, b"1234", packed()], 0, 1),
        ([b"{topic", HEADER, b"1234"], 0, 1),
        ([HEADER, packed()], 1, 0),
        ([HEADER, HEADER], 1, 0),
        ([HEADER, packed(), packed()], 0, 1),
        ([packed(), HEADER, b"1234"], 2, 0),
        ([packed(), HEADER, b"1234", b"x"], 1, 1),
    ],
)
def test_a_message_is_cut_into_bodies(parts: list[bytes], num_bodies: int, num_malformed: int) -> None:
    """Bodies are found behind at most one topic, and everything else is malformed, once for each run of strays."""
    inbox = read_message(parts)
    assert (len(inbox.bodies), inbox.num_malformed) == (num_bodies, num_malformed)


def test_an_array_is_its_header_and_its_payload() -> None:
    """The payload of an array is the part after its header, whatever it begins with."""
    assert read_message([b"topic", HEADER, packed()]).bodies == [(HEADER, packed())]


PARTS = st.sampled_from(
    [
        packed(),
        HEADER,
        b"",
        b"x",
        b"topic",
        b"t" * 128,
        b"t" * 129,
        b"1234",
        b"FTL",
        PACKED_FRAME,
        PACKED_FORECAST,
        PACKED_FORECAST + bytes(200),
    ]
)
MESSAGES = st.lists(st.lists(PARTS, min_size=1, max_size=6), max_size=12)


@given(MESSAGES)
def test_messages_are_understood_apart(messages: list[list[bytes]]) -> None:
    """What is understood of a message does not depend on the messages around it."""
    follows = [position < len(parts) - 1 for parts in messages for position in range(len(parts))]
    taken = -1
    reader = PartReader(lambda: follows[taken])
    for part in (part for parts in messages for part in parts):
        taken += 1
        reader.take(part)
    alone = [read_message(parts) for parts in messages]
    assert reader.inbox.bodies == [body for inbox in alone for body in inbox.bodies]
    assert reader.inbox.num_malformed == sum(inbox.num_malformed for inbox in alone)


@given(st.lists(PARTS, min_size=1, max_size=8))
def test_a_message_never_vanishes(parts: list[bytes]) -> None:
    """Every message leaves a body or is counted as malformed."""
    inbox = read_message(parts)
    assert len(inbox.bodies) + inbox.num_malformed >= 1


@pytest.mark.parametrize(
    ("part", "num_records"),
    [
        (packed(channels=1, num_records=3), 3),
        (packed(channels=4096), 1),
        (PACKED_FRAME, 1),
        (PACKED_FRAME + b"\xff", 1),
        (PACKED_FRAME + b"\0\0" + bytes(90), 1),
        (PACKED_FRAME + b"\xff\xff" + bytes(10), 1),
    ],
)
def test_records_are_counted(part: bytes, num_records: int) -> None:
    """A packed part counts its records, and an unsound one counts one at least."""
    assert count_records(part) == num_records


@pytest.mark.parametrize(
    ("header", "payload_bytes", "num_rows"),
    [
        (b'{"shape": [1000, 2]}', 8000, 1000),
        (b'{"shape":[ 7,2]}', 56, 7),
        (b'{"shape":[8]}', 32, 1),
        (b'{"shape":[999999999,1]}', 40, 10),
        (b'{"shape":[999999999999999,1]}', 40, 1),
        (b'{"shape":[5,1]}', 0, 1),
        (b"{}", 4, 1),
    ],
)
def test_rows_are_estimated(header: bytes, payload_bytes: int, num_rows: int) -> None:
    """An array counts the rows that its header says, and no more than its payload could hold."""
    assert count_rows(header, bytes(payload_bytes)) == num_rows


# ---------------------------------------------------------------- the socket


def test_frames_arrive_over_all_endpoints(
    tmp_path: Path, open_receiver: Callable[..., Receiver], open_peer: Callable[..., ZmqSocket]
) -> None:
    """One receiver takes frames from tcp, from IPv6 and from ipc at once."""
    ipv6 = ("tcp://[::1]:*",) if has_ipv6() else ()
    endpoints = ("tcp://127.0.0.1:*", *ipv6, f"ipc://{tmp_path}/frames")
    receiver = open_receiver(endpoints=endpoints)
    for number, endpoint in enumerate(receiver.endpoints):
        peer = open_peer(endpoint)
        assert await_subscription(peer, receiver.socket) == b"\x01"
        peer.send(packed(number))
    inbox = drain_until(receiver, lambda total: len(total.bodies) == len(endpoints))
    frames = sorted(frame_of(bytes(body)) for body in inbox.bodies if isinstance(body, bytes))
    assert frames == list(range(len(endpoints)))


def test_a_receiver_that_connects_gets_frames(
    tmp_path: Path, open_receiver: Callable[..., Receiver], open_peer: Callable[..., ZmqSocket]
) -> None:
    """With mode connect, frames come from producers that bind."""
    peers = [open_peer(bind=f"ipc://{tmp_path}/a"), open_peer(bind="tcp://127.0.0.1:*")]
    endpoints = tuple(endpoint_of(peer) for peer in peers)
    receiver = open_receiver(endpoints=endpoints, mode=Mode.CONNECT)
    for peer in peers:
        await_subscription(peer, receiver.socket)
        peer.send(packed())
    assert len(drain_until(receiver, lambda total: len(total.bodies) == 2).bodies) == 2


def test_only_the_topics_asked_for_arrive(
    open_receiver: Callable[..., Receiver], open_peer: Callable[..., ZmqSocket]
) -> None:
    """`subscribe` takes prefixes of topics, several of them, and leaves out the rest."""
    receiver = open_receiver(subscribe=("pump-", "fan"))
    peer = open_peer(*receiver.endpoints)
    assert {await_subscription(peer, receiver.socket), await_subscription(peer, receiver.socket)} == {
        b"\x01pump-",
        b"\x01fan",
    }
    for number, topic in enumerate([b"pump-1", b"valve", b"fan", b"pump-2"]):
        peer.send_multipart([topic, packed(number)])
    bodies = drain_until(receiver, lambda total: len(total.bodies) == 3).bodies
    assert [frame_of(bytes(body)) for body in bodies if isinstance(body, bytes)] == [0, 2, 3]


def test_a_drain_takes_no_more_than_asked(
    open_receiver: Callable[..., Receiver], open_peer: Callable[..., ZmqSocket]
) -> None:
    """A drain ends at its limit of frames, counting records and rows, and the next one goes on in order."""
    receiver = open_receiver()
    peer = open_peer(*receiver.endpoints)
    await_subscription(peer, receiver.socket)
    for number in range(6):
        peer.send(packed(number, num_records=10))
    peer.send_multipart([b"t", b'{"shape":[25,1]}', bytes(100)])
    peer.send(packed(6))
    peer.send(packed(7))
    receiver.socket.poll(1000)
    sizes = []
    numbers: list[int] = []
    deadline_s = time.monotonic() + DEADLINE_S
    while len(numbers) < 8:
        assert time.monotonic() < deadline_s
        inbox = receiver.drain(25)
        sizes.append(sum(count_records(body) if isinstance(body, bytes) else 25 for body in inbox.parts))
        numbers += [frame_of(body) for body in inbox.parts if isinstance(body, bytes)]
    assert numbers == list(range(8))
    assert max(sizes) <= 25 + 24


def test_a_drain_of_nothing_is_empty(open_receiver: Callable[..., Receiver]) -> None:
    """A drain returns at once where nothing has arrived."""
    assert open_receiver().drain(4096) == Inbox()


class FakeSocket:
    """Messages that are there already, part by part, as libzmq hands them out."""

    def __init__(self, messages: list[list[bytes]]) -> None:
        self.parts = [
            (part, parts[position + 1 :] != []) for parts in messages for position, part in enumerate(parts)
        ]
        self.num_taken = 0
        self.num_looks = 0

    def recv(self, flags: int) -> bytes:
        """The next part."""
        if self.num_taken == len(self.parts):
            raise zmq.Again
        self.num_taken += 1
        return self.parts[self.num_taken - 1][0]

    def get(self, option: int) -> int:
        """Whether the part has another after it."""
        self.num_looks += 1
        return int(self.parts[self.num_taken - 1][1])


@pytest.fixture
def open_fake(
    open_receiver: Callable[..., Receiver],
) -> Callable[[list[list[bytes]]], tuple[Receiver, FakeSocket]]:
    """A receiver of messages that are there already."""

    def open_one(messages: list[list[bytes]]) -> tuple[Receiver, FakeSocket]:
        receiver = open_receiver()
        real, fake = receiver.socket, FakeSocket(messages)
        receiver.close()
        receiver.socket = fake  # type: ignore[assignment]
        receiver.close = lambda: None  # type: ignore[method-assign]
        assert real.closed
        return receiver, fake

    return open_one


def test_strays_use_up_a_drain(
    open_fake: Callable[[list[list[bytes]]], tuple[Receiver, FakeSocket]],
) -> None:
    """Of a flood of strays, a drain takes no more than its limit and counts each."""
    receiver, fake = open_fake([[b"stray"]] * 100)
    assert receiver.drain(10) == Inbox([], 10)
    assert fake.num_taken == 10


def test_a_message_without_end_is_taken_in_pieces(
    open_fake: Callable[[list[list[bytes]]], tuple[Receiver, FakeSocket]],
) -> None:
    """A message of very many parts is spread over drains, counted once, and does not reach into the next message."""
    receiver, fake = open_fake([[b"stray"] * 1000 + [b"t" * 200] + [b"x"] * 1000, [b"topic", packed(7)]])
    total = Inbox()
    for _ in range(2003):
        taken_before = fake.num_taken
        inbox = receiver.drain(10)
        assert fake.num_taken - taken_before <= 30
        total.bodies += inbox.parts
        total.num_malformed += inbox.num_malformed
    assert total == Inbox([packed(7)], 1)


@given(MESSAGES, st.integers(1, 5))
def test_drains_cut_nothing_apart(messages: list[list[bytes]], max_frames: int) -> None:
    """However small the drains are, together they hold what the messages hold."""
    receiver = Receiver.__new__(Receiver)
    receiver.socket = FakeSocket(messages)  # type: ignore[assignment]
    receiver._reader = PartReader(receiver._has_more)
    receiver._packed_like = PACKED_FRAME, 0, 0
    receiver._native = None
    total = Inbox()
    for _ in range(sum(map(len, messages)) + 1):
        inbox = receiver.drain(max_frames)
        total.bodies += inbox.parts
        total.num_malformed += inbox.num_malformed
    alone = [read_message(parts) for parts in messages]
    assert total.bodies == [body for inbox in alone for body in inbox.bodies]
    assert total.num_malformed == sum(inbox.num_malformed for inbox in alone)


def test_packed_parts_need_no_look(
    open_fake: Callable[[list[list[bytes]]], tuple[Receiver, FakeSocket]],
) -> None:
    """The fast path stays fast: no packed part is asked about, and one with a topic is asked about once."""
    receiver, fake = open_fake([[packed()], [b"topic", packed()], [packed(), packed()]])
    assert len(receiver.drain(100).bodies) == 4
    assert fake.num_looks == 1


# ---------------------------------------------------------------- peers that break the rules


def test_raw_tcp_injects_nothing(
    open_receiver: Callable[..., Receiver], open_peer: Callable[..., ZmqSocket]
) -> None:
    """Bytes in the framing of old ZMTP versions bring no frame in, and a good producer goes on beside them."""
    receiver = open_receiver()
    peer = open_peer(*receiver.endpoints)
    await_subscription(peer, receiver.socket)
    port = int(receiver.endpoints[0].rpartition(":")[2])
    frame = packed(666)
    zmtp_1 = b"\x01\x00" + bytes([len(frame) + 1, 0]) + frame
    zmtp_2 = b"\xff" + bytes(8) + b"\x7f\x01\x01\x00\x00" + b"\x00" + bytes([len(frame)]) + frame
    for attempt in range(200):
        with raw.create_connection(("127.0.0.1", port)) as attacker:
            attacker.sendall(zmtp_1 if attempt % 2 else zmtp_2)
            peer.send(packed(attempt))
            # The receiver's answer or end of file: libzmq has judged what was sent.
            attacker.settimeout(DEADLINE_S)
            while attacker_hears(attacker):
                pass
    bodies = drain_until(receiver, lambda total: len(total.bodies) >= 200).bodies
    assert [frame_of(bytes(body)) for body in bodies if isinstance(body, bytes)] == list(range(200))


def attacker_hears(attacker: raw.socket) -> bytes:
    """The next bytes of the answer; none when the connection has ended."""
    try:
        return attacker.recv(100)
    except ConnectionResetError:
        return b""


def test_connections_are_counted(
    open_receiver: Callable[..., Receiver], open_peer: Callable[..., ZmqSocket]
) -> None:
    """The monitor tells how many connections there are, and why others ended."""
    receiver = open_receiver()
    seen: dict[Disconnect, int] = {}

    def await_changes(is_enough: Callable[[int], bool]) -> None:
        deadline_s = time.monotonic() + DEADLINE_S
        while True:
            changes = receiver.read_monitor()
            for reason, number in changes.disconnects.items():
                seen[reason] = seen.get(reason, 0) + number
            if is_enough(changes.num_connections):
                return
            assert time.monotonic() < deadline_s
            zmq.select([receiver.monitor, receiver.socket], [], [], 0.1)

    peers = [open_peer(*receiver.endpoints) for _ in range(3)]
    await_changes(lambda num_connections: num_connections == 3)
    for peer in peers:
        await_subscription(peer, receiver.socket)
    peers[0].close()
    await_changes(lambda num_connections: num_connections == 2)
    assert seen == {Disconnect.CLOSED: 1}
    port = int(receiver.endpoints[0].rpartition(":")[2])
    with raw.create_connection(("127.0.0.1", port)) as stranger:
        stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
        await_changes(lambda _: seen.get(Disconnect.HANDSHAKE) == 1)
    assert receiver.read_monitor().num_connections == 2


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_subscription_lost_to_an_oversize_part_is_made_again(
    host: str, open_receiver: Callable[..., Receiver], open_peer: Callable[..., ZmqSocket]
) -> None:
    """A connecting receiver is back within a second after a part beyond the limit, which libzmq never mends."""
    peer = open_peer(bind="tcp://127.0.0.1:*")
    port = endpoint_of(peer).rpartition(":")[2]
    receiver = open_receiver(endpoints=(f"tcp://{host}:{port}",), mode=Mode.CONNECT, max_message_bytes=4096)
    await_subscription(peer, receiver.socket)
    num_given_up = 0
    bodies: list[bytes | Array] = []
    for number in range(5):
        peer.send(packed(number))
        peer.send(bytes(5000))
        start_s = time.monotonic()
        while True:  # the peer sees the subscription go, and come again
            zmq.select([receiver.monitor, receiver.socket], [], [], 0.01)
            bodies += receiver.drain(4096).parts
            num_given_up += receiver.read_monitor().disconnects.get(Disconnect.PROTOCOL, 0)
            if peer.poll(0) and peer.recv() == b"\x01":
                break
            assert time.monotonic() - start_s < 1.0, "not connected again within a second"
        assert num_given_up == number + 1
    peer.send(packed(5))
    bodies += drain_until(receiver, lambda total: len(total.bodies) == 1).bodies
    assert [frame_of(bytes(body)) for body in bodies if isinstance(body, bytes)] == list(range(6))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_subscription_lost_after_a_restart_is_made_again(
    host: str, open_receiver: Callable[..., Receiver], open_peer: Callable[..., ZmqSocket]
) -> None:
    """Also once the producer has started again, when libzmq no longer calls its host by the name in the settings."""
    peer = open_peer(bind="tcp://127.0.0.1:*")
    address = endpoint_of(peer)
    port = address.rpartition(":")[2]
    receiver = open_receiver(endpoints=(f"tcp://{host}:{port}",), mode=Mode.CONNECT, max_message_bytes=4096)
    await_subscription(peer, receiver.socket)
    seen: set[Disconnect] = set()

    def turn() -> None:
        zmq.select([receiver.monitor, receiver.socket], [], [], 0.01)
        seen.update(receiver.read_monitor().disconnects)

    peer.close()
    deadline_s = time.monotonic() + DEADLINE_S
    while Disconnect.CLOSED not in seen:
        assert time.monotonic() < deadline_s
        turn()
    peer = open_peer(bind=address)
    await_subscription(peer, receiver.socket)
    for number in range(3):
        peer.send(bytes(5000))
        while not (peer.poll(0) and peer.recv() == b"\x01"):
            assert time.monotonic() < deadline_s
            turn()
        peer.send(packed(number))
        assert drain_until(receiver, lambda total: len(total.bodies) == 1).bodies == [packed(number)]
    assert seen == {Disconnect.CLOSED, Disconnect.PROTOCOL}


def test_a_producer_that_comes_back_is_not_connected_twice(
    tmp_path: Path, open_receiver: Callable[..., Receiver], open_peer: Callable[..., ZmqSocket]
) -> None:
    """A producer that starts again is libzmq's to find, and each of its frames arrives once."""
    endpoint = f"ipc://{tmp_path}/frames"
    peer = open_peer(bind=endpoint)
    receiver = open_receiver(endpoints=(endpoint,), mode=Mode.CONNECT, reconnect_interval_ms=300)
    await_subscription(peer, receiver.socket)
    peer.close()
    deadline_s = time.monotonic() + DEADLINE_S
    given_up_s = time.monotonic() + 0.2  # long enough for the receiver to take it for given up
    disconnects: dict[Disconnect, int] = {}
    while not disconnects or time.monotonic() < given_up_s:
        assert time.monotonic() < deadline_s
        zmq.select([receiver.monitor, receiver.socket], [], [], 0.01)
        disconnects |= receiver.read_monitor().disconnects
    assert disconnects == {Disconnect.CLOSED: 1}
    peer = open_peer(bind=endpoint)
    await_subscription(peer, receiver.socket)
    peer.send(packed(1))
    peer.send(packed(2))
    bodies = drain_until(receiver, lambda total: len(total.bodies) == 2).bodies
    assert [frame_of(bytes(body)) for body in bodies if isinstance(body, bytes)] == [1, 2]
    assert receiver.read_monitor().num_connections == 1


def test_an_endpoint_in_use_is_named(open_receiver: Callable[..., Receiver]) -> None:
    """An address that cannot be bound stops the start, with an error that names it and says why."""
    (endpoint,) = open_receiver().endpoints
    with pytest.raises(EndpointError, match=f"^{endpoint}: address already in use$"):
        open_receiver(endpoints=(endpoint,))
