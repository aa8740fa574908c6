"""What the tests of everything that can be observed share: an observer with clocks and a log that a test reads."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from typing import Any

from foretell.admission import Admission
from foretell.choices import LogFormat, LogLevel
from foretell.config import LogConfig
from foretell.log import open_log
from foretell.observe import ModelFacts, Observer

MODEL = ModelFacts(
    source="builtin",
    fingerprint="00000000000000ff",
    channels="independent",
    layers="2",
    hidden_size="64",
    quantiles="0.05 0.5 0.95",
    kernel="native",
    reason="agrees",
    precision="float32",
    device="cpu",
)


@dataclass
class Clock:
    """Stands still until it is set; ns."""

    now_ns: int = 1_000_000_000

    def __call__(self) -> int:
        """What it shows."""
        return self.now_ns


@dataclass
class Lines:
    """A log of JSON lines, debug ones included."""

    stream: io.StringIO = field(default_factory=io.StringIO)

    def open(self) -> Any:
        """The log that writes them."""
        return open_log(LogConfig(level=LogLevel.DEBUG, format=LogFormat.JSON), self.stream, {})

    def of(self, event: str) -> list[dict[str, Any]]:
        """The lines of an event so far."""
        lines = [json.loads(line) for line in self.stream.getvalue().splitlines()]
        return [line for line in lines if line["event"] == event]


@dataclass
class FakeAdmission(Admission):
    """Verdicts with a number of accepted frames and no frames."""

    num: int = 0

    @property
    def num_accepted(self) -> int:
        """As many as the test says."""
        return self.num


class Observed:
    """An observer and what it shows."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.utc_clock = Clock(1_700_000_000_000_000_000)
        self.lines = Lines()
        self.observer = Observer(self.lines.open(), capacity=16, clock=self.clock, utc_clock=self.utc_clock)

    def sample(self, name: str, **labels: str) -> float:
        """One number of a scrape."""
        value = self.observer.registry.get_sample_value(name, labels)
        assert value is not None, f"{name}{labels} is not exposed"
        return value
