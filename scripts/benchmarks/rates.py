"""The suite `rates`: contenders and peers under the same load, as fast as they can and at half of that."""

from __future__ import annotations

import argparse
import itertools
import pstats
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

from benchmarks import rates_report
from benchmarks.environment import MissingError, interpreter, peer_python, versions
from benchmarks.models import ModelName
from benchmarks.run import PEERS, Case, Contender, Packing, RunError, Setup, run, run_step_alone
from benchmarks.suites import Line, Say, Write

_OURS: Final = (Contender.BARE, Contender.DAEMON, Contender.PLAIN)
_OF_MODEL: Final = {
    ModelName.PLAIN_64: (*_OURS, *PEERS),
    ModelName.PLAIN_128X2: (Contender.BARE, Contender.DAEMON),
    ModelName.BUILTIN: (Contender.DAEMON, Contender.STEP),
}
"""Who is measured with which model: the larger one asks what both cores give, the built-in is the daemon's alone."""

_MANY: Final = 1_000
"""Streams of all cases but those that ask what the number of streams does."""

_RUNS: Final = 5
_SECONDS: Final = 2.5
_QUICK_SECONDS: Final = 0.3

Job = tuple[Case, Contender, int]
"""A run to make: the last is its number among those of its kind."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """See `Suite`."""
    names = [*_OURS, *PEERS, Contender.STEP]
    group = parser.add_argument_group("rates")
    group.add_argument("--only", type=Contender, nargs="+", metavar="NAME", help=f"{', '.join(names)} (all)")
    group.add_argument(
        "--model", type=ModelName, nargs="+", metavar="NAME", help=f"{', '.join(ModelName)} (all)"
    )
    group.add_argument(
        "--packing",
        type=Packing,
        nargs="+",
        metavar="NAME",
        help=f"{', '.join(Packing)} (both for {ModelName.PLAIN_64})",
    )
    group.add_argument(
        "--streams",
        type=int,
        nargs="+",
        metavar="N",
        help="how many streams (1 1000 10000; peers, the other models and --quick: 1000)",
    )
    group.add_argument("--seconds", type=float, metavar="S", help="of each of a run's two measurements (2.5)")
    group.add_argument(
        "--profile", action="store_true", help="run the daemon alone, under cProfile, and print the top"
    )


def run_suite(args: argparse.Namespace, setup: Setup, write: Write, say: Say) -> str:
    """See `Suite`."""
    seconds = args.seconds or (_QUICK_SECONDS if args.quick else _SECONDS)
    setup = replace(setup, is_profiled=args.profile)
    jobs = list(plan(args))
    missing = _missing({contender for _, contender, _ in jobs}, setup, say)
    jobs = [job for job in jobs if job[1] not in missing]
    with_versions = _peer_versions(setup) if any(contender in PEERS for _, contender, _ in jobs) else {}
    lines: list[Line] = []
    for number, (case, contender, index) in enumerate(jobs, 1):
        if contender in missing:
            continue
        try:
            measured = _measure(contender, case, setup, seconds)
        except RunError as error:
            if contender not in PEERS:
                raise
            missing[contender] = str(error).splitlines()[0]  # a peer that fails is not ours to mend
            say(f"{contender} is skipped: {error}")
            continue
        line = {
            "contender": contender,
            "model": case.model,
            "streams": case.num_streams,
            "packing": case.packing,
            "run": index,
            "transport": setup.transport,
            "seconds": seconds,
            **measured,
            **with_versions,
        }
        write(line)
        lines.append(line)
        say(
            f"[{number}/{len(jobs)}] {case.model}, {contender}, {case.num_streams:,} streams, {case.packing}: "
            f"{line['frames_per_s']:,.0f} frames/s, {line['cpu_us_per_frame']:.2f} us"
        )
    if args.profile:
        pstats.Stats(str(setup.folder / "daemon.prof")).sort_stats("tottime").print_stats(30)
    return rates_report.tables(lines, missing)


def plan(args: argparse.Namespace) -> Iterator[Job]:
    """All runs that the options ask for, in order."""
    num_runs = args.runs or (1 if args.quick or args.profile else _RUNS)
    only = [Contender.DAEMON] if args.profile else args.only or list(Contender)
    for model in args.model or ([ModelName.PLAIN_64] if args.profile else ModelName):
        is_base = model is ModelName.PLAIN_64
        streams = args.streams or ([1, _MANY, 10_000] if is_base and not args.quick else [_MANY])
        packings = args.packing or (list(Packing) if is_base else [Packing.PACKED])
        for num, packing in itertools.product(streams, packings):
            contenders = [
                contender
                for contender in _OF_MODEL[model]
                if contender in only and _is_worth(contender, num, packing, args)
            ]
            yield from alternating(Case(num, packing, model), contenders, num_runs)


def _is_worth(contender: Contender, num_streams: int, packing: Packing, args: argparse.Namespace) -> bool:
    """Whether a run is made that was not asked for by name: a peer is, at one number of streams."""
    if contender not in PEERS or args.only:
        return True
    if args.quick and packing is Packing.MESSAGE and not args.packing:
        return False
    return bool(args.streams) or num_streams == _MANY


def alternating(case: Case, contenders: Sequence[Contender], num_runs: int) -> Iterator[Job]:
    """Runs of one case. Contenders alternate, another one begins each time: a drift of the machine is shared."""
    for index in range(num_runs):
        shift = index % max(1, len(contenders))
        for contender in (*contenders[shift:], *contenders[:shift]):
            yield case, contender, index


def _measure(contender: Contender, case: Case, setup: Setup, seconds: float) -> dict[str, Any]:
    if contender is Contender.STEP:
        return run_step_alone(case, setup, seconds)
    return run(contender, case, setup, seconds)


def _missing(contenders: set[Contender], setup: Setup, say: Say) -> dict[Contender, str]:
    """The peers that cannot be measured here, and why."""
    missing = {}
    for contender in PEERS:
        if contender in contenders:
            try:
                peer_python(setup.folder, say, *PEERS[contender])
            except MissingError as error:
                missing[contender] = str(error)
                say(f"{contender} is skipped: {error}")
    return missing


def _peer_versions(setup: Setup) -> dict[str, str]:
    return versions(interpreter(setup.folder), "onnxruntime", "bytewax", "river")
