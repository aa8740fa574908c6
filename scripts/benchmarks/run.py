"""One run: a contender and the load that measures it, started anew and ended."""

from __future__ import annotations

import contextlib
import enum
import json
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_LIMIT_S: Final = 120.0
_STOP_S: Final = 10.0


class Contender(enum.StrEnum):
    """Who is measured."""

    BARE = "bare"
    DAEMON = "daemon"
    PLAIN = "plain"


class Packing(enum.StrEnum):
    """How frames travel."""

    MESSAGE = "message"  # a message a frame, a message a forecast
    PACKED = "packed"  # many frames a message, the forecasts of a batch a message


class Transport(enum.StrEnum):
    """What the sockets run over, on one machine."""

    TCP = "tcp"
    IPC = "ipc"


@dataclass(frozen=True)
class Case:
    """What the contenders are compared at: a row of the table."""

    num_streams: int
    packing: Packing


@dataclass(frozen=True)
class Setup:
    """What all runs share: seconds of each of a run's measurements, transport, model file, folder for logs.

    With `is_profiled` the daemon runs under cProfile, which slows it, and leaves `daemon.prof` in the folder.
    """

    seconds: float
    transport: Transport
    model: Path
    folder: Path
    is_profiled: bool = False


class RunError(Exception):
    """A run gave no figures: the contender or the load ended early, or too late."""


def run(contender: Contender, case: Case, setup: Setup) -> dict[str, Any]:
    """Start the contender and its load, and give what the load measured: the fields of `measure.Measured`."""
    log = setup.folder / f"{contender}.log"
    with _endpoints(setup.transport) as (input_, output), log.open("w") as stderr:
        process = subprocess.Popen(_command(contender, case, setup, input_, output), stderr=stderr)
        try:
            return _load(process, case, setup, input_, output)
        except RunError as error:
            stderr.flush()
            end = "\n".join(log.read_text().splitlines()[-10:])
            raise RunError(
                f"{contender}, {case.num_streams} streams, {case.packing}: {error}\n{end}"
            ) from None
        finally:
            process.terminate()
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _load(
    contender: subprocess.Popen[bytes], case: Case, setup: Setup, input_: str, output: str
) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.measure", "--input", input_, "--output", output]
    command += [
        "--pid",
        str(contender.pid),
        "--streams",
        str(case.num_streams),
        "--seconds",
        str(setup.seconds),
    ]
    if case.packing is Packing.PACKED:
        command.append("--packed")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as load:
        deadline = time.monotonic() + _LIMIT_S
        while True:
            try:
                out, errors = load.communicate(timeout=0.5)
                break
            except subprocess.TimeoutExpired:
                if contender.poll() is not None or time.monotonic() > deadline:
                    load.kill()
        if contender.poll() is not None:
            raise RunError(f"the contender ended with exit code {contender.returncode}")
        if load.returncode != 0:
            raise RunError(
                errors.strip().splitlines()[-1] if errors.strip() else f"no end within {_LIMIT_S:g} s"
            )
    measured: dict[str, Any] = json.loads(out)
    return measured


def _command(
    contender: Contender, case: Case, setup: Setup, input_: str, output: str
) -> Sequence[str | Path]:
    # The load's probe is one stream more.
    capacity = str(case.num_streams + 1)
    if contender is not Contender.DAEMON:
        command = [sys.executable, "-m", f"benchmarks.{contender}", "--input", input_, "--output", output]
        return [*command, "--capacity", capacity, *(["--packed"] if case.packing is Packing.PACKED else [])]
    settings = {
        "input.endpoints": json.dumps([input_]),
        "streams.capacity": capacity,
        "model.path": json.dumps(str(setup.model)),
        "output.endpoint": json.dumps(output),
        "output.format": '"packed"',
        "output.batch": json.dumps(case.packing is Packing.PACKED),
        "metrics.endpoint": f'"http://127.0.0.1:{_free_port()}"',
    }
    profile = ["-m", "cProfile", "-o", str(setup.folder / "daemon.prof")] if setup.is_profiled else []
    command = [sys.executable, *profile, "-m", "foretell", "run"]
    return [*command, *(word for key, value in settings.items() for word in ("--set", f"{key}={value}"))]


@contextlib.contextmanager
def _endpoints(transport: Transport) -> Iterator[tuple[str, str]]:
    """Endpoints for frames and for forecasts that nobody uses yet."""
    if transport is Transport.IPC:
        with tempfile.TemporaryDirectory(prefix="foretell-bench-") as folder:
            yield f"ipc://{folder}/frames", f"ipc://{folder}/forecasts"
    else:
        yield f"tcp://127.0.0.1:{_free_port()}", f"tcp://127.0.0.1:{_free_port()}"


def _free_port() -> int:
    """A port that was free a moment ago; the kernel gives such ports out in turn, so not the same one soon."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
