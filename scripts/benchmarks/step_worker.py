"""A process that steps, as `benchmarks.step_process` says: what it measures, and how."""

from __future__ import annotations

import gc
import itertools
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.models import Size
from benchmarks.records import NUM_CHANNELS
from benchmarks.step_contenders import Call, Contender, make
from benchmarks.step_process import Stepper, Task, Timed

_LARGEST: Final = 4_096
"""Rows of the largest batch."""

NUM_ROWS: Final = 8 * _LARGEST
"""Rows of the arena, so many that a batch's states are not all in the cache before it."""

_MOST_BATCHES: Final = 1_024
"""Batches that are gone round, where there are rows for more."""


class _Bench:
    """The contenders of one model size, and their batches, made when first asked for."""

    def __init__(self) -> None:
        self._size: Size | None = None
        self._contenders: dict[tuple[str, int], Contender] = {}
        self._calls: dict[tuple[str, int, int], list[Call]] = {}

    def measure(self, task: Task, seconds: float) -> Timed:
        """See `Worker.measure`."""
        if task.size != self._size:
            self._contenders.clear()
            self._calls.clear()
            gc.collect()
            self._size = task.size
        torch.set_num_threads(task.num_threads)
        key = (task.who, task.num_threads)
        if key not in self._contenders:
            self._contenders[key] = make(task.who, task.size, NUM_ROWS, task.num_threads)
            for batch in batches(_LARGEST):  # the arena's pages are there, from here on
                self._contenders[key].prepare(*batch)()
        contender = self._contenders[key]
        if (*key, task.num_rows) not in self._calls:
            self._calls[*key, task.num_rows] = [contender.prepare(*batch) for batch in batches(task.num_rows)]
        us, num_calls = _time(self._calls[*key, task.num_rows], seconds)
        return Timed(us, num_calls, contender.kernel, contender.num_threads)


def batches(num_rows: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """Rows i64 [n] of the arena, no row twice in all batches, and values float32 [n, channels]."""
    rng = np.random.default_rng(0)
    num_batches = min(NUM_ROWS // num_rows, _MOST_BATCHES)
    rows = rng.permutation(NUM_ROWS)[: num_batches * num_rows].reshape(num_batches, num_rows)
    values = rng.normal(size=(num_batches, num_rows, NUM_CHANNELS)).astype(np.float32)
    return zip(rows, values, strict=True)


def _time(calls: Sequence[Call], seconds: float) -> tuple[float, int]:
    """Microseconds a call, and how many were made, one after the other, for so long, after an eighth of that."""
    in_turn = itertools.cycle(calls)
    _run(in_turn, seconds / 8)
    return _run(in_turn, seconds)


def _run(calls: Iterator[Call], seconds: float) -> tuple[float, int]:
    num_calls, time_ns, num_at_once = 0, 0, 1
    while time_ns < seconds * 1e9:
        start_ns = time.perf_counter_ns()
        for call in itertools.islice(calls, num_at_once):
            call()
        time_ns += time.perf_counter_ns() - start_ns
        num_calls += num_at_once
        num_at_once = max(1, min(2 * num_at_once, int(num_calls * seconds * 1e9 / 16 / time_ns)))
    return time_ns / num_calls / 1e3, num_calls


def main() -> None:
    """Measure what the lines on stdin say, a JSON object each, and print one for each."""
    bench = _Bench()
    gc.disable()
    for line in sys.stdin:
        request = json.loads(line)
        task = Task(
            Stepper(request["who"]), Size(**request["size"]), request["num_threads"], request["num_rows"]
        )
        timed = bench.measure(task, request["seconds"])
        print(json.dumps(asdict(timed)), flush=True)


if __name__ == "__main__":
    main()
