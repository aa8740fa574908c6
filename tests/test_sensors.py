"""This machine's sensors as streams of fixed width."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest

from foretell.sensors import Rate, Sensors


class _Source:
    """Gives one reading after another."""

    def __init__(self, *readings: Mapping[str, float]) -> None:
        self._readings = list(readings)

    def __call__(self) -> Mapping[str, float]:
        return self._readings.pop(0)


def _missing() -> Mapping[str, float]:
    raise OSError("no such device")


def test_this_machine_has_cpu_and_memory() -> None:
    """On a real machine the CPU and memory are there and give numbers."""
    sensors = Sensors()
    frames = sensors.read()
    assert {"cpu", "load", "memory"} <= frames.keys()
    assert frames.keys() == sensors.channels.keys()
    assert all(0 <= percent <= 100 for percent in frames["cpu"])
    assert all(math.isfinite(value) for value in frames["memory"])


def test_sources_that_the_machine_has_not_got_are_left_out() -> None:
    """A source that fails or is empty at the start makes no stream."""
    sensors = Sensors({"a": lambda: {"x": 1.0}, "b": _missing, "c": dict})
    assert sensors.read() == {"a": [1.0]}


def test_channels_are_fixed_at_the_start() -> None:
    """A channel that disappears is missing and one that appears is ignored: the width of a stream does not change."""
    source = _Source({"x": 1.0, "y": 2.0}, {"y": 3.0, "z": 4.0})
    sensors = Sensors({"a": source})
    x, y = sensors.read()["a"]
    assert sensors.channels == {"a": ("x", "y")}
    assert math.isnan(x)
    assert y == 3.0


def test_source_that_fails_later_is_missing() -> None:
    """A source that fails after the start gives missing values and keeps its stream."""
    readings = _Source({"x": 1.0})

    def read() -> Mapping[str, float]:
        try:
            return readings()
        except IndexError:
            raise OSError("gone") from None

    (value,) = Sensors({"a": read}).read()["a"]
    assert math.isnan(value)


def test_rate_is_the_change_over_the_time_between() -> None:
    """A rate is the difference of two totals over the seconds between; before the second reading it is missing."""
    times = iter([10.0, 10.5])
    rate = Rate(_Source({"x": 100.0}, {"x": 103.0}), clock=lambda: next(times))
    assert math.isnan(rate()["x"])
    assert rate()["x"] == pytest.approx(6.0)
