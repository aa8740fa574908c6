"""What a model fitted to recordings says of itself in its file: where it comes from and how it does."""

from __future__ import annotations

import math
import platform
from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np
import torch

from foretell import __version__
from foretell.evaluation.anomalies import Detection
from foretell.evaluation.judge import Portion, judge
from foretell.evaluation.served import serve
from foretell.model import Model, ModelSpec
from foretell.recording import Recording
from foretell.training.plan import Plan

WARM_UP: Final = 32  # frames after which a stream's forecasts no longer count as warming up


def describe(plan: Plan, recordings: Sequence[Recording], trained_on: str) -> ModelSpec:
    """The specification of a model of this plan, with where it comes from."""
    rows = ", ".join(f"{recording.name} {len(recording.values)}" for recording in recordings)
    return ModelSpec(
        channels=plan.channels,
        input_channels=plan.num_channels,
        output_channels=plan.num_channels,
        input_size=plan.input_size,
        hidden_size=plan.hidden_size,
        num_layers=plan.num_layers,
        quantiles=plan.quantiles,
        normalizer=plan.normalizer,
        calibrator=plan.calibrator,
        warm_up=WARM_UP,
        provenance={
            "trained_on": trained_on,
            "rows": rows,
            "plan": msgspec.json.encode(plan).decode(),
            "foretell": __version__,
            "torch": str(torch.__version__),
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    )


def evaluate_later_rows(model: Model, recordings: Sequence[Recording], plan: Plan) -> dict[str, float | str]:
    """How the model, served as in the daemon, forecasts the rows that it was not fitted to."""
    judged = []
    for recording in recordings:
        length = len(recording.values)
        first = length - round(plan.validation * length)
        judged += [
            judge(series, plan.quantiles, Portion(first=first), Detection())
            for series in serve(model, [recording])
            if not np.isnan(series.values[first:]).all()
        ]
    ratios = [ratio for ratio in (one.ratio() for one in judged) if not math.isnan(ratio)]
    evaluation: dict[str, float | str] = {
        "data": f"the last {plan.validation:.0%} of the rows of each recording, which told when to stop"
    }
    if ratios:
        evaluation["error_against_persistence_median"] = round(float(np.median(ratios)), 4)
    for band in judged[0].coverage if judged else ():
        held = float(np.mean([one.coverage[band] for one in judged]))
        evaluation[f"coverage_of_{float(band):.0%}_band_mean".replace("%", "_percent")] = round(held, 4)
    return evaluation
