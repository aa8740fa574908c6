"""Recordings: what a CSV file means, and what is said where it means nothing."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from foretell.errors import RecordingError
from foretell.recording import Recording, read_recording


def _read(folder: Path, text: str) -> Recording:
    path = folder / "pump.csv"
    path.write_text(text, encoding="utf-8")
    return read_recording(path)


def test_columns_beside_the_time_are_channels(tmp_path: Path) -> None:
    """A recording has the name of its file, its numeric columns as channels and its rows in order."""
    recording = _read(tmp_path, "time,flow,heat\n2026-01-01 00:00:00,1,2.5\n2026-01-01 00:00:01,3,-4\n")
    assert recording.name == "pump"
    assert recording.channels == ("flow", "heat")
    assert recording.values.dtype == np.float32
    assert recording.values.tolist() == [[1.0, 2.5], [3.0, -4.0]]


@pytest.mark.parametrize("name", ["time", "date", "Timestamp", "ts", "DateTime"])
def test_time_column_is_found_by_its_name(tmp_path: Path, name: str) -> None:
    """The time column need not be the first where its name says what it is."""
    recording = _read(tmp_path, f"flow,{name}\n7,1000\n")
    assert recording.channels == ("flow",)
    assert recording.timestamp_ns.tolist() == [1000 * 10**9]


def test_first_column_is_the_time_where_no_name_says_so(tmp_path: Path) -> None:
    """Without a telling name the first column is the time."""
    assert _read(tmp_path, "when,flow\n1000,7\n").timestamp_ns.tolist() == [1000 * 10**9]


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("1767225600", datetime(2026, 1, 1, tzinfo=UTC)),
        ("1767225600.5", datetime(2026, 1, 1, 0, 0, 0, 500_000, tzinfo=UTC)),
        ("1767225600000", datetime(2026, 1, 1, tzinfo=UTC)),
        ("1767225600000000", datetime(2026, 1, 1, tzinfo=UTC)),
        ("1767225600000000000", datetime(2026, 1, 1, tzinfo=UTC)),
        ("2026-01-01", datetime(2026, 1, 1, tzinfo=UTC)),
        ("2026-01-01T01:00:00+01:00", datetime(2026, 1, 1, tzinfo=UTC)),
        ("2026-01-01T00:00:00.25Z", datetime(2026, 1, 1, 0, 0, 0, 250_000, tzinfo=UTC)),
        ("1969-12-31 23:59:59", datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC)),
    ],
)
def test_times_are_iso_or_epoch_numbers(tmp_path: Path, cell: str, expected: datetime) -> None:
    """Times are read to the nanosecond from ISO 8601 and from epoch seconds, milli-, micro- and nanoseconds."""
    since_epoch = expected - datetime(1970, 1, 1, tzinfo=UTC)
    microseconds = (
        since_epoch.days * 86_400_000_000 + since_epoch.seconds * 1_000_000 + since_epoch.microseconds
    )
    assert _read(tmp_path, f"time,x\n{cell},1\n").timestamp_ns.tolist() == [microseconds * 1000]


def test_cells_without_a_number_are_missing(tmp_path: Path) -> None:
    """Empty and non-numeric cells are NaN, and their neighbours stand."""
    values = _read(tmp_path, "time,a,b\n1,,2\n2,off,3\n3,4,5\n").values
    assert [math.isnan(value) for value in values[:, 0]] == [True, True, False]
    assert values[:, 1].tolist() == [2.0, 3.0, 5.0]


def test_columns_of_text_are_left_out(tmp_path: Path) -> None:
    """A column that never holds a number is not a channel."""
    assert _read(tmp_path, "time,label,a\n1,ok,2\n2,bad,3\n").channels == ("a",)


def test_by_column_gives_each_channel_a_stream(tmp_path: Path) -> None:
    """Split by column, each channel becomes a recording of its own with the same times."""
    parts = _read(tmp_path, "time,a,b\n1,2,3\n2,4,5\n").by_column()
    assert [part.name for part in parts] == ["pump/a", "pump/b"]
    assert parts[1].values.tolist() == [[3.0], [5.0]]
    assert parts[1].timestamp_ns.tolist() == [10**9, 2 * 10**9]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1: the file is empty"),
        ("1,2\n3,4\n", "line 1: no header"),
        ("time,a\n", "no rows"),
        ("time,a\n1,2\n2,3,4\n", "line 3: 3 cells where the header has 2"),
        ("time,a\n1,2\nyesterday,3\n", "line 3: no time in column 'time'"),
        ("time,a\ninf,2\n", "line 2: no time"),
        ("time,a\n1e30,2\n", "line 2: no time"),
        ("time,a\n1,on\n2,off\n", "no column with numbers"),
        ('time,a\n1,"2\n', "not a CSV file"),
    ],
)
def test_faults_name_file_line_and_reason(tmp_path: Path, text: str, said: str) -> None:
    """A file that cannot be read is refused in one line with its name, the line where there is one, and the fault."""
    with pytest.raises(RecordingError) as refusal:
        _read(tmp_path, text)
    assert str(tmp_path / "pump.csv") in str(refusal.value)
    assert said in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_missing_file_is_named(tmp_path: Path) -> None:
    """A file that is not there is named, with the system's reason."""
    with pytest.raises(RecordingError, match=r"absent\.csv: No such file"):
        read_recording(tmp_path / "absent.csv")


def test_bytes_that_are_not_text_are_refused(tmp_path: Path) -> None:
    """A file that is not UTF-8 is refused, not guessed at."""
    path = tmp_path / "pump.csv"
    path.write_bytes(b"time,a\n1,\xff\xfe\n")
    with pytest.raises(RecordingError, match="UTF-8"):
        read_recording(path)


def test_unknown_extensions_are_refused(tmp_path: Path) -> None:
    """A file of another kind is refused with the extensions that are allowed."""
    with pytest.raises(RecordingError, match=r"'\.xlsx' is unknown; allowed: \.csv, \.txt, \.parquet, \.pq"):
        read_recording(tmp_path / "pump.xlsx")
