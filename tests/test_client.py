"""Producer and Subscriber as users call them."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zmq

from forecasts import make_forecasts
from foretell.choices import OutputFormat
from foretell.client import PeerTimeoutError, Producer, Subscriber
from foretell.errors import EndpointError, ForetellError
from foretell.part_reader import Inbox, read_message
from foretell.sockets import ZmqSocket
from foretell.wire import (
    Flag,
    ForecastBatch,
    FrameBatch,
    decode,
    encode_array,
    encode_packed,
    encode_packed_batch,
)
from peers import DEADLINE_S, await_subscription, endpoint_of, received


@pytest.fixture
def daemon() -> Iterator[ZmqSocket]:
    """The input of a daemon: a SUB socket that takes all, on a free port."""
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.rcvhwm = 0
        socket.maxmsgsize = 1_048_576
        socket.subscribe(b"")
        socket.bind("tcp://127.0.0.1:*")
        yield socket


class Taker(threading.Thread):
    """Takes so many messages in while the test sends; a SUB socket subscribes only when its thread enters libzmq."""

    def __init__(self, socket: ZmqSocket, num_messages: int) -> None:
        super().__init__(daemon=True)
        self.socket, self.num_messages = socket, num_messages
        self.messages: list[list[bytes]] = []
        self.start()

    def run(self) -> None:
        """Take messages until there are enough."""
        self.messages = received(self.socket, self.num_messages)

    def result(self) -> list[list[bytes]]:
        """All messages taken."""
        self.join(DEADLINE_S)
        assert len(self.messages) == self.num_messages
        return self.messages


def decode_all(messages: list[list[bytes]]) -> list[FrameBatch]:
    """The frames of messages, which must all be sound."""
    inbox = Inbox()
    for parts in messages:
        inbox.bodies += read_message(parts).bodies
        assert not read_message(parts).num_malformed
    decoded = decode(inbox.bodies, 1, max_channels=4096, max_frames=10**6)
    assert not any(decoded.refused.values())
    return decoded.batches


@pytest.mark.parametrize("form", ["packed", "array-1.0"])
def test_a_script_of_five_lines_loses_nothing(daemon: ZmqSocket, form: str) -> None:
    """What a script sends and then ends arrives from its first frame to its last, numbered and in order."""
    taker = Taker(daemon, 20_000)
    before_ns = time.time_ns()
    with Producer(endpoint_of(daemon), format=form) as producer:
        for number in range(20_000):
            producer.send("pump-1", [number, None, float("nan")])
    (batch,) = decode_all(taker.result())
    assert batch.names == [b"pump-1"] * 20_000
    assert batch.frame.tolist() == list(range(20_000))
    assert batch.values[:, 0].tolist() == list(range(20_000))
    assert np.isnan(batch.values[:, 1:]).all()
    assert before_ns <= batch.timestamp_ns.min() <= batch.timestamp_ns.max() <= time.time_ns()
    assert set(batch.epoch.tolist()) <= set(range(before_ns // 10**9, int(time.time()) + 1))
    assert len(set(batch.epoch.tolist())) == 1
    assert not batch.unnumbered.any()


def test_a_script_that_is_run_again_at_once_has_another_epoch(daemon: ZmqSocket) -> None:
    """Of two producers one after the other the second begins a later epoch, however short the first one lived."""
    taker = Taker(daemon, 2)
    for _ in range(2):
        with Producer(endpoint_of(daemon)) as producer:
            producer.send("pump-1", [1])
    first, second = (epoch for batch in decode_all(taker.result()) for epoch in batch.epoch.tolist())
    assert first < second


def test_streams_are_numbered_apart(daemon: ZmqSocket) -> None:
    """Every stream has its own numbers, and a number given by the caller is counted on from."""
    taker = Taker(daemon, 5)
    with Producer(endpoint_of(daemon), epoch=7) as producer:
        producer.send("a", [1])
        producer.send("b", [1])
        producer.send("a", [2], frame=10, timestamp_ns=99)
        producer.send("a", [3])
        producer.send("b", [2])
    batches = decode_all(taker.result())
    frames = [
        (name, frame)
        for batch in batches
        for name, frame in zip(batch.names, batch.frame.tolist(), strict=True)
    ]
    assert [frame for name, frame in frames if name == b"a"] == [0, 10, 11]
    assert [frame for name, frame in frames if name == b"b"] == [0, 1]
    assert {epoch for batch in batches for epoch in batch.epoch.tolist()} == {7}
    assert 99 in [time_ns for batch in batches for time_ns in batch.timestamp_ns.tolist()]


@pytest.mark.parametrize("form", ["packed", "array-1.0"])
def test_many_frames_are_sent_at_once(daemon: ZmqSocket, form: str) -> None:
    """Rows of several streams keep their names, numbers, times and values, bit for bit."""
    values = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    taker = Taker(daemon, 1 if form == "packed" else 4)
    with Producer(endpoint_of(daemon), format=form) as producer:
        producer.send_many(["a", "b", "a", "b"], values, timestamp_ns=[1, 2, 3, 4])
    (batch,) = decode_all(taker.result())
    assert batch.names == [b"a", b"b", b"a", b"b"]
    assert batch.frame.tolist() == [0, 0, 1, 1]
    assert batch.timestamp_ns.tolist() == [1, 2, 3, 4]
    np.testing.assert_array_equal(batch.values, values)


def test_no_part_is_too_large_for_a_daemon(daemon: ZmqSocket) -> None:
    """However many frames are sent at once, no part comes near the largest that a daemon takes."""
    taker = Taker(daemon, 7)
    with Producer(endpoint_of(daemon)) as producer:
        producer.send_many("a", np.zeros((4000, 75)))
    messages = taker.result()
    assert max(len(part) for parts in messages for part in parts) <= 256 * 1024
    (batch,) = decode_all(messages)
    assert batch.frame.tolist() == list(range(4000))


def test_a_topic_is_the_streams_name(daemon: ZmqSocket) -> None:
    """Frames of one stream have its name as topic, frames of several have none, and it can be left out."""
    endpoint = endpoint_of(daemon)
    taker = Taker(daemon, 3)
    with Producer(endpoint) as producer:
        producer.send("pump-1", [1])
        producer.send_many(["a", "b"], [[1], [2]])
    with Producer(endpoint, topic=False) as producer:
        producer.send("pump-1", [1])
    leads = sorted(parts[:-1] for parts in taker.result())
    assert leads == [[], [], [b"pump-1"]]


def test_nobody_there_is_said(tmp_path: Path) -> None:
    """Where nobody subscribes in time, the first frame raises an error that names the endpoint."""
    endpoint = f"ipc://{tmp_path}/nobody"
    with (
        Producer(endpoint, wait_s=0.05, linger_s=0) as producer,
        pytest.raises(PeerTimeoutError, match=f"^{endpoint}: no subscriber for 0.05 s$") as caught,
    ):
        producer.send("a", [1])
    assert isinstance(caught.value, TimeoutError)
    assert isinstance(caught.value, ForetellError)


def test_a_subscriber_can_wait_for_its_daemon(tmp_path: Path) -> None:
    """A subscriber that waits is connected when it begins, and says whom it waited for in vain."""
    endpoint = f"ipc://{tmp_path}/daemon"
    with pytest.raises(PeerTimeoutError, match=f"^{endpoint}: no daemon for 0.05 s$"):
        Subscriber(endpoint, wait_s=0.05)
    with zmq.Context() as context, context.socket(zmq.XPUB) as daemon:
        daemon.bind(endpoint)
        with Subscriber(endpoint, wait_s=DEADLINE_S):
            assert daemon.poll(round(1000 * DEADLINE_S))
            assert daemon.recv() == b"\x01"


def test_a_live_sensor_need_not_wait(tmp_path: Path) -> None:
    """With `wait_s = 0` frames are sent whether anybody takes them or not."""
    with Producer(f"ipc://{tmp_path}/nobody", wait_s=0, linger_s=0) as producer:
        for _ in range(10):
            producer.send("a", [1])


def test_a_full_queue_waits_for_room() -> None:
    """Frames beyond the high-water mark wait for the subscriber, and none is dropped."""
    with zmq.Context() as context, context.socket(zmq.SUB) as daemon:
        daemon.rcvhwm = 1
        daemon.subscribe(b"")
        daemon.bind("tcp://127.0.0.1:*")
        with Producer(endpoint_of(daemon), high_water_mark=1) as producer:
            taker = Taker(daemon, 300)
            for number in range(300):
                producer.send_many("a", np.full((50, 1000), number))
        (batch,) = decode_all(taker.result())
    assert batch.frame.tolist() == list(range(300 * 50))


def test_a_subscriber_that_stalls_is_said() -> None:
    """Where a subscriber takes nothing for `wait_s`, sending raises an error that names the endpoint."""
    with zmq.Context() as context, context.socket(zmq.SUB) as daemon:
        daemon.rcvhwm = 1
        daemon.setsockopt(zmq.RCVBUF, 4096)
        daemon.subscribe(b"")
        daemon.bind("tcp://127.0.0.1:*")
        taker = Taker(daemon, 1)
        with Producer(endpoint_of(daemon), high_water_mark=1, linger_s=0) as producer:
            producer.send("a", [1])
            taker.result()
            producer._socket.sndtimeo = 50
            with pytest.raises(PeerTimeoutError, match=r"nobody took a frame"):
                producer.send_many("a", np.zeros((50_000, 1000)))


def test_a_daemon_that_starts_again_gets_what_was_sent_meanwhile(tmp_path: Path) -> None:
    """Frames sent while a daemon is away wait for it, in order."""
    endpoint = f"ipc://{tmp_path}/frames"
    with Producer(endpoint, linger_s=0) as producer:
        for start in range(0, 30, 10):
            with zmq.Context() as context, context.socket(zmq.SUB) as daemon:
                daemon.subscribe(b"")
                daemon.bind(endpoint)
                taker = Taker(daemon, 1 if start == 0 else 10)
                if start == 0:
                    producer.send("a", [1], frame=9)
                (batch,) = decode_all(taker.result())
                assert batch.frame.tolist() == ([9] if start == 0 else list(range(start, start + 10)))
                watch_disconnect(producer._socket, daemon)
            for _ in range(10):
                producer.send("a", [1])


def watch_disconnect(socket: ZmqSocket, daemon: ZmqSocket) -> None:
    """Close the daemon's socket and return when the producer's has seen its connection end."""
    monitor = socket.get_monitor_socket(zmq.Event.DISCONNECTED)
    daemon.close()
    assert monitor.poll(round(1000 * DEADLINE_S))
    socket.disable_monitor()
    monitor.close(linger=0)


def test_a_producer_can_bind(tmp_path: Path) -> None:
    """With mode bind, a daemon that connects gets the first frame too."""
    with zmq.Context() as context, context.socket(zmq.SUB) as daemon:
        daemon.subscribe(b"")
        with Producer("tcp://127.0.0.1:*", "bind") as producer:
            daemon.connect(producer.endpoint)
            producer.send("a", [1])
            (batch,) = decode_all(received(daemon, 1))
    assert batch.frame.tolist() == [0]


@pytest.mark.parametrize(
    ("source", "values"),
    [
        ("", [1]),
        ("*", [1]),
        ("n" * 65, [1]),
        ("a\n", [1]),
        ("a", []),
        ("a", [[1, 2]]),
        ("a", [0] * 4097),
        ("a", "text"),
    ],
)
def test_what_no_daemon_takes_is_an_error(tmp_path: Path, source: str, values: object) -> None:
    """A name or a shape that every daemon would refuse is a ValueError where it is sent."""
    with (
        Producer(f"ipc://{tmp_path}/nobody", wait_s=0, linger_s=0) as producer,
        pytest.raises(ValueError, match=r".+"),
    ):
        producer.send(source, values)  # type: ignore[arg-type]


def test_names_and_rows_must_agree(tmp_path: Path) -> None:
    """A name too few, or one number for several streams, is a ValueError."""
    with Producer(f"ipc://{tmp_path}/nobody", wait_s=0, linger_s=0) as producer:
        with pytest.raises(ValueError, match="1 names for 2 frames"):
            producer.send_many(["a"], [[1], [2]])
        with pytest.raises(ValueError, match="one frame number for several streams"):
            producer.send_many(["a", "b"], [[1], [2]], frame=5)


@pytest.mark.parametrize("kind", [Producer, Subscriber])
def test_a_bad_endpoint_is_named(kind: type[Producer | Subscriber]) -> None:
    """An endpoint that cannot be is an error of ours that names it."""
    with pytest.raises(EndpointError, match=r"^tcp://nowhere: "):
        kind("tcp://nowhere")


def test_a_client_needs_no_torch() -> None:
    """Importing the client imports neither torch nor asyncio, and is quick thereby."""
    program = "import sys, foretell.client; print({'torch', 'asyncio'} & set(sys.modules))"
    path = str(Path(__file__).parent.parent / "daemon")
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env={"PYTHONPATH": path}
    )
    assert result.stdout == "set()\n"


# ---------------------------------------------------------------- Subscriber


@pytest.fixture
def output() -> Iterator[ZmqSocket]:
    """The output of a daemon: an XPUB socket, so that a subscription is seen to arrive."""
    with zmq.Context() as context, context.socket(zmq.XPUB) as socket:
        socket.linger = 0
        socket.bind("tcp://127.0.0.1:*")
        yield socket


def subscribe(output: ZmqSocket, *streams: str) -> Subscriber:
    """A subscriber whose subscriptions have all arrived."""
    subscriber = Subscriber(endpoint_of(output), streams)
    for _ in subscriber._prefixes():
        await_subscription(output, subscriber._socket)
    return subscriber


def make_batch(names: list[str], counts: list[int] | None = None, **changes: object) -> ForecastBatch:
    """Forecasts of two channels, numbered from 10."""
    values = [[float(number), 0.5] for number in range(len(names))]
    batch = make_forecasts(
        names, range(10, 10 + len(names)), values, values, band=1.0, counts=counts, epoch=3
    )
    return replace(batch, **changes)  # type: ignore[arg-type]


def send_arrays(output: ZmqSocket, batch: ForecastBatch) -> None:
    """As `array-1.0` with topics."""
    for name, array in zip(batch.names, encode_array(batch, 5), strict=True):
        output.send_multipart([name, *array])


def send_packed(output: ZmqSocket, batch: ForecastBatch) -> None:
    """As packed records with topics."""
    for name, part in zip(batch.names, encode_packed(batch, 5), strict=True):
        output.send_multipart([name, part])


def send_batch(output: ZmqSocket, batch: ForecastBatch) -> None:
    """As one part for all."""
    output.send_multipart([b"*", encode_packed_batch(batch, 5)])


def send_bare_arrays(output: ZmqSocket, batch: ForecastBatch) -> None:
    """As `array-1.0` without topics."""
    for array in encode_array(batch, 5):
        output.send_multipart(array)


FORMS = [send_arrays, send_packed, send_batch, send_bare_arrays]


@pytest.mark.parametrize("send", FORMS)
def test_forecasts_are_iterated_over(
    output: ZmqSocket, send: Callable[[ZmqSocket, ForecastBatch], None]
) -> None:
    """Whatever the form of the output, a subscriber yields each forecast whole and in order."""
    batch = make_batch(["a", "b", "a"], flags=np.array([0, 3, 8], np.uint16))
    with subscribe(output) as subscriber:
        send(output, batch)
        forecasts = list(itertools.islice(subscriber, 3))
    assert [(f.source, f.frame, f.epoch, f.count, f.latency_ns) for f in forecasts] == [
        ("a", 10, 3, 10, 5),
        ("b", 11, 3, 11, 5),
        ("a", 12, 3, 12, 5),
    ]
    assert forecasts[1].flags == Flag.WARMING | Flag.GAP
    for row, forecast in enumerate(forecasts):
        np.testing.assert_array_equal(forecast.values, batch.values[row])
        np.testing.assert_array_equal(forecast.forecast, batch.forecast[row])
        np.testing.assert_array_equal(forecast.median, batch.values[row][np.newaxis])
        np.testing.assert_array_equal(forecast.quantile(0.95), batch.values[row][np.newaxis] + 1)
    with pytest.raises(ValueError, match=r"no quantile 0.25: there are 0.05, 0.5, 0.95"):
        forecasts[0].quantile(0.25)


@pytest.mark.parametrize("send", FORMS)
def test_streams_are_compared_whole(
    output: ZmqSocket, send: Callable[[ZmqSocket, ForecastBatch], None]
) -> None:
    """A subscriber to pump-1 does not get pump-10, whose name begins alike."""
    with subscribe(output, "pump-1", "fan") as subscriber:
        send(output, make_batch(["pump-1", "pump-10", "pump-2", "fan", "pump-1"]))
        frames = [(forecast.source, forecast.frame) for forecast in itertools.islice(subscriber, 3)]
    assert frames == [("pump-1", 10), ("fan", 13), ("pump-1", 14)]


def test_leaving_an_iteration_loses_nothing(output: ZmqSocket) -> None:
    """A new iteration goes on behind the forecast at which the last one was left."""
    with subscribe(output) as subscriber:
        send_batch(output, make_batch(["a", "a", "a"]))
        assert [next(iter(subscriber)).frame for _ in range(3)] == [10, 11, 12]


def test_lost_forecasts_are_counted(output: ZmqSocket) -> None:
    """Jumps of `count` are forecasts lost, by stream; a daemon that starts again loses none."""
    with subscribe(output) as subscriber:
        send_packed(output, make_batch(["a", "b", "a", "b", "a", "a"], [5, 1, 9, 2, 1, 3]))
        assert len(list(itertools.islice(subscriber, 6))) == 6
        assert subscriber.lost == {"a": 3 + 1}


def test_batches_are_columns(output: ZmqSocket) -> None:
    """`batches` yields the columns of each message, without the streams that were not asked for."""
    with subscribe(output, "a") as subscriber:
        send_batch(output, make_batch(["b", "a", "a"]))
        batch = next(subscriber.batches())
    assert (batch.names, batch.frame.tolist()) == ([b"a", b"a"], [11, 12])
    assert batch.forecast.shape == (2, 1, 3, 2)


def test_receiving_takes_what_is_there(output: ZmqSocket) -> None:
    """`receive` waits no longer than it is told, and takes all that came."""
    with subscribe(output) as subscriber:
        assert subscriber.receive(timeout_s=0) == []
        assert subscriber.receive(timeout_s=0.01) == []
        send_packed(output, make_batch(["a", "b", "c"]))
        taken: list[bytes] = []
        deadline_s = time.monotonic() + DEADLINE_S
        while len(taken) < 3:
            assert time.monotonic() < deadline_s
            for batch, latency_ns in subscriber.receive(timeout_s=1):
                taken += batch.names
                assert latency_ns.tolist() == [5]
    assert taken == [b"a", b"b", b"c"]


def test_what_is_no_forecast_is_counted(output: ZmqSocket) -> None:
    """A message that holds no forecast is counted and stops nothing."""
    with subscribe(output) as subscriber:
        output.send(b"what is this")
        send_arrays(output, make_batch(["a"]))
        assert next(iter(subscriber)).source == "a"
        assert subscriber.num_unreadable == 1


def test_both_forms_of_a_setting_are_taken(tmp_path: Path) -> None:
    """The form can be named as in the settings or by the enum."""
    for form in (OutputFormat.ARRAY, "array-1.0"):
        with Producer(f"ipc://{tmp_path}/nobody", wait_s=0, linger_s=0, format=form) as producer:
            producer.send("a", [1])
    with pytest.raises(ValueError, match="not a valid OutputFormat"):
        Producer(f"ipc://{tmp_path}/nobody", format="json")
