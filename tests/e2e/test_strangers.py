"""What connects to the input and speaks no ZMTP 3 injects nothing and disturbs nobody."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon_process import DaemonProcess
from e2e.link import DEADLINE_S, Link, frame
from foretell.endpoints import split_host_and_port

_EVIL = frame(b"evil", 0, 1.0)
# ZMTP 1.0 (https://rfc.zeromq.org/spec/13): an anonymous identity, then frames of length, flags and body.
_ZMTP_1 = b"\x01\x00" + bytes([len(_EVIL) + 1, 0]) + _EVIL
# ZMTP 2.0 (https://rfc.zeromq.org/spec/15): signature, revision 1, socket type PUB, empty identity, then a frame.
_ZMTP_2 = b"\xff" + bytes(8) + b"\x7f\x01\x01\x00\x00" + bytes([0, len(_EVIL)]) + _EVIL
_HTTP = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"

_numbers = itertools.count()  # so that each case has a stream of its own


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, any_width: Path) -> Iterator[DaemonProcess]:
    """A daemon on TCP that gives a stranger little time."""
    with DaemonProcess(
        tmp_path_factory.mktemp("strangers"),
        f"model.path={any_width}",
        'input.endpoints=["tcp://127.0.0.1:0"]',
        "input.handshake_interval_ms=500",
    ) as daemon:
        yield daemon


@pytest.mark.parametrize(
    "spoken",
    [200 * _ZMTP_1, _ZMTP_1[:2] + 200 * _ZMTP_1[2:], _ZMTP_2, _HTTP, _EVIL, b""],
    ids=["ZMTP 1.0 again and again", "ZMTP 1.0", "ZMTP 2.0", "HTTP", "a bare frame", "silence"],
)
def test_stranger_injects_nothing(daemon: DaemonProcess, spoken: bytes) -> None:
    """Raw bytes on the port are no frames, their connection is closed, and a good stream beside it misses nothing."""
    before, name = daemon.metrics(), b"good-%d" % next(_numbers)
    with Link(daemon.input_endpoint, daemon.output_endpoint) as link:
        with socket.create_connection(split_host_and_port(daemon.input_endpoint), DEADLINE_S) as stranger:
            stranger.sendall(spoken)
            for number in range(100):
                link.send(frame(name, number, 1.0))
            forecasts = link.take(100)
            _read_until_closed(stranger)
        metrics = daemon.metrics()
    assert [forecast.frame for forecast in forecasts] == list(range(100))
    num_received = metrics.value("frames_received_total") - before.value("frames_received_total")
    assert num_received == 100 + link.num_probes
    assert metrics.total("frames_refused_total") == before.total("frames_refused_total")
    assert metrics.value("frames_missed_total") == 0


def _read_until_closed(stranger: socket.socket) -> None:
    """Until the daemon has closed the connection: then it has judged what was spoken."""
    try:
        while stranger.recv(4096):
            pass
    except ConnectionResetError:
        pass
