"""Sending by machine code: the messages that the binding's own way gives, and what libzmq does not take."""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from forecasts import make_forecasts
from foretell.choices import OutputFormat
from foretell.config import OutputConfig
from foretell.native_send import NativeSender, compile_code
from foretell.publish import Publisher
from foretell.sockets import open_context
from foretell.wire import Names
from peers import await_flow, received

_ZMQ_SEND = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
NAMES = ["pump-1", "ä", "x" * 64, "x" * 63]


@dataclass
class _Code:
    """Compiled code that sends through another function than libzmq's."""

    zmq_send: int | None
    call: Any = None
    call_alone: Any = None

    def __post_init__(self) -> None:
        self.call, self.call_alone = compile_code().call, compile_code().call_alone


@pytest.mark.parametrize("num_messages", [2, 5, 300])
@pytest.mark.parametrize("topic", [True, False])
def test_both_ways_send_the_same_messages(num_messages: int, *, topic: bool) -> None:
    """Names as a column go through machine code, a list of them does not, and no subscriber can tell which."""
    names = [NAMES[number % len(NAMES)] for number in range(num_messages)]
    values = [[float(number)] for number in range(num_messages)]
    as_list = make_forecasts(names, range(num_messages), values, values, band=1.0)
    as_column = replace(as_list, names=Names(np.array(as_list.names, "S64")))
    with open_context() as context, context.socket(zmq.SUB) as subscriber:
        config = OutputConfig(
            endpoint="tcp://127.0.0.1:*", linger_ms=0, format=OutputFormat.PACKED, topic=topic
        )
        publisher = Publisher(context, config)
        assert publisher._native is not None
        subscriber.rcvhwm = subscriber.linger = 0
        subscriber.subscribe(b"")
        subscriber.connect(publisher.endpoint)
        await_flow(publisher.socket, subscriber)
        publisher.publish(as_list, 7)
        publisher.publish(as_column, 7)
        messages = received(subscriber, 2 * num_messages)
        publisher.close()
    assert messages[:num_messages] == messages[num_messages:]
    assert all(len(parts) == 1 + topic for parts in messages)


def test_without_machine_code_the_binding_sends_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where llvmlite cannot be imported, messages are sent one by one in Python."""
    monkeypatch.setitem(sys.modules, "foretell.native_send", None)
    with open_context() as context:
        publisher = Publisher(context, OutputConfig(endpoint="tcp://127.0.0.1:*", linger_ms=0))
        assert publisher._native is None
        publisher.close()


@given(refused=st.sets(st.integers(0, 9)), has_topics=st.booleans())
def test_what_libzmq_does_not_take_the_binding_sends(*, refused: set[int], has_topics: bool) -> None:
    """A part that is not taken goes through the binding's own `send`, in its place; none is lost or sent twice."""
    sent: list[tuple[bytes, int]] = []
    num_tried = 0

    def zmq_send(_: int, part: int, size: int, flags: int) -> int:
        nonlocal num_tried
        num_tried += 1
        if num_tried - 1 in refused:
            return -1
        sent.append((ctypes.string_at(part, size), flags))
        return size

    called = _ZMQ_SEND(zmq_send)

    def send(part: bytes, flags: int = 0) -> None:
        sent.append((part, flags))

    with zmq.Context() as context, context.socket(zmq.PUB) as socket:
        sender = NativeSender(socket, send)
        sender._code = _Code(ctypes.cast(called, ctypes.c_void_p).value)  # type: ignore[assignment]
        topics = np.array([b"a", b"bc", b"d" * 64, b"e", b"f"], "S64")
        records = np.arange(15, dtype=np.uint8).reshape(5, 3)
        sender.send(topics if has_topics else None, records)
    expected = []
    for topic, record in zip(topics.tolist(), records, strict=True):
        expected += [(topic, int(zmq.SNDMORE))] * has_topics + [(record.tobytes(), 0)]
    assert sent == expected
