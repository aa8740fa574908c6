"""Nothing is lost uncounted: the books balance at every look, whatever is sent."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pytest

from daemon_process import DaemonProcess, Metrics
from e2e.link import Forecast, Link, by_stream, frame
from foretell.wire import Refusal

_NUM_MESSAGES: Final = 3000
_STREAMS: Final = [b"stream-%d" % number for number in range(20)]


class Load:
    """Messages of which one in ten is bad, and what a daemon must make of them."""

    def __init__(self) -> None:
        self.refused: Counter[Refusal] = Counter()
        self.num_accepted = 0
        self._random = np.random.default_rng(20)
        self._next = dict.fromkeys(_STREAMS, 10)
        self._faults: list[Callable[[bytes], list[bytes]]] = [
            self._garbage,
            self._unsupported,
            self._too_wide,
            self._nameless,
            self._other_width,
            self._no_room,
            self._again,
            self._late,
            self._infinite,
            self._missing,
        ]

    def message(self) -> list[bytes]:
        """The next message, as parts."""
        name = _STREAMS[int(self._random.integers(len(_STREAMS)))]
        if self._random.random() < 0.1:
            return self._faults[int(self._random.integers(len(self._faults)))](name)
        return self.good(name)

    def good(self, name: bytes) -> list[bytes]:
        """The next frame of a stream."""
        self.num_accepted += 1
        self._next[name] += 1
        return [name, frame(name, self._next[name] - 1, *self._random.normal(size=2).tolist())]

    def _garbage(self, name: bytes) -> list[bytes]:
        self.refused[Refusal.MALFORMED] += 1
        return [self._random.bytes(40)]

    def _unsupported(self, name: bytes) -> list[bytes]:
        self.refused[Refusal.UNSUPPORTED] += 1
        return [b'{"htype": "array-1.0", "type": "int16", "shape": [2], "source": "%s"}' % name, bytes(4)]

    def _too_wide(self, name: bytes) -> list[bytes]:
        self.refused[Refusal.OVERSIZE] += 1
        return [frame(name, 0, *[0.0] * 9)]

    def _nameless(self, name: bytes) -> list[bytes]:
        self.refused[Refusal.BAD_SOURCE] += 1
        return [frame(b"", 0, 1.0, 2.0)]

    def _other_width(self, name: bytes) -> list[bytes]:
        self.refused[Refusal.WRONG_CHANNELS] += 1
        return [frame(name, self._next[name], 1.0, 2.0, 3.0)]

    def _no_room(self, name: bytes) -> list[bytes]:
        self.refused[Refusal.NO_SLOT] += 1
        return [frame(b"one-too-many", 0, 1.0, 2.0)]

    def _again(self, name: bytes) -> list[bytes]:
        self.refused[Refusal.DUPLICATE] += 1
        return [frame(name, self._next[name] - 1, 1.0, 2.0)]

    def _late(self, name: bytes) -> list[bytes]:
        self.refused[Refusal.LATE] += 1
        return [frame(name, 1, 1.0, 2.0)]

    def _infinite(self, name: bytes) -> list[bytes]:
        self.refused[Refusal.NON_FINITE] += 1
        self._next[name] += 1
        return [frame(name, self._next[name] - 1, 1.0, float("inf"))]

    def _missing(self, name: bytes) -> list[bytes]:
        self.refused[Refusal.MISSING_VALUE] += 1
        self._next[name] += 1
        return [frame(name, self._next[name] - 1, float("nan"), 2.0)]


@dataclass
class Outcome:
    """What a run with a tenth of the input bad came to."""

    load: Load
    num_probes: int
    forecasts: list[Forecast]
    at_start: Metrics
    meanwhile: list[Metrics]
    at_end: Metrics


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory, any_width: Path) -> Outcome:
    """Run the load through a daemon, scraping all the while."""
    load, meanwhile = Load(), []
    done = threading.Event()
    with DaemonProcess(
        tmp_path_factory.mktemp("accounting"),
        f"model.path={any_width}",
        f"streams.capacity={len(_STREAMS) + 1}",  # one for the probe
        "streams.max_channels=8",
        "streams.on_missing=refuse",
    ) as daemon:
        at_start = daemon.metrics()

        def scrape() -> None:
            while not done.is_set():
                meanwhile.append(daemon.metrics())

        scraper = threading.Thread(target=scrape)
        with Link(daemon.input_endpoint, daemon.output_endpoint) as link:
            scraper.start()
            try:
                for name in _STREAMS:
                    link.send(*load.good(name))
                for _ in range(_NUM_MESSAGES):
                    link.send(*load.message())
                # Once the last frame is answered, all that came before it was judged.
                link.send(*load.good(_STREAMS[0]))
                forecasts = link.take(load.num_accepted)
            finally:
                done.set()
                scraper.join()
            at_end = daemon.metrics()
            daemon.stop()
            forecasts += link.pending()
        return Outcome(load, link.num_probes, forecasts, at_start, meanwhile, at_end)


def test_books_balance_at_every_scrape(outcome: Outcome) -> None:
    """At every scrape, received = accepted + refused and accepted = published + pending."""
    assert len(outcome.meanwhile) > 1
    for metrics in (outcome.at_start, *outcome.meanwhile, outcome.at_end):
        metrics.assert_identities()


def test_refusals_are_counted_by_reason(outcome: Outcome) -> None:
    """Each reason's count is what was sent for it, and together with the accepted frames it is what was received."""
    load, metrics = outcome.load, outcome.at_end
    num_accepted = load.num_accepted + outcome.num_probes
    assert metrics.by_label("frames_refused_total", "reason") == dict(load.refused)
    assert metrics.value("frames_accepted_total") == num_accepted
    assert metrics.value("frames_received_total") == num_accepted + load.refused.total()


def test_every_accepted_frame_has_one_forecast(outcome: Outcome) -> None:
    """Each accepted frame is answered once, in the order of its stream, whatever bad input came between."""
    assert len(outcome.forecasts) == outcome.load.num_accepted
    for forecasts in by_stream(outcome.forecasts).values():
        numbers = [forecast.frame for forecast in forecasts]
        assert numbers == sorted(set(numbers))
        assert [forecast.count for forecast in forecasts] == list(range(1, len(forecasts) + 1))


def test_bad_input_is_no_gap(outcome: Outcome) -> None:
    """A frame refused for its values takes its number, and others leave the order alone: nothing counts as missed."""
    assert outcome.at_end.value("frames_missed_total") == 0


def test_load_holds_every_reason_that_input_can_have(outcome: Outcome) -> None:
    """The load exercises every reason but the two that need keys or shedding, in about a tenth of its messages."""
    assert set(outcome.load.refused) == set(Refusal) - {Refusal.FORBIDDEN, Refusal.OVERLOAD}
    assert 0.07 < outcome.load.refused.total() / _NUM_MESSAGES < 0.13


@pytest.mark.parametrize("reason", list(Refusal))
def test_every_reason_is_there_from_the_start(outcome: Outcome, reason: Refusal) -> None:
    """Each reason is exposed as 0 before the first frame, so that a rate over it sees its first increase."""
    assert outcome.at_start.value("frames_refused_total", reason=reason) == 0
