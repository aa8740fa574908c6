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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.environment import interpreter
from benchmarks.models import NUM_QUANTILES, ModelName

_LIMIT_S: Final = 120.0
_STOP_S: Final = 10.0
_SMALL_WINDOW: Final = 1_024


class Contender(enum.StrEnum):
    """Who is measured."""

    BARE = "bare"
    BARE_NUMPY = "bare-numpy"
    DAEMON = "daemon"
    PLAIN = "plain"
    ONNX_BATCH = "onnx-batch"
    ONNX_SINGLE = "onnx-single"
    BYTEWAX = "bytewax"
    RIVER = "river"
    ECHO = "echo"
    STEP = "step"


_MODULES: Final = {
    Contender.BARE: "benchmarks.bare",
    Contender.BARE_NUMPY: "benchmarks.bare_numpy",
    Contender.PLAIN: "benchmarks.plain",
    Contender.ONNX_BATCH: "benchmarks.peers.onnx_batch",
    Contender.ONNX_SINGLE: "benchmarks.peers.onnx_single",
    Contender.BYTEWAX: "benchmarks.peers.bytewax_flow",
    Contender.RIVER: "benchmarks.peers.river_models",
    Contender.ECHO: "benchmarks.echo",
}

PEERS: Final = {
    Contender.ONNX_BATCH: ("onnx", "onnxruntime"),
    Contender.ONNX_SINGLE: ("onnx", "onnxruntime"),
    Contender.BYTEWAX: ("bytewax",),
    Contender.RIVER: ("river",),
}
"""What else could do the daemon's work, and the libraries of build/bench/venv that each needs."""

ONE_BY_ONE: Final = {Contender.PLAIN, Contender.ONNX_SINGLE, Contender.BYTEWAX, Contender.RIVER}
"""Those that forecast frame by frame: they gain nothing from frames that wait, and would take long over them."""


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
    model: ModelName = ModelName.PLAIN_64


@dataclass(frozen=True)
class Setup:
    """What all runs share: the folder for logs and model files, and the transport.

    With `is_profiled` the daemon runs under cProfile, which slows it, and leaves `daemon.prof` in the folder.
    """

    folder: Path
    transport: Transport = Transport.TCP
    is_profiled: bool = False


@dataclass(frozen=True)
class Started:
    """A contender that runs: its process, and the endpoints that it binds for frames and for forecasts."""

    process: subprocess.Popen[bytes]
    input: str
    output: str
    metrics: str = ""  # of the daemon's metrics: http://HOST:PORT


class RunError(Exception):
    """A run gave no figures: the contender or the load ended early, or too late."""


@contextlib.contextmanager
def started(
    contender: Contender,
    case: Case,
    setup: Setup,
    settings: Mapping[str, str] | None = None,
) -> Iterator[Started]:
    """Start a contender, and end it after. `settings` are the daemon's beside what the case asks for, as TOML.

    It need not be ready yet: `Load.open` waits until it forecasts. A `RunError` raised meanwhile is given the case and
    the end of the contender's log.
    """
    log = setup.folder / f"{contender}.log"
    with _endpoints(setup.transport) as (input_, output), log.open("w") as stderr:
        metrics = f"http://127.0.0.1:{free_port()}"
        if contender is Contender.DAEMON:
            command = _daemon(
                case, setup, input_, output, {"metrics.endpoint": f'"{metrics}"', **(settings or {})}
            )
        else:
            command = _loop(contender, case, setup, input_, output)
        process = subprocess.Popen(command, stderr=stderr)
        try:
            yield Started(process, input_, output, metrics if contender is Contender.DAEMON else "")
        except RunError as error:
            stderr.flush()
            end = "\n".join(log.read_text().splitlines()[-10:])
            raise RunError(
                f"{contender}, {case.num_streams} streams, {case.packing}, {case.model}: {error}\n{end}"
            ) from None
        finally:
            process.terminate()
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def run(contender: Contender, case: Case, setup: Setup, seconds: float) -> dict[str, Any]:
    """Start the contender and its load, and give what the load measured: the fields of `measure.Measured`.

    `seconds` are of each of the two measurements.
    """
    with started(contender, case, setup) as running:
        command = [sys.executable, "-m", "benchmarks.measure"]
        command += ["--input", running.input, "--output", running.output, "--pid", str(running.process.pid)]
        command += ["--streams", str(case.num_streams), "--seconds", str(seconds)]
        command += ["--quantiles", str(NUM_QUANTILES[case.model])]
        if contender in ONE_BY_ONE:
            command += ["--window", str(_SMALL_WINDOW)]
        if case.packing is Packing.PACKED:
            command.append("--packed")
        measured: dict[str, Any] = json.loads(finish(command, running.process))
        return measured


def run_step_alone(case: Case, setup: Setup, seconds: float) -> dict[str, Any]:
    """What the daemon's engine makes alone of such a load's batches: frames and rows a second, CPU a frame."""
    command = [sys.executable, "-m", "benchmarks.step_alone", "--model", model_file(case.model, setup.folder)]
    command += ["--streams", str(case.num_streams), "--seconds", str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_LIMIT_S)
    if done.returncode != 0:
        raise RunError(f"the step alone: {(done.stderr.strip().splitlines() or ['no reason given'])[-1]}")
    measured: dict[str, Any] = json.loads(done.stdout)
    return measured


def finish(
    command: Sequence[str | Path], contender: subprocess.Popen[bytes], limit_s: float = _LIMIT_S
) -> str:
    """Run a load to its end and give what it printed; a `RunError` where it fails or the contender ends before it."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as load:
        deadline = time.monotonic() + limit_s
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
                errors.strip().splitlines()[-1] if errors.strip() else f"no end within {limit_s:g} s"
            )
    return out


def _loop(contender: Contender, case: Case, setup: Setup, input_: str, output: str) -> list[str]:
    python = sys.executable if contender not in PEERS else str(interpreter(setup.folder))
    command = [python, "-m", _MODULES[contender], "--input", input_, "--output", output]
    command += ["--capacity", _capacity(case), "--model", case.model]
    return [*command, *(["--packed"] if case.packing is Packing.PACKED else [])]


def _daemon(case: Case, setup: Setup, input_: str, output: str, more: Mapping[str, str]) -> list[str]:
    settings = {
        "input.endpoints": json.dumps([input_]),
        "streams.capacity": _capacity(case),
        "model.path": json.dumps(model_file(case.model, setup.folder)),
        "output.endpoint": json.dumps(output),
        "output.format": '"packed"',
        "output.batch": json.dumps(case.packing is Packing.PACKED),
        **more,
    }
    profile = ["-m", "cProfile", "-o", str(setup.folder / "daemon.prof")] if setup.is_profiled else []
    command = [sys.executable, *profile, "-m", "foretell", "run"]
    return [*command, *(word for key, value in settings.items() for word in ("--set", f"{key}={value}"))]


def _capacity(case: Case) -> str:
    return str(case.num_streams + 1)  # the load's probe is one stream more


_written: set[Path] = set()


def model_file(model: ModelName, folder: Path) -> str:
    """What the daemon's `model.path` is for a model: its file in the folder, written once, or `builtin`."""
    if model is ModelName.BUILTIN:
        return "builtin"
    path = folder / f"{model}.safetensors"
    if path not in _written:
        from benchmarks.weights import write_model_file  # imports torch, which no run waits for

        write_model_file(path, model)
        _written.add(path)
    return str(path)


@contextlib.contextmanager
def _endpoints(transport: Transport) -> Iterator[tuple[str, str]]:
    """Endpoints for frames and for forecasts that nobody uses yet."""
    if transport is Transport.IPC:
        with tempfile.TemporaryDirectory(prefix="foretell-bench-") as folder:
            yield f"ipc://{folder}/frames", f"ipc://{folder}/forecasts"
    else:
        yield f"tcp://127.0.0.1:{free_port()}", f"tcp://127.0.0.1:{free_port()}"


def free_port() -> int:
    """A port that was free a moment ago; the kernel gives such ports out in turn, so not the same one soon."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
