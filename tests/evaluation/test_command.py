"""`foretell evaluate`: what it prints and writes, and how it refuses."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from foretell import cli
from foretell.model import save_model
from made_recordings import noisy_cycle, write_csv
from small_models import independent_spec, random_weights

ARGUMENTS = ["--first", "60", "--fit-rows", "50"]


@pytest.fixture
def model(tmp_path: Path) -> str:
    """A small model that says about what persistence does."""
    path, spec = tmp_path / "small.safetensors", independent_spec(hidden=4, layers=1)
    save_model(path, spec, random_weights(spec, scale=0.01))
    return str(path)


def _figures(path: Path) -> dict[str, object]:
    figures: dict[str, object] = json.loads(path.read_text())
    return figures


def test_it_prints_every_series_and_all_together(
    tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each channel of each recording has its row, and the words at the end speak of all."""
    paths = [str(write_csv(tmp_path / f"{name}.csv", noisy_cycle(150, 2))) for name in ("pump", "valve")]
    assert cli.main(["evaluate", *paths, "--model", model, *ARGUMENTS]) == 0
    out = capsys.readouterr().out
    for name in ("pump/a", "pump/b", "valve/a", "valve/b"):
        assert name in out
    assert "by stream" in out
    assert "the model errs less than persistence in" in out
    assert "is not calibrated" in out


def test_json_says_what_was_evaluated_and_how(tmp_path: Path, model: str) -> None:
    """The file holds model, settings, the figures of each series and of all."""
    path, figures = write_csv(tmp_path / "pump.csv", noisy_cycle(150)), tmp_path / "figures.json"
    assert cli.main(["evaluate", str(path), "--model", model, *ARGUMENTS, "--json", str(figures)]) == 0
    told = _figures(figures)
    assert told["model"] == "small.safetensors"
    assert told["horizon"] == 1
    assert told["settings"] == {
        "first": 60,
        "until": None,
        "fit_rows": 50,
        "scale_rows": None,
        "period": None,
        "smoothing": 6.0,
        "memory": 2000.0,
        "threshold": 5.0,
        "refractory": 48,
    }
    assert {"overall", "series"} <= told.keys()


def test_what_follows_the_scored_rows_changes_nothing(tmp_path: Path, model: str) -> None:
    """A recording cut after the rows that are scored gives the same figures, to the last digit."""
    values = noisy_cycle(200)
    told = []
    for num_rows in (120, 200):
        folder = tmp_path / str(num_rows)
        folder.mkdir()
        path, figures = write_csv(folder / "pump.csv", values[:num_rows]), folder / "figures.json"
        arguments = ["--model", model, *ARGUMENTS, "--until", "120", "--json", str(figures)]
        assert cli.main(["evaluate", str(path), *arguments]) == 0
        told.append(_figures(figures)["series"])
    assert told[0] == told[1]


def test_parquet_and_csv_give_the_same_figures(tmp_path: Path, model: str) -> None:
    """The form of the file has no part in what is said of it."""
    pa = pytest.importorskip("pyarrow", reason="pyarrow is of the extra [train]")
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is of the extra [train]")
    values = noisy_cycle(150)
    csv, other = write_csv(tmp_path / "pump.csv", values), tmp_path / "pump.parquet"
    parquet.write_table(pa.table({"time": np.arange(150), "a": values[:, 0].astype(np.float64)}), other)
    told = []
    for path in (csv, other):
        figures = tmp_path / f"{path.name}.json"
        assert cli.main(["evaluate", str(path), "--model", model, *ARGUMENTS, "--json", str(figures)]) == 0
        told.append(_figures(figures))
    assert told[0] == told[1]


def test_a_report_is_written_where_asked(
    tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With --report the file is there at the end, and said to be."""
    pytest.importorskip("matplotlib", reason="matplotlib is of the extra [train]")
    path, report = write_csv(tmp_path / "pump.csv", noisy_cycle(150)), tmp_path / "report.png"
    assert cli.main(["evaluate", str(path), "--model", model, *ARGUMENTS, "--report", str(report)]) == 0
    assert report.read_bytes().startswith(b"\x89PNG")
    assert f"{report}: the report" in capsys.readouterr().out


def test_windows_are_taken_by_the_name_of_the_recording(tmp_path: Path, model: str) -> None:
    """With windows hits and false alarms are counted, even where none was found."""
    path = write_csv(tmp_path / "pump.csv", noisy_cycle(150))
    windows, figures = tmp_path / "windows.json", tmp_path / "figures.json"
    windows.write_text('{"x/pump.csv": [["1970-01-01 00:01:40", "1970-01-01 00:01:50"]]}')
    arguments = ["--model", model, *ARGUMENTS, "--label-windows", str(windows), "--json", str(figures)]
    assert cli.main(["evaluate", str(path), *arguments]) == 0
    overall = _figures(figures)["overall"]
    assert isinstance(overall, dict)
    assert (overall["num_windows"], overall["num_hits"], overall["num_false_alarms"]) == (1, 0, 0)


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["absent.csv"], 65, "absent.csv: No such file"),
        (["pump.xlsx"], 65, "allowed: .csv, .txt, .parquet, .pq"),
        (["pump.csv", "--first", "500"], 65, "has 100 rows"),
        (["pump.csv", "pump.csv"], 65, "two recordings are called 'pump'"),
        (["pump.csv", "--model", "absent.safetensors"], 78, "absent.safetensors: does not exist"),
        (["pump.csv", "--report", "report.pdf"], 78, "allowed: .html, .png"),
        (["pump.csv", "--label-windows", "absent.json"], 65, "absent.json: No such file"),
        (
            ["pump.csv", "--first", "60", "--json", "absent/figures.json"],
            78,
            "figures.json: cannot be written",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_user_s_mistake_is_one_line(
    tmp_path: Path,
    model: str,
    arguments: list[str],
    status: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What cannot be done is said in one line with the exit status of its kind."""
    monkeypatch.chdir(tmp_path)
    write_csv(tmp_path / "pump.csv", noisy_cycle(100))
    assert cli.main(["evaluate", "--model", model, *arguments]) == status
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_without_matplotlib_tables_work_and_a_report_says_what_to_install(
    tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The extra is needed for reports alone, and its lack is said before anything is evaluated."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    path = str(write_csv(tmp_path / "pump.csv", noisy_cycle(100)))
    assert cli.main(["evaluate", path, "--model", model, *ARGUMENTS]) == 0
    capsys.readouterr()
    report = str(tmp_path / "report.html")
    assert cli.main(["evaluate", path, "--model", model, *ARGUMENTS, "--report", report]) == 78
    captured = capsys.readouterr()
    assert captured.out == ""
    assert 'pip install "foretell[train]"' in captured.err
