"""The suite `scale`: what a stream costs where there are few and where there are many."""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks import limits
from benchmarks.models import ModelName
from benchmarks.paced import PacedLoad, paced_load
from benchmarks.pairs import compare, order_of_round
from benchmarks.records import NUM_CHANNELS
from benchmarks.report import limit_cells, markdown, spread
from benchmarks.run import Case, Contender, Packing, RunError, Setup, Started, model_file, started
from benchmarks.suites import Line, Say, Write

_FEW: Final = 1_000
_MANY: Final = 100_000


@dataclass(frozen=True)
class _Plan:
    """How long to measure what.

    sizes: numbers of streams. bare: those at which the bare loop is measured too. held: streams, and frames/s of each.
    resident: the models whose memory is measured, by the largest number of streams.
    """

    sizes: Sequence[int]
    bare: Sequence[int]
    rounds: int
    seconds: float
    held: Mapping[int, float]
    held_s: float
    resident: Mapping[ModelName, int]
    admissions: int


_FULL: Final = _Plan(
    sizes=(1, _FEW, 10_000, _MANY),
    bare=(_FEW, _MANY),
    rounds=10,
    seconds=1.5,
    held={_MANY: 2.0, 10_000: 20.0},
    held_s=60.0,
    resident={ModelName.PLAIN_64: _MANY, ModelName.BUILTIN: _MANY},
    admissions=5,
)
_QUICK: Final = _Plan(
    sizes=(_FEW, _MANY),
    bare=(),
    rounds=3,
    seconds=0.4,
    held={_MANY: 2.0},
    held_s=2.0,
    resident={ModelName.PLAIN_64: _MANY},
    admissions=1,
)

_LATE_MS: Final = 10.0
"""A load whose own p99 is later than this says nothing of the contender's."""


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
        at = {num: target for target, (who, num) in enumerate(cases) if who is Contender.DAEMON}
        keep("memory", _memory(ModelName.PLAIN_64, setup, {num: running[at[num]] for num in (_FEW, _MANY)}))
        for num, rate in plan.held.items():
            say(f"{num:,} streams, {rate:g} frames/s each, for {plan.held_s:g} s")
            keep("held", _hold(load, at[num], num, rate, plan.held_s))
    for model, num in plan.resident.items():
        if model is not ModelName.PLAIN_64:
            say(f"memory of {num:,} streams, {model}")
            keep("memory", _measure_memory(model, num, setup))
    return tables(lines)


def _hold(load: PacedLoad, target: int, num_streams: int, rate: float, seconds: float) -> Line:
    """The latencies of so many streams at so many frames a second each."""
    paced = load.pace(target, num_streams * rate, seconds, warm_up_s=1.0)
    return {
        "contender": Contender.DAEMON,
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


def _measure_memory(model: ModelName, num_many: int, setup: Setup) -> Line:
    """The memory of a stream of a model, from two daemons that have seen all of theirs."""
    sizes = (_FEW, num_many)
    with contextlib.ExitStack() as stack:
        daemons = [
            stack.enter_context(started(Contender.DAEMON, Case(num, Packing.PACKED, model), setup))
            for num in sizes
        ]
        load = stack.enter_context(paced_load(daemons, sizes, Packing.PACKED))
        for target in range(len(daemons)):
            load.fill(target)
        return _memory(model, setup, dict(zip(sizes, daemons, strict=True)))


def _memory(model: ModelName, setup: Setup, daemons: Mapping[int, Started]) -> Line:
    """What a stream takes: the difference of daemons for few and for many, with all that is reserved for them."""
    from foretell.arena import bytes_per_row, rows_per_stream  # imports torch
    from foretell.model import load_model

    few, many = sorted(daemons)
    num_bytes = [_private_bytes(daemons[num].process.pid) for num in (few, many)]
    loaded = load_model(model_file(model, setup.folder))
    return {
        "contender": Contender.DAEMON,
        "model": model,
        "streams": many,
        "few_streams": few,
        "bytes_a_stream": (num_bytes[1] - num_bytes[0]) / (many - few),
        "state_bytes_a_stream": bytes_per_row(loaded) * rows_per_stream(loaded, NUM_CHANNELS),
        "resident_bytes": num_bytes[1],
    }


def _private_bytes(pid: int) -> int:
    """Bytes of resident memory that belong to no file: a process's own, without libraries."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss_Anon:"):
            return int(line.split()[1]) * 1024
    raise RunError(f"no Pss_Anon in /proc/{pid}/smaps_rollup: needs Linux 5.4 or newer")


def tables(lines: Sequence[Line]) -> str:
    """All tables in Markdown."""
    by_what: dict[str, list[Line]] = defaultdict(list)
    for line in lines:
        by_what[line["what"]].append(line)
    text = [
        *("Packed, model plain-64 unless it is named. Medians (least to most).", ""),
        *markdown(_cost_rows(by_what["cost"])),
        *("", "Memory that belongs to no file, of a daemon for many streams less that of one for few:", ""),
        *markdown(_memory_rows(by_what["memory"])),
        *("", "Streams that come and go, 4,096 in a batch, in a table of 98,304; without their steps:", ""),
        *markdown(_admission_rows(by_what["admission"])),
        *("", "Held; latency from when the last frame of a part was due:", ""),
        *markdown(_held_rows(by_what["held"])),
    ]
    return "\n".join(text)


def _cost_rows(lines: Sequence[Line]) -> list[list[str]]:
    """CPU a frame at every size, and the ratio of many to few streams in the rounds."""
    costs: dict[tuple[str, int], list[float]] = defaultdict(list)
    rates: dict[tuple[str, int], list[float]] = defaultdict(list)
    for line in sorted(
        lines, key=lambda line: (line["contender"] != Contender.DAEMON, line["streams"], line["run"])
    ):
        key = line["contender"], line["streams"]
        costs[key].append(line["cpu_us_per_frame"])
        rates[key].append(line["frames_per_s"])
    rows = [
        [
            "contender",
            "streams",
            "frames/s",
            "CPU us/frame",
            f"CPU, {_MANY:,} / {_FEW:,} streams",
            "limit",
            "",
        ]
    ]
    for (contender, num), cost in costs.items():
        row = [contender, f"{num:,}", spread(rates[contender, num], "{:,.0f}"), spread(cost, "{:.2f}")]
        if num != _MANY:
            row += ["", "", ""]
        else:
            ratio = compare(cost, costs[contender, _FEW])
            is_limited = contender == Contender.DAEMON
            row += [str(ratio), *(limit_cells(limits.SCALE_CPU, ratio.median) if is_limited else ("", ""))]
        rows.append(row)
    return rows


def _memory_rows(lines: Sequence[Line]) -> list[list[str]]:
    rows = [["model", "streams", "MiB in all", "bytes a stream", "of them state", "limit", ""]]
    for line in lines:
        limit = limits.scale_bytes(line["state_bytes_a_stream"])
        row = [
            line["model"],
            f"{line['few_streams']:,} to {line['streams']:,}",
            f"{line['resident_bytes'] / 2**20:,.0f}",
        ]
        row += [f"{line['bytes_a_stream']:,.0f}", f"{line['state_bytes_a_stream']:,}"]
        rows.append([*row, *limit_cells(limit, line["bytes_a_stream"])])
    return rows


def _admission_rows(lines: Sequence[Line]) -> list[list[str]]:
    rows = [["us", "rows a stream", "median (least to most)", "limit", ""]]
    for num_rows in sorted({line["rows_a_stream"] for line in lines}):
        of_kind = [line for line in lines if line["rows_a_stream"] == num_rows]
        admit, known, replace, idle = (
            [line[field] for line in of_kind]
            for field in ("admit_us", "known_us", "replace_us", "evict_idle_us")
        )
        evict = [both - one for both, one in zip(replace, admit, strict=True)]
        for what, values, limit in (
            ("a frame of a stream that has a seat", known, None),
            ("a frame of a stranger, who is given one", admit, limits.SCALE_ADMIT_US),
            ("likewise, and another one evicted for it", replace, None),
            ("the difference: evicting to make room", evict, limits.SCALE_EVICT_US),
            ("evicting the idle", idle, limits.SCALE_EVICT_US),
        ):
            verdict = ["", ""] if limit is None else limit_cells(limit, median(values))
            rows.append([what, str(num_rows), spread(values, "{:.2f}"), *verdict])
    return rows


def _held_rows(lines: Sequence[Line]) -> list[list[str]]:
    titles = ["streams", "frames/s each", "seconds", "p50 ms", "p99 ms", "most ms", "CPU us/frame"]
    rows = [[*titles, "send lag p99 ms", "lost", "limit", ""]]
    for line in lines:
        p99_ms, lag_ms = line["latency_p99_us"] / 1e3, line["send_lag_p99_us"] / 1e3
        bound, verdict = limit_cells(limits.SCALE_P99_MS, p99_ms)
        if line["num_lost"]:
            verdict = "FAIL: frames lost"
        elif lag_ms > _LATE_MS:
            verdict = "not known: the load was late itself"
        row = [f"{line['streams']:,}", f"{line['rate']:g}", f"{line['seconds']:g}"]
        row += [
            f"{line[field] / 1e3:.2f}" for field in ("latency_p50_us", "latency_p99_us", "latency_max_us")
        ]
        row += [f"{line['cpu_us_per_frame']:.2f}", f"{lag_ms:.2f}", f"{line['num_lost']:,}"]
        rows.append([*row, f"p99 {bound} ms, lost 0", verdict])
    return rows
