"""The suite `rates`: which runs it makes, what its tables say, and what it does where a peer cannot be had."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest

from benchmarks import environment, limits, rates, rates_report
from benchmarks.environment import MissingError, peer_python
from benchmarks.limits import at_least, at_most, judge
from benchmarks.models import NUM_QUANTILES, ModelName
from benchmarks.records import forecast_dtype
from benchmarks.run import PEERS, Case, Contender, Packing, Setup
from foretell.model import load_model


def _plan(*arguments: str) -> list[rates.Job]:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--runs", type=int)
    rates.add_options(parser)
    return list(rates.plan(parser.parse_args(arguments)))


def _line(contender: Contender, frames_per_s: float, **more: Any) -> dict[str, Any]:
    about = {"model": "plain-64", "streams": 1000, "packing": "packed", "transport": "tcp", "seconds": 1.0}
    measured = {
        "frames_per_s": frames_per_s,
        "cpu_us_per_frame": 1e6 / frames_per_s,
        "latency_p50_us": 1.0,
        "latency_p99_us": 2.0,
        "latency_p999_us": 3.0,
        "num_lost": 0,
    }
    return {"contender": contender, **about, **measured, **more}


def _row(text: str, *words: str) -> str:
    [row] = [row for row in text.splitlines() if all(word in row for word in words)]
    return row


@pytest.mark.parametrize(
    ("low", "high", "drift", "verdict"),
    [
        (1.1, 1.3, 1.0, "pass"),
        (1.21, 1.3, 1.0, "FAIL"),
        (1.21, 1.3, 1.02, "pass"),
        (1.0, 1.1, 1.0, "pass"),
        (1.21, None, 1.0, "FAIL"),
    ],
)
def test_a_limit_of_most_fails_above_it(low: float, high: float | None, drift: float, verdict: str) -> None:
    """An interval fails where it lies wholly above the limit times what a thing gives against itself."""
    assert judge(at_most("a ratio", 1.2), low, high, drift=drift) == verdict


@pytest.mark.parametrize(
    ("low", "high", "verdict"), [(0.5, 0.9, "pass"), (0.5, 0.7, "FAIL"), (0.7, None, "FAIL")]
)
def test_a_limit_of_least_fails_below_it(low: float, high: float | None, verdict: str) -> None:
    """An interval fails where it lies wholly below what is asked."""
    assert judge(at_least("a ratio", 0.8), low, high) == verdict


def test_contenders_begin_in_turn() -> None:
    """Each run of a case begins with another contender, so that none always runs first."""
    case = Case(1, Packing.PACKED)
    jobs = list(rates.alternating(case, [Contender.BARE, Contender.DAEMON, Contender.PLAIN], 3))
    assert [job[1] for job in jobs[::3]] == [Contender.BARE, Contender.DAEMON, Contender.PLAIN]
    assert sorted(jobs) == sorted(set(jobs))


def test_a_quick_plan_has_everyone_once() -> None:
    """A quick run measures every contender, each peer and each model, none of them twice at a case."""
    jobs = _plan("--quick")
    assert {job[1] for job in jobs} == {
        *PEERS,
        Contender.BARE,
        Contender.DAEMON,
        Contender.PLAIN,
        Contender.STEP,
    }
    assert {job[0].model for job in jobs} == set(ModelName)
    assert len({job[:2] for job in jobs}) == len(jobs)


def test_a_plan_keeps_to_what_is_asked() -> None:
    """With contenders, streams and packing named, these are run and no others."""
    jobs = _plan("--only", "river", "daemon", "--streams", "7", "--packing", "message", "--runs", "2")
    assert {(job[0].num_streams, job[0].packing) for job in jobs} == {(7, Packing.MESSAGE)}
    assert {job[1] for job in jobs if job[0].model is ModelName.PLAIN_64} == {
        Contender.RIVER,
        Contender.DAEMON,
    }
    assert {job[2] for job in jobs} == {0, 1}


def test_each_peer_has_a_row_with_its_factor() -> None:
    """The table of peers says how many times the daemon is ahead, and fails where it is not."""
    lines = [
        _line(Contender.DAEMON, 1e6),
        _line(Contender.BYTEWAX, 1e4, bytewax="1.0"),
        _line(Contender.ONNX_BATCH, 2e6),
    ]
    text = rates_report.tables(lines, {})
    row = _row(text, "bytewax", ">= 1 ")
    assert row.count("100.00") == 2
    assert "pass" in row
    assert "FAIL" in _row(text, "onnx-batch", ">= 1 ")


@pytest.mark.parametrize(("bare", "verdict"), [(1.3e6, "FAIL"), (1.2e6, "not asked")])
def test_the_rate_is_asked_where_the_machine_can(bare: float, verdict: str) -> None:
    """A million frames a second are asked only where the bare loop shows that the machine can give them."""
    text = rates_report.tables([_line(Contender.DAEMON, 9e5), _line(Contender.BARE, bare)], {})
    assert verdict in _row(text, limits.RATE_DAEMON.what)


def test_the_builtin_model_is_held_against_its_step() -> None:
    """The daemon's rate with the built-in model stands beside that of the step alone, which has no latencies."""
    daemon = _line(Contender.DAEMON, 1e5, model="builtin")
    about = {field: daemon[field] for field in ("model", "streams", "packing")}
    step = {**about, "contender": Contender.STEP, "frames_per_s": 2e5, "cpu_us_per_frame": 5.0}
    text = rates_report.tables([daemon, step], {})
    row = _row(text, limits.RATE_BUILTIN_STEP.what)
    assert "0.50" in row
    assert "FAIL" in row


def test_lost_frames_are_said() -> None:
    """A run that lost frames is not what it claims to be, and the tables say so."""
    assert "LOST: 3 frames" in rates_report.tables([_line(Contender.DAEMON, 1e5, num_lost=3)], {})


def test_a_missing_peer_is_named_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer whose library cannot be had is left out, and the tables say why."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--runs", type=int)
    rates.add_options(parser)
    args = parser.parse_args(["--only", "river", "--model", "plain-64"])

    def refuse(*_: object) -> Path:
        raise MissingError("river cannot be used here: there is no network")

    monkeypatch.setattr(rates, "peer_python", refuse)
    lines: list[dict[str, Any]] = []
    text = rates.run_suite(args, Setup(tmp_path), lines.append, lambda _: None)
    assert "river was skipped: river cannot be used here: there is no network" in text
    assert not lines


def test_an_environment_is_tried_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment that cannot be made is not tried again for the next library."""
    tries = []

    def fail(*_: object) -> None:
        tries.append(1)
        raise MissingError("no network")

    monkeypatch.setattr(environment, "_make", fail)
    for library in ("river", "bytewax"):
        with pytest.raises(MissingError, match="no network"):
            peer_python(tmp_path, lambda _: None, library)
    assert len(tries) == 1


def test_the_record_of_the_builtin_model_is_known() -> None:
    """The load knows how long the built-in model's forecasts are: as many levels as it has, of 8 channels."""
    num_quantiles = len(load_model("builtin").spec.quantiles)
    assert NUM_QUANTILES[ModelName.BUILTIN] == num_quantiles
    assert forecast_dtype(num_quantiles).itemsize == 120 + 4 * (num_quantiles + 8 * (2 + num_quantiles))
