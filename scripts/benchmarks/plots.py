"""The suite `plots`: latency against rate and cost against streams, measured and drawn. It runs only when it is named.

Measured are the daemon and the bare loop side by side, in turns, up to nine tenths of what the slower one sustains;
and what a frame costs with few streams and with many, beside all who forecast frame by frame. With `--from` nothing is
measured: the lines of earlier runs are drawn, those of `rates` and `scale` too where they say what a stream costs.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.environment import MissingError, peer_python
from benchmarks.paced import paced_load
from benchmarks.pairs import order_of_round
from benchmarks.plots_series import series_of
from benchmarks.records import RECORDS_PER_PART
from benchmarks.report import describe_host
from benchmarks.run import ONE_BY_ONE, PEERS, Case, Contender, Packing, RunError, Setup, run, started
from benchmarks.suites import Line, Say, Write

_BESIDE: Final = (Contender.DAEMON, Contender.BARE)
_IN_BATCHES: Final = (*_BESIDE, Contender.ONNX_BATCH)
_STREAMS: Final = 1_000
_LEAST_RATE: Final = 1_000.0
_SHARE: Final = 0.9
_NUM_RATES: Final = 10


@dataclass(frozen=True)
class _Plan:
    """How long to measure: rounds, seconds of each measurement, parts of it at least, and numbers of streams.

    streams_one_by_one: for those that forecast frame by frame, so few that all were met before the measurement.
    """

    num_rounds: int
    seconds: float
    num_parts: int
    streams: Sequence[int]
    streams_one_by_one: Sequence[int]


_FULL: Final = _Plan(5, 1.0, 20, (1, 10, 100, 1_000, 10_000, 100_000), (1, 100, 1_000))
_QUICK: Final = _Plan(1, 0.3, 5, (1, 1_000, 100_000), (1, 100))


def add_options(parser: argparse.ArgumentParser) -> None:
    """See `Suite`."""
    group = parser.add_argument_group("plots")
    group.add_argument(
        "--from",
        type=Path,
        nargs="+",
        metavar="FILE",
        dest="drawn_from",
        help="draw these lines, measure nothing",
    )
    group.add_argument("--into", type=Path, metavar="FOLDER", help="of the two SVG files (build/bench)")


def run_suite(args: argparse.Namespace, setup: Setup, write: Write, say: Say) -> str:
    """See `Suite`."""
    if args.drawn_from:
        lines = [json.loads(line) for path in args.drawn_from for line in path.read_text().splitlines()]
    else:
        plan = _QUICK if args.quick else _FULL
        host = describe_host()
        lines = []
        for line in _measure(plan, args.runs or plan.num_rounds, setup, say):
            write(line)
            lines.append({"suite": "plots", **line, **host})
    folder = args.into or setup.folder
    series = series_of(lines)
    try:
        python = peer_python(setup.folder, say, "matplotlib")
    except MissingError as error:
        return f"Not drawn: {error}."
    command = [python, "-W", "ignore", "-m", "benchmarks.plots_draw", folder]
    done = subprocess.run(command, input=json.dumps(series), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RunError(f"drawing: {(done.stderr.strip().splitlines() or ['no reason given'])[-1]}")
    return "\n".join(f"- {path}" for path in done.stdout.splitlines())


def _measure(plan: _Plan, num_rounds: int, setup: Setup, say: Say) -> Iterator[Line]:
    for packing in Packing:
        yield from _latencies(plan, num_rounds, packing, setup, say)
    usable = _usable(setup, say)
    for num_streams in plan.streams:
        batching = [who for who in _IN_BATCHES if who in usable]
        yield from _costs(batching, num_streams, plan, num_rounds, setup, say)
    one_by_one = [who for who in Contender if who in ONE_BY_ONE and who in usable]
    for num_streams, who, index in itertools.product(plan.streams_one_by_one, one_by_one, range(num_rounds)):
        try:
            measured = run(who, Case(num_streams, Packing.PACKED), setup, plan.seconds)
        except RunError as error:
            say(f"left out: {error}")
            continue
        say(f"{who}, {num_streams:,} streams: {measured['cpu_us_per_frame']:.2f} us")
        yield _line("cost", who, num_streams, Packing.PACKED, index) | measured


def _latencies(plan: _Plan, num_rounds: int, packing: Packing, setup: Setup, say: Say) -> Iterator[Line]:
    """Daemon and bare loop in turns, at rates evenly spaced on a logarithmic scale."""
    case = Case(_STREAMS, packing)
    frames_per_part = RECORDS_PER_PART if packing is Packing.PACKED else 1
    with contextlib.ExitStack() as stack:
        running = [stack.enter_context(started(who, case, setup)) for who in _BESIDE]
        load = stack.enter_context(paced_load(running, [_STREAMS] * len(running), packing))
        targets = list(enumerate(_BESIDE))
        for target, _ in targets:
            load.fill(target)
        most = _SHARE * min(load.saturate(target, plan.seconds).frames_per_s for target, _ in targets)
        for index, rate in itertools.product(range(num_rounds), rates_up_to(most)):
            for target, who in order_of_round(targets, index):
                seconds = max(plan.seconds, plan.num_parts * frames_per_part / rate)
                paced = load.pace(target, rate, seconds)
                line = {"rate": rate, "seconds": seconds, **asdict(paced)}
                yield _line("latency", who, _STREAMS, packing, index) | line
            say(f"[{index + 1}/{num_rounds}] {packing}, {rate:,.0f} frames/s")


def rates_up_to(most: float) -> list[float]:
    """The rates of the curves, frames/s, rounded to three digits."""
    rates = np.geomspace(min(_LEAST_RATE, most), most, _NUM_RATES)
    return [float(f"{rate:.3g}") for rate in rates]


def _costs(
    contenders: Sequence[Contender], num_streams: int, plan: _Plan, num_rounds: int, setup: Setup, say: Say
) -> Iterator[Line]:
    """What a frame costs those that step in batches, in turns, all streams resident."""
    case = Case(num_streams, Packing.PACKED)
    with contextlib.ExitStack() as stack:
        running = [stack.enter_context(started(who, case, setup)) for who in contenders]
        load = stack.enter_context(paced_load(running, [num_streams] * len(running), Packing.PACKED))
        targets = list(enumerate(contenders))
        for target, _ in targets:
            load.fill(target)
        for index in range(num_rounds):
            for target, who in order_of_round(targets, index):
                seen = load.saturate(target, plan.seconds)
                yield _line("cost", who, num_streams, Packing.PACKED, index) | asdict(seen)
        say(f"cost of {num_streams:,} streams")


def _line(plot: str, who: Contender, num_streams: int, packing: Packing, index: int) -> Line:
    return {"plot": plot, "contender": who, "streams": num_streams, "packing": packing, "run": index}


def _usable(setup: Setup, say: Callable[[str], None]) -> set[Contender]:
    """Whom of all there are can be measured here."""
    usable = {*_BESIDE, Contender.PLAIN}
    for who, libraries in PEERS.items():
        try:
            peer_python(setup.folder, say, *libraries)
        except MissingError as error:
            say(f"without {who}: {error}")
        else:
            usable.add(who)
    return usable
