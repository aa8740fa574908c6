"""The suite `step`: the engine's step alone, without sockets, beside other ways to make it and beside its products.

Contenders take turns: within a model size and a batch all are measured once a round, each round in another order, so
that what drifts on the machine drifts for all. Ratios are of rounds.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final

from benchmarks.environment import MissingError, peer_python, versions
from benchmarks.models import Size
from benchmarks.pairs import order_of_round
from benchmarks.run import Setup
from benchmarks.step_process import Stepper, Task, worker
from benchmarks.step_report import tables
from benchmarks.suites import Line, Say, Write

THREADED_HIDDEN_SIZE: Final = 128
"""From this hidden size on the daemon steps with all cores."""

_IN_PEERS: Final = {Stepper.ONNX}
"""What the environment of the peers has alone."""

_THREADED: Final = {Stepper.ENGINE, Stepper.ENGINE_BFLOAT16, Stepper.ONNX}


@dataclass(frozen=True)
class _Length:
    """How much is measured: rounds, seconds of each measurement, and of which sizes."""

    num_rounds: int
    seconds: float
    hidden: Sequence[int]
    layers: Sequence[int]
    batches: Sequence[int]


_FULL: Final = _Length(9, 0.05, (32, 64, 128, 256), (1, 2), (1, 4, 16, 64, 256, 1024, 4096))
_QUICK: Final = _Length(5, 0.01, (64, 128), (1,), (1, 64, 256, 1024))


def add_options(parser: argparse.ArgumentParser) -> None:
    """See `Suite`."""
    group = parser.add_argument_group("step")
    group.add_argument("--step-hidden", type=int, nargs="+", metavar="H", help="hidden sizes (32 64 128 256)")
    group.add_argument("--step-layers", type=int, nargs="+", metavar="L", help="layers (1 2)")
    group.add_argument("--step-batches", type=int, nargs="+", metavar="B", help="rows of a batch (1 to 4096)")
    group.add_argument(
        "--threads",
        type=int,
        metavar="N",
        help="of the columns with several, from hidden size 128 on (all cores)",
    )


def run_suite(args: argparse.Namespace, setup: Setup, write: Write, say: Say) -> str:
    """See `Suite`."""
    length = _QUICK if args.quick else _FULL
    num_rounds = args.runs or length.num_rounds
    sizes = [
        Size(hidden, layers)
        for hidden, layers in itertools.product(
            args.step_hidden or length.hidden, args.step_layers or length.layers
        )
    ]
    batches = args.step_batches or length.batches
    lines: list[Line] = []
    with contextlib.ExitStack() as stack:
        workers = dict.fromkeys(
            Stepper, stack.enter_context(worker(sys.executable, setup.folder / "step.log"))
        )
        library, missing = {}, ""
        try:
            python = peer_python(setup.folder, say, "onnx", "onnxruntime")
        except MissingError as error:
            missing = str(error)
            workers = {who: one for who, one in workers.items() if who not in _IN_PEERS}
        else:
            peers = stack.enter_context(worker(python, setup.folder / "step-peers.log"))
            workers |= dict.fromkeys(_IN_PEERS, peers)
            library = versions(python, "onnxruntime")
        for size, num_rows in itertools.product(sizes, batches):
            who = contenders(list(workers), size, args.threads or os.cpu_count() or 1)
            for index in range(num_rounds):
                for stepper, num_threads in order_of_round(who, index):
                    timed = workers[stepper].measure(
                        Task(stepper, size, num_threads, num_rows), length.seconds
                    )
                    line = {"contender": stepper, "threads": num_threads, **asdict(size), "batch": num_rows}
                    lines.append({**line, "run": index, **asdict(timed), **library})
                    write(lines[-1])
            say(f"hidden {size.hidden_size}, layers {size.num_layers}, {num_rows:,} rows")
    return tables(lines, missing)


def contenders(steppers: Sequence[Stepper], size: Size, num_threads: int) -> list[tuple[Stepper, int]]:
    """Who is measured at a size, each on one thread, and those that can on several where the daemon would."""
    alone = [(who, 1) for who in steppers]
    if num_threads == 1 or size.hidden_size < THREADED_HIDDEN_SIZE:
        return alone
    return alone + [(who, num_threads) for who in steppers if who in _THREADED]
