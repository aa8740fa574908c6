"""Recordings in Parquet mean what the same columns mean in CSV."""

from __future__ import annotations

import sys
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from foretell.errors import RecordingError
from foretell.recording import Recording, read_recording

pa = pytest.importorskip("pyarrow", reason="pyarrow is of the extra [train]")
parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is of the extra [train]")

_TIME = [datetime(2026, 1, 1, 0, 0, second, 250_000, tzinfo=UTC) for second in range(3)]


def _write(folder: Path, **columns: object) -> Path:
    path = folder / "pump.parquet"
    parquet.write_table(pa.table(columns), path)
    return path


def _assert_equal(one: Recording, other: Recording) -> None:
    assert (one.name, one.channels) == (other.name, other.channels)
    np.testing.assert_array_equal(one.timestamp_ns, other.timestamp_ns)
    np.testing.assert_array_equal(one.values, other.values)


def test_parquet_reads_as_csv_does(tmp_path: Path) -> None:
    """The same table in both formats is the same recording, missing values and columns of text included."""
    path = _write(tmp_path, flow=[1.5, None, 3.1], date=_TIME, state=["on", "off", "on"], level=[7, 8, None])
    csv = tmp_path / "pump.csv"
    lines = (
        f"{flow},{time.isoformat()},{state},{level}"
        for flow, time, state, level in zip(
            ("1.5", "", "3.1"), _TIME, ("on", "off", "on"), ("7", "8", ""), strict=True
        )
    )
    csv.write_text("flow,date,state,level\n" + "\n".join(lines) + "\n")
    _assert_equal(read_recording(path), read_recording(csv))


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_times_of_every_unit_are_nanoseconds(tmp_path: Path, unit: str) -> None:
    """A timestamp column is read to the nanosecond whatever its unit."""
    path = _write(tmp_path, time=pa.array([1, 2], pa.timestamp(unit)), x=[1.0, 2.0])
    a_unit_ns = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}[unit]
    assert read_recording(path).timestamp_ns.tolist() == [a_unit_ns, 2 * a_unit_ns]


@pytest.mark.parametrize(
    "cells", [["1000", "1001"], [1000, 1001], [1000.0, 1001.0]], ids=["text", "int", "float"]
)
def test_times_may_be_epoch_numbers_or_text(tmp_path: Path, cells: list[object]) -> None:
    """Numbers and text are times by the rules of CSV."""
    path = _write(tmp_path, time=cells, x=[1.0, 2.0])
    assert read_recording(path).timestamp_ns.tolist() == [1000 * 10**9, 1001 * 10**9]


def test_the_first_column_of_times_is_the_time_where_no_name_says_so(tmp_path: Path) -> None:
    """A column of timestamps is the time wherever it stands, as an index that pandas wrote."""
    path = _write(tmp_path, x=[1.0, 2.0], when=[date(1970, 1, 1), date(1970, 1, 2)])
    recording = read_recording(path)
    assert recording.channels == ("x",)
    assert recording.timestamp_ns.tolist() == [0, 86_400 * 10**9]


def test_booleans_decimals_categories_and_text_are_numbers_where_they_can_be(tmp_path: Path) -> None:
    """Booleans count as 0 and 1, decimals as what they are, text as in CSV; other kinds are no channels."""
    path = _write(
        tmp_path,
        time=_TIME,
        on=[True, False, None],
        price=[Decimal("1.50"), Decimal("2.25"), None],
        text=["1.5", "off", None],
        category=pa.array(["2", "3", "2"]).dictionary_encode(),
        pair=[[1], [2], [3]],
    )
    recording = read_recording(path)
    assert recording.channels == ("on", "price", "text", "category")
    np.testing.assert_array_equal(
        recording.values, np.array([[1, 1.5, 1.5, 2], [0, 2.25, np.nan, 3], [np.nan, np.nan, np.nan, 2]])
    )


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"time": [], "x": []}, "no rows"),
        ({"time": [1, None], "x": [1.0, 2.0]}, "row 1: no time in column 'time'"),
        ({"time": [_TIME[0], None], "x": [1.0, 2.0]}, "row 1: no time in column 'time'"),
        ({"time": ["yesterday"], "x": [1.0]}, "row 0: no time in column 'time'"),
        ({"time": [1, 2], "x": ["on", "off"]}, "no column with numbers"),
        ({"time": [1, 2]}, "no column beside that of time"),
    ],
)
def test_faults_name_file_row_and_reason(tmp_path: Path, columns: dict[str, object], said: str) -> None:
    """A table that is no recording is refused in one line that names the file and the fault."""
    path = _write(tmp_path, **columns)
    with pytest.raises(RecordingError) as refusal:
        read_recording(path)
    assert str(path) in str(refusal.value)
    assert said in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_times_out_of_range_are_refused(tmp_path: Path) -> None:
    """A time that nanoseconds cannot hold is the file's fault, in one line."""
    path = _write(tmp_path, time=pa.array([2**60], pa.timestamp("ms")), x=[1.0])
    with pytest.raises(RecordingError, match="out of range"):
        read_recording(path)


def test_what_is_no_parquet_file_is_refused(tmp_path: Path) -> None:
    """Bytes that are not Parquet, and a file that is not there, are one line each."""
    path = tmp_path / "pump.parquet"
    path.write_bytes(b"time,x\n1,2\n")
    with pytest.raises(RecordingError, match="not a Parquet file"):
        read_recording(path)
    with pytest.raises(RecordingError, match=r"absent\.parquet: "):
        read_recording(tmp_path / "absent.parquet")


def test_without_pyarrow_it_is_said_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the extra is not installed, the error says what to install."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(RecordingError, match=r"pip install \"foretell\[train\]\""):
        read_recording(tmp_path / "pump.parquet")
