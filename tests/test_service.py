"""What systemd hears."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from foretell.service import ServiceManager


@pytest.fixture(params=["path", "abstract"])
def listening(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[tuple[socket.socket, ServiceManager]]:
    """Both ends of $NOTIFY_SOCKET, for both kinds of address that systemd uses."""
    name = f"{tmp_path}/notify" if request.param == "path" else f"@foretell-{uuid.uuid4()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("\0" + name[1:] if name.startswith("@") else name)
        listener.settimeout(10)
        yield listener, ServiceManager({"NOTIFY_SOCKET": name})


def test_every_word_arrives(listening: tuple[socket.socket, ServiceManager]) -> None:
    """READY, STOPPING, STATUS and WATCHDOG are what sd_notify(3) says."""
    listener, service = listening
    service.notify_ready("forecasting")
    service.notify_status("1 stream")
    service.notify_alive()
    service.notify_stopping("SIGTERM")
    assert [listener.recv(4096) for _ in range(4)] == [
        b"READY=1\nSTATUS=forecasting",
        b"STATUS=1 stream",
        b"WATCHDOG=1",
        b"STOPPING=1\nSTATUS=SIGTERM",
    ]


def test_a_status_cannot_say_more_than_a_status(listening: tuple[socket.socket, ServiceManager]) -> None:
    """A line break in a text begins no assignment of its own."""
    listener, service = listening
    service.notify_status("a\nMAINPID=1")
    assert listener.recv(4096) == b"STATUS=a MAINPID=1"


@pytest.mark.parametrize(
    "environ",
    [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "/nowhere/at/all"}, {"NOTIFY_SOCKET": "relative"}],
    ids=["unset", "empty", "nobody there", "no address"],
)
def test_where_nobody_listens_nothing_happens(environ: dict[str, str]) -> None:
    """Started by hand, the daemon says nothing and does not fail."""
    service = ServiceManager(environ)
    service.notify_ready("forecasting")
    service.notify_alive()


def test_a_manager_that_does_not_read_never_holds_us(tmp_path: Path) -> None:
    """What cannot be sent at once is dropped: far more than any queue holds is sent, and the test ends."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(f"{tmp_path}/notify")
        service = ServiceManager({"NOTIFY_SOCKET": f"{tmp_path}/notify"})
        for _ in range(5000):
            service.notify_alive()


@pytest.mark.parametrize(
    ("environ", "interval_s"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "10000000"}, 5.0),
        ({"WATCHDOG_USEC": "10000000", "WATCHDOG_PID": str(os.getpid())}, 5.0),
        ({"WATCHDOG_USEC": "10000000", "WATCHDOG_PID": str(os.getppid())}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
    ids=["unset", "set", "for us", "for another", "off", "no number"],
)
def test_the_watchdog_is_fed_twice_as_often_as_systemd_asks(
    environ: dict[str, str], interval_s: float | None
) -> None:
    """Half of WATCHDOG_USEC, where it is meant for this process."""
    assert ServiceManager(environ).watchdog_interval_s == interval_s
