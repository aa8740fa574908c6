"""From lines of measurements to the points of the plots."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from statistics import median
from typing import Any, Final

from benchmarks.models import ModelName
from benchmarks.run import PEERS, Contender, Packing
from benchmarks.suites import Line

Points = list[list[float]]

_DRAWN: Final = {Contender.DAEMON, Contender.BARE, Contender.PLAIN, *PEERS}


def series_of(lines: Sequence[Line]) -> dict[str, Any]:
    """Everything that is drawn, as JSON can hold it.

    latency: by packing, by contender, points [frames/s, p50 us, p99 us, p99 us of the load's own lateness].
    cost: by contender, points [streams, median us of CPU a frame, least, most]. caption: where it was measured.
    All are medians over runs, in ascending order.
    """
    latency: dict[str, dict[str, dict[float, list[Line]]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(list))
    )
    cost: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for line in lines:
        if line.get("plot") == "latency":
            latency[line["packing"]][line["contender"]][line["rate"]].append(line)
        elif _is_cost(line):
            cost[line["contender"]][line["streams"]].append(line["cpu_us_per_frame"])
    return {
        "latency": {
            packing: {who: _latency_points(by_rate) for who, by_rate in by_contender.items()}
            for packing, by_contender in latency.items()
        },
        "cost": {
            who: [[num, median(us), min(us), max(us)] for num, us in sorted(by_streams.items())]
            for who, by_streams in cost.items()
        },
        "caption": _caption(lines[0]) if lines else "",
    }


def _caption(host: Line) -> str:
    """Where and with what the first of the lines was measured; the machine's name says nothing to a reader."""
    versions = ", ".join(f"{name} {host[name]}" for name in ("python", "torch", "numpy", "pyzmq", "foretell"))
    return f"{host['date'][:10]}, {host['cpu']}, {host['num_cores']} cores; {versions} ({host['commit']})"


def _is_cost(line: Line) -> bool:
    """Whether the line says what a packed frame costs at the sustained rate, whichever suite measured it."""
    if line.get("packing") != Packing.PACKED or line.get("contender") not in _DRAWN:
        return False
    if line.get("model", ModelName.PLAIN_64) != ModelName.PLAIN_64:
        return False
    return line["suite"] == "rates" or "cost" in (line.get("plot"), line.get("what"))


def _latency_points(by_rate: dict[float, list[Line]]) -> Points:
    fields = ("latency_p50_us", "latency_p99_us", "send_lag_p99_us")
    return [
        [rate, *(median(line[field] for line in lines) for field in fields)]
        for rate, lines in sorted(by_rate.items())
    ]
