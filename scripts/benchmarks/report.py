"""What the runs gave, as tables to read: medians, and the least and the most of the runs."""

from __future__ import annotations

import datetime as dt
import os
import platform
import subprocess
from collections import defaultdict
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Final

import foretell
from benchmarks.run import Case, Contender, Packing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Line = dict[str, Any]
"""One run: contender, streams, packing, run, the fields of `measure.Measured`, and where and when."""


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


def _host(line: Line) -> str:
    versions = ", ".join(
        f"{name} {line[name]}" for name in ("kernel", "python", "torch", "numpy", "pyzmq", "foretell")
    )
    return f"{line['date']}, {line['host']}: {line['cpu']}, {line['num_cores']} cores; {versions} ({line['commit']})"


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def tables(lines: Sequence[Line]) -> str:
    """Both tables in Markdown, below the host: every contender at every case, and their ratios."""
    runs: Runs = defaultdict(lambda: defaultdict(list))
    for line in lines:
        case = Case(line["streams"], Packing(line["packing"]))
        runs[case][Contender(line["contender"])].append(line)
    host = lines[0]
    what = (
        f"Model: joint, 8 channels, one layer of 64. {host['transport']}, {host['seconds']:g} s a measurement. Medians "
        "(least to most) of the runs; latencies at half of the rate, from when the frame was due."
    )
    text = [_host(host), what, "", *_contender_table(runs), "", *_ratio_table(runs)]
    if num_lost := sum(line["num_lost"] for line in lines):
        text += [
            "",
            f"LOST: {num_lost} frames got no forecast; the runs above are not what they claim to be.",
        ]
    return "\n".join(text)


Runs = dict[Case, dict[Contender, list[Line]]]

# Title, field, how many of the field's unit make the column's, format.
_COLUMNS: Final[list[tuple[str, str, float, str]]] = [
    ("frames/s", "frames_per_s", 1, "{:,.0f}"),
    ("CPU us/frame", "cpu_us_per_frame", 1, "{:.2f}"),
    ("p50 ms", "latency_p50_us", 1e3, "{:.3f}"),
    ("p99 ms", "latency_p99_us", 1e3, "{:.3f}"),
    ("p99.9 ms", "latency_p999_us", 1e3, "{:.3f}"),
]

# Title, field, dividend, divisor.
_RATIOS: Final[list[tuple[str, str, Contender, Contender]]] = [
    ("CPU a frame, daemon / bare", "cpu_us_per_frame", Contender.DAEMON, Contender.BARE),
    ("CPU a frame, plain / daemon", "cpu_us_per_frame", Contender.PLAIN, Contender.DAEMON),
    ("frames/s, daemon / bare", "frames_per_s", Contender.DAEMON, Contender.BARE),
]


def _contender_table(runs: Runs) -> list[str]:
    rows = [["streams", "packing", "contender", "runs", *(title for title, *_ in _COLUMNS)]]
    for case, by_contender in runs.items():
        for contender, lines in by_contender.items():
            cells = [
                _spread([line[field] / unit for line in lines], form) for _, field, unit, form in _COLUMNS
            ]
            rows.append([f"{case.num_streams:,}", case.packing, contender, str(len(lines)), *cells])
    return _markdown(rows)


def _ratio_table(runs: Runs) -> list[str]:
    """Ratios of the medians, and the least and the most of the ratios of runs side by side."""
    rows: list[list[str]] = [["streams", "packing", *(title for title, *_ in _RATIOS)]]
    for case, by_contender in runs.items():
        cells = []
        for _, field, above, below in _RATIOS:
            tops = [line[field] for line in by_contender.get(above, [])]
            bottoms = [line[field] for line in by_contender.get(below, [])]
            cells.append(_ratio(tops, bottoms) if tops and bottoms else "")
        rows.append([f"{case.num_streams:,}", case.packing, *cells])
    return _markdown(rows)


def _ratio(tops: list[float], bottoms: list[float]) -> str:
    pairs = [top / bottom for top, bottom in zip(tops, bottoms, strict=False)]
    return _with_spread(median(tops) / median(bottoms), pairs, "{:.2f}".format)


def _spread(values: list[float], form: str) -> str:
    return _with_spread(median(values), values, form.format)


def _with_spread(middle: float, values: list[float], form: Callable[[float], str]) -> str:
    if len(values) == 1:
        return form(middle)
    return f"{form(middle)} ({form(min(values))} to {form(max(values))})"


def _markdown(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return lines
