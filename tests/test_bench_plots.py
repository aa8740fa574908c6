"""The suite `plots`: which lines become points, and what is drawn of them."""

import json
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest

from benchmarks import plots
from benchmarks.environment import MissingError
from benchmarks.plots_series import series_of
from benchmarks.run import Setup
from benchmarks.suites import Line

ROOT = Path(__file__).parents[1]
HOST = {
    "host": "secret",
    "cpu": "A processor",
    "num_cores": 2,
    "python": "3.11",
    "torch": "2",
    "numpy": "2",
    "pyzmq": "27",
    "foretell": "0.1.0",
    "commit": "abc",
    "date": "2026-11-24T00:00:00+00:00",
}


def _cost(who: str, num_streams: int, us: float, **more: str) -> Line:
    line = {"suite": "plots", "plot": "cost", "contender": who, "streams": num_streams, "packing": "packed"}
    return {**line, "cpu_us_per_frame": us, **HOST, **more}


def _latency(who: str, rate: float, p50: float) -> Line:
    line = {"suite": "plots", "plot": "latency", "contender": who, "packing": "message", "rate": rate, **HOST}
    return {**line, "latency_p50_us": p50, "latency_p99_us": 2 * p50, "send_lag_p99_us": 1.0}


def test_points_are_medians_in_order() -> None:
    """A point is the median of its runs, and a curve's points ascend."""
    lines = [_latency("daemon", rate, p50) for rate, p50 in [(2e3, 5.0), (1e3, 1.0), (1e3, 3.0), (1e3, 2.0)]]
    lines += [_cost("bare", num, us) for num, us in [(10, 1.0), (1, 9.0), (1, 7.0), (1, 8.0)]]
    series = series_of(lines)
    assert series["latency"] == {"message": {"daemon": [[1e3, 2.0, 4.0, 1.0], [2e3, 5.0, 10.0, 1.0]]}}
    assert series["cost"] == {"bare": [[1, 8.0, 7.0, 9.0], [10, 1.0, 1.0, 1.0]]}


def test_costs_of_other_suites_are_drawn() -> None:
    """What `rates` and `scale` say of a packed frame's cost counts; other models, packings and figures do not."""
    lines = [
        _cost("daemon", 1, 1.0, suite="rates", model="plain-64", plot=""),
        _cost("daemon", 1000, 2.0, suite="scale", what="cost", plot=""),
        _cost("daemon", 10, 99.0, suite="rates", model="builtin", plot=""),
        _cost("daemon", 10, 99.0, suite="rates", packing="message", plot=""),
        _cost("daemon", 10, 99.0, suite="scale", what="held", plot=""),
        _cost("echo", 10, 99.0, suite="rates", plot=""),
    ]
    assert series_of(lines)["cost"] == {"daemon": [[1, 1.0, 1.0, 1.0], [1000, 2.0, 2.0, 2.0]]}


def test_caption_does_not_name_the_machine() -> None:
    """The caption says which processor and which versions, not which machine."""
    caption = series_of([_cost("bare", 1, 1.0)])["caption"]
    assert "A processor, 2 cores" in caption
    assert "secret" not in caption


def test_rates_reach_from_a_thousand_to_the_most() -> None:
    """There are ten rates on a logarithmic scale, whatever the machine sustains."""
    rates = plots.rates_up_to(900_000.0)
    assert len(rates) == 10
    assert (rates[0], rates[-1]) == (1_000.0, 900_000.0)
    assert rates == sorted(rates)


def test_earlier_lines_need_no_matplotlib_to_fail_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where matplotlib cannot be had, the suite says so."""

    def refuse(*_: object) -> Path:
        raise MissingError("matplotlib cannot be used here: no wheel")

    monkeypatch.setattr(plots, "peer_python", refuse)
    lines = tmp_path / "lines.jsonl"
    lines.write_text(json.dumps(_cost("bare", 1, 1.0)) + "\n")
    args = Namespace(drawn_from=[lines], into=None, quick=True, runs=None)
    text = plots.run_suite(args, Setup(tmp_path), lambda _: None, lambda _: None)
    assert text == "Not drawn: matplotlib cannot be used here: no wheel."


def test_plots_are_drawn(tmp_path: Path) -> None:
    """Both plots are written as small SVGs on white, with their units and their source in them."""
    pytest.importorskip("matplotlib", reason="matplotlib is of the extra [train]")
    names = ["daemon", "bare", "onnx-batch", "onnx-single", "plain", "bytewax", "river"]
    lines = [_cost(who, 10**power, 3.0) for who in names for power in range(6)]
    lines += [_latency(who, rate, 4.0) for who in names[:2] for rate in plots.rates_up_to(4e5)]
    subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "benchmarks.plots_draw", tmp_path],
        input=json.dumps(series_of(lines)),
        env={"PYTHONPATH": str(ROOT / "scripts"), "HOME": str(tmp_path)},
        text=True,
        timeout=100,
        check=True,
    )
    latency, cost = (
        (tmp_path / name).read_text() for name in ("latency-against-rate.svg", "cost-against-streams.svg")
    )
    for text in (latency, cost):
        assert len(text) < 60_000
        assert "fill: #ffffff" in text
        assert "scripts/bench plots; 2026-11-24" in text
    assert "frames/s" in latency
    assert "us of CPU time a frame" in cost


@pytest.mark.parametrize("name", ["latency-against-rate.svg", "cost-against-streams.svg"])
def test_kept_plots_are_small(name: str) -> None:
    """The plots in the repository are small and name no path of the machine that they were drawn on."""
    text = (ROOT / "daemon" / name).read_text()
    assert len(text) < 60_000
    assert "scripts/bench plots" in text
    assert str(ROOT) not in text
