"""The pictures of a report, by matplotlib: forecasts over the data, calibration, error by horizon, worst moments."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from foretell.evaluation.anomalies import anomaly_score
from foretell.evaluation.baselines import carried_forward
from foretell.evaluation.judge import MODEL, Judged, Portion
from foretell.evaluation.result import Result, pooled_calibration
from foretell.evaluation.served import Series

VALUE: Final = "#17202a"
FORECAST: Final = "#d35400"
BAND: Final = "#5dade2"
WRONG: Final = "#c0392b"

RECENT_ROWS: Final = 240  # of the data, drawn with their forecasts
AROUND: Final = 40  # rows on each side of a worst moment
NUM_WORST: Final = 3


@dataclass(frozen=True, slots=True)
class Pictured:
    """A series, what is said of it, and the windows [from, to] in epoch nanoseconds where something was wrong."""

    series: Series
    judged: Judged
    portion: Portion
    windows: Sequence[tuple[int, int]]

    @property
    def end(self) -> int:
        """The row before which scoring ends."""
        return len(self.series.values) if self.portion.until is None else self.portion.until


def draw_all(result: Result, pictured: Sequence[Pictured]) -> Iterator[tuple[str, Figure]]:
    """The figures of a page with their captions."""
    yield (
        "Calibration: of each quantile, the share of values below it. On the line is right.",
        draw_calibration(result),
    )
    if result.horizon > 1:
        yield "Mean absolute error by frames ahead, against persistence one frame ahead.", draw_leads(result)
    for one in pictured:
        yield f"{one.series.name}: the last rows scored, and the worst moments.", draw_series(result, one)
        if one.judged.surprising is not None:
            yield f"{one.series.name}: all rows scored, and how unexpected they were.", draw_surprise(one)


def draw_page(result: Result, one: Pictured) -> Figure:
    """One series and all calibration in one picture."""
    figure = Figure(figsize=(11, 8), layout="constrained")
    grid = figure.add_gridspec(3, NUM_WORST)
    _draw_recent(figure.add_subplot(grid[0, :]), result, one)
    for place, row in enumerate(worst_rows(one)):
        _draw_worst(figure.add_subplot(grid[1, place]), result, one, row)
    _draw_calibration(figure.add_subplot(grid[2, 0]), result)
    _draw_leads(figure.add_subplot(grid[2, 1:]), result)
    return figure


def draw_calibration(result: Result) -> Figure:
    """Observed against nominal levels."""
    figure = Figure(figsize=(4.5, 4.5), layout="constrained")
    _draw_calibration(figure.add_subplot(), result)
    return figure


def draw_leads(result: Result) -> Figure:
    """Error by lead."""
    figure = Figure(figsize=(7, 3.5), layout="constrained")
    _draw_leads(figure.add_subplot(), result)
    return figure


def draw_series(result: Result, one: Pictured) -> Figure:
    """The last rows scored above, the worst moments below."""
    figure = Figure(figsize=(11, 5.5), layout="constrained")
    grid = figure.add_gridspec(2, NUM_WORST)
    _draw_recent(figure.add_subplot(grid[0, :]), result, one)
    for place, row in enumerate(worst_rows(one)):
        _draw_worst(figure.add_subplot(grid[1, place]), result, one, row)
    return figure


def draw_surprise(one: Pictured) -> Figure:
    """All rows scored, with the windows, and below them the anomaly score and where anomalies begin."""
    figure = Figure(figsize=(11, 4), layout="constrained")
    values, score = figure.subplots(2, 1, sharex=True)
    rows = slice(one.portion.first, one.end)
    place = np.arange(rows.start, rows.stop)
    values.plot(place, one.series.values[rows], color=VALUE, linewidth=0.6)
    score.plot(place, anomaly_score(one.series.surprise)[rows], color=FORECAST, linewidth=0.8)
    score.set(xlabel="row", ylabel="anomaly score")
    values.set(title=one.series.name, ylabel="value")
    for axes in (values, score):
        for since_ns, until_ns in one.windows:
            time = one.series.timestamp_ns
            within = np.flatnonzero((time >= since_ns) & (time <= until_ns))
            if within.size:
                axes.axvspan(within[0], within[-1], color=WRONG, alpha=0.15)
        for row in one.judged.anomalies:
            axes.axvline(row, color=WRONG, linewidth=0.8)
    return figure


def worst_rows(one: Pictured) -> list[int]:
    """Rows of the largest errors of the median, no two of them in one picture."""
    values = carried_forward(one.series.values)
    errors = np.full(values.size, -1.0)
    errors[1:] = np.abs(values[1:] - one.series.levels[:-1, _median(one)])
    errors[np.isnan(errors) | np.isnan(one.series.values)] = -1.0
    errors[: one.portion.first], errors[one.end :] = -1.0, -1.0
    rows: list[int] = []
    while len(rows) < NUM_WORST and errors.max() >= 0.0:
        rows.append(int(errors.argmax()))
        errors[max(0, rows[-1] - AROUND) : rows[-1] + AROUND] = -1.0
    return rows


def _median(one: Pictured) -> int:
    return list(one.judged.calibration).index("0.5")


def _draw_recent(axes: Any, result: Result, one: Pictured) -> None:
    rows = np.arange(max(one.portion.first, one.end - RECENT_ROWS), one.end)
    _draw_rows(axes, result, one, rows)
    axes.set(title=f"{one.series.name}: ×{one.judged.ratio():.2f} of persistence's error", xlabel="row")
    axes.legend(loc="upper left", fontsize="small")


def _draw_worst(axes: Any, result: Result, one: Pictured, row: int) -> None:
    rows = np.arange(max(1, row - AROUND), min(len(one.series.values), row + AROUND))
    _draw_rows(axes, result, one, rows)
    axes.axvline(row, color=WRONG, linewidth=0.8, linestyle=":")
    axes.set(title=f"row {row}", xlabel="row")


def _draw_rows(axes: Any, result: Result, one: Pictured, rows: NDArray[np.int64]) -> None:
    """Values with what had been forecast for them; `rows` from 1 on."""
    levels = one.series.levels[rows - 1]
    for low in range(len(result.quantiles) // 2):
        nominal = result.quantiles[-1 - low] - result.quantiles[low]
        axes.fill_between(
            rows,
            levels[:, low],
            levels[:, -1 - low],
            color=BAND,
            alpha=0.15 + 0.1 * low,
            linewidth=0,
            label=f"{nominal:.0%} band",
        )
    axes.plot(rows, levels[:, _median(one)], color=FORECAST, linewidth=1.2, label="forecast")
    axes.plot(rows, one.series.values[rows], ".-", color=VALUE, linewidth=0.7, markersize=2.5, label="value")


def _draw_calibration(axes: Any, result: Result) -> None:
    axes.plot([0, 1], [0, 1], color="#aab7b8", linewidth=1)
    for one in result.series:
        axes.plot(result.quantiles, list(one.calibration.values()), color=BAND, linewidth=0.6, alpha=0.6)
    axes.plot(result.quantiles, list(pooled_calibration(result.series).values()), "o-", color=FORECAST)
    axes.set(title="calibration", xlabel="quantile", ylabel="share of values below")


def _draw_leads(axes: Any, result: Result) -> None:
    """Each forecaster's error by lead, in that of persistence one frame ahead, mean over the series."""
    moving = [one for one in result.series if one.by_lead["persistence"][0] > 0.0]
    highest = 1.0
    for name in result.overall.errors:
        ratios = [np.array(one.by_lead[name]) / one.by_lead["persistence"][0] for one in moving]
        if ratios:
            style = {"color": FORECAST, "linewidth": 2.0} if name == MODEL else {"linewidth": 1.0}
            axes.plot(np.arange(1, result.horizon + 1), np.mean(ratios, axis=0), ".-", label=name, **style)
            if name != "linear":  # which may leave all others flat
                highest = max(highest, float(np.mean(ratios, axis=0).max()))
    axes.set(title="error by frames ahead", xlabel="frames ahead", ylabel="of persistence at 1")
    axes.set_ylim(0.0, 1.1 * highest)
    axes.legend(fontsize="small")
