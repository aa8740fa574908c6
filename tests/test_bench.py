"""The benchmark's pieces work, and its contenders do the same work. No speed is asserted here."""

import contextlib
import importlib
import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zmq

from benchmarks import load, rates_report, report
from benchmarks.bare import BareLoop
from benchmarks.bare_numpy import numpy_loop
from benchmarks.contender import Task
from benchmarks.load import Load
from benchmarks.models import ModelName
from benchmarks.plain import plain_loop
from benchmarks.records import FORECAST, FRAME, RECORDS_PER_PART, Frames
from benchmarks.step_alone import steps_of_batch
from benchmarks.weights import plain_model
from foretell import wire
from foretell.config import StreamsConfig
from foretell.model import load_model
from pipeline import Pipeline

ROOT = Path(__file__).parents[1]


class Outbox:
    """Keeps what a loop publishes."""

    def __init__(self) -> None:
        self.messages: list[tuple[bytes, bytes]] = []

    def __call__(self, topic: bytes, body: bytes | memoryview) -> None:  # noqa: D102
        self.messages.append((topic, bytes(body)))

    def forecasts(self) -> np.ndarray:
        """All forecasts, in order of publication."""
        return np.frombuffer(b"".join(body for _, body in self.messages), FORECAST)


def _task(num_streams: int, *, is_packed: bool, model: ModelName = ModelName.PLAIN_64) -> Task:
    return Task(model, num_streams, is_packed)


@pytest.mark.parametrize(
    ("model", "num_streams", "records_per_part"),
    [
        *itertools.product([ModelName.PLAIN_64], [1, 3, 40], [1, 16]),
        (ModelName.PLAIN_128X2, 3, 16),
    ],
)
def test_bare_and_plain_agree(model: ModelName, num_streams: int, records_per_part: int) -> None:
    """The bare loop's rounds forecast what the plain loop's frame by frame does, in the same records."""
    frames = Frames(num_streams, records_per_part)
    task = _task(num_streams, is_packed=False, model=model)
    bare, plain = BareLoop(task), plain_loop(task)
    bare_out, plain_out = Outbox(), Outbox()
    for num_parts in (1, 2, 7):
        parts = frames.take(num_parts, 5)
        bare.turn(parts, bare_out)
        plain.turn(parts, plain_out)
    ours, theirs = bare_out.forecasts(), plain_out.forecasts()
    assert len(ours) == 10 * records_per_part
    for field in (
        "magic",
        "channels",
        "frame",
        "timestamp_ns",
        "source",
        "horizon",
        "num_quantiles",
        "quantiles",
    ):
        assert np.array_equal(ours[field], theirs[field]), field
    assert np.array_equal(ours["values"], theirs["values"])
    np.testing.assert_allclose(ours["forecast"], theirs["forecast"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("num_at_once", [1, 3, 50])
def test_bare_loop_is_the_model(num_at_once: int) -> None:
    """The bare loop's forecasts of one stream are those of `nn.LSTM` run over its recording, in whatever batches."""
    parts = Frames(1, 1).take(50, 0)
    out = Outbox()
    loop = BareLoop(_task(1, is_packed=True))
    for start in range(0, 50, num_at_once):
        loop.turn(parts[start : start + num_at_once], out)
    lstm, linear = plain_model()
    values = np.frombuffer(b"".join(parts), FRAME)["values"].copy()
    expected = linear(lstm(torch.from_numpy(values).unsqueeze(1))[0]).squeeze(1)
    np.testing.assert_allclose(out.forecasts()["forecast"], expected.numpy(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("loop", [BareLoop, numpy_loop])
def test_bare_loop_goes_from_one_way_to_the_other(loop: Callable[[Task], BareLoop]) -> None:
    """Frames stepped one by one and frames stepped in a batch carry the same state, with two layers too."""
    task = _task(2, is_packed=False, model=ModelName.PLAIN_128X2)
    frames = Frames(2, 1)
    bare, plain = loop(task), plain_loop(task)
    bare_out, plain_out = Outbox(), Outbox()
    for num_parts in (1, 20, 2, 30):
        parts = frames.take(num_parts, 5)
        bare.turn(parts, bare_out)
        plain.turn(parts, plain_out)
    ours, theirs = bare_out.forecasts(), plain_out.forecasts()
    np.testing.assert_allclose(ours["forecast"], theirs["forecast"], rtol=0, atol=1e-6)


def _peer(module: str, name: str, *needed: str) -> Callable[[Task], Any]:
    """A peer's loop, or a skip where the libraries that only the benchmark's own environment has are not here."""
    for library in needed:
        pytest.importorskip(library, reason=f"{library} is in the benchmark's own environment alone")
    made: Callable[[Task], Any] = getattr(importlib.import_module(f"benchmarks.peers.{module}"), name)
    return made


@pytest.mark.parametrize(
    ("module", "name"), [("onnx_batch", "onnx_loop"), ("onnx_single", "onnx_single_loop")]
)
def test_onnx_runtime_is_the_model(module: str, name: str) -> None:
    """ONNX Runtime's loops forecast what the plain loop does."""
    task = _task(7, is_packed=False)
    peer, plain = _peer(module, name, "onnx", "onnxruntime")(task), plain_loop(task)
    peer_out, plain_out = Outbox(), Outbox()
    frames = Frames(7, 1)
    for num_parts in (1, 20, 3):
        parts = frames.take(num_parts, 5)
        peer.turn(parts, peer_out)
        plain.turn(parts, plain_out)
    ours, theirs = peer_out.forecasts(), plain_out.forecasts()
    np.testing.assert_allclose(ours["forecast"], theirs["forecast"], rtol=0, atol=1e-5)


def test_river_forecasts_every_frame() -> None:
    """River's loop answers every frame with finite values, from the first on."""
    out = Outbox()
    _peer("river_models", "river_loop", "river")(_task(2, is_packed=True)).turn(Frames(2, 12).take(2, 0), out)
    assert len(out.forecasts()) == 24
    assert np.isfinite(out.forecasts()["forecast"]).all()


def test_bytewax_step_is_the_model() -> None:
    """The dataflow's step, frame by frame with its state handed over, is the plain loop's."""
    mapper = _peer("bytewax_flow", "Mapper", "bytewax")(_task(1, is_packed=False))
    part = Frames(1, 1).take(5, 0)
    out, state, records = Outbox(), None, []
    plain_loop(_task(1, is_packed=False)).turn(part, out)
    for frame in np.frombuffer(b"".join(part), FRAME):
        state, record = mapper(state, (frame, 0))
        records.append(record)
    ours = np.frombuffer(b"".join(records), FORECAST)
    np.testing.assert_array_equal(ours["forecast"], out.forecasts()["forecast"])


def test_packed_loops_answer_in_batches() -> None:
    """With packed frames a loop publishes all forecasts of a batch under the batch's topic."""
    parts = Frames(10, RECORDS_PER_PART).take(2, 0)
    bare_out, plain_out = Outbox(), Outbox()
    BareLoop(_task(10, is_packed=True)).turn(parts, bare_out)
    plain_loop(_task(0, is_packed=True)).turn(parts, plain_out)
    assert [topic for topic, _ in bare_out.messages] == [b"*"]
    assert {topic for topic, _ in plain_out.messages} == {b"*"}
    assert len(bare_out.forecasts()) == len(plain_out.forecasts()) == 2 * RECORDS_PER_PART


@pytest.mark.parametrize("records_per_part", [1, RECORDS_PER_PART])
def test_frames_are_valid(records_per_part: int) -> None:
    """The daemon's decoder finds nothing to refuse in the load's frames, and what it reads is what was meant."""
    frames = Frames(30, records_per_part)
    parts = frames.take(1, 0) + frames.take(40, 7)
    decoded = wire.decode(parts, 1, max_channels=8, max_frames=1 << 20)
    assert not any(decoded.refused.values())
    [batch] = decoded.batches
    assert len(batch.names) == 41 * records_per_part
    assert not batch.epoch.any()
    assert not batch.unnumbered.any()
    assert set(batch.timestamp_ns[records_per_part:].tolist()) == {7}


def test_forecasts_are_valid() -> None:
    """A subscriber can read what the loops publish."""
    for loop in (BareLoop(_task(3, is_packed=True)), plain_loop(_task(0, is_packed=True))):
        out = Outbox()
        loop.turn(Frames(3, 12).take(1, 7), out)
        forecasts, _ = wire.decode_forecasts([body for _, body in out.messages])
        assert forecasts.names == [b"stream-000000", b"stream-000001", b"stream-000002"] * 4
        assert forecasts.frame.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
        assert forecasts.forecast.shape == (12, 1, 1, 8)


def test_frames_are_numbered_without_gaps() -> None:
    """Every stream of the load counts its frames from 0 on, whatever the pieces they are taken in."""
    frames = Frames(7, 3)
    taken = np.frombuffer(b"".join(part for num in (1, 5, 4000, 2) for part in frames.take(num, 0)), FRAME)
    for name in np.unique(taken["source"]):
        numbers = taken["frame"][taken["source"] == name]
        assert np.array_equal(numbers, np.arange(len(numbers)))


def test_a_part_is_due_together() -> None:
    """The frames of a part carry the part's due time."""
    due_ns = np.array([10, 20], np.int64)
    taken = np.frombuffer(b"".join(Frames(5, 4).take(2, due_ns)), FRAME)
    assert taken["timestamp_ns"].tolist() == [10] * 4 + [20] * 4


@pytest.fixture
def start_echo(tmp_path: Path) -> Iterator[Callable[[Callable[[int], bool]], Load]]:
    """Starts a contender that forecasts the frames of which `answers(number)` says so, and opens a load on it."""
    context = zmq.Context()
    loads: list[Load] = []

    def start(answers: Callable[[int], bool]) -> Load:
        source, sink = context.socket(zmq.SUB), context.socket(zmq.PUB)
        source.subscribe(b"")
        source.bind(f"ipc://{tmp_path}/frames")
        sink.bind(f"ipc://{tmp_path}/forecasts")
        threading.Thread(target=_echo, args=(source, sink, answers)).start()
        loads.append(Load(context, f"ipc://{tmp_path}/frames", f"ipc://{tmp_path}/forecasts"))
        loads[0].open(deadline_s=30)
        return loads[0]

    yield start
    for opened in loads:
        opened.close()
    context.term()  # ends the contender, and waits for it to close its sockets


def _echo(source: zmq.Socket[bytes], sink: zmq.Socket[bytes], answers: Callable[[int], bool]) -> None:
    with contextlib.suppress(zmq.ContextTerminated), source, sink:
        while True:
            frame = np.frombuffer(source.recv(), FRAME)[0]
            forecast = np.zeros(1, FORECAST)
            forecast["timestamp_ns"] = frame["timestamp_ns"]
            if frame["source"] == b"probe" or answers(int(frame["frame"])):
                sink.send_multipart([b"topic", forecast.tobytes()])


def _pace(opened: Load, num_parts: int, interval_ns: int) -> load.Paced:
    due_ns = time.monotonic_ns() + np.arange(num_parts) * interval_ns
    return opened.pace(Frames(1, 1).take(num_parts, due_ns), due_ns)


def test_frame_without_forecast_is_lost(
    start_echo: Callable[[Callable[[int], bool]], Load], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A frame that got no forecast is counted as lost, and has no latency."""
    monkeypatch.setattr(load, "_LOST_S", 0.5)
    opened = start_echo(lambda number: number != 3)
    paced = _pace(opened, 10, 1000)
    assert opened.num_sent - opened.num_received == 1
    assert len(paced.latency_ns) == 9


def test_latency_counts_from_when_the_frame_was_due(
    start_echo: Callable[[Callable[[int], bool]], Load],
) -> None:
    """A stall of the contender is felt by every frame that was due meanwhile, each from its own due time on."""
    stall_ns, interval_ns = 300_000_000, 1_000_000

    def stall_at_first(number: int) -> bool:
        if number == 0:
            time.sleep(stall_ns / 1e9)
        return True

    paced = _pace(start_echo(stall_at_first), 100, interval_ns)
    assert len(paced.latency_ns) == 100
    # The contender met the first frame after it was due, so that the stall ended no earlier than this.
    assert (paced.latency_ns >= stall_ns - np.arange(100) * interval_ns).all()


@pytest.mark.parametrize("packing", ["message", "packed"])
def test_every_contender_is_measured(tmp_path: Path, packing: str) -> None:
    """A whole benchmark at tiny size gives a line a run with nothing lost, and a table that names all contenders."""
    lines = tmp_path / "runs.jsonl"
    path = os.pathsep.join([str(ROOT / "scripts"), str(ROOT / "daemon")])
    arguments = [
        *("--only", "bare", "daemon", "plain", "--model", "plain-64"),
        "--packing",
        packing,
        "--streams",
        "3",
        "--runs",
        "1",
        "--seconds",
        "0.1",
        "--transport",
        "ipc",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "rates", *arguments, "--json", str(lines)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    runs = [json.loads(line) for line in lines.read_text().splitlines()]
    assert {run["contender"] for run in runs} == {"bare", "daemon", "plain"}
    for run in runs:
        assert run["num_lost"] == 0, run
        assert run["num_latencies"] > 0, run
        assert run["contender"] in done.stdout
        assert min(run["frames_per_s"], run["cpu_us_per_frame"], run["latency_p50_us"]) > 0, run


def _run_alone(*arguments: str) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.step_alone", *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "scripts"), str(ROOT / "daemon")])},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    measured: dict[str, float] = json.loads(done.stdout)
    return measured


def test_the_step_alone_counts_rows() -> None:
    """The built-in model's step alone steps a row of state for each of the eight channels of a frame."""
    measured = _run_alone("--model", "builtin", "--streams", "3", "--seconds", "0.01")
    assert measured["rows_per_s"] == pytest.approx(8 * measured["frames_per_s"])
    assert measured["cpu_us_per_frame"] > 0


@pytest.mark.parametrize("num_streams", [3, 50])
def test_the_step_alone_steps_the_batch_of_the_load(num_streams: int) -> None:
    """The batch that the step alone is given is what admission makes of the load's frames."""
    model = load_model("builtin")
    given = steps_of_batch(model, num_streams, 40)
    decoded = wire.decode(Frames(num_streams, 40).take(1, 0), 1, max_channels=8, max_frames=40)
    pipeline = Pipeline(model, StreamsConfig(), num_rows=400)
    [admission] = pipeline.admitter.admit(decoded.batches[0], 1)
    assert admission.accepted is not None
    made = admission.accepted.steps
    assert given.round_ends == made.round_ends
    assert np.array_equal(given.values, made.values)
    if num_streams < 40:
        assert given.frame is not None
        assert made.frame is not None
        assert np.array_equal(given.frame, made.frame)
    else:
        assert given.frame is None
        assert made.frame is None
    # Rows may be others, but are of the same streams.
    assert np.array_equal(
        np.unique(given.rows, return_inverse=True)[1], np.unique(made.rows, return_inverse=True)[1]
    )


def test_table_has_medians_and_ratios() -> None:
    """The tables give medians with their spread, and the ratios of medians."""
    measured = {"latency_p50_us": 1500.0, "latency_p99_us": 2000.0, "latency_p999_us": 3000.0, "num_lost": 0}
    about = {
        **report.describe_host(),
        "streams": 1000,
        "model": "plain-64",
        "packing": "packed",
        "transport": "tcp",
        "seconds": 1.0,
    }
    costs = {"bare": (1.0, 1.2, 1.1), "daemon": (1.5, 1.65, 1.8), "plain": (66.0, 60.0, 72.0)}
    lines = [
        {"contender": contender, **about, **measured, "cpu_us_per_frame": cost, "frames_per_s": 1e6 / cost}
        for contender, contenders_costs in costs.items()
        for cost in contenders_costs
    ]
    text = rates_report.tables(lines, {})
    assert "| 1.10 (1.00 to 1.20)" in text
    assert "1.500 (1.500 to 1.500)" in text
    assert "| 1.50 (1.38 to 1.64)" in text, "daemon / bare"
    assert "| 40.00 (36.36 to 44.00)" in text, "plain / daemon"
