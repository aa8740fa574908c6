"""Publishing: the messages of each form, and subscribers that fall behind or break the rules."""

from __future__ import annotations

import json
import socket as raw
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import zmq

from forecasts import make_forecasts
from foretell.choices import Mode, OutputFormat
from foretell.config import OutputConfig
from foretell.errors import EndpointError
from foretell.publish import Publisher
from foretell.sockets import ZmqContext, ZmqSocket, open_context
from foretell.wire import ForecastBatch, decode_forecasts
from peers import DEADLINE_S, await_flow, endpoint_of, received


def make_batch(names: tuple[str, ...] = ("pump-1", "pump-2", "pump-1")) -> ForecastBatch:
    """Forecasts of two channels, one a name."""
    values = [[float(number), -1.5] for number in range(len(names))]
    return make_forecasts(names, range(len(names)), values, values, band=1.0)


@pytest.fixture(scope="module")
def context() -> Iterator[ZmqContext]:
    """One context with its authenticator for all sockets of these tests."""
    with open_context() as context:
        yield context


@pytest.fixture
def open_publisher(context: ZmqContext) -> Iterator[Callable[..., Publisher]]:
    """Opens publishers, on a free port of this machine if nothing else is asked for, and closes them."""
    opened: list[Publisher] = []

    def open_one(**settings: object) -> Publisher:
        settings = {"endpoint": "tcp://127.0.0.1:*", "linger_ms": 0} | settings
        opened.append(Publisher(context, OutputConfig(**settings)))  # type: ignore[arg-type]
        return opened[-1]

    yield open_one
    for publisher in opened:
        publisher.close()


@pytest.fixture
def open_subscriber(context: ZmqContext) -> Iterator[Callable[..., ZmqSocket]]:
    """Opens SUB sockets that take all, and closes them."""
    opened: list[ZmqSocket] = []

    def open_one(publisher: Publisher) -> ZmqSocket:
        socket = context.socket(zmq.SUB)
        opened.append(socket)
        socket.rcvhwm = 0
        socket.subscribe(b"")
        socket.connect(publisher.endpoint)
        await_flow(publisher.socket, socket)
        return socket

    yield open_one
    for socket in opened:
        socket.close(linger=0)


@pytest.mark.parametrize("form", list(OutputFormat))
@pytest.mark.parametrize("topic", [True, False])
def test_each_forecast_is_a_message(
    form: OutputFormat,
    open_publisher: Callable[..., Publisher],
    open_subscriber: Callable[..., ZmqSocket],
    *,
    topic: bool,
) -> None:
    """Without batches, a forecast is one message, in order, with its stream's name first where a topic is wanted."""
    publisher = open_publisher(format=form, topic=topic)
    subscriber = open_subscriber(publisher)
    batch = make_batch()
    publisher.publish(batch, 777)
    for row, parts in enumerate(received(subscriber, 3)):
        assert len(parts) == 1 + topic + (form is OutputFormat.ARRAY)
        if topic:
            assert parts[0] == batch.names[row]
        forecast, latency_ns = decode_forecasts(parts)
        assert (forecast.names, latency_ns.tolist()) == ([batch.names[row]], [777])
        np.testing.assert_array_equal(forecast.forecast[0], batch.forecast[row])


def test_an_array_header_comes_first_without_topic(
    open_publisher: Callable[..., Publisher], open_subscriber: Callable[..., ZmqSocket]
) -> None:
    """With `topic = false`, readers of array-1.0 that know nothing of us find the header and the payload."""
    publisher = open_publisher(topic=False)
    subscriber = open_subscriber(publisher)
    publisher.publish(make_batch(("a",)), 1)
    ((header, payload),) = received(subscriber, 1)
    shape = json.loads(header)["shape"]
    assert json.loads(header)["htype"] == "array-1.0"
    assert len(payload) == 4 * np.prod(shape)


@pytest.mark.parametrize("topic", [True, False])
def test_a_batch_is_one_message(
    open_publisher: Callable[..., Publisher], open_subscriber: Callable[..., ZmqSocket], *, topic: bool
) -> None:
    """With `batch = true` all forecasts of a batch are one part, under the topic `*`."""
    publisher = open_publisher(format=OutputFormat.PACKED, batch=True, topic=topic)
    subscriber = open_subscriber(publisher)
    batch = make_batch()
    publisher.publish(batch, 5)
    ((*lead, part),) = received(subscriber, 1)
    assert lead == [b"*"] * topic
    forecasts, latency_ns = decode_forecasts([part])
    assert (forecasts.names, latency_ns.tolist()) == (batch.names, [5, 5, 5])


@pytest.mark.parametrize("batch", [True, False])
def test_no_forecasts_are_no_message(
    open_publisher: Callable[..., Publisher], open_subscriber: Callable[..., ZmqSocket], *, batch: bool
) -> None:
    """An empty batch sends nothing."""
    publisher = open_publisher(format=OutputFormat.PACKED, batch=batch)
    subscriber = open_subscriber(publisher)
    publisher.publish(make_batch(()), 1)
    publisher.publish(make_batch(("last",)), 1)
    ((_, part),) = received(subscriber, 1)
    assert decode_forecasts([part])[0].names == [b"last"]


def test_a_publisher_can_connect(
    context: ZmqContext, open_publisher: Callable[..., Publisher], tmp_path: Path
) -> None:
    """With mode connect, forecasts go to a subscriber that binds."""
    with context.socket(zmq.SUB) as subscriber:
        subscriber.subscribe(b"")
        subscriber.bind(f"ipc://{tmp_path}/forecasts")
        publisher = open_publisher(endpoint=endpoint_of(subscriber), mode=Mode.CONNECT)
        await_flow(publisher.socket, subscriber)
        publisher.publish(make_batch(("a",)), 1)
        assert received(subscriber, 1)[0][0] == b"a"


def test_a_stalled_subscriber_holds_nobody_up(
    context: ZmqContext, open_publisher: Callable[..., Publisher], open_subscriber: Callable[..., ZmqSocket]
) -> None:
    """Publishing goes on past a subscriber that takes nothing, up to its high-water mark, and others get all."""
    publisher = open_publisher(format=OutputFormat.PACKED, high_water_mark=200)
    healthy = open_subscriber(publisher)
    num_batches = 2000
    with context.socket(zmq.SUB) as stalled:
        stalled.rcvhwm = 10
        stalled.setsockopt(zmq.RCVBUF, 4096)
        stalled.subscribe(b"")
        stalled.connect(publisher.endpoint)
        await_flow(publisher.socket, stalled)
        wide = make_forecasts(["wide"], [0], [[1.0] * 1024], [[1.0] * 1024])
        for _ in range(num_batches):
            publisher.publish(wide, 1)
            while received(healthy, 1)[0][0] != b"wide":
                pass  # what was sent to find out that the stalled one is there
        num_taken = 0
        while stalled.poll(200):
            num_taken += stalled.recv_multipart()[0] == b"wide"
        assert 0 < num_taken < num_batches


def test_what_was_published_leaves(open_publisher: Callable[..., Publisher]) -> None:
    """What was published before closing still arrives while the context is closed."""
    with zmq.Context() as outer, outer.socket(zmq.SUB) as subscriber:
        subscriber.rcvhwm = 0
        subscriber.subscribe(b"")
        with open_context() as context:
            publisher = Publisher(
                context,
                OutputConfig(endpoint="tcp://127.0.0.1:*", format=OutputFormat.PACKED, linger_ms=10_000),
            )
            subscriber.connect(publisher.endpoint)
            await_flow(publisher.socket, subscriber)
            publisher.publish(make_batch(("a",) * 5000), 1)
            publisher.close()
        assert len(received(subscriber, 5000)) == 5000


def test_raw_tcp_is_turned_away(open_publisher: Callable[..., Publisher]) -> None:
    """A peer of an old ZMTP version, about which no authenticator can be asked, is disconnected."""
    publisher = open_publisher()
    port = int(publisher.endpoint.rpartition(":")[2])
    with raw.create_connection(("127.0.0.1", port)) as peer:
        peer.settimeout(DEADLINE_S)
        peer.sendall(b"\x01\x00" + b"\x02\x00\x01")  # ZMTP 1.0: no name; subscribe to all
        try:
            while peer.recv(100):
                pass
        except ConnectionResetError:
            pass


def test_an_endpoint_in_use_is_named(open_publisher: Callable[..., Publisher]) -> None:
    """An address that cannot be bound stops the start, with an error that names it and says why."""
    endpoint = open_publisher().endpoint
    with pytest.raises(EndpointError, match=f"^{endpoint}: address already in use$"):
        open_publisher(endpoint=endpoint)
