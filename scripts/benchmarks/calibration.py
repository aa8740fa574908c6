"""The suite `calibration`: what it costs to normalise and to calibrate a row, against the built-in model's step.

The same network is stepped three times: on its own, with the normaliser before it, and with both. They take turns.
"""

from __future__ import annotations

import argparse
import enum
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from statistics import median
from typing import TYPE_CHECKING, Final

import numpy as np

from benchmarks import limits
from benchmarks.pairs import order_of_round
from benchmarks.report import limit_cells, markdown, spread
from benchmarks.run import Setup
from benchmarks.suites import Line, Say, Write

if TYPE_CHECKING:
    from foretell.model import Model

_NUM_ROWS: Final = 8_192
"""Of the arena, so many that a batch's states are not all in the cache before it."""

_JUDGED: Final = 1_024
_BATCHES: Final = (1, 64, _JUDGED, 4_096)


class Kind(enum.StrEnum):
    """What is done to a row beside the step."""

    STEP = "step alone"
    NORMALIZED = "and normalise"
    CALIBRATED = "and calibrate"


def add_options(parser: argparse.ArgumentParser) -> None:
    """See `Suite`: there are none."""


def run_suite(args: argparse.Namespace, setup: Setup, write: Write, say: Say) -> str:  # noqa: ARG001 - of a suite
    """See `Suite`."""
    num_rounds, seconds = args.runs or (5 if args.quick else 15), 0.02 if args.quick else 0.1
    lines: list[Line] = []
    for num_rows in _BATCHES:
        calls = {kind: _prepare(kind, num_rows) for kind in Kind}
        for index in range(num_rounds):
            for kind in order_of_round(list(Kind), index):
                us = _time(calls[kind], seconds) / num_rows
                lines.append({"kind": kind, "batch": num_rows, "run": index, "us_per_row": us})
                write(lines[-1])
        say(f"{num_rows:,} rows")
    return tables(lines)


def models() -> dict[Kind, Model]:
    """The built-in model, without calibration, and its network alone, which takes features and gives numbers."""
    from dataclasses import replace

    import msgspec

    from foretell.model import BUILTIN, Channels, load_model

    model = load_model(BUILTIN)
    spec = msgspec.structs.replace(model.spec, calibrator=None)
    alone = msgspec.structs.replace(
        spec,
        channels=Channels.JOINT,
        input_channels=spec.input_size,
        output_channels=len(spec.quantiles),
        quantiles=(0.5,),
        normalizer=None,
    )
    return {
        Kind.STEP: replace(model, spec=alone),
        Kind.NORMALIZED: replace(model, spec=spec),
        Kind.CALIBRATED: model,
    }


def _prepare(kind: Kind, num_rows: int) -> Callable[[], None]:
    """What steps the next batch."""
    from foretell.rounds import Steps
    from foretell.step import Engine

    model = models()[kind]
    engine, rng = Engine(model, _NUM_ROWS), np.random.default_rng(0)
    rows = rng.permutation(_NUM_ROWS).reshape(-1, num_rows, 1)
    values = rng.normal(size=(len(rows), num_rows, model.spec.input_channels)).astype(np.float32)
    batches = [
        Steps(np.ascontiguousarray(some), of_rows, [num_rows], num_rows)
        for some, of_rows in zip(rows, values, strict=True)
    ]
    for batch in batches * 3:  # lanes that have a past, on pages that are there
        engine.step(batch)
    next_batch = 0

    def call() -> None:
        nonlocal next_batch
        engine.step(batches[next_batch])
        next_batch = (next_batch + 1) % len(batches)

    return call


def _time(call: Callable[[], None], seconds: float) -> float:
    """Microseconds a call."""
    began_ns, num_calls = time.perf_counter_ns(), 0
    while (time_ns := time.perf_counter_ns() - began_ns) < seconds * 1e9:
        call()
        num_calls += 1
    return time_ns / num_calls / 1e3


def tables(lines: Sequence[Line]) -> str:
    """In Markdown."""
    times: dict[int, dict[Kind, list[float]]] = defaultdict(lambda: defaultdict(list))
    for line in sorted(lines, key=lambda line: int(line["run"])):
        times[line["batch"]][Kind(line["kind"])].append(line["us_per_row"])
    rows = [["rows", *Kind, "both / step", "limit", ""]]
    for num_rows, by_kind in times.items():
        pairs = zip(by_kind[Kind.CALIBRATED], by_kind[Kind.STEP], strict=True)
        share = median(both / alone - 1.0 for both, alone in pairs)
        verdict = limit_cells(limits.CALIBRATION, share) if num_rows == _JUDGED else ["", ""]
        rows.append(
            [f"{num_rows:,}", *(spread(by_kind[kind], "{:.3f}") for kind in Kind), f"{share:.2f}", *verdict]
        )
    about = (
        "Microseconds a row of the built-in model's network stepped alone, with the normaliser, and with normaliser "
        "and calibration, through the engine on one thread; medians (least to most), and what both add to the step."
    )
    return "\n".join([about, "", *markdown(rows)])
