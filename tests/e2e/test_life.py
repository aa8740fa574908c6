"""How the daemon starts and ends: signals, exit codes, and what systemd is told."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import zmq

from daemon_process import STOP_S, own_environ
from e2e.conftest import StartDaemon
from e2e.link import DEADLINE_S, Forecast, Link, frame, frames

_NUM_STREAMS = 64
_NAMES = [b"stream-%d" % number for number in range(_NUM_STREAMS)]


@contextmanager
def _load(link: Link) -> Iterator[None]:
    """Frames of many streams, as fast as they are taken, from a thread."""
    is_over = threading.Event()

    def send() -> None:
        values = np.ones((_NUM_STREAMS, 2), np.float32)
        number = 0
        while not is_over.is_set():
            try:
                link.producer.send(frames(_NAMES, [number] * _NUM_STREAMS, values), zmq.NOBLOCK)
                number += 1
            except zmq.Again:  # full, or the daemon is gone
                link.producer.poll(10, zmq.POLLOUT)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield
    finally:
        is_over.set()
        sender.join()


def _take_all(link: Link, num_forecasts: int) -> list[Forecast]:
    """So many forecasts, and whatever else has come."""
    return [*link.take(num_forecasts), *link.pending()]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_was_admitted_is_published(
    start_daemon: StartDaemon, any_width: Path, number: signal.Signals
) -> None:
    """Told to stop under load, it exits 0 in time, and all that it admitted has reached the subscriber."""
    daemon = start_daemon(f"model.path={any_width}", "output.format=packed", "output.batch=true")
    with Link(daemon.input_endpoint, daemon.output_endpoint, prefix=b"*") as link:
        before = link.num_probes
        with _load(link):
            taken = link.take(20 * _NUM_STREAMS)
            status, duration_s = daemon.stop(number)
        summary = daemon.wait_event("stopped")
        taken += _take_all(link, summary["num_published"] - before - len(taken))
    assert status == 0
    assert duration_s < STOP_S
    assert summary["num_received"] == summary["num_published"]
    assert len(taken) == summary["num_published"] - before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_idle_daemon_stops_at_once(
    start_daemon: StartDaemon, any_width: Path, number: signal.Signals
) -> None:
    """Told to stop while nothing arrives, it exits 0 in time: no frame is needed to wake it."""
    daemon = start_daemon(f"model.path={any_width}")
    daemon.wait_ready()
    status, duration_s = daemon.stop(number)
    assert status == 0
    assert duration_s < STOP_S


def test_told_twice_is_told_once(start_daemon: StartDaemon, any_width: Path) -> None:
    """A second signal changes nothing: it still exits 0, in time, in order."""
    daemon = start_daemon(f"model.path={any_width}")
    with Link(daemon.input_endpoint, daemon.output_endpoint) as link, _load(link):
        link.take(_NUM_STREAMS)
        daemon.process.send_signal(signal.SIGTERM)
        status, duration_s = daemon.stop(signal.SIGINT)
    assert status == 0
    assert duration_s < STOP_S
    assert daemon.events[-1]["event"] == "stopped"


def test_told_to_stop_during_the_import_of_torch(start_daemon: StartDaemon, any_width: Path) -> None:
    """Told to stop while it still imports its libraries, it exits 0 without a traceback."""
    daemon = start_daemon(f"model.path={any_width}")
    maps = Path(f"/proc/{daemon.process.pid}/maps")
    deadline_s = time.monotonic() + DEADLINE_S
    while "libtorch" not in maps.read_text():
        assert time.monotonic() < deadline_s
    assert daemon.stop()[0] == 0
    assert "Traceback" not in daemon.log


_HELD = """
import os, sys
import foretell.run
load_model = foretell.run.load_model
def load_when_let_go(path):
    open(os.environ["GATE"]).read()
    return load_model(path)
foretell.run.load_model = load_when_let_go
from foretell.cli import main
sys.exit(main(sys.argv[1:]))
"""


def test_told_to_stop_while_the_model_is_loaded(
    start_daemon: StartDaemon, any_width: Path, tmp_path: Path
) -> None:
    """Told to stop before it is ready, it exits 0 without having opened for frames."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    daemon = start_daemon(f"model.path={any_width}", program=("-c", _HELD), environ={"GATE": str(gate)})
    with gate.open("w"):  # opens once the daemon waits at the other end
        daemon.process.send_signal(signal.SIGTERM)
    assert daemon.wait() == 0
    assert "ready" not in [event["event"] for event in daemon.events]
    assert "Traceback" not in daemon.log


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("streams.capacity=0", "streams.capacity"),
        ("model.path=/nowhere/model.safetensors", "/nowhere/model.safetensors"),
    ],
)
def test_what_cannot_be_used_is_78(start_daemon: StartDaemon, setting: str, said: str) -> None:
    """A setting out of range and a model that is not there end the start with 78 and a line that names them."""
    daemon = start_daemon(setting)
    assert daemon.wait() == 78
    assert said in daemon.log.splitlines()[-1]
    assert "Traceback" not in daemon.log


@pytest.mark.parametrize(
    ("key", "scheme"), [("input.endpoints", "tcp"), ("output.endpoint", "tcp"), ("metrics.endpoint", "http")]
)
def test_endpoint_in_use_is_69(start_daemon: StartDaemon, any_width: Path, key: str, scheme: str) -> None:
    """A port that another process holds ends the start with 69 and a line that names the endpoint."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        endpoint = f"{scheme}://127.0.0.1:{holder.getsockname()[1]}"
        daemon = start_daemon(f"model.path={any_width}", f"{key}={endpoint}")
        assert daemon.wait() == 69
    assert endpoint in daemon.log.splitlines()[-1]
    assert "Traceback" not in daemon.log


def test_second_daemon_leaves_the_first_its_ipc_endpoint(start_daemon: StartDaemon, any_width: Path) -> None:
    """An ipc endpoint in use is 69 as well, and the daemon that has it goes on forecasting."""
    first = start_daemon(f"model.path={any_width}")
    second = start_daemon(f"model.path={any_width}", f"input.endpoints={first.input_endpoint}")
    assert second.wait() == 69
    with Link(first.input_endpoint, first.output_endpoint) as link:
        assert link.num_probes > 0


_BROKEN = """
import sys
import foretell.step
def fail(*_): raise ZeroDivisionError("a fault of our own")
foretell.step.Engine.step = fail
from foretell.cli import main
sys.exit(main(sys.argv[1:]))
"""


def test_fault_of_our_own_is_70(start_daemon: StartDaemon, any_width: Path) -> None:
    """An error that nobody foresaw ends the daemon with 70, and the log has its traceback."""
    daemon = start_daemon(f"model.path={any_width}", program=("-c", _BROKEN))
    with zmq.Context() as context, context.socket(zmq.XPUB) as producer:
        producer.connect(daemon.input_endpoint)
        producer.recv()  # the subscription
        producer.send(frame(b"a", 0, 1.0))
        assert daemon.wait() == 70
        producer.linger = 0
    assert "ZeroDivisionError: a fault of our own" in daemon.log


def test_check_config_needs_no_daemon(tmp_path: Path) -> None:
    """`check-config` says 0 for a good file and 78 with one line for a bad one, and opens nothing."""
    good, bad = tmp_path / "good.toml", tmp_path / "bad.toml"
    good.write_text('[input]\nendpoints = ["tcp://127.0.0.1:1"]\n')  # a port that only root could bind
    bad.write_text("[input]\nendpoint = 3\n")
    for path, expected in ((good, 0), (bad, 78)):
        result = subprocess.run(
            [sys.executable, "-m", "foretell", "check-config", path],
            capture_output=True,
            text=True,
            check=False,
            env=own_environ(),
        )
        assert result.returncode == expected
        assert len(result.stderr.splitlines()) == (expected != 0)


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """What systemd listens on."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(DEADLINE_S)
        yield listener


def test_systemd_is_told_of_every_turn_of_life(
    start_daemon: StartDaemon, any_width: Path, manager: socket.socket
) -> None:
    """It says READY once its sockets are open, feeds the watchdog in time, and says STOPPING, each with its STATUS."""
    interval_s = 0.6
    daemon = start_daemon(
        f"model.path={any_width}",
        environ={"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": str(round(interval_s * 1e6))},
    )

    def said_until(wanted: str) -> list[list[str]]:
        messages = [manager.recv(4096).decode().splitlines()]
        while wanted not in messages[-1]:
            messages.append(manager.recv(4096).decode().splitlines())
        return messages

    *_, ready = said_until("READY=1")
    daemon.wait_ready()
    assert any(line.startswith("STATUS=") for line in ready)
    said_until("WATCHDOG=1")
    fed_s = time.monotonic()
    said_until("WATCHDOG=1")
    assert time.monotonic() - fed_s < interval_s
    assert daemon.stop()[0] == 0
    *_, stopping = said_until("STOPPING=1")
    assert any(line.startswith("STATUS=") for line in stopping)
