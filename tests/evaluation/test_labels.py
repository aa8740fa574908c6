"""Windows of anomalies are read as the benchmark writes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from foretell.errors import RecordingError
from foretell.evaluation.labels import read_windows


def test_windows_go_by_the_name_of_the_file(tmp_path: Path) -> None:
    """Folder and extension of a name do not count, and times are UTC."""
    path = tmp_path / "windows.json"
    path.write_text(
        '{"realKnownCause/pump.csv": [["1970-01-01 00:00:01.000000", "1970-01-01 00:00:03.500000"]], "b/c.csv": []}'
    )
    assert read_windows(path) == {"pump": [(10**9, 3_500_000_000)], "c": []}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[1]", "not windows of anomalies"),
        ("{", "not windows of anomalies"),
        ('{"a": [["now", "then"]]}', "a: no window"),
        ('{"a": [["2026-01-02", "2026-01-01"]]}', "two times in order"),
        ('{"a": [["2026-01-02"]]}', "not windows of anomalies"),
    ],
)
def test_what_are_no_windows_is_refused(tmp_path: Path, text: str, said: str) -> None:
    """A file of another shape is one line that names it and the fault."""
    path = tmp_path / "windows.json"
    path.write_text(text)
    with pytest.raises(RecordingError, match=said) as refusal:
        read_windows(path)
    assert str(path) in str(refusal.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """A missing file is one line."""
    with pytest.raises(RecordingError, match=r"absent\.json: No such file"):
        read_windows(tmp_path / "absent.json")
