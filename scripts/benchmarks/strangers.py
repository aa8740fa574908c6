"""What it takes to admit and to evict a stream: batches of strangers through the daemon's own admission. A process.

Each run begins with an empty table and fills it; then every stream sends its next frame; then new ones take the seats
of all of these; and at last all have been silent for too long.
"""

from __future__ import annotations

import argparse
import gc
import json
import time
from dataclasses import asdict, dataclass
from typing import Final

import numpy as np

from benchmarks.records import NUM_CHANNELS
from foretell.admit import Admitter
from foretell.choices import WhenFull
from foretell.config import StreamsConfig
from foretell.seating import Streams
from foretell.wire import FrameBatch

BATCH: Final = 4_096
_NUM_BATCHES: Final = 24
NUM_STREAMS: Final = BATCH * _NUM_BATCHES

_IDLE_TIMEOUT_S: Final = 1.0


@dataclass(frozen=True)
class Costs:
    """Microseconds a stream, the mean over a run; of a frame in `known_us`.

    admit: a batch of strangers, all of what admission does with it. known: the same of streams that have seats.
    replace: a batch of strangers where each takes the seat of another. evict_idle: what was silent for too long.
    """

    rows_a_stream: int
    admit_us: float
    known_us: float
    replace_us: float
    evict_idle_us: float


def measure(*, is_independent: bool) -> Costs:
    """One run, with a table of `NUM_STREAMS`."""
    rows_a_stream = NUM_CHANNELS if is_independent else 1
    streams = Streams(
        num_channels=None if is_independent else NUM_CHANNELS,
        rows_a_channel=is_independent,
        can_fill=True,
        warm_up=0,
        num_rows=NUM_STREAMS * rows_a_stream,
    )
    config = StreamsConfig(
        capacity=NUM_STREAMS,
        when_full=WhenFull.EVICT,
        idle_timeout_s=_IDLE_TIMEOUT_S,
        max_channels=NUM_CHANNELS,
    )
    admitter = Admitter(config, streams)
    first, next_, others = _batches("first", 0), _batches("first", 1), _batches("other", 0)
    admit_us = _admit(admitter, first)
    known_us = _admit(admitter, next_)
    replace_us = _admit(admitter, others)
    began_ns = time.perf_counter_ns()
    while admitter.evict_idle(time.monotonic_ns() + int(2e9 * _IDLE_TIMEOUT_S)):
        pass
    evict_idle_us = (time.perf_counter_ns() - began_ns) / 1e3 / NUM_STREAMS
    assert not len(admitter.table)
    return Costs(rows_a_stream, admit_us, known_us, replace_us, evict_idle_us)


def _admit(admitter: Admitter, batches: list[FrameBatch]) -> float:
    """Microseconds a frame to admit all batches."""
    num_accepted, began_ns = 0, time.perf_counter_ns()
    for batch in batches:
        for admission in admitter.admit(batch, time.monotonic_ns()):
            num_accepted += admission.num_accepted
    took_ns = time.perf_counter_ns() - began_ns
    assert num_accepted == NUM_STREAMS
    return took_ns / 1e3 / num_accepted


def _batches(prefix: str, number: int) -> list[FrameBatch]:
    """Frame `number` of every stream of a prefix."""
    return [
        FrameBatch(
            names=[f"{prefix}-{index:06d}".encode() for index in range(start, start + BATCH)],
            frame=np.full(BATCH, number, np.uint64),
            timestamp_ns=np.ones(BATCH, np.int64),
            epoch=np.zeros(BATCH, np.uint32),
            unnumbered=np.zeros(BATCH, np.bool_),
            values=np.zeros((BATCH, NUM_CHANNELS), np.float32),
        )
        for start in range(0, NUM_STREAMS, BATCH)
    ]


def main() -> None:
    """Print one line of JSON a run: runs of joint and of independent streams in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", required=True, type=int)
    args = parser.parse_args()
    gc.disable()
    for _ in range(args.runs):
        for is_independent in (False, True):
            print(json.dumps(asdict(measure(is_independent=is_independent))), flush=True)


if __name__ == "__main__":
    main()
