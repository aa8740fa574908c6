"""Replay: when each row is due, and what is refused before anything is sent."""

from __future__ import annotations

import math
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes import FakeDaemon, wait_until
from foretell.client import Producer
from foretell.errors import RecordingError
from foretell.recording import Recording
from foretell.replay import Due, FixedRate, Pace, RecordedSpacing, read_recordings, replay, schedule, send_all


def _recording(name: str, times_s: list[float]) -> Recording:
    return Recording(
        name=name,
        channels=("x",),
        timestamp_ns=np.array([round(time_s * 1e9) for time_s in times_s], dtype=np.int64),
        values=np.arange(len(times_s), dtype=np.float32)[:, None],
    )


def test_fixed_rate_ignores_recorded_times() -> None:
    """At 10 frames a second rows are due every 0.1 s, the same row of all recordings together."""
    due = list(schedule([_recording("a", [0, 50, 51]), _recording("b", [7, 8])], FixedRate(10)))
    assert due == [Due(0.0, 0, 0), Due(0.0, 0, 1), Due(0.1, 1, 0), Due(0.1, 1, 1), Due(0.2, 2, 0)]


def test_infinite_rate_is_at_once() -> None:
    """At an infinite rate everything is due at the start, row by row."""
    due = list(schedule([_recording("a", [0, 1]), _recording("b", [0, 1])], FixedRate(math.inf)))
    assert due == [Due(0.0, 0, 0), Due(0.0, 0, 1), Due(0.0, 1, 0), Due(0.0, 1, 1)]


def test_recorded_spacing_is_divided_by_speed() -> None:
    """At speed 60 a minute lasts a second, and recordings keep their distance from one another."""
    due = list(schedule([_recording("a", [600, 660]), _recording("b", [630])], RecordedSpacing(60)))
    assert due == [Due(0.0, 0, 0), Due(0.5, 0, 1), Due(1.0, 1, 0)]


def test_time_that_goes_back_does_not_stop_the_replay() -> None:
    """Rows recorded while the clocks went back are due at once, in the order of the file."""
    due = list(schedule([_recording("a", [0, 7200, 3600, 7300])], RecordedSpacing(1)))
    assert [time_s for time_s, _, _ in due] == [0.0, 7200.0, 7200.0, 7300.0]


@given(
    st.lists(
        st.lists(st.integers(min_value=0, max_value=1000), min_size=1, max_size=20), min_size=1, max_size=4
    ),
    st.sampled_from([FixedRate(7.0), RecordedSpacing(3.0)]),
)
def test_schedule_is_whole_and_in_order(times: list[list[int]], pace: Pace) -> None:
    """Every row of every recording is due once, its own rows in order, at times that never go back."""
    due = list(schedule([_recording(str(i), list(map(float, row))) for i, row in enumerate(times)], pace))
    assert [entry.time_s for entry in due] == sorted(entry.time_s for entry in due)
    for number, row in enumerate(times):
        assert [entry.row for entry in due if entry.recording == number] == list(range(len(row)))


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    """Two files that would be one stream are refused, and the name is said."""
    paths = [tmp_path / "a" / "pump.csv", tmp_path / "b" / "pump.csv"]
    for path in paths:
        path.parent.mkdir()
        path.write_text("time,x\n1,2\n")
    with pytest.raises(RecordingError, match="'pump'"):
        read_recordings(paths)


def test_names_that_cannot_be_sent_are_refused(tmp_path: Path) -> None:
    """A file whose name cannot be a stream's is refused with the rule."""
    path = tmp_path / "{x.csv"
    path.write_text("time,x\n1,2\n")
    with pytest.raises(RecordingError, match="1 to 64 bytes"):
        read_recordings([path])


def test_streams_by_column(tmp_path: Path) -> None:
    """By column, each channel of a file is a stream."""
    path = tmp_path / "pump.csv"
    path.write_text("time,x,y\n1,2,3\n")
    assert [recording.name for recording in read_recordings([path], by_column=True)] == ["pump/x", "pump/y"]


def test_replay_sends_every_row_in_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is replayed arrives whole: values, missing ones too, numbered from 0, and the sum is printed."""
    path = tmp_path / "pump.csv"
    path.write_text("time,x,y\n1,2,3\n2,,5\n3,6,7\n")
    with FakeDaemon(tmp_path) as daemon:
        assert replay([path], daemon.input_endpoint, FixedRate(math.inf)) == 0
        wait_until(lambda: daemon.num_frames == 3)
        assert [str(row) for row in daemon.values_of("pump")] == ["[2.0, 3.0]", "[nan, 5.0]", "[6.0, 7.0]"]
        frames = [int(frame) for batch in daemon.batches for frame in batch.frame]
        assert frames == [0, 1, 2]
    assert "sent 3 of 3 frames of 1 streams" in capsys.readouterr().out


@pytest.mark.parametrize("keep_time", [False, True])
def test_replay_times_are_the_present_or_the_recorded(tmp_path: Path, *, keep_time: bool) -> None:
    """Frames carry the time at which they are sent, or their recorded one where that is asked for."""
    path = tmp_path / "pump.csv"
    path.write_text("time,x\n1000,2\n")
    before_ns = time.time_ns()
    with FakeDaemon(tmp_path) as daemon:
        replay([path], daemon.input_endpoint, FixedRate(math.inf), keep_time=keep_time)
        wait_until(lambda: daemon.num_frames == 1)
        (timestamp_ns,) = daemon.batches[0].timestamp_ns.tolist()
    assert timestamp_ns == 1000 * 10**9 if keep_time else timestamp_ns >= before_ns


def test_each_replay_is_an_epoch_of_its_own(tmp_path: Path) -> None:
    """A recording sent twice is not late the second time: its epoch is at least as new, and not 0."""
    path = tmp_path / "pump.csv"
    path.write_text("time,x\n1,2\n")
    with FakeDaemon(tmp_path) as daemon:
        replay([path], daemon.input_endpoint, FixedRate(math.inf))
        wait_until(lambda: daemon.num_frames == 1)
        assert daemon.batches[0].epoch[0] > 1_700_000_000


def test_stopping_ends_the_sending(tmp_path: Path) -> None:
    """Told to stop while it waits for the next row, sending ends at once and counts what it sent."""
    stopping = threading.Event()
    sent = []
    with FakeDaemon(tmp_path) as daemon, Producer(daemon.input_endpoint) as producer:
        for num_sent in send_all(producer, [_recording("a", [0, 3600])], RecordedSpacing(1), stopping):
            sent.append(num_sent)
            stopping.set()
    assert sent == [1]
