"""`foretell evaluate`: recordings through the daemon's own stages, judged; a table, JSON and a report."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from foretell import __version__
from foretell.errors import ConfigError, RecordingError
from foretell.evaluation.anomalies import Detection
from foretell.evaluation.judge import Portion, judge
from foretell.evaluation.labels import read_windows
from foretell.evaluation.result import Result, sum_up, sum_up_streams
from foretell.evaluation.served import Series, serve
from foretell.evaluation.terminal import show
from foretell.model import BUILTIN, Model, load_model
from foretell.recording import Recording, read_recording

_WIDTH: Final = 110  # of tables that go to a file


@dataclass(frozen=True, slots=True)
class Question:
    """What is to be evaluated. model: a file or "builtin". label_windows: a file, see `labels`."""

    model: str = BUILTIN
    horizon: int = 1
    portion: Portion = field(default_factory=Portion)
    detection: Detection = field(default_factory=Detection)
    label_windows: Path | None = None


@dataclass(frozen=True, slots=True)
class Outputs:
    """Files to write beside the table; a report is HTML or PNG by its extension."""

    json: Path | None = None
    report: Path | None = None


def evaluate(paths: Sequence[Path], question: Question, outputs: Outputs) -> int:
    """Evaluate recordings and say how it went. Raises RecordingError, ModelError and ConfigError, in one line each."""
    check_outputs(outputs)
    console = Console(width=None if sys.stdout.isatty() else _WIDTH)
    result, series = ask(paths, question, Console(stderr=True))
    show(result, console)
    if outputs.json is not None:
        _write(outputs.json, msgspec.json.format(msgspec.json.encode(result)))
        console.print(f"{outputs.json}: all figures", soft_wrap=True, highlight=False)
    if outputs.report is not None:
        from foretell.evaluation.report import write_report

        write_report(outputs.report, result, series, question.portion, _windows(question) or {})
        console.print(f"{outputs.report}: the report", soft_wrap=True, highlight=False)
    return 0


def ask(paths: Sequence[Path], question: Question, console: Console) -> tuple[Result, list[Series]]:
    """The evaluation, and what was served; progress goes to `console` where that is a terminal."""
    model = load_model(question.model)
    windows = _windows(question)
    recordings = read_all(paths)
    series = _serve(model, recordings, question.horizon, console)
    quantiles, portion, detection = model.spec.quantiles, question.portion, question.detection
    judged = [
        judge(one, quantiles, portion, detection, None if windows is None else windows.get(one.recording, []))
        for one in series
    ]
    settings = {
        **{key: getattr(portion, key) for key in ("first", "until", "fit_rows", "scale_rows", "period")},
        **{key: getattr(detection, key) for key in ("smoothing", "memory", "threshold", "refractory")},
    }
    result = Result(
        foretell=__version__,
        model=Path(question.model).name,
        fingerprint=f"{model.fingerprint:016x}",
        is_calibrated=model.spec.calibrator is not None,
        quantiles=list(quantiles),
        horizon=question.horizon,
        settings=settings,
        overall=sum_up(judged),
        streams=sum_up_streams(judged),
        series=judged,
    )
    return result, series


def read_all(paths: Sequence[Path]) -> list[Recording]:
    """Recordings whose names differ. Raises RecordingError."""
    recordings = [read_recording(path) for path in paths]
    names = [recording.name for recording in recordings]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise RecordingError(f"two recordings are called {twice!r}; rename one file")
    return recordings


def check_outputs(outputs: Outputs) -> None:
    """Raises ConfigError where a report cannot be made, before anything is evaluated."""
    report = outputs.report
    if report is None:
        return
    if report.suffix.lower() not in {".html", ".png"}:
        raise ConfigError(f"{report}: the extension {report.suffix!r} is unknown; allowed: .html, .png")
    check_drawable(report)


def check_drawable(path: Path) -> None:
    """Raises ConfigError where matplotlib, which draws, is not installed."""
    try:
        import matplotlib as mpl  # noqa: F401 - to see whether it is there
    except ImportError:
        raise ConfigError(f'{path}: to draw needs matplotlib: pip install "foretell[train]"') from None


def _windows(question: Question) -> dict[str, list[tuple[int, int]]] | None:
    return None if question.label_windows is None else read_windows(question.label_windows)


def _serve(model: Model, recordings: Sequence[Recording], horizon: int, console: Console) -> list[Series]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:.0f} %"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        total = sum(recording.values.size for recording in recordings)
        task = progress.add_task("forecasting", total=total)
        return serve(model, recordings, horizon, on_progress=lambda done: progress.advance(task, done))


def _write(path: Path, contents: bytes) -> None:
    try:
        path.write_bytes(contents)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from error
