"""Forecasts kept honest while they are made: what a stream's own past says beside the model, and bands that hold.

For every lane (one channel of one stream), with a fixed number of float32 and of operations a frame:

1. Several experts say what the next change will be: persistence (none), the model's median, the median corrected by
   what it has been missing, and linear predictions from the last changes (`foretell.lattice`). Their mean weighted by a
   high power of their recent mean absolute errors is nearly as good as the best of them (A. C. Singer and M. Feder,
   "Universal linear prediction by model order weighting", IEEE Trans. Signal Processing 47, 1999, weight by the
   exponential of squared errors; a power of a ratio needs no exponential and no scale).
2. What they say together is weighed once more against persistence, and sharply: what does not beat persistence by half
   a percent is shrunk to it.
3. Around that median lie quantiles that are kept at their levels (`foretell.bands`).

Imputed values teach nothing. As in `foretell.normalize`, only operations whose bits IEEE 754 fixes are used: a lane
never depends on its neighbours, and native code can do the same to the bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
import numpy as np

from foretell import lattice
from foretell.bands import Bands, publish
from foretell.normalize import LARGEST, SATURATION, SMALLEST, Floats

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_NUM_EXPERTS: Final = 2 + len(lattice.MISS_ORDERS) + len(lattice.CHANGE_ORDERS)
POWER: Final = 6  # squarings: the experts' weights go with the 64th power of their errors
GATE_POWER: Final = 8  # against persistence with the 256th
MARGIN: Final = np.float32(1.005)  # by what persistence must be beaten to count as equal
HABIT_MARGIN: Final = np.float32(1.01)  # by what habits must beat the model's median to count as equal
LEAST_RATIO: Final = np.float32(0.3)  # of errors: its 64th power is not yet subnormal
LEAST_GATE_RATIO: Final = np.float32(0.75)
BIG_ERROR: Final = np.float32(64.0)  # errors so many times that of persistence count as so many
LARGEST_CHANGE: Final = np.float32(1e9)  # in units
LEAST_RESCALE: Final = np.float32(1e-12)
LARGEST_RESCALE: Final = np.float32(1e6)
LARGEST_MEAN: Final = np.float32(1e24)
LEAST_SPREAD: Final = np.float32(1e-3)
FASTEST: Final = np.float32(0.1)  # the largest weight of one error in the spread


class CalibratorSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Memory of what is learnt of a stream: the age in frames at which an observation counts half."""

    habit_half_life: Annotated[float, msgspec.Meta(ge=16.0, le=1e6)] = 1000.0
    trust_half_life: Annotated[float, msgspec.Meta(ge=16.0, le=1e6)] = 400.0


@dataclass(frozen=True, slots=True)
class Calibrated:
    """What a frame gave, all float32.

    state: [S, n], the next. levels: [Q, n], the forecast quantiles of the next change in the unit given, never
    crossing: what is published is `base + unit * levels`, limited to finite numbers. surprise: [n], of the frame just
    seen under the forecast made before it, NaN where there was none or the value was imputed. errors: [2, n], how far
    off the last published median and the value before were, in units, at most `BIG_ERROR` times what persistence
    usually is off; 0 where there is no surprise either.
    """

    state: Floats
    levels: Floats
    surprise: Floats
    errors: Floats


class Calibrator:
    """Calibrates the forecasts of a model with these quantile levels, ascending, the median among them.

    A model of points only gets its median corrected; it has no band and no surprise. state_size: float32 a lane.
    """

    def __init__(self, spec: CalibratorSpec, quantiles: Sequence[float]) -> None:
        self.habit_rate, self.trust_rate = (
            np.float32(1.0 - 0.5 ** (1.0 / half_life))
            for half_life in (spec.habit_half_life, spec.trust_half_life)
        )
        self.gate_delay = np.float32(1.0) - self.habit_rate / self.trust_rate
        self.bands = Bands(quantiles)
        self.first_spread = np.sqrt(self.bands.usual)
        self._lay_out()

    def _lay_out(self) -> None:
        """Rows of the state: what `lattice` keeps, then what the last forecast was made of, and the averages."""
        self.rows: dict[str, slice] = {}
        end = 0
        for name, size in (
            ("lattice", lattice.STATE_SIZE),
            ("errors", _NUM_EXPERTS),  # mean absolute errors of the experts, in units
            ("gate", 2),  # those of persistence and of the experts' mean, with the longer memory
            ("weight", 1),  # sum of the weights of these means, as in the normaliser
            ("unit", 1),  # of the newest forecast, 0 where none was made
            ("median", 1),  # the model's
            ("mean", 1),  # of the experts, before it was shrunk
            ("width", 1),  # half the model's own band, in units
            ("spread", 1),  # mean square root of the errors against the width
            ("factors", self.bands.num_factors),
            ("issued", self.bands.num_issued),  # quantiles and the last edges, in units
        ):
            self.rows[name] = slice(end, end + size)
            end += size
        self.state_size = end

    def initial_state(self, num_lanes: int) -> Floats:
        """The state [S, n] of lanes that have seen nothing: zeros, as memory is that was never touched."""
        return np.zeros((self.state_size, num_lanes), np.float32)

    def advance(
        self,
        state: Floats,
        values: Floats,
        base: Floats,
        unit: Floats,
        outputs: Floats,
        observed: NDArray[np.bool_] | None = None,
    ) -> Calibrated:
        """Take in one value of every lane and correct the model's forecast of the next.

        values: [n], the frame just seen, finite. base: [n], the value before it, from which the last forecast counted
        (anything before the first). unit: [n], positive, and outputs: [Q, n], ascending: the model's forecast of the
        next change, as the normaliser and the model gave them after this frame. observed: bool [n], None for all.
        All float32.
        """
        with np.errstate(over="ignore", under="ignore"):
            seen = np.ones(values.shape, np.float32) if observed is None else observed.astype(np.float32)
            return self._advance(state, values, base, unit, outputs, seen)

    def _advance(
        self, state: Floats, values: Floats, base: Floats, unit: Floats, outputs: Floats, observed: Floats
    ) -> Calibrated:
        old = {name: state[rows] for name, rows in self.rows.items()}
        new_state = np.empty_like(state)
        new = {name: new_state[rows] for name, rows in self.rows.items()}
        old_unit = old["unit"][0]
        was_forecast = old_unit > 0.0
        # What is not 0 to begin with.
        width, spread, factors = (
            np.where(was_forecast, part, first)
            for part, first in (
                (old["width"][0], np.float32(1.0)),
                (old["spread"][0], self.first_spread),
                (old["factors"], np.float32(1.0)),
            )
        )
        is_known = old["weight"][0] > 0.0  # the last forecast had a scale to be judged in
        divisor = np.maximum(old_unit, SMALLEST)
        change = _limit(_limit(values - base, LARGEST) / divisor, LARGEST_CHANGE)
        change = np.where(was_forecast, change, np.float32(0.0))
        rescale = np.minimum(np.maximum(divisor / unit, LEAST_RESCALE), LARGEST_RESCALE)

        begins = (~is_known & was_forecast).astype(np.float32) * observed
        learnt = lattice.learn(
            old["lattice"], change, old["median"][0], observed, rescale, self.habit_rate, begins
        )
        new["lattice"][:] = learnt.state
        middle = old["issued"][self.bands.median]
        judged = self.bands.judge(
            values,
            publish(base, old_unit, old["issued"]),
            observed * is_known,
            factors,
            new["factors"],
        )

        rate = observed * was_forecast * self.trust_rate
        weight = np.add(old["weight"][0], rate * (np.float32(1.0) - old["weight"][0]), out=new["weight"][0])
        share: Floats = rate / np.maximum(weight, self.trust_rate)
        miss = np.abs(change - middle)
        root = np.minimum(np.sqrt(miss / width), BIG_ERROR * spread)
        spread = spread + np.minimum(share, FASTEST) * is_known * (root - spread)
        np.maximum(spread, LEAST_SPREAD, out=new["spread"][0])

        errors = [
            np.abs(change),
            np.abs(change - old["median"][0]),
            *learnt.miss_errors,
            *learnt.change_errors,
        ]
        _average(errors, old["errors"], share, is_known, rescale, new["errors"])
        is_judged = (observed > 0.0) & is_known
        largest = BIG_ERROR * np.maximum(old["errors"][0], np.float32(1.0))
        off = np.where(is_judged, np.minimum(np.stack([miss, np.abs(change)]), largest), np.float32(0.0))
        # The share of a longer memory: as large while there is little to average, habit_rate in the end.
        share = share - rate * self.gate_delay
        errors = [np.abs(change), np.abs(change - old["mean"][0])]
        _average(errors, old["gate"], share, is_known, rescale, new["gate"])

        median = outputs[self.bands.median]
        experts = [median, *(median + missed for missed in learnt.misses), *learnt.changes]
        new["mean"][0] = _combined(new["errors"], experts)
        center = new["mean"][0] * _trust(*new["gate"])
        new["unit"][0], new["median"][0] = unit, median
        new["width"][0] = self.bands.width(outputs)
        scale = new["spread"][0] * new["spread"][0] / self.bands.usual
        self.bands.issue(center, outputs, scale, new["factors"], new["issued"])
        return Calibrated(
            new_state,
            new["issued"][: self.bands.num_levels].copy(),
            np.where(is_judged, judged, np.float32(np.nan)),
            off,
        )


def _average(
    errors: Sequence[Floats], old: Floats, share: Floats, is_known: Floats, rescale: Floats, new: Floats
) -> None:
    """Move mean absolute errors on, the first of which is persistence's, into the new unit."""
    largest = BIG_ERROR * np.maximum(old[0], np.float32(1.0))
    for k, error in enumerate(errors):
        limited = np.where(is_known, np.minimum(error, largest), error)
        mean = old[k] + share * (limited - old[k])
        new[k] = np.minimum(mean * rescale, LARGEST_MEAN)


def _combined(errors: Floats, experts: Sequence[Floats]) -> Floats:
    """The experts' mean by their errors, of which the first is that of persistence and the second the median's."""
    errors = np.concatenate([errors[:2], errors[2:] * HABIT_MARGIN])
    least = errors[0]
    for error in errors[1:]:
        least = np.minimum(least, error)
    nothing = _negligible(errors[0])
    weights, total = np.zeros_like(least), np.zeros_like(least)
    for k, error in enumerate(errors):
        ratio = _powered(np.maximum((least + nothing) / (error + nothing), LEAST_RATIO), POWER)
        weights = weights + ratio
        if k:  # persistence says 0
            total = total + ratio * _limit(experts[k - 1], SATURATION)
    combined: Floats = total / weights
    return combined


def _trust(at_rest: Floats, moving: Floats) -> Floats:
    """How far the experts' mean is to be trusted against persistence, 0 to 1, by the errors of both."""
    nothing = _negligible(at_rest)
    at_rest, moving = at_rest + nothing, moving * MARGIN + nothing
    least = np.minimum(at_rest, moving)
    rest, move = (
        _powered(np.maximum(least / error, LEAST_GATE_RATIO), GATE_POWER) for error in (at_rest, moving)
    )
    return move / (rest + move)


def _negligible(error: Floats) -> Floats:
    return np.float32(1e-6) * error + np.float32(1e-30)


def _powered(x: Floats, squarings: int) -> Floats:
    for _ in range(squarings):
        x = x * x
    return x


def _limit(x: Floats, largest: np.float32) -> Floats:
    return np.minimum(np.maximum(x, -largest), largest)
