"""The tables of the suite `rates`: every contender at every case, and their ratios beside the limits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Final

from benchmarks.models import ModelName
from benchmarks.report import markdown, ratio, spread
from benchmarks.run import Case, Contender, Packing
from benchmarks.suites import Line

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


def tables(lines: Sequence[Line]) -> str:
    """All tables in Markdown."""
    runs: Runs = defaultdict(lambda: defaultdict(list))
    for line in lines:
        case = Case(line["streams"], Packing(line["packing"]), ModelName(line["model"]))
        runs[case][Contender(line["contender"])].append(line)
    first = lines[0]
    what = (
        f"{first['transport']}, {first['seconds']:g} s a measurement. Medians (least to most) of the runs; latencies "
        "at half of the rate, from when the frame was due."
    )
    text = [what, "", *_contender_table(runs), "", *_ratio_table(runs)]
    if num_lost := sum(line["num_lost"] for line in lines):
        text += [
            "",
            f"LOST: {num_lost} frames got no forecast; the runs above are not what they claim to be.",
        ]
    return "\n".join(text)


def _contender_table(runs: Runs) -> list[str]:
    rows = [["streams", "packing", "contender", "runs", *(title for title, *_ in _COLUMNS)]]
    for case, by_contender in runs.items():
        for contender, lines in by_contender.items():
            cells = [
                spread([line[field] / unit for line in lines], form) for _, field, unit, form in _COLUMNS
            ]
            rows.append([f"{case.num_streams:,}", case.packing, contender, str(len(lines)), *cells])
    return markdown(rows)


def _ratio_table(runs: Runs) -> list[str]:
    """Ratios of the medians, and the least and the most of the ratios of runs side by side."""
    rows: list[list[str]] = [["streams", "packing", *(title for title, *_ in _RATIOS)]]
    for case, by_contender in runs.items():
        cells = []
        for _, field, above, below in _RATIOS:
            tops = [line[field] for line in by_contender.get(above, [])]
            bottoms = [line[field] for line in by_contender.get(below, [])]
            cells.append(ratio(tops, bottoms) if tops and bottoms else "")
        rows.append([f"{case.num_streams:,}", case.packing, *cells])
    return markdown(rows)
