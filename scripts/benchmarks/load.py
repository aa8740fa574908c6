"""The load: one process that sends frames, takes their forecasts, and measures the contender from outside.

One thread sends and receives, so that the number of frames in flight is known without asking and due time and receipt
are read from one clock. It sleeps where there is nothing to do, so that it takes little of the machine.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import select
import sys
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import zmq

from benchmarks.records import FORECAST, FRAME, RECORDS_PER_PART, Frames, probe

if TYPE_CHECKING:
    from numpy.typing import NDArray

WINDOW_MESSAGE: Final = 8_192
WINDOW_PACKED: Final = 16_384
"""Frames in flight while the rate is sought: two and four full batches, so that the contender never waits for more."""

_MESSAGES_A_TURN: Final = 128
"""Messages sent between two looks at what came back."""

_LOST_S: Final = 5.0
"""A frame without a forecast for so long, with nothing else coming back, is lost."""

_NAP_S: Final = 0.0002

_DUE: Final = slice(16, 24)  # a forecast's timestamp_ns
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


class Load:
    """The load's sockets, what it has sent and what has come back."""

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], input_endpoint: str, output_endpoint: str
    ) -> None:
        self._sink, self._source = context.socket(zmq.PUB), context.socket(zmq.SUB)
        for socket in (self._sink, self._source):
            socket.set_hwm(0)  # what is in flight is bounded here; a mark reached would drop silently
        self._source.subscribe(b"")
        self._sink.connect(input_endpoint)
        self._source.connect(output_endpoint)
        self._fd = self._source.fileno()
        self.num_sent = 0
        self.num_received = 0

    def open(self, deadline_s: float) -> None:
        """Send probes until one's forecast comes back: the contender is ready, and both directions are open."""
        deadline = time.monotonic() + deadline_s
        num_probes = num_answers = 0
        while num_answers == 0:
            if time.monotonic() > deadline:
                raise TimeoutError(f"no forecast within {deadline_s:g} s of the start")
            self._sink.send(probe(num_probes))
            num_probes += 1
            num_answers = self._count_until(time.monotonic() + 0.05)
        # What was sent before the connection stood never arrives; what was sent after does so soon.
        while self._count_until(time.monotonic() + 0.2):
            pass

    def _count_until(self, until_s: float) -> int:
        num_answers = 0
        while (left := until_s - time.monotonic()) > 0:
            if self._source.poll(int(left * 1000)):
                num_answers += len(self._source.recv_multipart()) > 1
        return num_answers

    def saturate(self, frames: Frames, records_per_part: int, window: int, seconds: float) -> None:
        """Keep up to `window` frames in flight for so long, and on to the next receipt.

        So it begins and ends at the same point of the contender's batches, of which a slow one makes few a second.
        """
        num_parts = max(1, _MESSAGES_A_TURN // records_per_part)
        num_frames = num_parts * records_per_part
        received_ns = time.monotonic_ns()
        until_ns = received_ns + int(seconds * 1e9)
        send = self._sink.send
        while True:
            now_ns = time.monotonic_ns()
            has_room = self.num_sent - self.num_received <= window - num_frames
            if has_room:
                for part in frames.take(num_parts, now_ns):
                    send(part)
                self.num_sent += num_frames
            if self._receive():
                if now_ns >= until_ns:
                    return
                received_ns = now_ns
            elif now_ns - received_ns > _LOST_S * 1e9:
                raise TimeoutError(f"{self.num_sent - self.num_received} frames in flight and no forecast")
            elif not has_room:
                # The contender has a window of frames before it: waking for each forecast would gain nothing.
                time.sleep(_NAP_S)

    def settle(self) -> None:
        """Wait for the forecasts of what is in flight."""
        while self.num_received < self.num_sent and (self._receive() or self._sleep(_LOST_S)):
            pass

    def _receive(self) -> int:
        """Take what is there, or some of it; the number of forecasts in it."""
        receive, no_wait, size, num_bytes = self._source.recv, zmq.NOBLOCK, FORECAST.itemsize, 0
        try:
            for _ in range(4 * _MESSAGES_A_TURN):
                part = receive(no_wait)
                if len(part) >= size:  # a topic is shorter than any forecast
                    num_bytes += len(part)
        except zmq.Again:
            pass
        self.num_received += num_bytes // size
        return num_bytes // size

    def pace(self, parts: list[bytes], due_ns: NDArray[np.int64]) -> Paced:
        """Send each part when it is due and stamp each forecast when it is received, until all are back."""
        send, receive, no_wait, clock = self._sink.send, self._source.recv, zmq.NOBLOCK, time.monotonic_ns
        size, dues = FORECAST.itemsize, [*due_ns.tolist(), sys.maxsize]
        sent_ns: list[int] = []
        answered: list[bytes] = []  # the due times in each part received
        stamps_ns: list[int] = []
        num_expected = len(parts) * len(parts[0]) // FRAME.itemsize
        self.num_sent += num_expected
        num_sent_parts = num_received = 0
        while num_received < num_expected:
            for _ in range(_MESSAGES_A_TURN):
                if clock() < dues[num_sent_parts]:
                    break
                send(parts[num_sent_parts])
                num_sent_parts += 1
                sent_ns.append(clock())
            try:
                for _ in range(_MESSAGES_A_TURN):
                    part = receive(no_wait)
                    if len(part) < size:
                        continue  # a topic
                    stamps_ns.append(clock())
                    num_received += len(part) // size
                    one = len(part) == size
                    answered.append(
                        part[_DUE] if one else np.frombuffer(part, FORECAST)["timestamp_ns"].tobytes()
                    )
            except zmq.Again:
                left_s = (dues[num_sent_parts] - clock()) / 1e9
                if num_received == num_expected or left_s <= 0:
                    continue
                if not self._sleep(min(left_s, _LOST_S)) and left_s > _LOST_S:
                    break
        self.num_received += num_received
        return Paced(np.array(sent_ns) - due_ns, *_latencies(answered, stamps_ns))

    def _sleep(self, timeout_s: float) -> bool:
        """Sleep until a forecast is there; false where none came.

        Only after a receive that found nothing: libzmq's descriptor tells of changes alone.
        """
        return bool(select.select([self._fd], [], [], timeout_s)[0])


@dataclass(frozen=True)
class Paced:
    """Nanoseconds: how late each part was sent; each forecast's due time, and how long after that it was received."""

    send_lag_ns: NDArray[np.int64]
    due_ns: NDArray[np.int64]
    latency_ns: NDArray[np.int64]


def _latencies(answered: list[bytes], stamps_ns: list[int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    due_ns = np.frombuffer(b"".join(answered), "<i8")
    return due_ns, np.repeat(stamps_ns, [len(part) // 8 for part in answered]) - due_ns


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
    load: Load, num_streams: int, records_per_part: int, contender: CpuClock, seconds: float
) -> Measured:
    """Seek the sustained rate for `seconds`, then pace half of it for as long, each after a warm-up."""
    frames = Frames(num_streams, records_per_part)
    warm_up_s = seconds / 3
    window = WINDOW_MESSAGE if records_per_part == 1 else WINDOW_PACKED

    load.saturate(frames, records_per_part, window, warm_up_s)
    num_before, time_before = load.num_received, time.monotonic_ns()
    cpu_before, own_before = contender.read_ns(), time.process_time_ns()
    load.saturate(frames, records_per_part, window, seconds)
    num_frames, time_ns = load.num_received - num_before, time.monotonic_ns() - time_before
    cpu_ns, own_ns = contender.read_ns() - cpu_before, time.process_time_ns() - own_before
    rate = num_frames / time_ns * 1e9
    load.settle()

    paced_rate = rate / 2
    num_parts = max(1, round(paced_rate * (warm_up_s + seconds) / records_per_part))
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
    args = parser.parse_args()

    gc.disable()
    ctypes.CDLL(None).prctl(
        _PR_SET_TIMERSLACK, 1
    )  # sleeps end within a microsecond or so of their time, not 50
    context = zmq.Context()
    load = Load(context, args.input, args.output)
    load.open(deadline_s=60)
    records_per_part = RECORDS_PER_PART if args.packed else 1
    print(json.dumps(asdict(measure(load, args.streams, records_per_part, CpuClock(args.pid), args.seconds))))
    context.destroy(linger=0)


if __name__ == "__main__":
    main()
