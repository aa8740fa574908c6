"""A served series judged: its forecasts against the values that came, and against what anybody could forecast."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from foretell.errors import RecordingError
from foretell.evaluation import baselines
from foretell.evaluation.anomalies import Detected, Detection, anomaly_score, compare, find_anomalies
from foretell.evaluation.measures import Measures, calibration, coverage, measure
from foretell.evaluation.served import Series

Floats = NDArray[np.float64]

MODEL: Final = "model"
SURPRISING: Final = 2.0  # as unexpected as one frame of a hundred
LEAST_FITTED: Final = 16  # rows


@dataclass(frozen=True, slots=True)
class Portion:
    """Which rows are judged, and by what.

    first, until: rows that are scored, from and to before (None: the end); the state runs from row 0 whatever is
    scored. fit_rows: the first rows, to which the AR and the season are fitted; None for all before `first`.
    scale_rows: errors are in standard deviations of the first so many rows, None for the recording's own units.
    period: the season in frames; None to find it.
    """

    first: int = 500
    until: int | None = None
    fit_rows: int | None = None
    scale_rows: int | None = None
    period: int | None = None

    @property
    def num_fitted(self) -> int:
        """Rows that are fitted to."""
        return self.first if self.fit_rows is None else self.fit_rows


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """What is said of a series.

    num_scored: values that were observed and scored. deviation: standard deviation of the rows that are the scale, or
    were fitted. unit: what errors are divided by, 1 or the deviation. forecasters: by name, the model among them.
    by_lead: mean absolute error by lead. coverage: by nominal share of a band. calibration: by quantile, the share of
    values below. surprising: the share of scored frames with a surprise above 2, None without calibration.
    anomalies: rows in which one begins.
    """

    name: str
    recording: str
    num_scored: int
    deviation: float
    unit: float
    period: int | None
    order: int
    forecasters: dict[str, Measures]
    by_lead: dict[str, list[float]]
    coverage: dict[str, float]
    calibration: dict[str, float]
    surprising: float | None
    anomalies: list[int]
    detected: Detected | None

    def ratio(self, other: str = "persistence") -> float:
        """The model's mean absolute error against another's; not a number where the other has none."""
        theirs = self.forecasters[other].mae if other in self.forecasters else 0.0
        return self.forecasters[MODEL].mae / theirs if theirs > 0.0 else math.nan


def judge(
    series: Series,
    quantiles: Sequence[float],
    portion: Portion,
    detection: Detection,
    windows: Sequence[tuple[int, int]] | None = None,
) -> Judged:
    """Judge one series; windows: where anomalies are known to be, None where that is not known.

    Raises RecordingError for a series that has not the rows that are to be judged.
    """
    horizon = series.medians.shape[1]
    _check_rows(series, portion, horizon)
    values = baselines.carried_forward(series.values)
    is_known = ~np.isnan(series.values)
    deviation = _deviation(series, portion.scale_rows or portion.num_fitted)
    unit = deviation if portion.scale_rows is not None and deviation > 0.0 else 1.0
    forecasts, period, order = _everybody(series, values, is_known, portion)
    scored = slice(portion.first, portion.until)
    known = is_known[scored]
    actual = values[scored][known] / unit
    levels = _foretold(series.levels.astype(np.float64), scored, 1)[known] / unit

    forecasters = {}
    for name, forecast in forecasts.items():
        point = _foretold(forecast[:, 0], scored, 1)[known] / unit
        around = levels
        if name != MODEL:
            around = point[:, None] + _spread(forecast[:, 0], values, is_known, portion, quantiles) / unit
        forecasters[name] = measure(actual, point, around, quantiles)
    scores = anomaly_score(series.surprise, detection)
    anomalies = [
        row for row in find_anomalies(scores, detection) if portion.first <= row < _end(series, portion)
    ]
    surprise = series.surprise[scored]
    surprise = surprise[~np.isnan(surprise)]
    return Judged(
        name=series.name,
        recording=series.recording,
        num_scored=int(known.sum()),
        deviation=deviation,
        unit=unit,
        period=period,
        order=order,
        forecasters=forecasters,
        by_lead=_by_lead(forecasts, values, is_known, scored, unit),
        coverage=coverage(actual, levels, quantiles),
        calibration={
            f"{q:g}": share for q, share in zip(quantiles, calibration(actual, levels), strict=True)
        },
        surprising=float((surprise > SURPRISING).mean()) if surprise.size else None,
        anomalies=anomalies,
        detected=None if windows is None else compare(anomalies, windows, series.timestamp_ns, portion.first),
    )


def _check_rows(series: Series, portion: Portion, horizon: int) -> None:
    length, until = len(series.values), _end(series, portion)
    if not portion.first < until <= length:
        raise RecordingError(
            f"{series.recording}: has {length} rows; those to be scored, {portion.first} to {until}, are not among them"
        )
    if portion.first < horizon:
        raise RecordingError(
            f"{series.recording}: scoring begins at row {portion.first}, before the horizon {horizon}"
        )
    if not LEAST_FITTED <= portion.num_fitted <= length:
        raise RecordingError(
            f"{series.recording}: {portion.num_fitted} rows to fit an AR to; allowed: {LEAST_FITTED} to {length}"
        )
    if np.isnan(series.values[portion.first : until]).all():
        raise RecordingError(f"{series.name}: no value in the rows to be scored")


def _end(series: Series, portion: Portion) -> int:
    return len(series.values) if portion.until is None else portion.until


def _deviation(series: Series, num_rows: int) -> float:
    seen = series.values[:num_rows].astype(np.float64)
    seen = seen[~np.isnan(seen)]
    return float(seen.std()) if seen.size else 0.0


def _everybody(
    series: Series, values: Floats, is_known: NDArray[np.bool_], portion: Portion
) -> tuple[dict[str, Floats], int | None, int]:
    """Forecasts [T, H] by name, with the period and the order that were found."""
    horizon, fitted = series.medians.shape[1], values[: portion.num_fitted]
    period = portion.period or baselines.find_period(fitted)
    ar = baselines.Autoregression(values, is_known, portion.num_fitted)
    forecasts = {
        MODEL: series.medians.astype(np.float64),
        "persistence": baselines.persistence(values, horizon),
        "linear": baselines.linear(values, horizon),
    }
    if period is not None:
        forecasts["seasonal"] = baselines.seasonal(values, horizon, period)
    forecasts["ar"] = ar.forecast(values, horizon)
    return forecasts, period, ar.order


def _foretold(forecast: Floats, scored: slice, lead: int) -> Floats:
    """Of forecasts [T, ...] made after each frame, those of the scored frames, `lead` frames before."""
    until = None if scored.stop is None else scored.stop - lead
    return forecast[scored.start - lead : until if until is not None else len(forecast) - lead]


def _spread(
    forecast: Floats,
    values: Floats,
    is_known: NDArray[np.bool_],
    portion: Portion,
    quantiles: Sequence[float],
) -> Floats:
    """The quantiles of a forecaster's errors in the fitted rows: the band that it has in all fairness."""
    errors = (values[1:] - forecast[:-1])[: portion.num_fitted - 1][is_known[1 : portion.num_fitted]]
    return np.quantile(errors, quantiles) if errors.size else np.zeros(len(quantiles))


def _by_lead(
    forecasts: Mapping[str, Floats], values: Floats, is_known: NDArray[np.bool_], scored: slice, unit: float
) -> dict[str, list[float]]:
    known = is_known[scored]
    actual = values[scored][known]
    return {
        name: [
            float(np.abs(actual - _foretold(forecast[:, lead], scored, lead + 1)[known]).mean()) / unit
            for lead in range(forecast.shape[1])
        ]
        for name, forecast in forecasts.items()
    }
