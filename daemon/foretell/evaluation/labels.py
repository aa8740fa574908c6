"""Windows in which something was wrong, by recording: JSON as the Numenta Anomaly Benchmark's combined_windows.json."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import msgspec

from foretell.errors import RecordingError
from foretell.recording import parse_time

Windows = dict[str, list[tuple[int, int]]]


def read_windows(path: Path) -> Windows:
    """Windows as epoch nanoseconds from and to, both included, by the name of the recording.

    The file is an object of lists of pairs of times; its keys are file names, of which folders and extension do not
    count. Raises RecordingError naming the file and what is wrong with it.
    """
    try:
        pairs = msgspec.json.decode(path.read_bytes(), type=dict[str, list[tuple[str, str]]])
    except OSError as error:
        raise RecordingError(f"{path}: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RecordingError(f"{path}: not windows of anomalies by file name ({error})") from error
    return {
        PurePosixPath(name).stem: [_window(path, name, pair) for pair in windows]
        for name, windows in pairs.items()
    }


def _window(path: Path, name: str, pair: tuple[str, str]) -> tuple[int, int]:
    since_ns, until_ns = (parse_time(cell) for cell in pair)
    if since_ns is None or until_ns is None or since_ns > until_ns:
        raise RecordingError(f"{path}: {name}: no window: {list(pair)}; allowed: two times in order")
    return since_ns, until_ns
