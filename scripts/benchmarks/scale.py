"""The suite `scale`: what a stream costs where there are few and where there are many."""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks import scale_report
from benchmarks.models import ModelName
from benchmarks.paced import PacedLoad, paced_load
from benchmarks.pairs import order_of_round
from benchmarks.records import NUM_CHANNELS
from benchmarks.run import Case, Contender, Packing, RunError, Setup, Started, model_file, started
from benchmarks.scale_report import FEW, MANY
from benchmarks.suites import Line, Say, Write

if TYPE_CHECKING:
    from foretell.model import Model


@dataclass(frozen=True)
class _Plan:
    """How long to measure what.

    sizes: numbers of streams. bare: those at which the bare loop is measured too. held: streams, and frames/s of each.
    builtin: streams of the built-in model whose memory is measured too, 0 for none; at 8 rows each they are large.
    """

    sizes: Sequence[int]
    bare: Sequence[int]
    rounds: int
    seconds: float
    held: Mapping[int, float]
    held_s: float
    builtin: int
    admissions: int


_FULL: Final = _Plan(
    sizes=(1, FEW, 10_000, MANY),
    bare=(FEW, MANY),
    rounds=10,
    seconds=1.5,
    held={MANY: 2.0, 10_000: 20.0},
    held_s=60.0,
    builtin=MANY,
    admissions=5,
)
_QUICK: Final = _Plan(
    sizes=(FEW, MANY),
    bare=(),
    rounds=3,
    seconds=0.4,
    held={MANY: 2.0},
    held_s=2.0,
    builtin=0,
    admissions=1,
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """See `Suite`; it has none."""


def run_suite(args: argparse.Namespace, setup: Setup, write: Write, say: Say) -> str:
    """See `Suite`."""
    plan = _QUICK if args.quick else _FULL
    lines: list[Line] = []

    def keep(what: str, line: Line) -> None:
        lines.append({"what": what, "packing": Packing.PACKED, **line})
        write(lines[-1])

    say(f"admission, {plan.admissions} times")
    for line in _measure_admission(plan.admissions):
        keep("admission", line)
    cases = [(Contender.DAEMON, num) for num in plan.sizes] + [(Contender.BARE, num) for num in plan.bare]
    with contextlib.ExitStack() as stack:
        running = [stack.enter_context(started(who, Case(num, Packing.PACKED), setup)) for who, num in cases]
        load = stack.enter_context(paced_load(running, [num for _, num in cases], Packing.PACKED))
        for target in range(len(cases)):
            load.fill(target)
        for index in range(args.runs or plan.rounds):
            for target, (who, num) in order_of_round(list(enumerate(cases)), index):
                seen = load.saturate(target, plan.seconds)
                keep("cost", {"contender": who, "streams": num, "run": index, **asdict(seen)})
            last = sorted(lines[-len(cases) :], key=lambda line: (line["contender"], line["streams"]))
            costs = ", ".join(f"{line['cpu_us_per_frame']:.2f}" for line in last)
            say(f"[{index + 1}/{args.runs or plan.rounds}] CPU us a frame, bare and daemon: {costs}")
        plain, at = ModelName.PLAIN_64, {case: target for target, case in enumerate(cases)}
        daemons = {num: running[at[Contender.DAEMON, num]] for num in (FEW, MANY)}
        keep("memory", _memory(plain, _load_model(plain, setup), daemons))
        for (who, num), target in at.items():
            # The bare loop says what the machine gives at this hour: a p99 of milliseconds is soon others' work.
            if num in plan.held:
                say(f"{who}, {num:,} streams, {plan.held[num]:g} frames/s each, for {plan.held_s:g} s")
                keep("held", {"contender": who, **_hold(load, target, num, plan.held[num], plan.held_s)})
    if plan.builtin:
        say(f"memory of {plan.builtin:,} streams, {ModelName.BUILTIN}")
        keep("memory", _measure_memory(ModelName.BUILTIN, plan.builtin, setup))
    return scale_report.tables(lines)


def _hold(load: PacedLoad, target: int, num_streams: int, rate: float, seconds: float) -> Line:
    """The latencies of so many streams at so many frames a second each."""
    paced = load.pace(target, num_streams * rate, seconds, warm_up_s=1.0)
    return {
        "streams": num_streams,
        "rate": rate,
        "seconds": seconds,
        **asdict(paced),
    }


def _measure_admission(num_runs: int) -> list[Line]:
    """The fields of `strangers.Costs`, and the run: joint and independent streams in turn."""
    command = [sys.executable, "-m", "benchmarks.strangers", "--runs", str(num_runs)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RunError(f"admission: {done.stderr.strip().splitlines()[-1]}")
    return [{"run": index // 2, **json.loads(line)} for index, line in enumerate(done.stdout.splitlines())]


def _measure_memory(name: ModelName, num_many: int, setup: Setup) -> Line:
    """The memory of a stream of a model, from two daemons that have seen all of theirs."""
    model, sizes = _load_model(name, setup), (FEW, num_many)
    with contextlib.ExitStack() as stack:
        daemons = [
            stack.enter_context(started(Contender.DAEMON, Case(num, Packing.PACKED, name), setup))
            for num in sizes
        ]
        num_quantiles = len(model.spec.quantiles)
        load = stack.enter_context(paced_load(daemons, sizes, Packing.PACKED, num_quantiles))
        for target in range(len(daemons)):
            load.fill(target)
        return _memory(name, model, dict(zip(sizes, daemons, strict=True)))


def _load_model(name: ModelName, setup: Setup) -> Model:
    from foretell.model import load_model  # imports torch

    return load_model(model_file(name, setup.folder))


def _memory(name: ModelName, model: Model, daemons: Mapping[int, Started]) -> Line:
    """What a stream takes: the difference of daemons for few and for many, with all that is reserved for them."""
    from foretell.arena import bytes_per_row, rows_per_stream

    few, many = sorted(daemons)
    num_bytes = [_private_bytes(daemons[num].process.pid) for num in (few, many)]
    return {
        "contender": Contender.DAEMON,
        "model": name,
        "streams": many,
        "few_streams": few,
        "bytes_a_stream": (num_bytes[1] - num_bytes[0]) / (many - few),
        "state_bytes_a_stream": bytes_per_row(model) * rows_per_stream(model, NUM_CHANNELS),
        "resident_bytes": num_bytes[1],
    }


def _private_bytes(pid: int) -> int:
    """Bytes of resident memory that belong to no file: a process's own, without libraries."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss_Anon:"):
            return int(line.split()[1]) * 1024
    raise RunError(f"no Pss_Anon in /proc/{pid}/smaps_rollup: needs Linux 5.4 or newer")
