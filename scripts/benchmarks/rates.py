"""The suite `rates`: every contender under the same load, as fast as it can and at half of that."""

from __future__ import annotations

import argparse
import itertools
import pstats
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from benchmarks import rates_report
from benchmarks.run import Case, Contender, Packing, Setup, run
from benchmarks.suites import Line, Say, Write

_CONTENDERS: Final = [Contender.BARE, Contender.DAEMON, Contender.PLAIN]
_RUNS: Final = 5
_SECONDS: Final = 2.5


def add_options(parser: argparse.ArgumentParser) -> None:
    """See `Suite`."""
    group = parser.add_argument_group("rates")
    group.add_argument(
        "--only", type=Contender, nargs="+", metavar="NAME", help=f"{', '.join(_CONTENDERS)} (all)"
    )
    group.add_argument(
        "--packing", type=Packing, nargs="+", metavar="NAME", help=f"{', '.join(Packing)} (both)"
    )
    group.add_argument(
        "--streams", type=int, nargs="+", metavar="N", help="how many streams (1 1000 10000; quick: 1000)"
    )
    group.add_argument("--seconds", type=float, metavar="S", help="of each of a run's two measurements (2.5)")
    group.add_argument(
        "--profile", action="store_true", help="run the daemon alone, under cProfile, and print the top"
    )


def run_suite(args: argparse.Namespace, setup: Setup, write: Write, say: Say) -> str:
    """See `Suite`."""
    num_runs = args.runs or (1 if args.quick or args.profile else _RUNS)
    seconds = args.seconds or (1.0 if args.quick else _SECONDS)
    streams = args.streams or ([1_000] if args.quick else [1, 1_000, 10_000])
    contenders = [Contender.DAEMON] if args.profile else args.only or _CONTENDERS
    setup = replace(setup, is_profiled=args.profile)
    cases = [Case(num, packing) for num in streams for packing in args.packing or Packing]
    plan = list(alternating(cases, contenders, num_runs))
    lines: list[Line] = []
    for number, (case, contender, index) in enumerate(plan, 1):
        line = {
            "contender": contender,
            "model": case.model,
            "streams": case.num_streams,
            "packing": case.packing,
            "run": index,
            "transport": setup.transport,
            "seconds": seconds,
            **run(contender, case, setup, seconds),
        }
        write(line)
        lines.append(line)
        say(
            f"[{number}/{len(plan)}] {contender}, {case.num_streams:,} streams, {case.packing}: "
            f"{line['frames_per_s']:,.0f} frames/s, {line['cpu_us_per_frame']:.2f} us"
        )
    if args.profile:
        pstats.Stats(str(setup.folder / "daemon.prof")).sort_stats("tottime").print_stats(30)
    return rates_report.tables(lines)


def alternating(
    cases: list[Case], contenders: list[Contender], num_runs: int
) -> Iterator[tuple[Case, Contender, int]]:
    """All runs. Contenders alternate, and another one begins each time, so that a drift of the machine is shared."""
    for case, index in itertools.product(cases, range(num_runs)):
        shift = index % len(contenders)
        for contender in contenders[shift:] + contenders[:shift]:
            yield case, contender, index
