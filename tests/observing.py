"""What the tests of everything that can be observed share: an observer with clocks and a log that a test reads."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from prometheus_client import generate_latest

from foretell.admission import Accepted, Admission
from foretell.choices import LogFormat, LogLevel
from foretell.config import LogConfig
from foretell.log import open_log
from foretell.observe import ModelFacts, Observer
from foretell.rounds import Steps
from foretell.stepped import Errors, Stepped

MODEL = ModelFacts(
    source="builtin",
    fingerprint="00000000000000ff",
    channels="independent",
    layers="2",
    hidden_size="64",
    quantiles="0.05,0.5,0.95",
    kernel="native",
    reason="agrees",
    precision="float32",
    device="cpu",
)

QUANTILES = (0.05, 0.5, 0.95)


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


def accepted_of(names: Sequence[bytes], slots: Sequence[int], values: Any) -> Accepted:
    """Accepted frames, values [frames, channels]; all else is nought."""
    num_frames = len(names)
    values = np.array(values, np.float32)
    return Accepted(
        names=list(names),
        slot=np.array(slots, np.int64),
        frame=np.zeros(num_frames, np.uint64),
        timestamp_ns=np.zeros(num_frames, np.int64),
        epoch=np.zeros(num_frames, np.uint32),
        flags=np.zeros(num_frames, np.uint16),
        count=np.zeros(num_frames, np.uint64),
        values=values,
        steps=Steps(np.zeros((num_frames, 1), np.int64), values, [num_frames], num_frames),
    )


def stepped_of(forecast: Any, surprise: Any = None, errors: Errors | None = None) -> Stepped:
    """What stepping gave: forecast [frames, quantiles, channels] of the next frame, surprise [frames, channels]."""
    return Stepped(
        np.array(forecast, np.float32)[:, None],
        None,
        None if surprise is None else np.array(surprise, np.float32),
        errors,
    )


class Observed:
    """An observer and what it shows."""

    def __init__(self, watched: Sequence[str] = ()) -> None:
        self.clock = Clock()
        self.utc_clock = Clock(1_700_000_000_000_000_000)
        self.lines = Lines()
        self.observer = Observer(
            self.lines.open(),
            capacity=16,
            watched=watched,
            clock=self.clock,
            utc_clock=self.utc_clock,
        )

    @classmethod
    def of_everything(cls) -> Observed:
        """One that has something to show of every metric: a calibrated model and a watched stream."""
        observed = cls(watched=["pump"])
        observed.load_model()
        stepped = stepped_of([[[0], [1], [2]]], [[0.5]], Errors(1, 2))
        observed.observer.stepped(accepted_of([b"pump"], [0], [[1]]), stepped, {b"pump": 0})
        return observed

    def load_model(self, *, is_calibrated: bool = True) -> None:
        """Tell of `MODEL`."""
        self.observer.model_loaded(MODEL, QUANTILES, is_calibrated=is_calibrated)

    def scrape(self) -> str:
        """What Prometheus gets."""
        return generate_latest(self.observer.registry).decode()

    def sample(self, name: str, **labels: str) -> float:
        """One number of a scrape."""
        value = self.observer.registry.get_sample_value(name, labels)
        assert value is not None, f"{name}{labels} is not exposed"
        return value
