"""An evaluation as a report: an HTML page that needs nothing beside itself, or one picture."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any, Final

import numpy as np

from foretell.errors import ConfigError
from foretell.evaluation.figures import Pictured, draw_all, draw_page
from foretell.evaluation.judge import MODEL, Portion
from foretell.evaluation.labels import Windows
from foretell.evaluation.result import FORECASTERS, Result
from foretell.evaluation.served import Series
from foretell.evaluation.terminal import describe, format_ratio
from foretell.formats import format_number

MOST_PICTURED: Final = 24  # series; the report says how many more there are

_STYLE: Final = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; color: #1b2631; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .15rem .7rem; text-align: right; border-bottom: 1px solid #dde3e8; }
th:first-child, td:first-child { text-align: left; }
img { max-width: 100%; } figure { margin: 1.5rem 0; } figcaption { color: #52616b; }
"""


def write_report(
    path: Path, result: Result, series: Sequence[Series], portion: Portion, windows: Windows
) -> None:
    """Write the report in the form that the extension of `path` says. Raises ConfigError where it cannot be written."""
    pictured = [
        Pictured(one, judged, portion, windows.get(one.recording, ()))
        for one, judged in zip(series, result.series, strict=True)
    ]
    # Those of which there is most to see: the ones that go worst against persistence.
    pictured.sort(key=lambda one: np.nan_to_num(one.judged.ratio()), reverse=True)
    shown = pictured[:MOST_PICTURED]
    if path.suffix.lower() == ".png":
        contents = _png(draw_page(result, shown[0]))
    else:
        figures = ((caption, _png(figure)) for caption, figure in draw_all(result, shown))
        contents = "".join(_page(result, figures, len(pictured) - len(shown))).encode()
    try:
        path.write_bytes(contents)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from error


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    # Without the version of matplotlib in it, the same figures are the same bytes.
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()


def _page(result: Result, figures: Iterator[tuple[str, bytes]], num_left_out: int) -> Iterator[str]:
    title = f"Forecasts by {result.model}"
    yield f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
    yield f"<style>{_STYLE}</style></head><body>\n<h1>{escape(title)}</h1>\n"
    settings = ", ".join(f"{key} {value}" for key, value in result.settings.items() if value is not None)
    yield f"<p>foretell {escape(result.foretell)}; model {result.fingerprint}; {escape(settings)}.</p>\n"
    for line in describe(result):
        yield f"<p>{escape(line)}.</p>\n"
    yield from _table(result)
    for caption, picture in figures:
        encoded = base64.b64encode(picture).decode()
        yield f'<figure><img alt="{escape(caption)}" src="data:image/png;base64,{encoded}">'
        yield f"<figcaption>{escape(caption)}</figcaption></figure>\n"
    if num_left_out:
        yield f"<p>{num_left_out} more series are not drawn, those that do better against persistence.</p>\n"
    yield "</body></html>\n"


def _table(result: Result) -> Iterator[str]:
    bands = list(result.series[0].coverage)[::-1]
    names = ["series", "MAE", "RMSE", "CRPS", *(f"/ {name}" for name in FORECASTERS[1:])]
    names += [*(f"{float(band):.0%} band" for band in bands), "surprise > 2", "anomalies"]
    yield f"<table><tr>{''.join(f'<th>{name}</th>' for name in names)}</tr>\n"
    for one in result.series:
        ours = one.forecasters[MODEL]
        cells = [escape(one.name), *(format_number(number) for number in (ours.mae, ours.rmse, ours.crps))]
        cells += [
            format_ratio(one.ratio(name)) if name in one.forecasters else "–" for name in FORECASTERS[1:]
        ]
        cells += [f"{one.coverage[band]:.1%}" for band in bands]
        cells += ["–" if one.surprising is None else f"{one.surprising:.2%}", str(len(one.anomalies))]
        yield f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>\n"
    yield "</table>\n"
