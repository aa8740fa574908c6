"""Measures of forecasts, of values and forecasts float64 in the same unit."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Measures(msgspec.Struct, frozen=True, kw_only=True):
    """Of the forecasts one frame ahead, in the unit of the values.

    mae, rmse: of the median. pinball: mean over the quantile levels (R. Koenker and G. Bassett, Econometrica 46, 1978).
    crps: twice that, which is the integral of the pinball loss over all levels read off at those that there are
    (F. Laio and S. Tamea, Hydrol. Earth Syst. Sci. 11, 2007); of a single level, the median, it is the mean absolute
    error, as it should be of a point.
    """

    mae: float
    rmse: float
    pinball: float
    crps: float


def measure(actual: Floats, point: Floats, levels: Floats, quantiles: Sequence[float]) -> Measures:
    """Of values [n], n > 0, forecast by a point [n] and by values `levels` [n, Q] of the quantiles."""
    error = actual - point
    pinball = pinball_loss(actual, levels, quantiles)
    return Measures(
        mae=float(np.abs(error).mean()),
        rmse=float(np.sqrt(np.square(error).mean())),
        pinball=pinball,
        crps=2.0 * pinball,
    )


def pinball_loss(actual: Floats, levels: Floats, quantiles: Sequence[float]) -> float:
    """Mean pinball loss of values `levels` [n, Q] for the quantiles."""
    q = np.array(quantiles)
    error = actual[:, None] - levels
    return float(np.maximum(q * error, (q - 1.0) * error).mean())


def coverage(actual: Floats, levels: Floats, quantiles: Sequence[float]) -> dict[str, float]:
    """By the nominal share of each central band, the share of the values within it, edges included."""
    shares = {}
    for low in range(len(quantiles) // 2):
        high = len(quantiles) - 1 - low
        if abs(quantiles[low] + quantiles[high] - 1.0) < 1e-9 and low < high:
            is_within = (actual >= levels[:, low]) & (actual <= levels[:, high])
            shares[f"{quantiles[high] - quantiles[low]:.4g}"] = float(is_within.mean())
    return shares


def calibration(actual: Floats, levels: Floats) -> list[float]:
    """Of each quantile the share of the values below it, those upon it counted half."""
    is_below, is_upon = actual[:, None] < levels, actual[:, None] == levels
    shares: list[float] = (is_below + 0.5 * is_upon).mean(axis=0).tolist()
    return shares
