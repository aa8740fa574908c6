"""This machine's own sensors, read through psutil: the streams of the demo.

A source that the machine has not got (no disk, no thermometer) is left out. The channels of a stream are fixed at the
start; one that disappears later is missing, NaN, so that the stream keeps its width.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping

import psutil

Readings = Mapping[str, float]  # channel name to value, in the unit that the name says

_MB = 1e6


def read_cpu() -> Readings:
    """Load of each core in percent since the last reading."""
    return {f"core {i} %": percent for i, percent in enumerate(psutil.cpu_percent(percpu=True))}


def read_load() -> Readings:
    """Load average over 1, 5 and 15 minutes."""
    one, five, fifteen = psutil.getloadavg()
    return {"1 min": one, "5 min": five, "15 min": fifteen}


def read_memory() -> Readings:
    """Memory in use and in the page cache, MB."""
    memory = psutil.virtual_memory()
    return {"used MB": memory.used / _MB, "cached MB": memory.cached / _MB}


def read_disk() -> Readings:
    """Bytes read from and written to all disks since the machine started, MB."""
    counters = psutil.disk_io_counters()
    return (
        {}
        if counters is None
        else {"read MB/s": counters.read_bytes / _MB, "written MB/s": counters.write_bytes / _MB}
    )


def read_network() -> Readings:
    """Bytes received and sent on all interfaces since the machine started, MB."""
    counters = psutil.net_io_counters()
    return (
        {}
        if counters is None
        else {"received MB/s": counters.bytes_recv / _MB, "sent MB/s": counters.bytes_sent / _MB}
    )


def read_temperature() -> Readings:
    """Every thermometer that the kernel knows, degrees Celsius."""
    return {
        f"{chip} {sensor.label or i} C": sensor.current
        for chip, sensors in psutil.sensors_temperatures().items()
        for i, sensor in enumerate(sensors)
    }


class Rate:
    """Turns a source of running totals into one of rates per second; NaN until there are two readings."""

    def __init__(self, read: Callable[[], Readings], clock: Callable[[], float] = time.monotonic) -> None:
        self._read = read
        self._clock = clock
        self._totals: Readings = {}
        self._time = -math.inf

    def __call__(self) -> Readings:
        """The rates since the last call."""
        before, since = self._totals, self._time
        self._totals, self._time = self._read(), self._clock()
        interval = self._time - since
        return {
            name: (total - before[name]) / interval if name in before and interval > 0 else math.nan
            for name, total in self._totals.items()
        }


def machine_sources() -> dict[str, Callable[[], Readings]]:
    """Stream name to what reads it."""
    return {
        "cpu": read_cpu,
        "load": read_load,
        "memory": read_memory,
        "disk": Rate(read_disk),
        "network": Rate(read_network),
        "temperature": read_temperature,
    }


class Sensors:
    """Several sources as streams of fixed width.

    channels: the channel names of every stream that is there, in the order of the values that `read` gives.
    """

    def __init__(self, sources: Mapping[str, Callable[[], Readings]] | None = None) -> None:
        candidates = machine_sources() if sources is None else sources
        first = {name: _read_or_none(read) for name, read in candidates.items()}
        self.channels = {name: tuple(readings) for name, readings in first.items() if readings}
        self._sources = {name: candidates[name] for name in self.channels}

    def read(self) -> dict[str, list[float]]:
        """One frame of every stream: a value a channel, NaN where it cannot be read now."""
        frames = {}
        for name, read in self._sources.items():
            readings = _read_or_none(read) or {}
            frames[name] = [readings.get(channel, math.nan) for channel in self.channels[name]]
        return frames


def _read_or_none(read: Callable[[], Readings]) -> Readings | None:
    """The readings, or None where the machine, a container or a missing permission does not give them."""
    try:
        return read()
    except (OSError, RuntimeError, AttributeError, NotImplementedError, psutil.Error):
        return None
