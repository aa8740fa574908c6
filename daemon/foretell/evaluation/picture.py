"""A series from its first frame on as one picture: how a stream that nobody knows comes to be forecast."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from foretell.errors import ConfigError
from foretell.evaluation.figures import BAND, FORECAST, VALUE
from foretell.evaluation.served import Series

LEAST_ERROR: Final = 1e-4  # of persistence's mean, so that a logarithm can be drawn


def draw_first_frames(path: Path, series: Series, quantiles: Sequence[float], num_frames: int) -> None:
    """Write an SVG of the first frames: values over what had been forecast for them, and the errors of both below.

    Raises ConfigError where it cannot be written.
    """
    rows = np.arange(1, min(num_frames, len(series.values)))
    values, levels = series.values[rows].astype(np.float64), series.levels[rows - 1].astype(np.float64)
    median = levels[:, quantiles.index(0.5)]
    resting = np.abs(values - series.values[rows - 1])
    figure = Figure(figsize=(9, 4.6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    low, high = quantiles.index(0.05), quantiles.index(0.95)
    above.fill_between(
        rows, levels[:, low], levels[:, high], color=BAND, alpha=0.4, linewidth=0, label="90 % band"
    )
    above.plot(rows, median, color=FORECAST, linewidth=1.5, label="forecast, a frame before")
    above.plot(rows, values, ".", color=VALUE, markersize=4, label="value")
    spread = np.ptp(values)
    above.set(title=series.name, ylim=(values.min() - 0.3 * spread, values.max() + 0.3 * spread))
    above.legend(loc="lower right", fontsize="small", ncols=3)
    least = LEAST_ERROR * resting.mean()
    below.semilogy(rows, np.maximum(resting, least), color="#aab7b8", linewidth=1, label="persistence")
    below.semilogy(
        rows, np.maximum(np.abs(values - median), least), color=FORECAST, linewidth=1, label="forecast"
    )
    below.set(xlabel="frame", ylabel="error")
    below.legend(loc="lower right", fontsize="small", ncols=2)
    try:
        # Names of its parts from a salt and no date: the same figures are the same bytes.
        with mpl.rc_context({"svg.hashsalt": "foretell", "svg.fonttype": "none"}):
            figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from error
