"""Draws the plots from the points on stdin (`benchmarks.plots_series`) into a folder, as SVG, and prints their paths.

It needs matplotlib, which only the environment for what is measured has. The background is white, so that a plot reads
the same on a light page and on a dark one; text stays text, which keeps the files small.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import matplotlib.pyplot as plt

_COLOURS: Final = {
    "daemon": "#0b62a8",
    "bare": "#6b6b6b",
    "onnx-batch": "#2a8c4a",
    "onnx-single": "#8a5fb0",
    "plain": "#d9730d",
    "bytewax": "#b5862b",
    "river": "#b3304f",
}
_MARKERS: Final = dict(zip(_COLOURS, "os^vDPX", strict=True))
_NAMES: Final = {"river": "river (another model)"}
_PACKINGS: Final = {"message": "a message a frame", "packed": "packed, 256 frames a message"}


def draw_latency(latency: dict[str, Any], caption: str, path: Path) -> None:
    """A panel a packing: p50 and p99 of each contender against the rate, and how late the load itself was."""
    figure, panels = plt.subplots(1, len(latency), figsize=(9, 4.4), sharey=True, squeeze=False)
    for axes, (packing, by_contender) in zip(panels[0], latency.items(), strict=True):
        lateness: dict[float, float] = {}
        for who, points in by_contender.items():
            rate, p50, p99, lag = zip(*points, strict=True)
            style = {"color": _COLOURS[who], "marker": _MARKERS[who], "markersize": 3.5, "linewidth": 1.4}
            axes.plot(rate, [us / 1e3 for us in p50], label=f"{who}, p50", **style)
            axes.plot(rate, [us / 1e3 for us in p99], label=f"{who}, p99", linestyle="--", **style)
            for at, us in zip(rate, lag, strict=True):
                lateness[at] = max(lateness.get(at, 0.0), us / 1e3)
        rate, lag = zip(*sorted(lateness.items()), strict=True)
        axes.plot(rate, lag, color="#b0b0b0", linestyle=":", label="the load's own lateness, p99")
        axes.set_title(_PACKINGS[packing], fontsize=9)
        _on_log_scales(axes, "frames/s", "ms from due time to forecast")
    panels[0][-1].set_ylabel("" if len(latency) > 1 else panels[0][0].get_ylabel())
    # Below the panels: inside, it would lie on one curve or another.
    names, curves = panels[0][0].get_legend_handles_labels()[::-1]
    figure.legend(
        curves, names, fontsize=8, frameon=False, ncols=5, loc="lower center", bbox_to_anchor=(0.5, 0.04)
    )
    _save(
        figure,
        path,
        "Latency against rate: 1,000 streams, up to nine tenths of what the slower one sustains",
        caption,
    )


def draw_cost(cost: dict[str, Any], caption: str, path: Path) -> None:
    """CPU a frame of each contender against the number of streams, with the least and the most of the runs."""
    figure, axes = plt.subplots(figsize=(9, 4.4))
    for who in sorted(cost, key=lambda who: -cost[who][-1][1]):
        streams, middle, least, most = zip(*cost[who], strict=True)
        style = {"color": _COLOURS[who], "marker": _MARKERS[who], "markersize": 4, "linewidth": 1.4}
        axes.plot(streams, middle, label=_NAMES.get(who, who), **style)
        axes.fill_between(streams, least, most, color=_COLOURS[who], alpha=0.15, linewidth=0)
    _on_log_scales(axes, "streams", "us of CPU time a frame")
    axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    _save(figure, path, "Cost against streams: packed, as fast as each can", caption)


def _on_log_scales(axes: Any, x: str, y: str) -> None:
    axes.set(xscale="log", yscale="log", xlabel=x, ylabel=y)
    axes.minorticks_off()
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda value, _: f"{value:,g}" if value < 1e6 else f"{value:,.0f}")
    axes.grid(color="#e2e2e2", linewidth=0.6)


def _save(figure: Any, path: Path, title: str, caption: str) -> None:
    figure.suptitle(f"{title}\njoint, 8 channels, one layer of 64; medians", fontsize=10)
    figure.text(0.01, 0.01, f"scripts/bench plots; {caption}", fontsize=6.5, color="#555555")
    figure.tight_layout(rect=(0, 0.09 if figure.legends else 0.04, 1, 1))
    figure.savefig(path, format="svg", facecolor="white", metadata={"Date": None, "Title": title})
    print(path)


def main() -> None:
    """Draw what there are points for."""
    mpl.use("svg")
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "foretell", "font.size": 9})
    series, folder = json.load(sys.stdin), Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    if series["latency"]:
        draw_latency(series["latency"], series["caption"], folder / "latency-against-rate.svg")
    if series["cost"]:
        draw_cost(series["cost"], series["caption"], folder / "cost-against-streams.svg")


if __name__ == "__main__":
    main()
