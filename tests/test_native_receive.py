"""Receiving by machine code: runs of parts that are alike, and what comes between them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import zmq
from hypothesis import given, settings
from hypothesis import strategies as st

from foretell.config import InputConfig
from foretell.native_receive import NativeReceiver
from foretell.part_reader import Inbox, PartReader, read_message
from foretell.receive import Receiver
from foretell.sockets import ZmqSocket, open_context
from foretell.wire import PACKED_FRAME, Parts, decode

HEADER = b'{"htype":"array-1.0","type":"float32","shape":[1,1],"source":"a"}'


def packed(number: int, channels: int = 1) -> bytes:
    """A sound packed part of one record, of a stream called `a`."""
    head = PACKED_FRAME + channels.to_bytes(2, "little") + bytes(2) + number.to_bytes(8, "little")
    return head + bytes(16) + b"a".ljust(64, b"\0") + bytes(4 * channels)


@contextmanager
def connected() -> Iterator[tuple[ZmqSocket, ZmqSocket]]:
    """Two sockets of which the second has at once whatever the first sends."""
    with zmq.Context() as context, context.socket(zmq.PAIR) as near, context.socket(zmq.PAIR) as far:
        near.set_hwm(0)
        far.set_hwm(0)
        near.bind("inproc://parts")
        far.connect("inproc://parts")
        yield near, far


@given(
    before=st.integers(1, 3),
    num=st.integers(0, 5),
    other=st.sampled_from(
        [None, b"", b"topic", packed(1, 2), packed(1)[:-1], b"x" * len(packed(1)), b"y" * 9999]
    ),
    most=st.integers(1, 6),
)
def test_a_run_ends_with_the_first_part_that_is_another(
    before: int, num: int, other: bytes | None, most: int
) -> None:
    """As many are taken as are alike and asked for; the part after them is given as it is, and no other is touched."""
    numbers = [packed(number) for number in range(before + num)]
    with connected() as (near, far):
        for part in numbers[before:]:
            near.send(part)
        if other is not None:
            near.send_multipart([other, packed(99)])
        taken, given_back = NativeReceiver(far).take(numbers[:before], most)
        is_given = other is not None and num < most
        assert taken == numbers[: before + min(num, most)]
        assert given_back == (other if is_given else None)
        assert far.getsockopt(zmq.RCVMORE) == is_given


MESSAGES = st.one_of(
    st.builds(lambda number: [packed(number)], st.integers(0, 9)),
    st.sampled_from([
        [b"topic", packed(1)], [packed(2), packed(3)], [packed(1, 2)], [b"a", b"b", b"c"], [HEADER, bytes(4)], [b""],
    ]),
)  # fmt: skip


@settings(max_examples=60)
@given(st.lists(st.tuples(MESSAGES, st.sampled_from([1, 1, 2, 30])), max_size=12), st.integers(17, 60))
def test_drains_by_runs_hold_what_the_messages_hold(
    repeated: list[tuple[list[bytes], int]], max_frames: int
) -> None:
    """However long the runs are and wherever drains end, each message is understood as it is alone."""
    messages = [message for message, num in repeated for _ in range(num)]
    total, alone = Inbox(), [read_message(parts) for parts in messages]
    with connected() as (near, far):
        receiver = Receiver.__new__(Receiver)
        receiver.socket, receiver._native = far, NativeReceiver(far)
        receiver._reader = PartReader(receiver._has_more)
        receiver._packed_like = PACKED_FRAME, 0, 0
        for message in messages:
            near.send_multipart(message)
        for _ in range(len(messages) + 1):
            inbox = receiver.drain(max_frames)
            assert len(inbox.parts) <= max_frames + 1
            total.bodies += inbox.parts
            total.num_malformed += inbox.num_malformed
    assert total.bodies == [body for inbox in alone for body in inbox.bodies]
    assert total.num_malformed == sum(inbox.num_malformed for inbox in alone)


@pytest.mark.parametrize("is_sound", [True, False])
def test_a_run_is_decoded_as_its_parts_are(*, is_sound: bool) -> None:
    """Parts in one piece are the same frames as parts one by one, and as many refusals where one is malformed."""
    parts = [packed(number) for number in range(9)]
    if not is_sound:
        parts[4] = parts[4][:28] + b"x" + parts[4][29:]  # a reserved byte
    run = Parts(np.frombuffer(b"".join(parts), np.uint8).reshape(len(parts), -1))
    together, apart = (decode(bodies, 1, max_channels=4, max_frames=100) for bodies in (run, parts))
    assert together.refused == apart.refused
    assert [batch.frame.tolist() for batch in together.batches] == [
        batch.frame.tolist() for batch in apart.batches
    ]


def test_without_machine_code_parts_come_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where llvmlite cannot be imported, the binding receives all of them."""
    monkeypatch.setitem(sys.modules, "foretell.native_receive", None)
    with open_context() as context:
        receiver = Receiver(context, InputConfig(endpoints=("tcp://127.0.0.1:*",)))
        assert receiver._native is None
        receiver.close()
