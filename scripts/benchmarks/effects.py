"""The suite `effects`: what else a daemon does or suffers meanwhile, and what that does to p99."""

from __future__ import annotations

import argparse
import contextlib
import enum
import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Final

from benchmarks import limits
from benchmarks.disturb import JOINING, Count, join_every_second, scrape_every_second, stalled_subscriber
from benchmarks.paced import PacedLoad, paced_load
from benchmarks.pairs import compare, order_of_round
from benchmarks.records import FORECAST, RECORDS_PER_PART
from benchmarks.report import markdown, spread
from benchmarks.run import Case, Contender, Packing, Setup, Started, started
from benchmarks.suites import Line, Say, Write

_KERNEL_BYTES: Final = 6 << 20
"""More than the kernel holds of a connection before the daemon's queue fills: its largest send buffer is of 4 MiB."""

_ROUNDS: Final = 20
_SECONDS: Final = 3.0
_QUICK_ROUNDS: Final = 1
_QUICK_SECONDS: Final = 0.6
_WARM_UP_S: Final = 0.2


class Effect(enum.StrEnum):
    """What happens beside the load."""

    NONE = "none"
    NONE_AGAIN = "none again"
    SCRAPE = "a scrape of /metrics every second"
    JOIN = "1,000 streams joining at once, every second"
    STALL = "a subscriber that stalls"


@dataclass(frozen=True)
class _Load:
    """A load under which effects are measured.

    `queue` is the daemon's `output.high_water_mark`, in messages: as low as no burst of its own reaches it, so that a
    stalled subscriber soon does, at `filling_rate` frames/s.
    """

    name: str
    case: Case
    rate: float
    queue: int
    filling_rate: float

    @property
    def filling_s(self) -> float:
        """How long to send at that rate until the queue of a subscriber that does not read is full."""
        frames_a_message = RECORDS_PER_PART if self.case.packing is Packing.PACKED else 1
        return (self.queue * frames_a_message + _KERNEL_BYTES / FORECAST.itemsize) / self.filling_rate


_LOADS: Final = (
    _Load("1 stream, a message a frame, 1,000 frames/s", Case(1, Packing.MESSAGE), 1e3, 10_000, 1e5),
    _Load("1,000 streams, packed, 50,000 frames/s", Case(1_000, Packing.PACKED), 5e4, 200, 3e5),
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """See `Suite`; it has none."""


def run_suite(args: argparse.Namespace, setup: Setup, write: Write, say: Say) -> str:
    """See `Suite`."""
    num_rounds = args.runs or (_QUICK_ROUNDS if args.quick else _ROUNDS)
    seconds = _QUICK_SECONDS if args.quick else _SECONDS
    # Those that join stay: there are seats for all of them.
    num_joining = JOINING * num_rounds * (2 + int(seconds + _WARM_UP_S))
    lines: list[Line] = []
    with contextlib.ExitStack() as stack:
        daemons = []
        for kind in _LOADS:
            settings = {
                "streams.capacity": json.dumps(kind.case.num_streams + 1 + num_joining),
                "output.high_water_mark": json.dumps(kind.queue),
            }
            daemons.append(stack.enter_context(started(Contender.DAEMON, kind.case, setup, settings)))
        for kind, daemon in zip(_LOADS, daemons, strict=True):
            with paced_load([daemon], [kind.case.num_streams], kind.case.packing) as load:
                load.fill(0)
                for index in range(num_rounds):
                    for effect in order_of_round(list(Effect), index):
                        about = {
                            "contender": Contender.DAEMON,
                            "effect": effect,
                            "load": kind.name,
                            "run": index,
                        }
                        measured = _measure(effect, kind, daemon, load, seconds)
                        lines.append({**about, "frames_per_s": kind.rate, "seconds": seconds, **measured})
                        write(lines[-1])
                    seen = {line["effect"]: line["latency_p99_us"] for line in lines[-len(Effect) :]}
                    p99 = ", ".join(f"{effect.name.lower()} {seen[effect]:.0f}" for effect in Effect)
                    say(f"[{index + 1}/{num_rounds}] {kind.name}: p99 in us: {p99}")
    return tables(lines)


def _measure(effect: Effect, kind: _Load, daemon: Started, load: PacedLoad, seconds: float) -> Line:
    """The load's figures while the effect lasts, and how often it took place."""
    num_filling = 0
    with _BEGIN[effect](daemon) as count:
        if effect is Effect.STALL:
            num_filling = load.pace(0, kind.filling_rate, kind.filling_s, warm_up_s=0.0).num_sent
        paced = load.pace(0, kind.rate, seconds, warm_up_s=_WARM_UP_S)
    line = asdict(paced)
    if effect is Effect.STALL:
        # What it never got is what there was no room for: that some is says that it was at its mark.
        return {**line, "num_dropped": num_filling + paced.num_sent - count()}
    return {**line, "num_effects": count()}


@contextlib.contextmanager
def _nothing(_daemon: Started) -> Iterator[Count]:
    yield lambda: 0


_BEGIN: Final[dict[Effect, Callable[[Started], contextlib.AbstractContextManager[Count]]]] = {
    Effect.NONE: _nothing,
    Effect.NONE_AGAIN: _nothing,
    Effect.SCRAPE: lambda daemon: scrape_every_second(daemon.metrics),
    Effect.JOIN: lambda daemon: join_every_second(daemon.input),
    Effect.STALL: lambda daemon: stalled_subscriber(daemon.output),
}


def tables(lines: list[Line]) -> str:
    """p99 with and without each effect, a table for each load, in Markdown."""
    by_load: dict[str, list[Line]] = defaultdict(list)
    for line in sorted(
        lines, key=lambda line: int(line["run"])
    ):  # within a round the order was another each time
        by_load[line["load"]].append(line)
    text: list[str] = []
    for name, of_load in by_load.items():
        num_rounds = len({line["run"] for line in of_load})
        text += [
            f"Load: {name}. Rounds: {num_rounds}; medians (least to most).",
            "Ratios of pairs against `none`, their median and its 95 % interval.",
            "",
            *markdown(_table(of_load)),
            "",
        ]
        if num_lost := sum(line["num_lost"] for line in of_load):
            text += [f"LOST: {num_lost} frames got no forecast.", ""]
    return "\n".join(text).rstrip()


def _table(lines: list[Line]) -> list[list[str]]:
    by_effect: dict[Effect, list[Line]] = defaultdict(list)
    for line in lines:
        by_effect[Effect(line["effect"])].append(line)
    quiet = [line["latency_p99_us"] for line in by_effect[Effect.NONE]]
    equals = compare([line["latency_p99_us"] for line in by_effect[Effect.NONE_AGAIN]], quiet)
    rows = [["effect", "how much", "p50 ms", "p99 ms", "p99, with / without", "limit", ""]]
    for effect in Effect:
        of_effect = by_effect[effect]
        p50, p99 = (
            [line[field] / 1e3 for line in of_effect] for field in ("latency_p50_us", "latency_p99_us")
        )
        row = [effect, _how_much(effect, of_effect)]
        row += [spread(p50, "{:.3f}"), spread(p99, "{:.3f}")]
        if effect is Effect.NONE:
            row += ["", "", ""]
        elif effect is Effect.NONE_AGAIN:
            row += [str(equals), "", ""]
        else:
            ratio = compare([value * 1e3 for value in p99], quiet)
            row += [str(ratio), *ratio.verdict(limits.EFFECT_P99, equals)]
        rows.append(row)
    return rows


def _how_much(effect: Effect, lines: list[Line]) -> str:
    if effect is Effect.STALL:
        return f"{min(line['num_dropped'] for line in lines):,} forecasts dropped or more"
    num_effects = sum(line["num_effects"] for line in lines)
    return f"{num_effects:,} times" if num_effects else ""
