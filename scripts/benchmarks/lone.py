"""The suite `lone`: one frame at a time, a thousand a second, from producer to subscriber."""

from __future__ import annotations

import argparse
import contextlib
from collections import defaultdict
from dataclasses import asdict
from statistics import median
from typing import Final

from benchmarks import limits
from benchmarks.paced import paced_load
from benchmarks.pairs import compare, order_of_round
from benchmarks.report import markdown, spread
from benchmarks.run import Case, Contender, Packing, Setup, started
from benchmarks.suites import Line, Say, Write

_RATE: Final = 1_000.0
_WHO: Final = {
    "daemon": Contender.DAEMON,
    "bare": Contender.BARE,
    "bare again": Contender.BARE,
    "bare-numpy": Contender.BARE_NUMPY,
    "echo": Contender.ECHO,
}
_ROUNDS: Final = 24
_SECONDS: Final = 2.0
_QUICK_ROUNDS: Final = 5
_QUICK_SECONDS: Final = 0.4
_ROUNDS_A_SITTING: Final = 6
"""After so many rounds all contenders are started anew: where a process lies in memory is luck that stays with it."""

_COLUMNS: Final = [
    ("p50 ms", "latency_p50_us", 1e3, "{:.3f}"),
    ("p99 ms", "latency_p99_us", 1e3, "{:.3f}"),
    ("CPU us/frame", "cpu_us_per_frame", 1, "{:.0f}"),
]
"""Title, field, how many of the field's unit make the column's, format."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """See `Suite`; it has none."""


def run_suite(args: argparse.Namespace, setup: Setup, write: Write, say: Say) -> str:
    """See `Suite`."""
    num_rounds = args.runs or (_QUICK_ROUNDS if args.quick else _ROUNDS)
    seconds = _QUICK_SECONDS if args.quick else _SECONDS
    case = Case(1, Packing.MESSAGE)
    lines: list[Line] = []
    for first in range(0, num_rounds, _ROUNDS_A_SITTING):
        with contextlib.ExitStack() as stack:
            contenders = [stack.enter_context(started(who, case, setup)) for who in _WHO.values()]
            load = stack.enter_context(paced_load(contenders, [1] * len(contenders), case.packing))
            for target in range(len(contenders)):
                load.fill(target)
            for index in range(first, min(first + _ROUNDS_A_SITTING, num_rounds)):
                for target, name in order_of_round(list(enumerate(_WHO)), index):
                    paced = load.pace(target, _RATE, seconds)
                    line = {"contender": name, "streams": 1, "packing": case.packing, "run": index}
                    lines.append({**line, "frames_per_s": _RATE, "seconds": seconds, **asdict(paced)})
                    write(lines[-1])
                seen = {line["contender"]: line["latency_p50_us"] for line in lines[-len(_WHO) :]}
                p50 = ", ".join(f"{name} {seen[name]:.0f}" for name in _WHO)
                say(f"[{index + 1}/{num_rounds}] p50 in us: {p50}")
    return tables(lines)


def tables(lines: list[Line]) -> str:
    """What each contender gave, and the daemon beside the bare loop, in Markdown."""
    by_contender: dict[str, list[Line]] = defaultdict(list)
    for line in sorted(
        lines, key=lambda line: int(line["run"])
    ):  # within a round the order was another each time
        by_contender[line["contender"]].append(line)
    num_rounds = len(by_contender["daemon"])
    text = [
        f"One stream, a message a frame, {_RATE:,.0f} frames/s. Rounds: {num_rounds}; medians (least to most).",
        "",
        *markdown(
            [["contender", *(title for title, *_ in _COLUMNS), "send lag p99 ms"], *_rows(by_contender)]
        ),
        "",
        f"Ratios of {num_rounds} pairs, their median and its 95 % interval:",
        "",
        *markdown(_comparison(by_contender)),
    ]
    if num_lost := sum(line["num_lost"] for line in lines):
        text += ["", f"LOST: {num_lost} frames got no forecast."]
    return "\n".join(text)


def _rows(by_contender: dict[str, list[Line]]) -> list[list[str]]:
    rows = []
    for name, lines in by_contender.items():
        cells = [spread([line[field] / unit for line in lines], form) for _, field, unit, form in _COLUMNS]
        lag = median(line["send_lag_p99_us"] for line in lines) / 1e3
        rows.append([name, *cells, f"{lag:.3f}"])
    return rows


def _comparison(by_contender: dict[str, list[Line]]) -> list[list[str]]:
    rows = [["", "daemon / bare", "bare / bare", "limit", ""]]
    for title, field, limit in (
        ("p50", "latency_p50_us", limits.LONE_P50),
        ("p99", "latency_p99_us", limits.LONE_P99),
        ("CPU a frame", "cpu_us_per_frame", None),
    ):
        daemon, bare, again = (
            [line[field] for line in by_contender[name]] for name in ("daemon", "bare", "bare again")
        )
        ratio, equals = compare(daemon, bare), compare(again, bare)
        verdict = ["", ""] if limit is None else ratio.verdict(limit, equals)
        rows.append([title, str(ratio), str(equals), *verdict])
    return rows
