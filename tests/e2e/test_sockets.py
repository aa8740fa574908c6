"""Endpoints of every kind, on running daemons."""

from __future__ import annotations

import itertools
import socket
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import zmq

from daemon_process import DaemonProcess
from e2e.conftest import StartDaemon
from e2e.link import DEADLINE_S, Link, frame
from foretell.client import Subscriber

_NUM_FRAMES = 50


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not _has_ipv6(), reason="no IPv6 on this machine")


def _assert_forecasts(link: Link, name: bytes) -> None:
    """Frames sent at one end come out as forecasts at the other, all of them and in order."""
    for number in range(_NUM_FRAMES):
        link.send(name, frame(name, number, number / 3, -number))
    taken = link.take(_NUM_FRAMES)
    assert [(forecast.name, forecast.frame) for forecast in taken] == [
        (name, number) for number in range(_NUM_FRAMES)
    ]


@needs_ipv6
def test_ipv6_carries_frames_and_forecasts(start_daemon: StartDaemon, any_width: Path) -> None:
    """Both ends, and the metrics, can be at IPv6 addresses."""
    daemon = start_daemon(
        f"model.path={any_width}",
        'input.endpoints=["tcp://[::1]:0"]',
        "output.endpoint=tcp://[::1]:0",
        "metrics.endpoint=http://[::1]:0",
    )
    assert daemon.input_endpoints[0].startswith("tcp://[::1]:")
    with Link(daemon.input_endpoint, daemon.output_endpoint) as link:
        _assert_forecasts(link, b"pump")
    daemon.metrics().assert_identities()


@pytest.fixture(scope="module")
def wide_daemon(tmp_path_factory: pytest.TempPathFactory, any_width: Path) -> Iterator[DaemonProcess]:
    """A daemon with three input endpoints of different kinds."""
    folder = tmp_path_factory.mktemp("wide")
    endpoints = ["tcp://127.0.0.1:0", f"ipc://{folder}/one", f"ipc://{folder}/two"]
    with DaemonProcess(folder, f"model.path={any_width}", f"input.endpoints={','.join(endpoints)}") as daemon:
        yield daemon


def test_all_endpoints_are_one_input(wide_daemon: DaemonProcess) -> None:
    """Producers on TCP and on ipc endpoints are forecast side by side, each in its own order, none missed."""
    endpoints = wide_daemon.input_endpoints
    assert len(endpoints) == 3
    with ExitStack() as stack:
        links = [
            stack.enter_context(Link(endpoint, wide_daemon.output_endpoint, prefix=b"none"))
            for endpoint in endpoints
        ]
        reader = links[0]
        reader.subscriber.subscribe(b"mixed-")
        number = 0
        while not reader.subscriber.poll(20):  # until the daemon knows of this subscription
            reader.send(frame(b"mixed-start", number, 0.0))
            number += 1
        for number in range(_NUM_FRAMES):
            for index, link in enumerate(links):
                link.send(frame(b"mixed-%d" % index, number, 1.0))
        wanted = {b"mixed-%d" % index: list(range(_NUM_FRAMES)) for index in range(len(links))}
        seen: dict[bytes, list[int]] = {name: [] for name in wanted}
        while seen != wanted:
            for forecast in reader.receive():
                seen.setdefault(forecast.name, []).append(forecast.frame)
            seen.pop(b"mixed-start", None)
            assert all(len(numbers) <= _NUM_FRAMES for numbers in seen.values()), seen


@pytest.mark.parametrize(
    ("path", "content"),
    [("/-/ready", "ready"), ("/-/healthy", "ok"), ("/", "/metrics"), ("/metrics", "foretell_")],
)
def test_running_daemon_answers_over_http(wide_daemon: DaemonProcess, path: str, content: str) -> None:
    """A daemon that is ready says so, is healthy, has a page that links to its metrics, and the metrics."""
    wide_daemon.wait_ready()
    with urllib.request.urlopen(wide_daemon.url + path, timeout=DEADLINE_S) as response:
        assert response.status == 200
        assert content in response.read().decode()


def test_output_topics_are_prefixes(wide_daemon: DaemonProcess) -> None:
    """A subscriber of a prefix gets the streams that begin with it, and no others."""
    with Link(wide_daemon.input_endpoints[0], wide_daemon.output_endpoint, prefix=b"valve") as link:
        for name in (b"pump-9", b"valve-1", b"wheel-1", b"valve-2"):
            link.send(frame(name, 0, 1.0))
        assert [forecast.name for forecast in link.take(2)] == [b"valve-1", b"valve-2"]


def test_input_topics_are_prefixes(start_daemon: StartDaemon, any_width: Path) -> None:
    """A daemon that subscribes to prefixes receives the messages of those topics, and no others."""
    daemon = start_daemon(f"model.path={any_width}", 'input.subscribe=["plant-1/", "probe"]')
    with Link(daemon.input_endpoint, daemon.output_endpoint) as link:
        assert link.producer.recv()[1:] in {b"plant-1/", b"probe"}  # its other subscription
        link.send(b"plant-2/", frame(b"not-ours", 0, 1.0))
        link.send(frame(b"topicless", 0, 1.0))
        link.send(b"plant-1/", frame(b"ours", 0, 1.0))
        assert [forecast.name for forecast in link.take(1)] == [b"ours"]
        assert daemon.metrics().value("frames_received_total") == 1 + link.num_probes


def test_daemon_connects_where_it_is_told_to(
    start_daemon: StartDaemon, any_width: Path, tmp_path: Path
) -> None:
    """With mode `connect` at both ends the daemon goes to a producer and a subscriber that wait for it."""
    input_endpoint, output_endpoint = f"ipc://{tmp_path}/frames", f"ipc://{tmp_path}/forecasts"
    start_daemon(
        f"model.path={any_width}",
        f'input.endpoints=["{input_endpoint}"]',
        "input.mode=connect",
        f"output.endpoint={output_endpoint}",
        "output.mode=connect",
    )
    with Link(input_endpoint, output_endpoint, binds=True) as link:
        _assert_forecasts(link, b"pump")


def test_producer_that_comes_back_is_heard(wide_daemon: DaemonProcess) -> None:
    """A producer that closes and connects again goes on with its stream where it was."""
    endpoint, output = wide_daemon.input_endpoints[0], wide_daemon.output_endpoint
    with Link(endpoint, output, prefix=b"returning") as reader:
        for number in range(3):
            with zmq.Context() as context, context.socket(zmq.XPUB) as producer:
                producer.connect(endpoint)
                producer.recv()
                producer.send(frame(b"returning", number, 1.0))
            (forecast,) = reader.take(1)
            assert (forecast.frame, forecast.count) == (number, number + 1)


def test_subscriber_that_was_away_knows_what_it_lost(wide_daemon: DaemonProcess) -> None:
    """A subscriber whose connection was interrupted learns from `count` exactly how many forecasts it has lost."""
    endpoint, output = wide_daemon.input_endpoints[0], wide_daemon.output_endpoint
    numbers = itertools.count()
    with Link(endpoint, output, prefix=b"away") as link, Subscriber(output, ["away"]) as subscriber:

        def send_until_seen() -> int:
            """Send until forecasts come, take all of what was sent, and give the first and the last number seen."""
            last = -1
            while not subscriber._socket.poll(20):
                last = next(numbers)
                link.send(frame(b"away", last, 1.0))
                link.take(1)
            seen = [int(number) for batch, _ in subscriber.receive(0) for number in batch.frame]
            while seen[-1] < last:
                seen += [int(number) for batch, _ in subscriber.receive(DEADLINE_S) for number in batch.frame]
            return seen[0]

        send_until_seen()
        last_before = next(numbers) - 1
        assert subscriber.lost["away"] == 0
        subscriber._socket.disconnect(output)
        link.send(frame(b"away", last_before + 1, 1.0))
        link.take(1)
        subscriber._socket.connect(output)
        first_after = send_until_seen()
        assert subscriber.lost["away"] == first_after - last_before - 1 > 0
