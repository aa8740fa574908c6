"""A load that visits contenders in turn, as a process of its own: told what to do line by line, it answers likewise.

The contenders live as long as the load. One that nobody visits waits in its poll and costs nothing, so that measuring
another one takes no more than the time of a visit, where starting a process would take seconds.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import select
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import zmq

from benchmarks.load import Load
from benchmarks.measure import WINDOW_MESSAGE, WINDOW_PACKED, CpuClock
from benchmarks.records import RECORDS_PER_PART, Frames, forecast_dtype
from benchmarks.run import Packing, RunError, Started

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

_OPEN_S: Final = 60.0
_ANSWER_S: Final = 60.0
"""How long an answer may take beyond the time that was asked for."""

_OWN_TOPICS: Final = (b"stream-", b"probe")
"""With a message a forecast the load asks for its own alone: reading those of others would make it late itself."""

_PR_SET_TIMERSLACK: Final = 29


@dataclass(frozen=True)
class Target:
    """A contender as the load sees it: endpoints for frames and forecasts, its process, and the streams to send.

    num_quantiles: levels in its forecasts.
    """

    input: str
    output: str
    pid: int
    num_streams: int
    records_per_part: int
    num_quantiles: int


@dataclass(frozen=True)
class Paced:
    """What a visit at a fixed rate gave. Latencies and lags in microseconds, from when a part's last frame was due.

    The CPU time is the contender's, over the whole visit with its warm-up; so are the frames lost.
    """

    cpu_us_per_frame: float
    latency_p50_us: float
    latency_p99_us: float
    latency_max_us: float
    num_latencies: int
    send_lag_p99_us: float
    num_sent: int
    num_lost: int


@dataclass(frozen=True)
class Saturated:
    """What a visit with a bounded number of frames in flight gave."""

    frames_per_s: float
    cpu_us_per_frame: float


class Visitor:
    """The contender's side of the load: its sockets, its frames, and what is done with them."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], target: Target) -> None:
        self._frames = Frames(target.num_streams, target.records_per_part)
        self._num_streams = target.num_streams
        self._records_per_part = target.records_per_part
        self._window = WINDOW_MESSAGE if target.records_per_part == 1 else WINDOW_PACKED
        self._cpu = CpuClock(target.pid)
        topics = _OWN_TOPICS if target.records_per_part == 1 else (b"",)
        self._load = Load(context, target.input, target.output, forecast_dtype(target.num_quantiles), topics)
        self._load.open(_OPEN_S)

    def pace(self, frames_per_s: float, seconds: float, warm_up_s: float) -> Paced:
        """Send at a fixed rate and measure what was due after the warm-up."""
        load, records_per_part = self._load, self._records_per_part
        num_parts = max(2, round(frames_per_s * (warm_up_s + seconds) / records_per_part))
        due_ns = _due_times(num_parts, records_per_part / frames_per_s)
        if records_per_part == 1:
            parts: Iterator[bytes] = iter(self._frames.take(num_parts, due_ns))
        else:
            # One ahead, as they fall due: a minute of them takes gigabytes, and one some 30 us to make.
            parts = (self._frames.take(1, due)[0] for due in due_ns.tolist())
        cpu_ns, num_lost = self._cpu.read_ns(), load.num_sent - load.num_received
        paced = load.pace(parts, due_ns)
        cpu_ns = self._cpu.read_ns() - cpu_ns
        num_lost = load.num_sent - load.num_received - num_lost
        is_measured = paced.due_ns >= due_ns[0] + int(warm_up_s * 1e9)
        if not is_measured.any():
            raise TimeoutError("no forecast came back")
        p50, p99, most = np.percentile(paced.latency_ns[is_measured], [50, 99, 100]) / 1e3
        return Paced(
            cpu_us_per_frame=cpu_ns / (num_parts * records_per_part) / 1e3,
            latency_p50_us=p50,
            latency_p99_us=p99,
            latency_max_us=most,
            num_latencies=int(is_measured.sum()),
            send_lag_p99_us=float(np.percentile(paced.send_lag_ns, 99)) / 1e3,
            num_sent=num_parts * records_per_part,
            num_lost=num_lost,
        )

    def saturate(self, seconds: float) -> Saturated:
        """Send as fast as forecasts come back."""
        load = self._load
        num_before, time_before, cpu_before = load.num_received, time.monotonic_ns(), self._cpu.read_ns()
        load.saturate(self._frames, self._records_per_part, self._window, seconds)
        cpu_ns, time_ns = self._cpu.read_ns() - cpu_before, time.monotonic_ns() - time_before
        num_frames = load.num_received - num_before
        load.settle()
        return Saturated(frames_per_s=num_frames / time_ns * 1e9, cpu_us_per_frame=cpu_ns / num_frames / 1e3)

    def fill(self) -> Saturated:
        """Send until every stream has had two frames: all are resident, and what is done once for each is done."""
        seen = self.saturate(0.1)
        while self._load.num_sent < 2 * self._num_streams:
            seen = self.saturate(0.1)
        return seen

    def close(self) -> None:
        """Close the sockets."""
        self._load.close()


class PacedLoad:
    """The process of the load, from the side of the one who asks. Raises RunError where it gives no answer."""

    def __init__(self, process: subprocess.Popen[str], contenders: Sequence[Started]) -> None:
        self._process = process
        self._contenders = contenders

    def pace(self, target: int, frames_per_s: float, seconds: float, *, warm_up_s: float = 0.2) -> Paced:
        """See `Visitor.pace`; `target` is the index of the contender."""
        request = {"frames_per_s": frames_per_s, "seconds": seconds, "warm_up_s": warm_up_s}
        return Paced(**self._ask(target, "pace", seconds + warm_up_s, request))

    def saturate(self, target: int, seconds: float) -> Saturated:
        """See `Visitor.saturate`."""
        return Saturated(**self._ask(target, "saturate", seconds, {"seconds": seconds}))

    def fill(self, target: int) -> None:
        """See `Visitor.fill`."""
        self._ask(target, "fill", 0.0, {})

    def _ask(self, target: int, what: str, seconds: float, request: dict[str, float]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # what it died of is told below
            print(
                json.dumps({"target": target, "what": what, **request}), file=self._process.stdin, flush=True
            )
        deadline = time.monotonic() + seconds + _OPEN_S + _ANSWER_S
        while not select.select([self._process.stdout], [], [], 0.5)[0]:
            for contender in self._contenders:
                if (code := contender.process.poll()) is not None:
                    raise RunError(f"{what}: a contender ended with exit code {code}")
            if time.monotonic() > deadline:
                raise RunError(f"{what}: no answer")
        line = self._process.stdout.readline()
        if not line:
            _, errors = self._process.communicate()
            raise RunError(f"{what}: {errors.strip().splitlines()[-1]}")
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextlib.contextmanager
def paced_load(
    contenders: Sequence[Started], num_streams: Sequence[int], packing: Packing, num_quantiles: int = 1
) -> Iterator[PacedLoad]:
    """A load on contenders that have been started, with so many streams on each, and its end."""
    records_per_part = RECORDS_PER_PART if packing is Packing.PACKED else 1
    targets = [
        asdict(Target(one.input, one.output, one.process.pid, count, records_per_part, num_quantiles))
        for one, count in zip(contenders, num_streams, strict=True)
    ]
    command = [sys.executable, "-m", "benchmarks.paced", json.dumps(targets)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, bufsize=1) as process:
        try:
            yield PacedLoad(process, contenders)
        finally:
            process.kill()


def _due_times(num_parts: int, interval_s: float) -> NDArray[np.int64]:
    """When each part is due, i64 [parts]; the first when parts made beforehand (0.5 us each, some 10 at once) are."""
    start_ns = time.monotonic_ns() + 20_000_000 + 2_000 * num_parts
    return start_ns + (np.arange(num_parts) * (interval_s * 1e9)).astype(np.int64)


def main() -> None:
    """Visit as the lines on stdin say, a JSON object each, and print one for each visit."""
    targets = [Target(**target) for target in json.loads(sys.argv[1])]
    gc.disable()
    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1)  # sleeps end within a microsecond or so of their time
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    visitors = [Visitor(context, target) for target in targets]
    for line in sys.stdin:
        request = json.loads(line)
        visitor, what = visitors[request.pop("target")], request.pop("what")
        visit: Callable[..., Paced | Saturated] = getattr(visitor, what)
        print(json.dumps(asdict(visit(**request))), flush=True)
    for visitor in visitors:
        visitor.close()
    context.term()


if __name__ == "__main__":
    main()
