"""A stream's own habits, learnt while it runs: linear prediction from its last 48 changes, with no matrix to solve.

A gradient adaptive lattice with a joint process. Stage m holds the error of predicting backwards from m changes, which
no stage before it can explain; the next change, and what the model's median missed of it, are regressed on these errors
one after the other. So every order from 1 to 48 is fitted at once, by exponentially weighted least squares stage by
stage, with O(48) operations and 192 numbers a lane, where recursive least squares would need O(48^2) of both (L. J.
Griffiths, "A continuously-adaptive filter implemented as a lattice structure", ICASSP 1977, and "An adaptive lattice
structure for noise-cancelling applications", ICASSP 1978; the coefficients are normalised as in J. Makhoul, "Stable and
efficient lattice methods for linear prediction", IEEE Trans. ASSP 25, 1977).

As in `foretell.normalize` every operation is one whose bits IEEE 754 fixes, and a lane never sees another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from foretell.normalize import OUTLIER, Floats

NUM_STAGES: Final = 48
STATE_SIZE: Final = 4 * NUM_STAGES

# Rows of the state, one for each stage; zeros are a lane that has seen nothing. Errors are in the unit of the newest
# forecast, energies in its square.
BACKWARD: Final = slice(0, NUM_STAGES)  # errors of predicting backwards, of the newest change
ENERGY: Final = slice(NUM_STAGES, 2 * NUM_STAGES)  # weighted sums of squared errors, forward and backward
REFLECTION: Final = slice(2 * NUM_STAGES, 3 * NUM_STAGES)  # coefficients of the change on the backward errors
REGRESSION: Final = slice(3 * NUM_STAGES, 4 * NUM_STAGES)  # of what the median missed on the backward errors

CHANGE_ORDERS: Final = (2, 8, 24, 48)
"""Numbers of last changes from which the next change is predicted."""

MISS_ORDERS: Final = (8, 48)
"""Numbers of last changes from which it is predicted what the model's median will miss."""

FIRST_ENERGY: Final = np.float32(
    1.0
)  # makes the first coefficients small, while there is little to learn from
LEAST_ENERGY: Final = np.float32(1e-24)
LARGEST_ENERGY: Final = np.float32(1e24)
LARGEST_COEFFICIENT: Final = np.float32(64.0)


@dataclass(frozen=True, slots=True)
class Learnt:
    """What a frame taught.

    state: float32 [STATE_SIZE, n]. changes, misses: predictions of the next change and of what the median will miss of
    it, in the new unit, one [n] for each of `CHANGE_ORDERS` and `MISS_ORDERS`. change_errors, miss_errors: by how much
    the last such predictions were off, in the old unit.
    """

    state: Floats
    changes: list[Floats]
    misses: list[Floats]
    change_errors: list[Floats]
    miss_errors: list[Floats]


def learn(
    state: Floats,
    change: Floats,
    median: Floats,
    observed: Floats,
    rescale: Floats,
    rate: np.float32,
    begins: Floats,
) -> Learnt:
    """Take in one change of every lane.

    change: the last change, in the unit of the forecast made before it. median: what the model's median said of it.
    observed: 1, or 0 where the value was imputed: then the errors move on and nothing is learnt. rescale: the old unit
    over the new. rate: weight of a new observation. begins: 1 where this is a lane's first observed change, else 0.
    All are float32 [n].
    """
    new = np.empty_like(state)
    entered = np.minimum(np.maximum(change, -OUTLIER), OUTLIER)  # an outlier is no habit: it enters limited
    cut = change - entered
    keep = np.float32(1.0) - observed * rate
    rescale_squared = rescale * rescale
    forward, backward, missed = entered, entered, entered - median
    next_change, next_miss = np.zeros_like(entered), np.zeros_like(entered)
    learnt = Learnt(new, [], [], [], [])
    for stage in range(NUM_STAGES):
        past, energy, reflection, regression = (
            state[rows][stage] for rows in (BACKWARD, ENERGY, REFLECTION, REGRESSION)
        )
        forward_error = forward - reflection * past
        backward_error = past - reflection * forward
        energy = np.maximum(keep * energy + observed * (past * past + forward * forward), LEAST_ENERGY)
        gain = observed / energy
        reflection = reflection + gain * (past * forward_error + forward * backward_error)
        reflection = _limit(reflection, np.float32(1.0))
        missed = missed - regression * past
        regression = _limit(regression + (gain + gain) * past * missed, LARGEST_COEFFICIENT)
        next_miss = next_miss + regression * backward
        next_change = next_change + reflection * backward

        new[BACKWARD][stage] = backward * rescale
        energy = np.minimum(energy * rescale_squared, LARGEST_ENERGY)
        new[ENERGY][stage] = np.where(begins > 0.0, FIRST_ENERGY, energy)
        new[REFLECTION][stage], new[REGRESSION][stage] = reflection, regression
        forward, backward = forward_error, backward_error
        if stage + 1 in CHANGE_ORDERS:
            learnt.changes.append(next_change * rescale)
            learnt.change_errors.append(np.abs(cut + forward))
        if stage + 1 in MISS_ORDERS:
            learnt.misses.append(next_miss * rescale)
            learnt.miss_errors.append(np.abs(cut + missed))
    return learnt


def _limit(x: Floats, largest: np.float32) -> Floats:
    return np.minimum(np.maximum(x, -largest), largest)
