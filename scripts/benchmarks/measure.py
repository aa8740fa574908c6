"""A run as its load sees it: the sustained rate, what it costs, the latencies at half of it. A process of its own."""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import time
from dataclasses import asdict, dataclass
from typing import Final

import numpy as np
import zmq

from benchmarks.load import Load
from benchmarks.records import RECORDS_PER_PART, Frames, forecast_dtype

WINDOW_MESSAGE: Final = 8_192
WINDOW_PACKED: Final = 16_384
"""Frames in flight while the rate is sought: two and four full batches, so that the contender never waits for more."""

_MIN_PARTS: Final = 10
"""Parts paced at least, where a slow contender would get fewer in the time."""

_PR_SET_TIMERSLACK: Final = 29


@dataclass(frozen=True)
class Measured:
    """What one run gave. Latencies and lags in microseconds.

    `send_lag_p99_us` is how late the load itself was: where it comes near the latencies, they are the load's own.
    """

    frames_per_s: float
    cpu_us_per_frame: float
    load_cpu_us_per_frame: float
    paced_frames_per_s: float
    latency_p50_us: float
    latency_p99_us: float
    latency_p999_us: float
    num_latencies: int
    send_lag_p99_us: float
    num_sent: int
    num_lost: int


class CpuClock:
    """The CPU time of another process, user and system, of all its threads, to the nanosecond.

    The clock of clock_getcpuclockid(3); the ticks of /proc/PID/stat are of 10 ms.
    """

    def __init__(self, pid: int) -> None:
        clock_id = ctypes.c_int()
        if error := ctypes.CDLL(None).clock_getcpuclockid(pid, ctypes.byref(clock_id)):
            raise OSError(error, f"no CPU clock of process {pid}: {os.strerror(error)}")
        self._clock_id = clock_id.value

    def read_ns(self) -> int:
        """CPU time so far."""
        return time.clock_gettime_ns(self._clock_id)


def measure(
    load: Load,
    num_streams: int,
    records_per_part: int,
    contender: CpuClock,
    seconds: float,
    window: int | None = None,
) -> Measured:
    """Seek the sustained rate for `seconds`, then pace half of it for as long, each after a warm-up.

    `window` is how many frames are in flight while the rate is sought, where it is not the usual.
    """
    frames = Frames(num_streams, records_per_part)
    warm_up_s = seconds / 3
    window = window or (WINDOW_MESSAGE if records_per_part == 1 else WINDOW_PACKED)

    load.saturate(frames, records_per_part, window, warm_up_s)
    num_before, time_before = load.num_received, time.monotonic_ns()
    cpu_before, own_before = contender.read_ns(), time.process_time_ns()
    load.saturate(frames, records_per_part, window, seconds)
    num_frames, time_ns = load.num_received - num_before, time.monotonic_ns() - time_before
    cpu_ns, own_ns = contender.read_ns() - cpu_before, time.process_time_ns() - own_before
    rate = num_frames / time_ns * 1e9
    load.settle()

    paced_rate = rate / 2
    num_parts = max(_MIN_PARTS, round(paced_rate * (warm_up_s + seconds) / records_per_part))
    # The parts are made before the first is due, which takes 0.5 us a frame; four times that is in hand.
    start_ns = time.monotonic_ns() + 20_000_000 + 2_000 * num_parts * records_per_part
    due_ns = start_ns + (np.arange(num_parts) * (records_per_part / paced_rate * 1e9)).astype(np.int64)
    paced = load.pace(frames.take(num_parts, due_ns), due_ns)
    is_measured = paced.due_ns >= start_ns + int(warm_up_s * 1e9)
    p50, p99, p999 = np.percentile(paced.latency_ns[is_measured], [50, 99, 99.9]) / 1e3

    return Measured(
        frames_per_s=rate,
        cpu_us_per_frame=cpu_ns / num_frames / 1e3,
        load_cpu_us_per_frame=own_ns / num_frames / 1e3,
        paced_frames_per_s=paced_rate,
        latency_p50_us=p50,
        latency_p99_us=p99,
        latency_p999_us=p999,
        num_latencies=int(is_measured.sum()),
        send_lag_p99_us=float(np.percentile(paced.send_lag_ns, 99)) / 1e3,
        num_sent=load.num_sent,
        num_lost=load.num_sent - load.num_received,
    )


def main() -> None:
    """Put a contender under load and print what was measured as one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--input", required=True, help="the contender's endpoint for frames")
    parser.add_argument("--output", required=True, help="the contender's endpoint for forecasts")
    parser.add_argument("--pid", required=True, type=int, help="the contender's process")
    parser.add_argument("--streams", required=True, type=int)
    parser.add_argument("--packed", action="store_true", help=f"{RECORDS_PER_PART} frames a message")
    parser.add_argument("--seconds", required=True, type=float, help="of each measurement")
    parser.add_argument("--window", type=int, help="frames in flight while the rate is sought")
    parser.add_argument("--quantiles", type=int, default=1, help="levels in the contender's forecasts")
    args = parser.parse_args()

    gc.disable()
    ctypes.CDLL(None).prctl(
        _PR_SET_TIMERSLACK, 1
    )  # sleeps end within a microsecond or so of their time, not 50
    context = zmq.Context()
    load = Load(context, args.input, args.output, forecast_dtype(args.quantiles))
    load.open(deadline_s=60)
    records_per_part = RECORDS_PER_PART if args.packed else 1
    measured = measure(load, args.streams, records_per_part, CpuClock(args.pid), args.seconds, args.window)
    print(json.dumps(asdict(measured)))
    load.close()
    context.term()


if __name__ == "__main__":
    main()
