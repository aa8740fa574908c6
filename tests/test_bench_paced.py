"""The load that visits contenders in turn, what disturbs them meanwhile, and the suites made of both. No speed here."""

import argparse
import http.client
import http.server
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq

from benchmarks import disturb, effects, lone, scale, scale_report, strangers
from benchmarks.echo import EchoLoop
from benchmarks.paced import PacedLoad, paced_load
from benchmarks.records import FORECAST, FRAME, Frames
from benchmarks.run import Case, Contender, Packing, RunError, Setup, Started, Transport, started
from benchmarks.suites import Line
from foretell import wire

ROOT = Path(__file__).parents[1]


@pytest.fixture
def setup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Setup:
    """A folder and a transport for contenders, which find the benchmark's modules."""
    path = os.pathsep.join([str(ROOT / "scripts"), str(ROOT / "daemon")])
    monkeypatch.setenv("PYTHONPATH", path)
    return Setup(tmp_path, Transport.IPC)


@pytest.fixture(params=[Packing.MESSAGE, Packing.PACKED])
def echo(request: pytest.FixtureRequest, setup: Setup) -> Iterator[tuple[Started, PacedLoad]]:
    """An echo with 300 streams, and a load on it."""
    case = Case(300, request.param)
    with (
        started(Contender.ECHO, case, setup) as contender,
        paced_load([contender], [300], case.packing) as load,
    ):
        yield contender, load


def test_echo_is_a_forecast() -> None:
    """The echo's forecast of the next frame is this one, in records that a subscriber can read."""
    parts, messages = Frames(3, 12).take(1, 7), []
    EchoLoop(is_packed=True).turn(parts, lambda _topic, body: messages.append(bytes(body)))
    forecasts, _ = wire.decode_forecasts(messages)
    assert forecasts.frame.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert np.array_equal(forecasts.forecast[:, 0, 0], np.frombuffer(parts[0], FRAME)["values"])


def test_visits_may_follow_in_any_order(echo: tuple[Started, PacedLoad]) -> None:
    """Visits at a rate and as fast as can be take turns on one contender, and nothing is lost between them."""
    _, load = echo
    load.fill(0)
    for _ in range(2):
        paced = load.pace(0, 51_200, 0.05, warm_up_s=0.05)
        assert paced.num_sent == 5120
        assert paced.num_latencies == 2560
        assert paced.num_lost == 0
        assert 0 < paced.latency_p50_us <= paced.latency_p99_us <= paced.latency_max_us
        assert load.saturate(0, 0.05).frames_per_s > 0


def test_load_that_ends_says_why(echo: tuple[Started, PacedLoad]) -> None:
    """A load that cannot do what it is told ends, and the one who asked learns its last words."""
    _, load = echo
    with pytest.raises(RunError, match="IndexError"):
        load.fill(1)


def test_contender_that_ends_is_not_waited_for(echo: tuple[Started, PacedLoad]) -> None:
    """Of a contender that has ended no answer is awaited."""
    contender, load = echo
    load.fill(0)
    contender.process.kill()
    with pytest.raises(RunError, match="exit code -9"):
        load.saturate(0, 1.0)


def test_streams_that_join_are_not_measured(
    echo: tuple[Started, PacedLoad], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forecasts of streams that join meanwhile count neither as the load's nor against it."""
    monkeypatch.setattr(disturb, "_FIRST_S", 0.1)
    contender, load = echo
    load.fill(0)
    with disturb.join_every_second(contender.input) as count:
        paced = load.pace(0, 51_200, 0.5, warm_up_s=0.0)
    assert count() >= 1
    assert (paced.num_latencies, paced.num_lost) == (25_600, 0)


def test_streams_join_with_valid_frames_and_new_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each burst is of frames that the daemon takes, every one of a stream of its own."""
    monkeypatch.setattr(disturb, "_FIRST_S", 0.0)
    with zmq.Context() as context, context.socket(zmq.SUB) as source:
        source.subscribe(b"")
        source.bind(f"ipc://{tmp_path}/frames")
        with disturb.join_every_second(f"ipc://{tmp_path}/frames"):
            num_received, parts = 0, []
            while num_received < disturb.JOINING:  # what is sent before the connection stands is lost
                parts.append(source.recv())
                num_received += len(parts[-1]) // FRAME.itemsize
    decoded = wire.decode(parts, 5, max_channels=8, max_frames=1 << 20)
    assert not any(decoded.refused.values())
    assert len({name for batch in decoded.batches for name in batch.names}) == num_received


def test_stalled_subscriber_counts_what_was_kept_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A subscriber that reads nothing until the end then finds what there was room for."""
    monkeypatch.setattr(disturb, "_GONE_S", 0.2)
    with zmq.Context() as context, context.socket(zmq.XPUB) as sink:
        sink.sndhwm = 10
        sink.bind(f"ipc://{tmp_path}/forecasts")
        with disturb.stalled_subscriber(f"ipc://{tmp_path}/forecasts") as count:
            assert sink.recv() == b"\x01"  # it has subscribed
            for _ in range(10_000):
                sink.send_multipart([b"*", bytes(2 * FORECAST.itemsize)])
        assert 0 < count() < 20_000
        assert count() % 2 == 0


def test_scrapes_read_the_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scrape asks for /metrics, and is counted."""
    monkeypatch.setattr(disturb, "_FIRST_S", 0.0)
    asked: list[str] = []
    has_asked = threading.Event()

    class Metrics(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()
            has_asked.set()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Metrics) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        with disturb.scrape_every_second(f"http://127.0.0.1:{server.server_port}") as count:
            assert has_asked.wait(10)
        server.shutdown()
        thread.join()
    assert asked == ["/metrics"] * count()
    assert count() >= 1


def test_failed_disturbance_is_not_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disturbance that could not take place raises when it is over."""
    monkeypatch.setattr(disturb, "_FIRST_S", 0.0)
    has_failed = threading.Event()
    connect = http.client.HTTPConnection.connect

    def fail(connection: http.client.HTTPConnection) -> None:
        has_failed.set()
        connect(connection)

    monkeypatch.setattr(http.client.HTTPConnection, "connect", fail)
    with pytest.raises(OSError, match="refused"), disturb.scrape_every_second("http://127.0.0.1:1"):
        assert has_failed.wait(10)


@pytest.mark.parametrize("is_independent", [False, True])
def test_strangers_come_and_go(monkeypatch: pytest.MonkeyPatch, *, is_independent: bool) -> None:
    """A run admits every stranger, meets all again, replaces all and evicts all."""
    monkeypatch.setattr(strangers, "BATCH", 16)
    monkeypatch.setattr(strangers, "NUM_STREAMS", 64)
    costs = strangers.measure(is_independent=is_independent)
    assert costs.rows_a_stream == (8 if is_independent else 1)
    assert min(costs.admit_us, costs.known_us, costs.replace_us, costs.evict_idle_us) > 0


class Suite:
    """Runs a suite at tiny size and keeps what it wrote."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self.lines: list[Line] = []

    def run(self, run_suite: Callable[..., str]) -> str:
        """The tables."""
        args = argparse.Namespace(quick=True, runs=1)
        return run_suite(args, self._setup, self.lines.append, lambda _progress: None)


def test_lone_measures_all_in_every_round(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each round of `lone` gives a line a contender, whoever these are, with nothing lost."""
    monkeypatch.setattr(lone, "_WHO", dict.fromkeys(("daemon", "bare", "bare again"), Contender.ECHO))
    monkeypatch.setattr(lone, "_QUICK_SECONDS", 0.05)
    suite = Suite(setup)
    text = suite.run(lone.run_suite)
    assert [line["contender"] for line in suite.lines] == ["daemon", "bare", "bare again"]
    assert not any(line["num_lost"] for line in suite.lines)
    assert "too few pairs" in text


def test_effects_take_place(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under each load of `effects` every effect takes place in every round, and the load itself loses nothing."""
    monkeypatch.setattr(disturb, "_FIRST_S", 0.05)
    monkeypatch.setattr(effects, "_QUICK_SECONDS", 0.1)
    suite = Suite(setup)
    text = suite.run(effects.run_suite)
    assert len(suite.lines) == 2 * len(effects.Effect)
    for line in suite.lines:
        assert line["num_lost"] == 0, line
        if line["effect"] in (effects.Effect.SCRAPE, effects.Effect.JOIN):
            assert line["num_effects"] >= 1, line
        if line["effect"] is effects.Effect.STALL:
            assert line["num_dropped"] > 0, line
    assert all(effect in text for effect in effects.Effect)


def test_scale_measures_everything(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    """`scale` gives the cost at each size in every round, memory, admission and what was held."""
    plan = scale._Plan(
        sizes=(10, 2_000),
        bare=(),
        rounds=1,
        seconds=0.05,
        held={2_000: 20.0},
        held_s=0.1,
        builtin=0,
        admissions=1,
    )
    monkeypatch.setattr(scale, "_QUICK", plan)
    for module in (scale, scale_report):
        monkeypatch.setattr(module, "FEW", 10)
        monkeypatch.setattr(module, "MANY", 2_000)
    suite = Suite(setup)
    text = suite.run(scale.run_suite)
    num_of = {
        what: sum(line["what"] == what for line in suite.lines)
        for what in ("cost", "memory", "admission", "held")
    }
    assert num_of == {"cost": 2, "memory": 1, "admission": 2, "held": 1}
    assert not any(line.get("num_lost") for line in suite.lines)
    assert "2,000 / 10 streams" in text


def _held(**changes: Any) -> str:
    line = {
        "contender": Contender.DAEMON,
        "streams": 10,
        "rate": 20.0,
        "seconds": 60.0,
        "cpu_us_per_frame": 1.0,
        "num_lost": 0,
    }
    line |= {f"latency_{name}_us": 5_000.0 for name in ("p50", "p99", "max")}
    return scale_report._held_rows([{**line, "send_lag_p99_us": 100.0, **changes}])[-1][-1]


def test_what_is_held_is_judged_by_p99_and_by_what_was_lost() -> None:
    """Held is what lost nothing with p99 in time; of a load that was late itself nothing is said."""
    assert _held() == "pass"
    assert _held(latency_p99_us=11_000.0) == "FAIL"
    assert _held(num_lost=1) == "FAIL: frames lost"
    assert _held(latency_p99_us=30_000.0, send_lag_p99_us=20_000.0).startswith("not known")


def test_lone_fails_where_the_whole_interval_is_beyond_the_limit() -> None:
    """A p50 far above the bare loop's fails, one alike passes, whatever order the rounds were measured in."""
    factors = {"daemon": 1.5, "bare": 1.0, "bare again": 1.02, "echo": 0.5}
    lines: list[Line] = [
        {
            "contender": name,
            "run": run,
            "latency_p50_us": 300.0 * (1 + run) * factor,
            "latency_p99_us": 900.0,
            "cpu_us_per_frame": 100.0,
            "send_lag_p99_us": 10.0,
            "num_lost": 0,
        }
        for run in (4, 0, 2, 1, 3)
        for name, factor in factors.items()
    ]
    rows = {
        line.split("|")[1].strip(): line for line in lone.tables(lines).splitlines() if line.startswith("|")
    }
    assert "1.50 (1.50 to 1.50)" in rows["p50"]
    assert "FAIL" in rows["p50"]
    assert "pass" in rows["p99"]
