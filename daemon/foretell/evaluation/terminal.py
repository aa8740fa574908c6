"""An evaluation as tables on the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from foretell.evaluation.judge import MODEL
from foretell.evaluation.result import FORECASTERS, Result
from foretell.formats import format_number

_OTHERS: Final = FORECASTERS[1:]


def show(result: Result, console: Console) -> None:
    """Print series by series and all together."""
    console.print(_errors_table(result))
    console.print(_bands_table(result))
    if 1 < len(result.streams) < len(result.series):
        console.print(_streams_table(result))
    if result.horizon > 1:
        console.print(_leads_table(result))
    if any(one.anomalies or one.detected for one in result.series):
        console.print(_anomalies_table(result))
    for line in describe(result):
        console.print(line, soft_wrap=True, highlight=False)


def _table(title: str, *columns: str) -> Table:
    """A table of numbers by series; names fold where there is no room, numbers never."""
    table = Table("series", title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.columns[0].overflow = "fold"
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _errors_table(result: Result) -> Table:
    title = f"{result.model}, one frame ahead: errors, and the MAE against others'"
    table = _table(title, "MAE", "RMSE", "CRPS", *_OTHERS)
    for one in result.series:
        ours = one.forecasters[MODEL]
        table.add_row(
            one.name,
            *(format_number(number) for number in (ours.mae, ours.rmse, ours.crps)),
            *(format_ratio(one.ratio(name)) if name in one.forecasters else "–" for name in _OTHERS),
        )
    table.add_section()
    medians = (format_ratio(result.overall.ratio.get(name)) for name in _OTHERS)
    table.add_row("median", "", "", "", *medians)
    return table


def _bands_table(result: Result) -> Table:
    bands = list(result.series[0].coverage)[::-1]
    table = _table(
        "shares of the values within each band, what is unexpected, and what was found to fit the others by",
        *(f"{float(band):.0%}" for band in bands),
        "surprise > 2",
        "period",
        "AR order",
    )
    for one in result.series:
        table.add_row(
            one.name,
            *(f"{one.coverage[band]:.1%}" for band in bands),
            _share(one.surprising),
            "–" if one.period is None else str(one.period),
            str(one.order),
        )
    table.add_section()
    overall = result.overall
    held = (f"{overall.coverage[band]:.1%}" for band in bands)
    table.add_row("all", *held, _share(overall.surprising), "", "")
    return table


def _streams_table(result: Result) -> Table:
    bands = list(result.series[0].coverage)[::-1]
    columns = ("channels", "MAE", "CRPS", *_OTHERS, *(f"{float(band):.0%}" for band in bands))
    table = _table("by stream: errors in standard deviations, median ratios, bands", *columns)
    for name, one in result.streams.items():
        table.add_row(
            name,
            str(one.num_series),
            *(format_number(errors[MODEL]) for errors in (one.errors, one.crps)),
            *(format_ratio(one.ratio.get(other)) for other in _OTHERS),
            *(f"{one.coverage[band]:.1%}" for band in bands),
        )
    return table


def _leads_table(result: Result) -> Table:
    leads = [lead for lead in (1, 2, 3, 6, 12, 24, 48) if lead < result.horizon] + [result.horizon]
    table = _table("MAE against persistence, by frames ahead", *(str(lead) for lead in leads))
    for one in result.series:
        ours, theirs = one.by_lead[MODEL], one.by_lead["persistence"]
        pairs = ((ours[lead - 1], theirs[lead - 1]) for lead in leads)
        table.add_row(one.name, *(format_ratio(a / b if b > 0.0 else None) for a, b in pairs))
    return table


def _anomalies_table(result: Result) -> Table:
    against = (
        ("windows hit", "false alarms", "delays in frames") if result.overall.num_windows is not None else ()
    )
    table = _table("anomalies: surprise, smoothed and beyond the threshold", "found", *against)
    for one in result.series:
        cells = [one.name, str(len(one.anomalies))]
        if one.detected is not None:
            found = one.detected
            delays = ", ".join(str(delay) for delay in found.delays) or "–"
            cells += [f"{found.num_hits} of {found.num_windows}", str(found.num_false_alarms), delays]
        table.add_row(*cells)
    return table


def describe(result: Result) -> Iterator[str]:
    """All series together in words."""
    overall = result.overall
    errors = ", ".join(f"{name} {error:.4f}" for name, error in overall.errors.items())
    yield f"mean absolute error in standard deviations, mean over the series: {errors}"
    crps = ", ".join(f"{name} {error:.4f}" for name, error in overall.crps.items())
    yield f"CRPS likewise (twice the mean pinball loss over the quantiles): {crps}"
    better = (
        f"{name} in {overall.num_better[name]} of {overall.num_compared[name]}"
        for name in _OTHERS
        if name in overall.num_better
    )
    yield f"the model errs less than {', '.join(better)}"
    if overall.num_windows is not None:
        yield (
            f"windows hit {overall.num_hits} of {overall.num_windows}, false alarms {overall.num_false_alarms}"
        )
    if not result.is_calibrated:
        yield "the model is not calibrated: its bands are what it learned, and there is no surprise"


def format_ratio(ratio: float | None) -> str:
    """An error against another; more digits of small ones, and none of those that mean nothing any more."""
    if ratio is None or math.isnan(ratio):
        return "–"
    return f"×{ratio:.4f}" if ratio < 0.1 else f"×{ratio:.3f}" if ratio < 1000.0 else "×>999"


def _share(share: float | None) -> str:
    return "–" if share is None else f"{share:.2%}"
