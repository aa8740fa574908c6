"""The suite `step`: its contenders do the same work, and its tables say what was measured. No speed is asserted."""

import argparse
from pathlib import Path

import numpy as np
import pytest

from benchmarks import step
from benchmarks.environment import MissingError
from benchmarks.models import Size
from benchmarks.run import Setup
from benchmarks.step_contenders import make
from benchmarks.step_process import Stepper
from benchmarks.step_report import tables
from benchmarks.step_worker import NUM_ROWS, batches
from benchmarks.suites import Line

SIZES = [Size(32, 1), Size(48, 2)]


def _forecasts(who: Stepper, size: Size) -> np.ndarray:
    """Of 30 rows: all together, then some of them again in two batches, float32 [50, 8]."""
    rng = np.random.default_rng(3)
    rows, values = rng.permutation(40), rng.normal(size=(50, 8)).astype(np.float32)
    contender = make(who, size, num_rows=40, num_threads=1)
    parts = [rows[:30], rows[5:24], rows[4:5]]
    starts = [0, 30, 49]
    return np.concatenate(
        [
            np.asarray(contender.prepare(part.copy(), values[start : start + part.size])())
            .reshape(-1, 8)
            .copy()
            for part, start in zip(parts, starts, strict=True)
        ]
    )


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("who", [Stepper.ENGINE, Stepper.CELL, Stepper.ONNX])
def test_contenders_do_the_same_work(who: Stepper, size: Size) -> None:
    """Every contender forecasts what `nn.LSTM` does, with states kept from call to call."""
    if who is Stepper.ONNX:
        pytest.importorskip("onnxruntime", reason="only the benchmark's own environment has ONNX Runtime")
        pytest.importorskip("onnx", reason="only the benchmark's own environment has ONNX")
    np.testing.assert_allclose(_forecasts(who, size), _forecasts(Stepper.LSTM, size), rtol=0, atol=1e-5)


def test_bfloat16_forecasts_nearly_the_same() -> None:
    """The engine with bfloat16 weights is the same model but for the rounding of its weights."""
    rounded, exact = (_forecasts(who, SIZES[1]) for who in (Stepper.ENGINE_BFLOAT16, Stepper.LSTM))
    np.testing.assert_allclose(rounded, exact, rtol=0, atol=0.02)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_products_are_of_the_models_sizes(size: Size) -> None:
    """The matrix products alone end in as many outputs as the model has."""
    rows, values = next(batches(16))
    product = make(Stepper.PRODUCTS, size, NUM_ROWS, 1).prepare(rows, values)()
    assert product.shape == (16, 8)


@pytest.mark.parametrize("num_rows", [1, 64, 4096])
def test_batches_share_no_row(num_rows: int) -> None:
    """No row of the arena is in two batches, so that none is in the cache because it was just stepped."""
    rows = np.concatenate([rows for rows, _ in batches(num_rows)])
    assert np.unique(rows).size == rows.size == min(NUM_ROWS, 1024 * num_rows)


def test_small_models_have_one_thread() -> None:
    """Several threads are measured where the daemon would use them, and only for those that can."""
    assert {num for _, num in step.contenders(list(Stepper), Size(64, 1), 2)} == {1}
    threaded = {who for who, num in step.contenders(list(Stepper), Size(128, 1), 2) if num == 2}
    assert threaded == {Stepper.ENGINE, Stepper.ENGINE_BFLOAT16, Stepper.ONNX}


def _lines(us: dict[tuple[Stepper, int], list[float]], size: Size, batch: int) -> list[Line]:
    return [
        {
            "contender": who,
            "threads": threads,
            "hidden_size": size.hidden_size,
            "num_layers": size.num_layers,
            "batch": batch,
            "run": run,
            "us": time,
            "kernel": "native" if who is Stepper.ENGINE else "",
            "chosen_threads": 1,
        }
        for (who, threads), times in us.items()
        for run, time in enumerate(times)
    ]


def test_ratios_are_held_against_their_limits() -> None:
    """A ratio whose interval lies above its limit is a FAIL, one that reaches below it passes."""
    slow = _lines({(Stepper.ENGINE, 1): [220, 210, 230], (Stepper.ONNX, 1): [100, 105, 115]}, Size(64, 1), 1)
    fast = _lines({(Stepper.ENGINE, 1): [150, 250], (Stepper.PRODUCTS, 1): [100, 100]}, Size(128, 1), 256)
    text = tables(slow + fast)
    row = next(line for line in text.splitlines() if line.startswith("| 64") and "<= 2" in line)
    assert "pass" in row
    row = next(line for line in text.splitlines() if line.startswith("| 128") and "<= 1.6" in line)
    assert "2.00 (1.50 to 2.50)" in row
    assert "pass" in row
    too_slow = _lines({(Stepper.ENGINE, 1): [220, 210], (Stepper.ONNX, 1): [100, 100]}, Size(64, 1), 256)
    assert "FAIL" in tables(too_slow)


def test_table_shows_what_was_measured() -> None:
    """The table has a column a contender and number of threads, the medians with their spread, and what was chosen."""
    times = {
        (Stepper.ENGINE, 1): [10.0, 30.0, 11.0],
        (Stepper.ENGINE, 2): [7.0],
        (Stepper.PRODUCTS, 1): [5.0],
    }
    text = tables(_lines(times, Size(128, 1), 4), missing="onnxruntime cannot be used here: no wheel")
    head = next(line for line in text.splitlines() if line.startswith("| hidden"))
    assert [cell.strip() for cell in head.split("|")[4:-1]] == ["engine", "products", "engine, 2 threads"]
    assert "11.0 (10.0 to 30.0)" in text
    assert "kernel: native" in text
    assert "Kept to one thread, as its own trial had it: engine, hidden 128, layers 1." in text
    assert "Not measured: onnxruntime cannot be used here: no wheel." in text


def test_suite_measures_without_its_peers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the peers' environment cannot be made, all others are measured and the reason is in the table."""

    def refuse(*_: object) -> Path:
        raise MissingError("no network")

    monkeypatch.setattr(step, "peer_python", refuse)
    path = Path(__file__).parents[1]
    monkeypatch.setenv("PYTHONPATH", f"{path / 'scripts'}:{path / 'daemon'}")
    parser = argparse.ArgumentParser()
    step.add_options(parser)
    args = parser.parse_args(["--step-hidden", "32", "--step-layers", "1", "--step-batches", "3"])
    args.quick, args.runs = True, 2
    lines: list[Line] = []
    text = step.run_suite(args, Setup(tmp_path), lines.append, lambda _: None)
    assert {line["contender"] for line in lines} == set(Stepper) - {Stepper.ONNX}
    assert len(lines) == 2 * (len(Stepper) - 1)
    assert all(line["us"] > 0 and line["num_calls"] > 0 for line in lines)
    assert "no network" in text
