"""The processes that step in the suite `step`, from the side of the one who asks.

Told line by line what to measure, they answer likewise. So contenders whose libraries lie in different environments are
measured in turn, and those that wait for their turn cost nothing.
"""

from __future__ import annotations

import contextlib
import enum
import json
import subprocess
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.models import Size
from benchmarks.run import RunError


class Stepper(enum.StrEnum):
    """Who steps."""

    ENGINE = "engine"  # the daemon's, as its loop calls it
    ENGINE_BFLOAT16 = "engine bfloat16"  # the same with `model.precision = "bfloat16"`
    ONNX = "onnxruntime"  # its LSTM, states in numpy
    LSTM = "nn.LSTM"  # states in torch
    CELL = "LSTMCell"  # likewise
    PRODUCTS = "products"  # the matrix products alone, by oneDNN: no activations, no states


@dataclass(frozen=True)
class Task:
    """A step to be measured: who makes it, of which model, on how many threads, of how many rows."""

    who: Stepper
    size: Size
    num_threads: int
    num_rows: int


@dataclass(frozen=True)
class Timed:
    """What was measured: microseconds a call, the mean of so many; and what the contender chose, where it may.

    kernel: which code steps. chosen_threads: how many it uses for a large batch, of those that it was given.
    """

    us: float
    num_calls: int
    kernel: str
    chosen_threads: int


class Worker:
    """The process, from the side of the one who asks. Raises RunError where it ends without an answer."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self._process = process
        self._log = log

    def measure(self, task: Task, seconds: float) -> Timed:
        """Step again and again for so long, after an eighth of that or more to warm up, and at least once."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # what it died of is told below
            print(json.dumps({**asdict(task), "seconds": seconds}), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        if not line:
            errors = self._log.read_text().strip().splitlines()
            raise RunError(f"{task.who}: {errors[-1] if errors else 'no answer'}")
        return Timed(**json.loads(line))


@contextlib.contextmanager
def worker(python: str | Path, log: Path) -> Iterator[Worker]:
    """A worker of the environment that `python` is of, and its end. What goes wrong is in its log."""
    command = [python, "-W", "ignore", "-m", "benchmarks.step_worker"]
    pipe = subprocess.PIPE
    with (
        log.open("w") as stderr,
        subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=stderr, text=True) as process,
    ):
        try:
            yield Worker(process, log)
        finally:
            process.kill()
