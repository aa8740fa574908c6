"""The suite `gpu`: the engine's step on a GPU, from arrays to arrays, both transfers included; skipped without one."""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Final

from benchmarks.models import Size
from benchmarks.records import NUM_CHANNELS
from benchmarks.report import markdown, spread
from benchmarks.run import Setup
from benchmarks.suites import Line, Say, Write

if TYPE_CHECKING:
    import numpy as np
    import torch

    from foretell.rounds import Steps

_NUM_BATCHES: Final = 16
"""Different batches that a measurement goes through in turn, so that the states of one are not at hand for the next."""


@dataclass(frozen=True)
class _Length:
    """How much is measured: hidden sizes, resident streams, frames of a batch, seconds and rounds of each."""

    hidden: Sequence[int]
    streams: Sequence[int]
    batches: Sequence[int]
    seconds: float
    num_rounds: int


_FULL: Final = _Length((64, 256), (1, 100_000, 1_000_000), (1, 256, 4096, 65_536), 1.0, 5)
_QUICK: Final = _Length((64,), (1, 100_000), (1, 4096), 0.2, 1)


def add_options(parser: argparse.ArgumentParser) -> None:
    """See `Suite`: there are none."""


def run_suite(args: argparse.Namespace, setup: Setup, write: Write, say: Say) -> str:  # noqa: ARG001 - as Suite has it
    """See `Suite`."""
    import torch

    from foretell.choices import Device
    from foretell.device import choose_device, describe_device, why_no_gpu

    device = choose_device(Device.AUTO)
    if device.type != "cuda":
        return f"Skipped: {why_no_gpu()}."
    length = _QUICK if args.quick else _FULL
    num_rounds = args.runs or length.num_rounds
    lines: list[Line] = []
    for hidden, streams in itertools.product(length.hidden, length.streams):
        batches = [batch for batch in length.batches if batch <= streams]
        for line in measure(device, Size(hidden, 1), streams, batches, length.seconds, num_rounds):
            line |= {"device": describe_device(device)}
            write(line)
            lines.append(line)
            say(f"hidden {hidden}, {streams:,} streams, batch {line['batch']:,}: {line['us_a_call']:,.0f} us")
        torch.cuda.empty_cache()  # the states of this many streams, before those of more
    return tables(lines)


def measure(
    device: torch.device,
    size: Size,
    num_streams: int,
    batches: Sequence[int],
    seconds: float,
    num_rounds: int,
) -> list[Line]:
    """A line a round and batch size of a plain model, all streams being resident: microseconds a call, frames/s."""
    import numpy as np

    from benchmarks.weights import as_daemons, seeded_model
    from foretell.device_engine import DeviceEngine
    from foretell.device_step import device_bytes_per_row

    model = as_daemons(*seeded_model(size))
    began = time.perf_counter()
    engine = DeviceEngine(model, num_streams, 1, device)
    engine.warm_up()
    about = {
        "hidden_size": size.hidden_size,
        "num_layers": size.num_layers,
        "streams": num_streams,
        "state_bytes": num_streams * device_bytes_per_row(model),
        "start_s": time.perf_counter() - began,
    }
    rng, lines = np.random.default_rng(0), []
    for batch in batches:
        prepared = [_steps(rng, num_streams, batch) for _ in range(_NUM_BATCHES)]
        for index in range(num_rounds):
            us_a_call = _time_us(engine.step, prepared, seconds)
            lines.append(
                about
                | {
                    "batch": batch,
                    "run": index,
                    "us_a_call": us_a_call,
                    "frames_per_s": batch / us_a_call * 1e6,
                }
            )
    return lines


def _steps(rng: np.random.Generator, num_streams: int, batch: int) -> Steps:
    """A frame each of so many of the streams."""
    import numpy as np

    from foretell.rounds import Steps

    rows = rng.choice(num_streams, batch, replace=False)[:, None]
    values = rng.normal(size=(batch, NUM_CHANNELS)).astype(np.float32)
    return Steps(rows, values, [batch], batch)


def _time_us(step: Callable[[Steps], object], prepared: Sequence[Steps], seconds: float) -> float:
    """The median time of a call, all of `prepared` in turn for so long, and each at least once."""
    times: list[float] = []
    until = time.perf_counter() + seconds
    while len(times) < len(prepared) or time.perf_counter() < until:
        steps = prepared[len(times) % len(prepared)]
        start = time.perf_counter()
        step(steps)
        times.append(time.perf_counter() - start)
    return median(times) * 1e6


def tables(lines: Sequence[Line]) -> str:
    """Microseconds a call and frames a second, a row for each hidden size, number of streams and batch size."""
    rows = [["hidden", "streams", "states MB", "frames a batch", "us a call", "frames/s"]]
    runs: dict[tuple[int, int, int], list[Line]] = {}
    for line in lines:
        runs.setdefault((line["hidden_size"], line["streams"], line["batch"]), []).append(line)
    for (hidden, streams, batch), same in runs.items():
        rows.append(
            [
                str(hidden),
                f"{streams:,}",
                f"{same[0]['state_bytes'] / 1e6:,.1f}",
                f"{batch:,}",
                spread([line["us_a_call"] for line in same], "{:,.0f}"),
                spread([line["frames_per_s"] for line in same], "{:,.0f}"),
            ]
        )
    what = "One layer, 8 channels, a point one frame ahead; the step from arrays to arrays, both transfers included."
    return "\n".join([f"{lines[0]['device']}. {what}", "", *markdown(rows)])
