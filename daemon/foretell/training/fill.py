"""Missing values of series filled in as they are where the model serves: by the engine, with its own forecasts."""

from __future__ import annotations

import numpy as np

from foretell.model import Model
from foretell.rounds import Steps
from foretell.step import Engine
from foretell.training.signals import Series


def fill_in(series: Series, model: Model) -> Series:
    """`series` with the median that `model`, an independent one, forecast in the place of every value not observed.

    Signals are stepped by the engine that serves, those that miss nothing not at all. The forecasts are the model's
    own, so a model that is still being fitted learns from what it would itself have put in.
    """
    lanes = np.flatnonzero(~series.observed.all(axis=0))
    if not lanes.size:
        return series
    engine = Engine(model, lanes.size)
    rows = np.arange(lanes.size)
    engine.arena.restart(rows)
    observed = series.observed[:, lanes]
    given = np.where(observed, series.values[:, lanes], np.float32(np.nan))
    values = series.values.copy()
    for t, frame in enumerate(given):
        values[t, lanes] = np.where(observed[t], frame, engine.arena.guess[:, 0])
        engine.step(
            Steps(
                rows[:, None],
                frame[:, None],
                [lanes.size],
                lanes.size,
                has_missing=not bool(observed[t].all()),
            )
        )
    return Series(values, series.observed)
