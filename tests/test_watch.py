"""Watching a daemon from its output alone."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from pathlib import Path

from rich.console import Console

import foretell
from fakes import DEADLINE_S, FakeDaemon
from forecasts import latencies, make_forecasts
from foretell.client import Producer, Subscriber
from foretell.tally import Tally
from foretell.view import Scene, View
from foretell.watch import follow, merge


def _start_watch(*arguments: str) -> subprocess.Popen[str]:
    environ = {**os.environ, "PYTHONPATH": str(Path(foretell.__file__).parents[1])}
    return subprocess.Popen(
        [sys.executable, "-m", "foretell", "watch", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environ,
    )


def test_following_tallies_every_forecast(tmp_path: Path) -> None:
    """Forecasts that a daemon publishes are counted and judged: persistence's error is persistence's."""
    tally = Tally()
    view = View(Scene("x"), Console(file=io.StringIO()))
    with FakeDaemon(tmp_path) as daemon, Subscriber(daemon.output_endpoint) as subscriber:
        assert daemon.is_subscribed.wait(DEADLINE_S)
        with Producer(daemon.input_endpoint) as producer:
            for frame in range(50):
                producer.send("pump", [float(frame), 1.0])
        follow(subscriber, tally, view, lambda: tally.num_forecasts == 50)
    assert tally.num_lost == 0
    assert tally.score(b"pump").relative_mae == 1.0
    assert tally.state(b"pump").value.tolist() == [49.0, 1.0]


def test_watch_follows_one_stream_and_leaves_a_picture(tmp_path: Path) -> None:
    """With `--stream` other streams are left out, also those whose names begin alike; `--svg` writes the view."""
    picture = tmp_path / "view.svg"
    with FakeDaemon(tmp_path) as daemon:
        watch = _start_watch(
            "--endpoint", daemon.output_endpoint, "--stream", "pump-1", "--svg", str(picture)
        )
        assert daemon.is_subscribed.wait(DEADLINE_S)
        with Producer(daemon.input_endpoint) as producer:
            for _ in range(5):
                producer.send("pump-1", [1.0])
                producer.send("pump-10", [2.0])
        assert watch.stdout is not None
        line = next(line for line in watch.stdout if "5 forecasts" in line)
        watch.send_signal(signal.SIGINT)
        output, errors = watch.communicate(timeout=DEADLINE_S)
    assert "1 streams" in line
    assert watch.returncode == 0
    assert errors == ""
    assert "5 forecasts" in output.splitlines()[-1]
    assert "pump-1" in picture.read_text(encoding="utf-8")


def test_interrupted_watch_ends_in_order(tmp_path: Path) -> None:
    """Ctrl-C before any forecast is exit 0 with a summary, and no traceback."""
    with FakeDaemon(tmp_path) as daemon:
        watch = _start_watch("--endpoint", daemon.output_endpoint)
        assert daemon.is_subscribed.wait(DEADLINE_S)
        watch.send_signal(signal.SIGINT)
        output, errors = watch.communicate(timeout=DEADLINE_S)
    assert (watch.returncode, errors) == (0, "")
    assert "0 forecasts" in output


def test_reader_that_goes_ends_the_watch(tmp_path: Path) -> None:
    """`foretell watch | head -1` ends without a complaint."""
    with FakeDaemon(tmp_path) as daemon:
        watch = _start_watch("--endpoint", daemon.output_endpoint)
        assert watch.stdout is not None
        assert watch.stderr is not None
        watch.stdout.readline()
        watch.stdout.close()
        with watch.stderr as errors:
            assert errors.read() == ""
        assert watch.wait(DEADLINE_S) == 0


def test_endpoint_that_is_none_is_refused() -> None:
    """An endpoint that cannot be parsed is exit 69 and one line that names it."""
    watch = _start_watch("--endpoint", "nonsense")
    _, errors = watch.communicate(timeout=DEADLINE_S)
    assert watch.returncode == 69
    (line,) = errors.splitlines()
    assert "nonsense" in line


def test_merged_forecasts_are_the_same_forecasts() -> None:
    """Merging keeps every forecast and each stream's order, in one batch a shape."""
    parts = [
        (make_forecasts([name], [frame], [[float(frame)] * width], [[0.0] * width]), latencies(1, frame))
        for frame in range(4)
        for name, width in (("a", 1), ("b", 2), ("c", 1))
    ]
    narrow, wide = merge(parts)
    assert narrow[0].names == [b"a", b"c"] * 4
    assert wide[0].names == [b"b"] * 4
    assert wide[0].values[:, 1].tolist() == [0.0, 1.0, 2.0, 3.0]
    assert narrow[1].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
