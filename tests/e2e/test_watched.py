"""Streams that a dashboard watches, seen from both ends: what is scraped is what was sent and forecast."""

from __future__ import annotations

import urllib.request
from pathlib import Path
from typing import Final

import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from daemon_process import DaemonProcess
from e2e.conftest import StartDaemon
from e2e.link import Link, frame
from fakes import wait_until

_NUM_FRAMES: Final = 20


def _gauges(daemon: DaemonProcess, stream: str) -> dict[tuple[str, int], float]:
    """The samples of a stream, by the last word of their metric and by channel."""
    with urllib.request.urlopen(f"{daemon.url}/metrics") as response:
        families = text_string_to_metric_families(response.read().decode())
    return {
        (sample.name.removeprefix("foretell_stream_"), int(sample.labels["channel"])): sample.value
        for family in families
        for sample in family.samples
        if sample.labels.get("stream") == stream
    }


def test_gauges_of_a_watched_stream_are_what_its_subscriber_got(
    start_daemon: StartDaemon, any_width: Path
) -> None:
    """Value, median and band of every channel equal the last published forecast; other streams have no series."""
    daemon = start_daemon(f"model.path={any_width}", "metrics.streams=pump,never-seen")
    values = np.random.default_rng(7).normal(size=(_NUM_FRAMES, 3)).astype(np.float32)
    with Link(daemon.input_endpoint, daemon.output_endpoint, num_channels=3) as link:
        for number, row in enumerate(values):
            link.send(frame(b"valve", number, *(-row).tolist()))
            link.send(frame(b"pump", number, *row.tolist()))
        forecasts = link.take(2 * _NUM_FRAMES)
    last = next(forecast for forecast in reversed(forecasts) if forecast.name == b"pump")
    assert last.frame == _NUM_FRAMES - 1
    # The gauges are set right after a forecast has left.
    wait_until(lambda: _gauges(daemon, "pump").get(("value", 0)) == last.values[0])
    lower, median, upper = (last.forecast[0, quantile] for quantile in (0, 1, 2))
    expected = {"value": last.values, "forecast": median, "lower": lower, "upper": upper}
    assert _gauges(daemon, "pump") == {
        (gauge, channel): float(column[channel]) for gauge, column in expected.items() for channel in range(3)
    }
    assert _gauges(daemon, "valve") == _gauges(daemon, "never-seen") == {}
    assert daemon.metrics().value("stream_series_left_out") == 0
