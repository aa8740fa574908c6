"""Forecasts of recordings as they are published with calibration on: by the very calibrator that serves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from foretell.bands import publish
from foretell.calibrate import Calibrator
from foretell.normalize import Floats
from foretell.training.examples import Examples


@dataclass(frozen=True, slots=True)
class Published:
    """What was said of n lanes, float32.

    levels: [t, n, Q], quantiles of the value after each frame, in its own units. surprise: [t, n], of the frame itself,
    NaN where there was none.
    """

    levels: Floats
    surprise: Floats


def calibrate(calibrator: Calibrator, examples: Examples, outputs: Floats) -> Published:
    """Stream `examples` through the calibrator; outputs: [t, n, Q], the model's ordered quantiles in units."""
    num_frames, num_lanes, _ = outputs.shape
    state = calibrator.initial_state(num_lanes)
    levels, surprise = np.empty_like(outputs), np.empty((num_frames, num_lanes), np.float32)
    for t in range(num_frames):
        before = max(t - 1, 0)  # a first frame is compared with nothing, and teaches nothing
        seen = None if examples.is_known[before].all() else examples.is_known[before]
        said = np.ascontiguousarray(outputs[t].T)
        calibrated = calibrator.advance(
            state, examples.base[t], examples.base[before], examples.unit[t], said, seen
        )
        state, surprise[t] = calibrated.state, calibrated.surprise
        levels[t] = publish(examples.base[t], examples.unit[t], calibrated.levels).T
    return Published(levels, surprise)


def shares_within(
    published: Published, examples: Examples, quantiles: Sequence[float], first: int = 500
) -> dict[float, Floats]:
    """By nominal share: of each lane's values the share, float32 [n], within the central band, edges included.

    Frames before `first` and values that were not observed do not count.
    """
    shares = {}
    known = examples.is_known[first - 1 :]
    actual = examples.actual[first - 1 :]
    for low in range(len(quantiles) // 2):
        edges = published.levels[first - 1 :, :, low], published.levels[first - 1 :, :, -1 - low]
        is_within = (actual >= edges[0]) & (actual <= edges[1]) & known
        nominal = round(quantiles[-1 - low] - quantiles[low], 6)
        shares[nominal] = (is_within.sum(axis=0) / np.maximum(known.sum(axis=0), 1)).astype(np.float32)
    return shares
