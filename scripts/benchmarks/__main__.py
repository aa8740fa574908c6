"""The command of `scripts/bench`: which runs, in which order, and where their figures go."""

from __future__ import annotations

import argparse
import itertools
import json
import pstats
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks import report
from benchmarks.run import Case, Contender, Packing, RunError, Setup, Transport, run

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROOT: Final = Path(__file__).resolve().parents[2]


def main() -> int:
    """Run all that was asked for, print the tables, and say where the lines of JSON are."""
    args = _parse()
    folder = _ROOT / "build" / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    model = _write_model(folder)
    setup = Setup(args.seconds, args.transport, model, folder, args.profile)
    host = report.describe_host()
    path = args.json or folder / f"{time.strftime('%Y%m%d-%H%M%S')}.jsonl"

    cases = [Case(streams, packing) for streams in args.streams for packing in args.packing]
    plan = list(_alternating(cases, args.only, args.runs))
    lines: list[report.Line] = []
    with path.open("w") as file:
        for number, (case, contender, index) in enumerate(plan, 1):
            measured = run(contender, case, setup)
            about = {
                "contender": contender,
                "streams": case.num_streams,
                "packing": case.packing,
                "run": index,
            }
            lines.append({**about, **measured, "transport": args.transport, "seconds": args.seconds, **host})
            print(json.dumps(lines[-1]), file=file, flush=True)
            print(
                f"[{number}/{len(plan)}] {contender}, {case.num_streams:,} streams, {case.packing}: "
                f"{measured['frames_per_s']:,.0f} frames/s, {measured['cpu_us_per_frame']:.2f} us",
                file=sys.stderr,
            )
    print(report.tables(lines))
    print(f"\nEvery run: {path}", file=sys.stderr)
    if args.profile:
        pstats.Stats(str(folder / "daemon.prof")).sort_stats("tottime").print_stats(30)
    return 0


def _alternating(
    cases: list[Case], contenders: list[Contender], num_runs: int
) -> Iterator[tuple[Case, Contender, int]]:
    """All runs. Contenders alternate, and another one begins each time, so that a drift of the machine is shared."""
    for case, index in itertools.product(cases, range(num_runs)):
        shift = index % len(contenders)
        for contender in contenders[shift:] + contenders[:shift]:
            yield case, contender, index


def _write_model(folder: Path) -> Path:
    from benchmarks.weights import write_model_file  # imports torch, which no run waits for

    path = folder / "model.safetensors"
    write_model_file(path)
    return path


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="Compare the daemon with a bare loop and a plain one under the same load.",
    )
    parser.add_argument(
        "--only",
        type=Contender,
        nargs="+",
        default=list(Contender),
        metavar="NAME",
        help="bare, daemon, plain (all)",
    )
    parser.add_argument(
        "--packing",
        type=Packing,
        nargs="+",
        default=list(Packing),
        metavar="NAME",
        help="message, packed (both)",
    )
    parser.add_argument(
        "--streams",
        type=int,
        nargs="+",
        default=[1, 1_000, 10_000],
        metavar="N",
        help="how many streams (1 1000 10000)",
    )
    parser.add_argument("--transport", type=Transport, default=Transport.TCP, help="tcp (default) or ipc")
    parser.add_argument("--runs", type=int, metavar="N", help="of each contender at each case (5)")
    parser.add_argument(
        "--seconds", type=float, metavar="S", help="of each of a run's two measurements (2.5)"
    )
    parser.add_argument(
        "--quick", action="store_true", help="one run of a second each: about 2 minutes in all"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="a line a run (a new file in build/bench)")
    parser.add_argument(
        "--profile", action="store_true", help="run the daemon alone, under cProfile, and print the top"
    )
    args = parser.parse_args()
    args.runs = args.runs or (1 if args.quick or args.profile else 5)
    args.seconds = args.seconds or (1.0 if args.quick else 2.5)
    if args.profile:
        args.only = [Contender.DAEMON]
    return args


if __name__ == "__main__":
    try:
        sys.exit(main())
    except RunError as error:
        sys.exit(f"scripts/bench: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
