"""Forecasts further ahead, each lead shrunk towards persistence as far as its own realised errors ask for it.

To judge every forecast of every lead would take a number of pending forecasts that grows with the square of the
horizon. So one path at a time is in flight: what was forecast after one frame, of all leads, is compared with the
frames that follow, and when the last has come the next path begins. That is one comparison a frame and O(horizon)
numbers a lane, and each lead is judged once in `horizon` frames.

As in `foretell.normalize`, only operations whose bits IEEE 754 fixes are used, and no lane sees another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from foretell.normalize import LARGEST, Floats

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MEMORY: Final = 64  # comparisons until one counts half
_POWER: Final = 5  # squarings: path and persistence are weighed by the 32nd power of their errors
_LEAST_RATIO: Final = np.float32(0.1)
_BIG_ERROR: Final = np.float32(64.0)  # errors so many times the mean of persistence's count as so many
_LEAST: Final = np.float32(1e-35)


@dataclass(frozen=True, slots=True)
class Shrunk:
    """state: float32 [S, n], the next. medians: float32 [horizon - 1, n], of the leads beyond the first."""

    state: Floats
    medians: Floats


class LeadCalibrator:
    """For `horizon` leads, two or more; the first is calibrated elsewhere. state_size: float32 a lane."""

    def __init__(self, horizon: int) -> None:
        self._num_leads = horizon - 1
        self._rate = np.float32(1.0 - 0.5 ** (1.0 / _MEMORY))
        # The frame number within the path (0: none is in flight), where the path began, the path, and by lead the
        # mean absolute errors of persistence and of the path, and the sum of their weights.
        self._age, self._origin = 0, 1
        self._path, self._rest, self._moving, self._weight = (
            slice(2 + k * self._num_leads, 2 + (k + 1) * self._num_leads) for k in range(4)
        )
        self.state_size = 2 + 4 * self._num_leads

    def initial_state(self, num_lanes: int) -> Floats:
        """The state [S, n] of lanes that have seen nothing."""
        return np.zeros((self.state_size, num_lanes), np.float32)

    def advance(
        self, state: Floats, values: Floats, paths: Floats, observed: NDArray[np.bool_] | None = None
    ) -> Shrunk:
        """Take in one value of every lane, float32 [n], and shrink what is forecast after it.

        paths: float32 [horizon - 1, n], finite, the medians of the leads beyond the first, in the values' own units.
        observed: bool [n], None for all.
        """
        new = state.copy()
        with np.errstate(over="ignore", under="ignore"):
            self._judge(new, values, np.ones(values.shape, np.bool_) if observed is None else observed)
            medians = self._shrink(new, values, paths)
        begins = new[self._age] == 0.0
        new[self._origin] = np.where(begins, values, new[self._origin])
        new[self._path] = np.where(begins, paths, new[self._path])
        # The frame to come is lead 1, of which nothing is judged here; lead k + 2 of the path comes at age k + 2.
        new[self._age] += np.float32(1.0)
        return Shrunk(new, medians)

    def _judge(self, new: Floats, values: Floats, observed: NDArray[np.bool_]) -> None:
        """Compare `values` with the lead of the path that forecast them; the path ends with its last."""
        age = new[self._age].astype(np.int64)
        lanes = np.flatnonzero((age >= 2) & observed)
        leads = age[lanes] - 2
        at, value = (leads, lanes), values[lanes]
        rest, moving, weight = (new[rows] for rows in (self._rest, self._moving, self._weight))
        still = np.minimum(np.abs(value - new[self._origin][lanes]), LARGEST)
        missed = np.minimum(np.abs(value - new[self._path][at]), LARGEST)
        grown = weight[at] + self._rate * (np.float32(1.0) - weight[at])
        share = self._rate / grown
        # Where nothing but rest was seen so far, nothing is too big.
        largest = np.where(rest[at] > _LEAST, np.minimum(_BIG_ERROR * rest[at], LARGEST), LARGEST)
        for mean, error in ((rest, still), (moving, missed)):
            mean[at] = mean[at] + share * (np.minimum(error, largest) - mean[at])
        weight[at] = grown
        new[self._age] = np.where(age > self._num_leads, np.float32(0.0), new[self._age])

    def _shrink(self, new: Floats, values: Floats, paths: Floats) -> Floats:
        """Between persistence and the path, by their errors; what was never judged is left as it is."""
        rest, moving = new[self._rest] + _LEAST, new[self._moving] + _LEAST
        least = np.minimum(rest, moving)
        still, moved = (_powered(np.maximum(least / error, _LEAST_RATIO)) for error in (rest, moving))
        trust = np.where(new[self._weight] > 0.0, moved / (still + moved), np.float32(1.0))
        step = np.minimum(np.maximum(paths - values, -LARGEST), LARGEST)
        shrunk = values + trust * step
        largest = np.float32(np.finfo(np.float32).max)
        return np.asarray(np.minimum(np.maximum(shrunk, -largest), largest))


def _powered(x: Floats) -> Floats:
    for _ in range(_POWER):
        x = x * x
    return x
