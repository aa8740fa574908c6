"""The outcome of an evaluation as one value: what was evaluated and how, each series, and all together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
import numpy as np

from foretell.evaluation.judge import MODEL, Judged

FORECASTERS: Final = (MODEL, "persistence", "linear", "seasonal", "ar")


class Overall(msgspec.Struct, frozen=True, kw_only=True):
    """All series together.

    errors: by forecaster, the mean over the series of its mean absolute error in standard deviations of the rows that
    are the scale or were fitted; only forecasters of all series, and series that move at all. crps: likewise. ratio: by
    other forecaster, the median over the series of the model's error against its; num_better: in how many of the
    `num_compared` series, those in which the other errs at all, the model errs less. coverage: over all values.
    surprising: over all frames.
    """

    num_series: int
    num_scored: int
    errors: dict[str, float]
    crps: dict[str, float]
    ratio: dict[str, float]
    num_better: dict[str, int]
    num_compared: dict[str, int]
    coverage: dict[str, float]
    surprising: float | None
    num_anomalies: int
    num_windows: int | None
    num_hits: int | None
    num_false_alarms: int | None


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What `foretell evaluate` says; `--json` writes it as it is.

    model: path and fingerprint; quantiles: its levels; horizon in frames; settings: what was scored, and how. streams:
    by recording, all its channels together; overall: all series.
    """

    foretell: str
    model: str
    fingerprint: str
    is_calibrated: bool
    quantiles: list[float]
    horizon: int
    settings: dict[str, float | int | None]
    overall: Overall
    streams: dict[str, Overall]
    series: list[Judged]


def sum_up(series: Sequence[Judged]) -> Overall:
    """All series together; there is at least one."""
    moving = [one for one in series if one.deviation > 0.0]
    names = [name for name in FORECASTERS if all(name in one.forecasters for one in series)]
    ratios = {name: [one.ratio(name) for one in series] for name in FORECASTERS[1:]}
    ratios = {name: [r for r in found if not math.isnan(r)] for name, found in ratios.items()}
    weights = [one.num_scored for one in series]
    detected = [one.detected for one in series if one.detected is not None]
    return Overall(
        num_series=len(series),
        num_scored=sum(weights),
        errors={name: _scaled_mean(moving, name, "mae") for name in names},
        crps={name: _scaled_mean(moving, name, "crps") for name in names},
        ratio={name: float(np.median(found)) for name, found in ratios.items() if found},
        num_better={name: sum(r < 1.0 for r in found) for name, found in ratios.items() if found},
        num_compared={name: len(found) for name, found in ratios.items() if found},
        coverage=_pooled([one.coverage for one in series], weights),
        surprising=_share_of_all(series),
        num_anomalies=sum(len(one.anomalies) for one in series),
        num_windows=sum(one.num_windows for one in detected) if detected else None,
        num_hits=sum(one.num_hits for one in detected) if detected else None,
        num_false_alarms=sum(one.num_false_alarms for one in detected) if detected else None,
    )


def sum_up_streams(series: Sequence[Judged]) -> dict[str, Overall]:
    """By recording, all its channels together."""
    names = dict.fromkeys(one.recording for one in series)
    return {name: sum_up([one for one in series if one.recording == name]) for name in names}


def _scaled_mean(series: Sequence[Judged], name: str, measure: str) -> float:
    errors = [getattr(one.forecasters[name], measure) * one.unit / one.deviation for one in series]
    return float(np.mean(errors)) if errors else math.nan


def _share_of_all(series: Sequence[Judged]) -> float | None:
    told = [(one.surprising, one.num_scored) for one in series if one.surprising is not None]
    return sum(share * num for share, num in told) / sum(num for _, num in told) if told else None


def _pooled(shares: Sequence[Mapping[str, float]], weights: Sequence[int]) -> dict[str, float]:
    return {key: float(np.average([one[key] for one in shares], weights=weights)) for key in shares[0]}


def pooled_calibration(series: Sequence[Judged]) -> dict[str, float]:
    """By quantile, the share of all values below it."""
    return _pooled([one.calibration for one in series], [one.num_scored for one in series])
