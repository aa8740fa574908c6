"""Every vector of the wire format, byte for byte, on the socket of a running daemon."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from daemon_process import DaemonProcess
from e2e.link import Forecast, Link, by_stream, frames
from foretell.wire import Flag

_VECTORS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[1] / "wire-vectors.json").read_text(encoding="utf-8")
)["vectors"]

_CAPACITY = 3
"""As many streams as a vector has at most. So many new streams after it evict all of its own: every vector is judged
on a fresh set of streams."""


@dataclass
class Judge:
    """One daemon for all vectors."""

    daemon: DaemonProcess
    link: Link
    num_judged: int = 0

    def judge(self, parts: list[bytes]) -> tuple[list[Forecast], Counter[str], int]:
        """The forecasts that a message led to, the refusals by reason, and the number of frames received."""
        before = self.daemon.metrics()
        self.link.send(*parts)
        self.num_judged += 1
        fillers = [b"filler-%d-%d" % (self.num_judged, index) for index in range(_CAPACITY)]
        self.link.send(frames(fillers, [0] * _CAPACITY, np.zeros((_CAPACITY, 1), np.float32)))
        forecasts = self.link.until(fillers[-1])
        after = self.daemon.metrics()
        refused = Counter(
            {
                reason: round(count - before.by_label("frames_refused_total", "reason").get(reason, 0))
                for reason, count in after.by_label("frames_refused_total", "reason").items()
            }
        )
        num_received = after.value("frames_received_total") - before.value("frames_received_total")
        return forecasts[:-_CAPACITY], +refused, round(num_received) - _CAPACITY


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory, any_width: Path) -> Iterator[Judge]:
    """A daemon with room for the streams of one vector."""
    with (
        DaemonProcess(
            tmp_path_factory.mktemp("vectors"),
            f"model.path={any_width}",
            f"streams.capacity={_CAPACITY}",
            "streams.when_full=evict",
        ) as daemon,
        Link(daemon.input_endpoint, daemon.output_endpoint) as link,
    ):
        yield Judge(daemon, link)


@pytest.mark.parametrize("vector", _VECTORS, ids=[vector["name"] for vector in _VECTORS])
def test_vector_gives_its_frames_and_its_refusals(judge: Judge, vector: dict[str, Any]) -> None:
    """A message of the vectors leads to forecasts of exactly its frames, and its refusals are counted by reason."""
    sent_ns = time.time_ns()
    forecasts, refused, num_received = judge.judge([bytes.fromhex(part) for part in vector["parts"]])
    expected = vector.get("frames", [])
    refusals = Counter([vector["refused"]] if "refused" in vector else vector.get("also_refused", []))
    assert refused == refusals
    assert num_received == len(expected) + refusals.total()
    assert len(forecasts) == len(expected)
    streams = by_stream(forecasts)
    for name in {frame["source"].encode() for frame in expected}:
        of_stream = [frame for frame in expected if frame["source"].encode() == name]
        for place, (frame, forecast) in enumerate(zip(of_stream, streams[name], strict=True)):
            _assert_is(frame, forecast, place, sent_ns)


def _assert_is(frame: dict[str, Any], forecast: Forecast, place: int, sent_ns: int) -> None:
    """The forecast was made after this frame, the `place`-th of its stream."""
    is_unnumbered = frame["frame"] is None
    assert forecast.frame == (place if is_unnumbered else frame["frame"])
    assert bool(forecast.flags & Flag.UNNUMBERED) == is_unnumbered
    if frame["timestamp_ns"] is None:
        assert sent_ns <= forecast.timestamp_ns <= time.time_ns()
    else:
        assert forecast.timestamp_ns == frame["timestamp_ns"]
    assert forecast.epoch == frame["epoch"]
    values = np.array([np.nan if value is None else value for value in frame["values"]], np.float32)
    assert np.array_equal(forecast.values, values, equal_nan=True)
    assert forecast.count == place + 1
