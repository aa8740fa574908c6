"""The tables of the suite `rates`: every contender at every case, the ratios that have a limit, and the peers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import Final

from benchmarks import limits
from benchmarks.limits import Limit
from benchmarks.models import ModelName
from benchmarks.report import limit_cells, markdown, ratio, spread
from benchmarks.run import PEERS, Case, Contender, Packing
from benchmarks.suites import Line

Runs = Mapping[Case, Mapping[Contender, Sequence[Line]]]

_CPU: Final = "cpu_us_per_frame"
_RATE: Final = "frames_per_s"

# Title, field, how many of the field's unit make the column's, format.
_COLUMNS: Final[list[tuple[str, str, float, str]]] = [
    ("frames/s", _RATE, 1, "{:,.0f}"),
    ("CPU us/frame", _CPU, 1, "{:.2f}"),
    ("p50 ms", "latency_p50_us", 1e3, "{:.3f}"),
    ("p99 ms", "latency_p99_us", 1e3, "{:.3f}"),
    ("p99.9 ms", "latency_p999_us", 1e3, "{:.3f}"),
]

# Limit, model, packing (None: both), field, dividend, divisor.
_RATIOS: Final[list[tuple[Limit, ModelName, Packing | None, str, Contender, Contender]]] = [
    (limits.CPU_DAEMON_BARE, ModelName.PLAIN_64, None, _CPU, Contender.DAEMON, Contender.BARE),
    (limits.RATE_DAEMON_BARE, ModelName.PLAIN_64, Packing.PACKED, _RATE, Contender.DAEMON, Contender.BARE),
    (
        limits.CPU_PLAIN_DAEMON_MESSAGE,
        ModelName.PLAIN_64,
        Packing.MESSAGE,
        _CPU,
        Contender.PLAIN,
        Contender.DAEMON,
    ),
    (
        limits.CPU_PLAIN_DAEMON_PACKED,
        ModelName.PLAIN_64,
        Packing.PACKED,
        _CPU,
        Contender.PLAIN,
        Contender.DAEMON,
    ),
    (
        limits.RATE_DEEP_DAEMON_BARE,
        ModelName.PLAIN_128X2,
        Packing.PACKED,
        _RATE,
        Contender.DAEMON,
        Contender.BARE,
    ),
    (limits.RATE_BUILTIN_STEP, ModelName.BUILTIN, Packing.PACKED, _RATE, Contender.DAEMON, Contender.STEP),
]

_NOTES: Final = {
    Contender.RIVER: "River's row is another and smaller model: Holt-Winters a channel, no network.",
    Contender.BYTEWAX: "Bytewax holds the torch state in `stateful_map`, one call of `nn.LSTM` a frame.",
}


def tables(lines: Sequence[Line], missing: Mapping[Contender, str]) -> str:
    """All tables in Markdown. `missing` are the contenders that could not be measured, and why."""
    if not lines:
        return "\n".join(["Nothing was measured.", *_skipped(missing)])
    runs: defaultdict[Case, defaultdict[Contender, list[Line]]] = defaultdict(lambda: defaultdict(list))
    for line in lines:
        case = Case(line["streams"], Packing(line["packing"]), ModelName(line["model"]))
        runs[case][Contender(line["contender"])].append(line)
    first = lines[0]
    what = (
        f"8 channels. {first['transport']}, {first['seconds']:g} s a measurement. Medians (least to most) of the runs; "
        "latencies at half of the rate, from when the frame was due."
    )
    text = [what, "", *markdown([*_contender_rows(runs)])]
    for rows in ([*_ratio_rows(runs)], [*_peer_rows(runs)]):
        if len(rows) > 1:
            text += ["", *markdown(rows)]
    measured = {contender for by_contender in runs.values() for contender in by_contender}
    if measured & set(PEERS):
        known = [f"{name} {first[name]}" for name in ("onnxruntime", "bytewax", "river") if name in first]
        text += ["", f"Peers: {', '.join(known)}.", *(_NOTES[name] for name in _NOTES if name in measured)]
    text += _skipped(missing)
    if num_lost := sum(line.get("num_lost", 0) for line in lines):
        text += [
            "",
            f"LOST: {num_lost} frames got no forecast; the runs above are not what they claim to be.",
        ]
    return "\n".join(text)


def _skipped(missing: Mapping[Contender, str]) -> list[str]:
    return (
        ["", *(f"{contender} was skipped: {reason}" for contender, reason in missing.items())]
        if missing
        else []
    )


def _contender_rows(runs: Runs) -> Iterator[list[str]]:
    yield ["model", "streams", "packing", "contender", "runs", *(title for title, *_ in _COLUMNS)]
    for case, by_contender in runs.items():
        for contender, lines in by_contender.items():
            cells = [
                spread([line[field] / unit for line in lines], form) if field in lines[0] else ""
                for _, field, unit, form in _COLUMNS
            ]
            name = "its step alone" if contender is Contender.STEP else contender
            yield [*_case_cells(case), name, str(len(lines)), *cells]


def _ratio_rows(runs: Runs) -> Iterator[list[str]]:
    """Ratios of the medians, and the least and the most of the ratios of runs side by side."""
    yield ["model", "streams", "packing", "what", "measured", "limit", ""]
    for case, by_contender in runs.items():
        for limit, model, packing, field, above, below in _RATIOS:
            if case.model is not model or packing not in {None, case.packing}:
                continue
            tops, bottoms = _values(by_contender, above, field), _values(by_contender, below, field)
            if tops and bottoms:
                cells = limit_cells(limit, median(tops) / median(bottoms))
                yield [*_case_cells(case), limit.what, ratio(tops, bottoms), *cells]
        yield from _rate_row(case, by_contender)


def _rate_row(case: Case, by_contender: Mapping[Contender, Sequence[Line]]) -> Iterator[list[str]]:
    """The daemon's rate itself, which is asked where the bare loop shows that the machine can give it."""
    bare, daemon = (
        _values(by_contender, Contender.BARE, _RATE),
        _values(by_contender, Contender.DAEMON, _RATE),
    )
    if case.model is not ModelName.PLAIN_64 or case.packing is not Packing.PACKED or not (bare and daemon):
        return
    limit, has_reached = limits.RATE_DAEMON, median(bare) >= limits.RATE_BARE_REFERENCE
    cells = limit_cells(limit, median(daemon)) if has_reached else [str(limit), "not asked"]
    yield [*_case_cells(case), limit.what, spread(daemon, "{:,.0f}"), *cells]


def _peer_rows(runs: Runs) -> Iterator[list[str]]:
    """How many times the daemon is ahead of each peer; ahead is where both are."""
    yield ["model", "streams", "packing", "peer", limits.PEER_RATE.what, limits.PEER_CPU.what, "limit", ""]
    for case, by_contender in runs.items():
        rates, costs = (
            _values(by_contender, Contender.DAEMON, _RATE),
            _values(by_contender, Contender.DAEMON, _CPU),
        )
        for peer in (Contender.PLAIN, *PEERS):
            peer_rates, peer_costs = _values(by_contender, peer, _RATE), _values(by_contender, peer, _CPU)
            if not (rates and peer_rates):
                continue
            worse = min(median(rates) / median(peer_rates), median(peer_costs) / median(costs))
            cells = limit_cells(limits.PEER_RATE, worse)
            yield [*_case_cells(case), peer, ratio(rates, peer_rates), ratio(peer_costs, costs), *cells]


def _values(
    by_contender: Mapping[Contender, Sequence[Line]], contender: Contender, field: str
) -> list[float]:
    """In the order of the runs' numbers, so that runs side by side have the same place."""
    return [
        line[field] for line in sorted(by_contender.get(contender, []), key=lambda line: line.get("run", 0))
    ]


def _case_cells(case: Case) -> list[str]:
    return [case.model, f"{case.num_streams:,}", case.packing]
