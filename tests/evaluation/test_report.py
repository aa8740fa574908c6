"""Reports stand alone and show what there is to see."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from foretell.evaluation.anomalies import Detection
from foretell.evaluation.judge import Portion, judge
from foretell.evaluation.result import Result, sum_up, sum_up_streams
from foretell.evaluation.served import Series, serve
from made_recordings import noisy_cycle, recording_of
from small_models import independent_spec, model_of

pytest.importorskip("matplotlib", reason="matplotlib is of the extra [train]")

from foretell.evaluation.figures import AROUND, Pictured, worst_rows
from foretell.evaluation.report import MOST_PICTURED, write_report

PORTION = Portion(first=60)


def _evaluated(num_channels: int = 1, horizon: int = 1) -> tuple[Result, list[Series]]:
    model = model_of(independent_spec(hidden=4, layers=1), scale=0.05)
    recordings = [recording_of(noisy_cycle(160), f"<pump {k}>") for k in range(num_channels)]
    series = serve(model, recordings, horizon)
    judged = [judge(one, model.spec.quantiles, PORTION, Detection()) for one in series]
    result = Result(
        foretell="0",
        model="m",
        fingerprint="0",
        is_calibrated=False,
        quantiles=list(model.spec.quantiles),
        horizon=horizon,
        settings={"first": 60},
        overall=sum_up(judged),
        streams=sum_up_streams(judged),
        series=judged,
    )
    return result, series


def test_a_page_needs_nothing_beside_itself(tmp_path: Path) -> None:
    """Pictures are within, nothing is fetched, and a name that looks like markup is none."""
    path = tmp_path / "report.html"
    result, series = _evaluated(horizon=2)
    write_report(path, result, series, PORTION, {})
    page = path.read_text()
    sources = re.findall(r'src="([^"]{0,40})', page)
    assert sources
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert "http" not in page
    assert "<pump" not in page
    assert "&lt;pump 0&gt;/a" in page


def test_a_page_draws_calibration_leads_and_series(tmp_path: Path) -> None:
    """One picture of calibration, one of the leads where there are several, one of each series."""
    counts = []
    for horizon in (1, 2):
        path = tmp_path / f"{horizon}.html"
        result, series = _evaluated(1, horizon)
        write_report(path, result, series, PORTION, {})
        counts.append(path.read_text().count("<img"))
    assert counts == [2, 3]


def test_a_calibrated_series_is_drawn_with_its_surprise_and_windows(tmp_path: Path) -> None:
    """Where there is surprise, a second picture of the series shows it, in any window of anomalies."""
    result, (plain,) = _evaluated()
    series = replace(plain, surprise=np.full(160, 0.4, np.float32))
    series.surprise[100:115] = 6.0
    judged = judge(series, result.quantiles, PORTION, Detection(), [(90 * 10**9, 120 * 10**9)])
    assert judged.anomalies
    result = msgspec.structs.replace(result, series=[judged], overall=sum_up([judged]))
    path = tmp_path / "report.html"
    write_report(path, result, [series], PORTION, {series.recording: [(90 * 10**9, 120 * 10**9)]})
    assert path.read_text().count("<img") == 3


def test_the_same_evaluation_gives_the_same_bytes(tmp_path: Path) -> None:
    """A report depends on its figures alone."""
    contents = []
    for name in ("a.png", "b.png"):
        result, series = _evaluated()
        write_report(tmp_path / name, result, series, PORTION, {})
        contents.append((tmp_path / name).read_bytes())
    assert contents[0].startswith(b"\x89PNG")
    assert contents[0] == contents[1]


def test_more_series_than_can_be_drawn_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left out is said."""
    assert MOST_PICTURED >= 10
    monkeypatch.setattr("foretell.evaluation.report.MOST_PICTURED", 1)
    result, series = _evaluated(3)
    write_report(tmp_path / "report.html", result, series, PORTION, {})
    assert "2 more series are not drawn" in (tmp_path / "report.html").read_text()


def test_worst_moments_are_the_largest_errors_apart() -> None:
    """Three rows of the largest errors among those scored, no two of them in one picture."""
    result, (series,) = _evaluated()
    values = series.values.copy()
    values[[20, 70, 72, 130]] += np.array([1000, 100, 200, 300], np.float32)
    rows = worst_rows(Pictured(replace(series, values=values), result.series[0], PORTION, ()))
    assert rows[:2] == [130, 72]
    assert all(abs(a - b) >= AROUND for a in rows for b in rows if a is not b)
    assert min(rows) >= PORTION.first
