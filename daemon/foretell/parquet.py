"""Recordings in Parquet files, by the rules of `foretell.recording`.

Columns of numbers are channels, booleans count as 0 and 1, text is read cell by cell as in a CSV file. Where no column
is called as one of time is, the first that holds times is it, and otherwise the first.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foretell.errors import RecordingError
from foretell.recording import Recording, assemble, find_time_column, parse_number, parse_time


def read_parquet(path: Path) -> Recording:
    """Read a Parquet file; the recording is named after the file.

    Raises RecordingError naming file, row and fault, and where pyarrow is not installed.
    """
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise RecordingError(
            f'{path}: to read Parquet needs pyarrow: pip install "foretell[train]"'
        ) from None
    try:
        table = parquet.read_table(path)
    except OSError as error:
        raise RecordingError(f"{path}: {error.strerror or error}") from error
    except pa.ArrowException as error:
        raise RecordingError(f"{path}: not a Parquet file ({str(error).splitlines()[0]})") from error
    if not table.num_rows or not table.num_columns:
        raise RecordingError(f"{path}: no rows")
    time_column = _find_time(table)
    timestamp_ns = _times(path, table.column(time_column), table.column_names[time_column])
    others = [i for i in range(table.num_columns) if i != time_column]
    columns = [_numbers(table.column(i)) for i in others]
    if not columns:
        raise RecordingError(f"{path}: no column beside that of time")
    return assemble(path, [table.column_names[i] for i in others], timestamp_ns, np.stack(columns, axis=1))


def _find_time(table: Any) -> int:
    by_name = find_time_column(table.column_names)
    if by_name is not None:
        return by_name
    return next((i for i, field in enumerate(table.schema) if _is_time(field.type)), 0)


def _is_time(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_timestamp(kind) or pa.types.is_date(kind))


def _times(path: Path, column: Any, name: str) -> NDArray[np.int64]:
    """Epoch nanoseconds of a column."""
    import pyarrow as pa

    if _is_time(column.type) and not column.null_count:
        try:
            return np.asarray(column.cast(pa.timestamp("ns")).cast(pa.int64()).to_numpy(), np.int64)
        except pa.ArrowInvalid:
            raise RecordingError(f"{path}: a time in column {name!r} is out of range") from None
    times = [None if cell is None else parse_time(str(cell).strip()) for cell in column.to_pylist()]
    if None in times:
        row = times.index(None)
        raise RecordingError(f"{path}, row {row}: no time in column {name!r}: ISO 8601 or an epoch number")
    return np.array(times, np.int64)


def _numbers(column: Any) -> NDArray[np.float64]:
    """A column as numbers, NaN where there are none."""
    import pyarrow as pa

    kind = column.type
    is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    if is_number or pa.types.is_boolean(kind):
        whole = column.cast(pa.int8()) if pa.types.is_boolean(kind) else column
        return np.asarray(whole.cast(pa.float64(), safe=False).to_numpy(), np.float64)
    if pa.types.is_dictionary(kind):
        return _numbers(column.cast(kind.value_type))
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return np.array([parse_number(cell or "") for cell in column.to_pylist()], np.float64)
    return np.full(len(column), np.nan)
