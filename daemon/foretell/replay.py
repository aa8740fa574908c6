"""`foretell replay`: recordings sent again, each as a stream, at a steady rate or with their recorded spacing."""

from __future__ import annotations

import contextlib
import heapq
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from foretell.client import Producer
from foretell.errors import RecordingError
from foretell.recording import Recording, read_recording
from foretell.wire import is_valid_name

_PROGRESS_INTERVAL_S = 0.1
_TASK = TaskID(0)  # the only one


@dataclass(frozen=True, slots=True)
class FixedRate:
    """So many frames a second of each stream, whatever the recorded times; infinite: as fast as they can be sent."""

    frames_per_s: float


@dataclass(frozen=True, slots=True)
class RecordedSpacing:
    """The recorded spacing divided by `speed`."""

    speed: float


Pace = FixedRate | RecordedSpacing


class Due(NamedTuple):
    """A row of a recording and when it is to be sent, in seconds since the start. Sorts in the order of sending."""

    time_s: float
    row: int
    recording: int


def read_recordings(paths: Sequence[Path], *, by_column: bool = False) -> list[Recording]:
    """Read files as streams, one a file or one a column.

    Raises RecordingError, also for names that cannot be sent.
    """
    recordings = [read_recording(path) for path in paths]
    if by_column:
        recordings = [column for recording in recordings for column in recording.by_column()]
    names: set[str] = set()
    for recording in recordings:
        if not is_valid_name(recording.name.encode()):
            raise RecordingError(
                f"{recording.name!r} cannot be the name of a stream: 1 to 64 bytes of UTF-8, no control characters, "
                "not beginning with '{', '*', 'FTL1' or 'FTC1'; rename the file or column"
            )
        if recording.name in names:
            raise RecordingError(f"two streams would be called {recording.name!r}; rename one file or column")
        names.add(recording.name)
    return recordings


def schedule(recordings: Sequence[Recording], pace: Pace) -> Iterator[Due]:
    """All rows of all recordings in the order in which they are to be sent, each recording's in its own order."""
    return heapq.merge(*(_due_times(number, recordings, pace) for number in range(len(recordings))))


def _due_times(number: int, recordings: Sequence[Recording], pace: Pace) -> Iterator[Due]:
    recording = recordings[number]
    if isinstance(pace, FixedRate):
        for row in range(len(recording.timestamp_ns)):
            yield Due(row / pace.frames_per_s, row, number)
        return
    start_ns = min(int(other.timestamp_ns[0]) for other in recordings)
    due_s = 0.0
    for row, timestamp_ns in enumerate(recording.timestamp_ns.tolist()):
        # Local time goes back an hour each autumn: such rows are sent at once, in the order of the file.
        due_s = max(due_s, (timestamp_ns - start_ns) / 1e9 / pace.speed)
        yield Due(due_s, row, number)


def send_all(
    producer: Producer,
    recordings: Sequence[Recording],
    pace: Pace,
    stopping: threading.Event,
    *,
    keep_time: bool = False,
) -> Iterator[int]:
    """Send recordings at their pace until they end or `stopping` is set; yields how many frames have been sent.

    Frames are numbered from 0 in each stream. One that is late is sent at once, so that the pace holds on average.
    keep_time: they carry their recorded time instead of the present.
    """
    start_s = time.monotonic()
    for num_sent, due in enumerate(schedule(recordings, pace), start=1):
        delay_s = start_s + due.time_s - time.monotonic()
        if stopping.wait(delay_s) if delay_s > 0 else stopping.is_set():
            return
        recording = recordings[due.recording]
        timestamp_ns = int(recording.timestamp_ns[due.row]) if keep_time else time.time_ns()
        producer.send(recording.name, recording.values[due.row], frame=due.row, timestamp_ns=timestamp_ns)
        yield num_sent


def replay(
    paths: Sequence[Path], endpoint: str, pace: Pace, *, by_column: bool = False, keep_time: bool = False
) -> int:
    """Send files to a daemon with a progress bar. Ctrl-C ends it in order. Raises RecordingError, EndpointError."""
    recordings = read_recordings(paths, by_column=by_column)
    num_frames = sum(len(recording.timestamp_ns) for recording in recordings)
    num_sent = 0
    start_s = time.monotonic()
    # Ctrl-C is an order to stop, not an accident.
    with contextlib.suppress(KeyboardInterrupt), _progress(f"waiting for {endpoint}", num_frames) as progress:
        with Producer(endpoint) as producer:
            progress.update(_TASK, description=f"{len(recordings):,} streams to {endpoint}")
            next_s = start_s
            for num_sent in send_all(producer, recordings, pace, threading.Event(), keep_time=keep_time):
                if time.monotonic() >= next_s:  # drawing costs more than sending
                    progress.update(_TASK, completed=num_sent)
                    next_s = time.monotonic() + _PROGRESS_INTERVAL_S
        progress.update(_TASK, completed=num_sent)
    elapsed_s = time.monotonic() - start_s
    print(f"sent {num_sent:,} of {num_frames:,} frames of {len(recordings):,} streams in {elapsed_s:.1f} s")
    return 0


def _progress(description: str, total: int) -> Progress:
    """A bar on stderr with one task, shown on a terminal only."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    progress = Progress(*columns, console=console, disable=not console.is_terminal)
    progress.add_task(description, total=total)
    return progress
