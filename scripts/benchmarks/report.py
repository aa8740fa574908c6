"""What all suites write: where and with what was measured, and figures as Markdown."""

from __future__ import annotations

import datetime as dt
import os
import platform
import subprocess
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from statistics import median

import foretell
from benchmarks.limits import Limit, judge
from benchmarks.suites import Line


def describe_host() -> Line:
    """Where and with what the runs were made."""
    root = Path(__file__).parent
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--exclude=*"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    return {
        "host": platform.node(),
        "cpu": _cpu_model(),
        "num_cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "foretell": foretell.__version__,
        **{name: metadata.version(name) for name in ("torch", "numpy", "pyzmq")},
        "commit": commit.stdout.strip() or None,
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
    }


def host_line(host: Line) -> str:
    """The host in one line."""
    versions = ", ".join(
        f"{name} {host[name]}" for name in ("kernel", "python", "torch", "numpy", "pyzmq", "foretell")
    )
    return f"{host['date']}, {host['host']}: {host['cpu']}, {host['num_cores']} cores; {versions} ({host['commit']})"


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def ratio(tops: Sequence[float], bottoms: Sequence[float]) -> str:
    """The ratio of the medians, and the least and the most of the ratios of runs side by side."""
    pairs = [top / bottom for top, bottom in zip(tops, bottoms, strict=False)]
    return with_spread(median(tops) / median(bottoms), pairs, "{:.2f}".format)


def spread(values: Sequence[float], form: str) -> str:
    """The median, and the least and the most where there are several."""
    return with_spread(median(values), values, form.format)


def with_spread(middle: float, values: Sequence[float], form: Callable[[float], str]) -> str:
    """A figure, and the least and the most of the values that it stands for where there are several."""
    if len(values) == 1:
        return form(middle)
    return f"{form(middle)} ({form(min(values))} to {form(max(values))})"


def limit_cells(limit: Limit, low: float, high: float | None = None, *, drift: float = 1.0) -> list[str]:
    """The two cells that end a row with a limit: the limit, and whether it is kept (see `judge`)."""
    bound = str(limit) if drift == 1.0 else f"{limit} x {drift:.2f}"
    return [bound, judge(limit, low, high, drift=drift)]


def markdown(rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table; the first row is its head."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return lines
