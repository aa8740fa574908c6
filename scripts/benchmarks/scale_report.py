"""What the suite `scale` gave, as tables to read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from statistics import median
from typing import Final

from benchmarks import limits
from benchmarks.pairs import compare
from benchmarks.report import limit_cells, markdown, spread
from benchmarks.run import Contender
from benchmarks.suites import Line

FEW: Final = 1_000
MANY: Final = 100_000
"""Streams: what one costs among so many is compared with what it costs among few."""

_LATE_MS: Final = 10.0
"""A load whose own p99 is later than this says nothing of the contender's."""


def tables(lines: Sequence[Line]) -> str:
    """All tables in Markdown."""
    by_what: dict[str, list[Line]] = defaultdict(list)
    for line in lines:
        by_what[line["what"]].append(line)
    text = [
        *("Packed, model plain-64 unless it is named. Medians (least to most).", ""),
        *markdown(_cost_rows(by_what["cost"])),
        *("", "Memory that belongs to no file, of a daemon for many streams less that of one for few:", ""),
        *markdown(_memory_rows(by_what["memory"])),
        *("", "Streams that come and go, 4,096 in a batch, in a table of 98,304; without their steps:", ""),
        *markdown(_admission_rows(by_what["admission"])),
        *("", "Held; latency from when the last frame of a part was due:", ""),
        *markdown(_held_rows(by_what["held"])),
    ]
    return "\n".join(text)


def _cost_rows(lines: Sequence[Line]) -> list[list[str]]:
    """CPU a frame at every size, and the ratio of many to few streams in the rounds."""
    costs: dict[tuple[str, int], list[float]] = defaultdict(list)
    rates: dict[tuple[str, int], list[float]] = defaultdict(list)
    for line in sorted(
        lines, key=lambda line: (line["contender"] != Contender.DAEMON, line["streams"], line["run"])
    ):
        key = line["contender"], line["streams"]
        costs[key].append(line["cpu_us_per_frame"])
        rates[key].append(line["frames_per_s"])
    rows = [
        [
            "contender",
            "streams",
            "frames/s",
            "CPU us/frame",
            f"CPU, {MANY:,} / {FEW:,} streams",
            "limit",
            "",
        ]
    ]
    for (contender, num), cost in costs.items():
        row = [contender, f"{num:,}", spread(rates[contender, num], "{:,.0f}"), spread(cost, "{:.2f}")]
        if num != MANY:
            row += ["", "", ""]
        else:
            ratio = compare(cost, costs[contender, FEW])
            is_limited = contender == Contender.DAEMON
            row += [str(ratio), *(limit_cells(limits.SCALE_CPU, ratio.median) if is_limited else ("", ""))]
        rows.append(row)
    return rows


def _memory_rows(lines: Sequence[Line]) -> list[list[str]]:
    rows = [["model", "streams", "MiB in all", "bytes a stream", "of them state", "limit", ""]]
    for line in lines:
        limit = limits.scale_bytes(line["state_bytes_a_stream"])
        row = [
            line["model"],
            f"{line['few_streams']:,} to {line['streams']:,}",
            f"{line['resident_bytes'] / 2**20:,.0f}",
        ]
        row += [f"{line['bytes_a_stream']:,.0f}", f"{line['state_bytes_a_stream']:,}"]
        rows.append([*row, *limit_cells(limit, line["bytes_a_stream"])])
    return rows


def _admission_rows(lines: Sequence[Line]) -> list[list[str]]:
    rows = [["us", "rows a stream", "median (least to most)", "limit", ""]]
    for num_rows in sorted({line["rows_a_stream"] for line in lines}):
        of_kind = [line for line in lines if line["rows_a_stream"] == num_rows]
        admit, known, replace, idle = (
            [line[field] for line in of_kind]
            for field in ("admit_us", "known_us", "replace_us", "evict_idle_us")
        )
        evict = [both - one for both, one in zip(replace, admit, strict=True)]
        for what, values, limit in (
            ("a frame of a stream that has a seat", known, None),
            ("a frame of a stranger, who is given one", admit, limits.SCALE_ADMIT_US),
            ("likewise, and another one evicted for it", replace, None),
            ("the difference: evicting to make room", evict, limits.SCALE_EVICT_US),
            ("evicting the idle", idle, limits.SCALE_EVICT_US),
        ):
            verdict = ["", ""] if limit is None else limit_cells(limit, median(values))
            rows.append([what, str(num_rows), spread(values, "{:.2f}"), *verdict])
    return rows


def _held_rows(lines: Sequence[Line]) -> list[list[str]]:
    titles = [
        "contender",
        "streams",
        "frames/s each",
        "seconds",
        "p50 ms",
        "p99 ms",
        "most ms",
        "CPU us/frame",
    ]
    rows = [[*titles, "send lag p99 ms", "lost", "limit", ""]]
    for line in lines:
        p99_ms, lag_ms = line["latency_p99_us"] / 1e3, line["send_lag_p99_us"] / 1e3
        bound, verdict = limit_cells(limits.SCALE_P99_MS, p99_ms)
        if line["num_lost"]:
            verdict = "FAIL: frames lost"
        elif lag_ms > _LATE_MS:
            verdict = "not known: the load was late itself"
        row = [line["contender"], f"{line['streams']:,}", f"{line['rate']:g}", f"{line['seconds']:g}"]
        row += [
            f"{line[field] / 1e3:.2f}" for field in ("latency_p50_us", "latency_p99_us", "latency_max_us")
        ]
        row += [f"{line['cpu_us_per_frame']:.2f}", f"{lag_ms:.2f}", f"{line['num_lost']:,}"]
        is_limited = line["contender"] == Contender.DAEMON
        rows.append([*row, *((f"p99 {bound} ms, lost 0", verdict) if is_limited else ("", ""))])
    return rows
