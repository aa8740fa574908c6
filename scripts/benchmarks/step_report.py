"""The tables of the suite `step`: microseconds a call, and the engine's ratios beside their limits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from statistics import median
from typing import Final

from benchmarks import limits
from benchmarks.limits import Limit
from benchmarks.models import Size
from benchmarks.pairs import compare
from benchmarks.records import NUM_CHANNELS
from benchmarks.report import limit_cells, markdown
from benchmarks.step_process import Stepper
from benchmarks.suites import Line

Runs = dict[tuple[Size, int], dict[str, list[float]]]
"""Of each size and batch, by contender, the microseconds a call of each round."""

_JUDGED: Final = (Size(64, 1), Size(128, 1))
_LARGE: Final = 256


def tables(lines: Sequence[Line], missing: str = "") -> str:
    """All tables in Markdown; `missing` says why a contender could not be measured."""
    runs: Runs = defaultdict(lambda: defaultdict(list))
    for line in sorted(
        lines, key=lambda line: int(line["run"])
    ):  # within a round the order was another each time
        size = Size(line["hidden_size"], line["num_layers"])
        runs[size, line["batch"]][_name(Stepper(line["contender"]), line["threads"])].append(line["us"])
    num_rounds = max(int(line["run"]) for line in lines) + 1
    what = (
        f"Microseconds a step of so many rows, {NUM_CHANNELS} channels joint, states gathered and scattered, with the "
        f"output layer. One thread where none are named. Medians of {num_rounds} rounds (least to most)."
    )
    text = [
        what,
        "",
        *_times(runs),
        "",
        f"Ratios of {num_rounds} rounds, their median and its 95 % interval:",
        "",
        *_ratios(runs),
    ]
    if kernels := {line["kernel"] for line in lines} - {""}:
        text += ["", f"The engine stepped with its kernel: {', '.join(sorted(kernels))}."]
    fewer = {
        f"{line['contender']}, hidden {line['hidden_size']}, layers {line['num_layers']}"
        for line in lines
        if line["chosen_threads"] < line["threads"]
    }
    if fewer:
        text += ["", f"Kept to one thread, as its own trial had it: {'; '.join(sorted(fewer))}."]
    if missing:
        text += ["", f"Not measured: {missing}."]
    return "\n".join(text)


def _name(who: Stepper, num_threads: int) -> str:
    return who if num_threads == 1 else f"{who}, {num_threads} threads"


def _times(runs: Runs) -> list[str]:
    names = list(dict.fromkeys(name for of_case in runs.values() for name in of_case))
    rows = [["hidden", "layers", "batch", *sorted(names, key=_column)]]
    for (size, batch), by_name in runs.items():
        cells = [_spread(by_name[name]) if name in by_name else "" for name in rows[0][3:]]
        rows.append([str(size.hidden_size), str(size.num_layers), f"{batch:,}", *cells])
    return markdown(rows)


def _column(name: str) -> tuple[bool, int]:
    who = name.partition(",")[0]
    return "threads" in name, list(Stepper).index(Stepper(who))


def _spread(values: Sequence[float]) -> str:
    middle = median(values)
    form = "{:,.1f}" if middle < 100 else "{:,.0f}"
    text = form.format(middle)
    return text if len(values) == 1 else f"{text} ({form.format(min(values))} to {form.format(max(values))})"


def _ratios(runs: Runs) -> list[str]:
    threaded = {name.partition(", ")[2] for by_name in runs.values() for name in by_name} - {""}
    rows = [
        ["hidden", "layers", "batch", "engine / ONNX Runtime", "limit", "", "engine / products", "limit", ""]
    ]
    rows[0] += [f"engine / ONNX Runtime, {several}" for several in sorted(threaded)]
    for (size, batch), by_name in runs.items():
        cells = _compared(by_name, Stepper.ONNX, _onnx_limit(size, batch))
        # Below that oneDNN's own overhead is most of its time, and no limit to what a step can be.
        products = _compared(by_name, Stepper.PRODUCTS, _products_limit(size, batch))
        cells += products if batch >= _LARGE else [""] * 3
        for several in sorted(threaded):
            top, bottom = (by_name.get(f"{who}, {several}") for who in (Stepper.ENGINE, Stepper.ONNX))
            cells.append(str(compare(top, bottom)) if top and bottom else "")
        rows.append([str(size.hidden_size), str(size.num_layers), f"{batch:,}", *cells])
    return markdown(rows)


def _compared(by_name: dict[str, list[float]], other: Stepper, limit: Limit | None) -> list[str]:
    if Stepper.ENGINE not in by_name or other not in by_name:
        return [""] * 3
    ratio = compare(by_name[Stepper.ENGINE], by_name[other])
    return [str(ratio), *(["", ""] if limit is None else limit_cells(limit, ratio.low, ratio.high))]


def _onnx_limit(size: Size, batch: int) -> Limit | None:
    if size not in _JUDGED:
        return None
    if batch >= _LARGE:
        return limits.STEP_ONNX_LARGE
    return {64: limits.STEP_ONNX_64, 1: limits.STEP_ONNX_1}.get(batch)


def _products_limit(size: Size, batch: int) -> Limit | None:
    return limits.STEP_PRODUCTS if size in _JUDGED and batch >= _LARGE else None
