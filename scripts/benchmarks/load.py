"""The load: frames sent, forecasts taken, as fast as they come or when they are due.

One thread sends and receives, so that the number of frames in flight is known without asking and due time and receipt
are read from one clock. It sleeps where there is nothing to do, so that it takes little of the machine.
"""

from __future__ import annotations

import select
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import zmq

from benchmarks.records import BYSTANDER_NS, FORECAST, FRAME, Frames, probe

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

_MESSAGES_A_TURN: Final = 128
"""Messages sent between two looks at what came back."""

_LOST_S: Final = 5.0
"""A frame without a forecast for so long, with nothing else coming back, is lost."""

_NAP_S: Final = 0.0002

_NO_WAIT: Final = int(zmq.NOBLOCK)  # a plain integer is passed on faster than an enum
_DUE: Final = slice(16, 24)  # a forecast's timestamp_ns
_BYSTANDER: Final = BYSTANDER_NS.to_bytes(8, "little")


class Load:
    """The load's sockets, what it has sent and what has come back; `forecast` is the record of a forecast.

    It subscribes to `topics`, or prefixes of them.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        input_endpoint: str,
        output_endpoint: str,
        forecast: np.dtype[np.void] = FORECAST,
        topics: Sequence[bytes] = (b"",),
    ) -> None:
        self._forecast = forecast
        self._sink, self._source = context.socket(zmq.PUB), context.socket(zmq.SUB)
        for socket in (self._sink, self._source):
            socket.set_hwm(0)  # what is in flight is bounded here; a mark reached would drop silently
        for topic in topics:
            self._source.subscribe(topic)
        self._sink.connect(input_endpoint)
        self._source.connect(output_endpoint)
        self._send = super(zmq.Socket, self._sink).send  # half the time of the Python around it
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

    def close(self) -> None:
        """Close the sockets; what was not sent yet is dropped."""
        self._sink.close(linger=0)
        self._source.close(linger=0)

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
        send = self._send
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
        receive, no_wait, size, num_bytes = self._source.recv, _NO_WAIT, self._forecast.itemsize, 0
        try:
            for _ in range(4 * _MESSAGES_A_TURN):
                part = receive(no_wait)
                if len(part) >= size:  # a topic is shorter than any forecast
                    num_bytes += len(part)
        except zmq.Again:
            pass
        self.num_received += num_bytes // size
        return num_bytes // size

    def pace(self, parts: Iterable[bytes], due_ns: NDArray[np.int64]) -> Paced:
        """Send each part when it is due and stamp each forecast when it is received, until all are back.

        The parts are as many as `due_ns`, all of one size, each taken before it is due. Forecasts of frames that
        others sent (`BYSTANDER_NS`) are passed over.
        """
        send, receive, no_wait, clock = self._send, self._source.recv, _NO_WAIT, time.monotonic_ns
        forecast, size, dues = self._forecast, self._forecast.itemsize, [*due_ns.tolist(), sys.maxsize]
        sent_ns: list[int] = []
        answered: list[bytes] = []  # the due times in each part received
        stamps_ns: list[int] = []
        num_parts, upcoming = len(due_ns), iter(parts)
        next_part = next(upcoming)
        num_expected = num_parts * len(next_part) // FRAME.itemsize
        self.num_sent += num_expected
        num_sent_parts = num_received = 0
        while num_received < num_expected:
            for _ in range(_MESSAGES_A_TURN):
                if clock() < dues[num_sent_parts]:
                    break
                send(next_part)
                num_sent_parts += 1
                sent_ns.append(clock())
                next_part = next(upcoming, b"")
            try:
                for _ in range(_MESSAGES_A_TURN):
                    part = receive(no_wait)
                    if len(part) < size:
                        continue  # a topic
                    stamps_ns.append(clock())
                    one = len(part) == size
                    dues_in = part[_DUE] if one else np.frombuffer(part, forecast)["timestamp_ns"].tobytes()
                    if _BYSTANDER in dues_in:
                        dues_in = _without_bystanders(dues_in)
                    num_received += len(dues_in) // 8
                    answered.append(dues_in)
            except zmq.Again:
                left_s = (dues[num_sent_parts] - clock()) / 1e9
                if num_received == num_expected or left_s <= 0:
                    continue
                if not self._sleep(min(left_s, _LOST_S)) and num_sent_parts == num_parts:
                    break
        self.num_received += num_received
        return Paced(np.array(sent_ns) - due_ns[: len(sent_ns)], *_latencies(answered, stamps_ns))

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


def _without_bystanders(dues: bytes) -> bytes:
    due_ns = np.frombuffer(dues, "<i8")
    own: bytes = due_ns[due_ns != BYSTANDER_NS].tobytes()
    return own
