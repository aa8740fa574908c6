"""The command of `scripts/bench`: which suites run, and where their figures go."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from benchmarks import report
from benchmarks.run import RunError, Setup, Transport

if TYPE_CHECKING:
    from benchmarks.suites import Line, Suite

_ROOT: Final = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class _Entry:
    """A suite's module, what it measures in a few words, and whether it runs only when it is named."""

    module: str
    about: str
    is_by_name: bool = False


# In the order in which they run.
_SUITES: Final = {
    "rates": _Entry("benchmarks.rates", "contenders and peers under load: rate, CPU a frame, latency"),
    "step": _Entry("benchmarks.step", "the step alone, without sockets, beside other ways to make it"),
    "calibration": _Entry("benchmarks.calibration", "what normalising and calibrating add to a step"),
    "precision": _Entry("benchmarks.precision", "what bfloat16 weights cost in exactness"),
    "lone": _Entry("benchmarks.lone", "one frame at a time, a thousand a second: latency and CPU a frame"),
    "scale": _Entry(
        "benchmarks.scale", "1 to 100,000 streams: CPU a frame, memory, admission, 200,000 frames/s held"
    ),
    "effects": _Entry(
        "benchmarks.effects", "p99 while scraped, while streams join, while a subscriber stalls"
    ),
    "gpu": _Entry("benchmarks.gpu", "the step on a GPU, where there is one"),
    "plots": _Entry(
        "benchmarks.plots",
        "latency against rate and cost against streams, drawn; only by name",
        is_by_name=True,
    ),
}


def main() -> int:
    """Run the suites that were asked for, print their tables, and say where the lines of JSON are.

    A suite that fails does not keep the others from running; the exit code says that one did.
    """
    suites = {name: cast("Suite", importlib.import_module(entry.module)) for name, entry in _SUITES.items()}
    args = _parse(suites)
    folder = _ROOT / "build" / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    setup = Setup(folder, args.transport)
    host = report.describe_host()
    path = args.json or folder / f"{time.strftime('%Y%m%d-%H%M%S')}.jsonl"

    print(report.host_line(host), flush=True)
    has_failed = False
    with path.open("w") as file:
        for name in args.suite or (name for name, entry in _SUITES.items() if not entry.is_by_name):

            def write(line: Line, name: str = name) -> None:
                print(json.dumps({"suite": name, **line, **host}), file=file, flush=True)

            def say(progress: str, name: str = name) -> None:
                print(f"{name}: {progress}", file=sys.stderr, flush=True)

            began = time.monotonic()
            try:
                tables = suites[name].run_suite(args, setup, write, say)
            except RunError as error:
                has_failed, tables = True, f"This suite gave no tables: {error}"
            say(f"took {time.monotonic() - began:.0f} s")
            print(f"\n## {name}\n\n{tables}", flush=True)
    print(f"\nEvery measurement: {path}", file=sys.stderr)
    return 1 if has_failed else 0


def _parse(suites: dict[str, Suite]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="Measure the daemon beside a bare loop, a plain one, and what else could do its work.",
        epilog="suites: " + "; ".join(f"{name}: {entry.about}" for name, entry in _SUITES.items()),
    )
    parser.add_argument("suite", nargs="*", metavar="SUITE", help=f"{', '.join(suites)} (all but plots)")
    parser.add_argument("--quick", action="store_true", help="once and short: all suites in about 2 minutes")
    parser.add_argument(
        "--runs", type=int, metavar="N", help="of each contender at each case (as the suite has it)"
    )
    parser.add_argument("--transport", type=Transport, default=Transport.TCP, help="tcp (default) or ipc")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="a line a measurement (a new file in build/bench)"
    )
    for suite in suites.values():
        suite.add_options(parser)
    args = parser.parse_args()
    if unknown := set(args.suite) - set(suites):
        parser.error(f"no suite {', '.join(sorted(unknown))}; there are {', '.join(suites)}")
    return args


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
