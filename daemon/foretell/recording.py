"""Recordings: files with named columns, one of them of time, read into columns. CSV here, Parquet in `parquet`.

The time column is the first one named `time`, `date`, `datetime`, `timestamp` or `ts` (in any case), otherwise the
first column. Its cells are ISO 8601 (UTC unless they say otherwise) or epoch numbers, whose unit (s, ms, us or ns) is
told from their size. Every other column that holds at least one number is a channel; an empty or non-numeric cell is
a missing value, NaN.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from foretell.errors import RecordingError

_CSV = frozenset({".csv", ".txt"})
_PARQUET = frozenset({".parquet", ".pq"})
_TIME_NAMES = frozenset({"time", "date", "datetime", "timestamp", "ts"})
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_I64 = range(-(2**63), 2**63)

# An epoch number below 1e11 is in seconds (until the year 5138), below 1e14 in milliseconds, and so on.
_EPOCH_UNITS = ((Decimal("1e11"), 10**9), (Decimal("1e14"), 10**6), (Decimal("1e17"), 10**3))


@dataclass(frozen=True, slots=True)
class Recording:
    """A recorded stream: n rows of F channels, in the order of the file.

    timestamp_ns: int64 [n], UTC epoch nanoseconds; values: float32 [n, F], NaN where missing.
    """

    name: str
    channels: tuple[str, ...]
    timestamp_ns: NDArray[np.int64]
    values: NDArray[np.float32]

    def by_column(self) -> list[Recording]:
        """One recording a channel, each named `<recording>/<channel>`."""
        return [
            replace(
                self,
                name=f"{self.name}/{channel}",
                channels=(channel,),
                values=np.ascontiguousarray(self.values[:, i : i + 1]),
            )
            for i, channel in enumerate(self.channels)
        ]


def read_recording(path: Path) -> Recording:
    """Read a CSV or Parquet file, by its extension; the recording is named after the file.

    Raises RecordingError naming file, line and fault, and for a Parquet file where pyarrow is not installed.
    """
    extension = path.suffix.lower()
    if extension in _PARQUET:
        from foretell.parquet import read_parquet

        return read_parquet(path)
    if extension not in _CSV:
        raise RecordingError(
            f"{path}: the extension {extension!r} is unknown; allowed: .csv, .txt, .parquet, .pq"
        )
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return _read(path, csv.reader(file, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else f"not a CSV file in UTF-8 ({error})"
        raise RecordingError(f"{path}: {reason}") from error


def find_time_column(names: Sequence[str]) -> int | None:
    """Which of the columns is called as one of time is; None where none is."""
    return next((i for i, name in enumerate(names) if name.lower() in _TIME_NAMES), None)


def parse_time(cell: str) -> int | None:
    """Epoch nanoseconds of a cell, or None where it holds no time."""
    try:
        number = Decimal(cell)
    except InvalidOperation:
        return _parse_iso(cell)
    if not number.is_finite():
        return None
    unit_ns = next((unit for limit, unit in _EPOCH_UNITS if abs(number) < limit), 1)
    time_ns = int(number * unit_ns)
    return time_ns if time_ns in _I64 else None


def parse_number(cell: str) -> float:
    """The number in a cell, NaN where there is none."""
    try:
        return float(cell)
    except ValueError:
        return math.nan


def assemble(
    path: Path, channels: Sequence[str], timestamp_ns: NDArray[np.int64], values: NDArray[np.float64]
) -> Recording:
    """A recording of the columns that hold numbers, of values float64 [n, columns]. Raises RecordingError for none."""
    with np.errstate(over="ignore"):  # beyond float32 is infinite there, and the daemon refuses and counts it
        narrow = values.astype(np.float32)
    holds_numbers = np.flatnonzero(~np.isnan(narrow).all(axis=0))
    if not holds_numbers.size:
        raise RecordingError(f"{path}: no column with numbers beside that of time")
    return Recording(
        name=path.stem,
        channels=tuple(channels[i] for i in holds_numbers.tolist()),
        timestamp_ns=timestamp_ns,
        values=np.ascontiguousarray(narrow[:, holds_numbers]),
    )


def _read(path: Path, reader: Iterator[list[str]]) -> Recording:
    header = [name.strip() for name in next(reader, [])]
    if not header:
        raise RecordingError(f"{path}, line 1: the file is empty; the first line names the columns")
    if all(_is_number(name) for name in header):
        raise RecordingError(
            f"{path}, line 1: no header; the first line must name the columns, with one of time"
        )
    time_column = find_time_column(header) or 0

    times: list[int] = []
    rows: list[list[float]] = []
    for line, cells in enumerate(reader, start=2):
        if not any(cells):
            continue  # a blank line, most often the last
        if len(cells) != len(header):
            raise RecordingError(
                f"{path}, line {line}: {len(cells)} cells where the header has {len(header)}"
            )
        time = parse_time(cells.pop(time_column).strip())
        if time is None:
            column = header[time_column]
            raise RecordingError(
                f"{path}, line {line}: no time in column {column!r}: ISO 8601 or an epoch number"
            )
        times.append(time)
        rows.append([parse_number(cell) for cell in cells])
    if not rows:
        raise RecordingError(f"{path}: no rows below the header")
    channels = [name or f"column {i + 1}" for i, name in enumerate(header) if i != time_column]
    return assemble(path, channels, np.array(times, np.int64), np.array(rows, np.float64))


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _parse_iso(cell: str) -> int | None:
    try:
        time = datetime.fromisoformat(cell)
    except ValueError:
        return None
    if time.tzinfo is None:
        time = time.replace(tzinfo=UTC)
    time_ns = (time - _EPOCH) // _MICROSECOND * 1000
    return time_ns if time_ns in _I64 else None
