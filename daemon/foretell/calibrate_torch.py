"""The calibrator on tensors of any device: what `foretell.calibrate` and `foretell.lattice` do.

Nothing here looks at a value, so that a CUDA graph can hold it. On a CPU every operation but the square root has the
bits of numpy, see `foretell.normalize_torch`. The lattice's stages are one array: what they multiply by was known
before, so only sums go from stage to stage.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from foretell import calibrate, lattice
from foretell.bands_torch import TorchBands, publish
from foretell.calibrate import Calibrator
from foretell.normalize import LARGEST, OUTLIER, SATURATION, SMALLEST

if TYPE_CHECKING:
    from collections.abc import Sequence

    from foretell.calibrate import CalibratorSpec


class CalibratedTensors(NamedTuple):
    """See `foretell.calibrate.Calibrated`: state [S, n], levels [Q, n], surprise [n], errors [2, n]."""

    state: torch.Tensor
    levels: torch.Tensor
    surprise: torch.Tensor
    errors: torch.Tensor


class _Learnt(NamedTuple):
    """See `foretell.lattice.Learnt`: state [STATE_SIZE, n], the others [orders, n]."""

    state: torch.Tensor
    changes: torch.Tensor
    misses: torch.Tensor
    change_errors: torch.Tensor
    miss_errors: torch.Tensor


class TorchCalibrator:
    """Calibrates the forecasts of a model with these quantile levels on `device`.

    state_size: float32 a lane. The state of a lane that has seen nothing is all zeros.
    """

    def __init__(self, spec: CalibratorSpec, quantiles: Sequence[float], device: torch.device) -> None:
        calibrator = Calibrator(spec, quantiles)
        self._rows, self._median, self._num_levels = calibrator.rows, calibrator.bands.median, len(quantiles)
        self._sizes = [rows.stop - rows.start for rows in self._rows.values()]
        self._habit_rate, self._trust_rate = float(calibrator.habit_rate), float(calibrator.trust_rate)
        self._gate_delay, self._usual = float(calibrator.gate_delay), float(calibrator.bands.usual)
        self._bands = TorchBands(calibrator.bands, device)
        self._changes, self._misses = (
            torch.tensor(orders, device=device) for orders in (lattice.CHANGE_ORDERS, lattice.MISS_ORDERS)
        )
        self._first_spread, self.state_size = float(calibrator.first_spread), calibrator.state_size

    def advance(
        self,
        state: torch.Tensor,
        values: torch.Tensor,
        base: torch.Tensor,
        unit: torch.Tensor,
        outputs: torch.Tensor,
        observed: torch.Tensor,
    ) -> CalibratedTensors:
        """Take in one value of every lane and correct the model's forecast of the next.

        As `foretell.calibrate.Calibrator.advance`: all float32, observed bool [n].
        """
        old = dict(zip(self._rows, torch.split_with_sizes(state, self._sizes), strict=True))
        weight, old_unit = old["weight"][0], old["unit"][0]
        was_forecast, is_known = old_unit > 0.0, weight > 0.0
        # What is not 0 to begin with.
        width = old["width"][0].masked_fill(~was_forecast, 1.0)
        spread = old["spread"][0].masked_fill(~was_forecast, self._first_spread)
        factors = old["factors"].masked_fill(~was_forecast, 1.0)
        divisor = old_unit.clamp(min=float(SMALLEST))
        change = _limit(_limit(values - base, LARGEST) / divisor, calibrate.LARGEST_CHANGE)
        change = change.masked_fill(~was_forecast, 0.0)
        rescale = (divisor / unit).clamp(float(calibrate.LEAST_RESCALE), float(calibrate.LARGEST_RESCALE))
        is_judged = observed & is_known

        begins = ~is_known & was_forecast & observed
        learnt = self._learn(old["lattice"], change, old["median"][0], observed, rescale, begins)
        published = publish(base, old_unit, old["issued"])
        factors, surprise = self._bands.judge(values, published, is_judged, factors)

        rate = (observed & was_forecast) * self._trust_rate
        weight = weight + rate * (1.0 - weight)
        share = rate / weight.clamp(min=self._trust_rate)
        moved, miss = change.abs(), (change - old["issued"][self._median]).abs()
        root = torch.minimum(torch.sqrt(miss / width), float(calibrate.BIG_ERROR) * spread)
        spread = spread + share.clamp(max=float(calibrate.FASTEST)) * is_known * (root - spread)
        spread = spread.clamp(min=float(calibrate.LEAST_SPREAD))

        median_miss, mean_miss = (change - torch.cat([old["median"], old["mean"]])).abs()
        experts_off = torch.cat([moved[None], median_miss[None], learnt.miss_errors, learnt.change_errors])
        means = _average(experts_off, old["errors"], share, is_known, rescale)
        errors = torch.minimum(torch.stack([miss, moved]), _big(old["errors"])).masked_fill(~is_judged, 0.0)
        share = share - rate * self._gate_delay
        gate = _average(torch.stack([moved, mean_miss]), old["gate"], share, is_known, rescale)

        median = outputs[self._median]
        mean = _combined(means, torch.cat([median[None], median + learnt.misses, learnt.changes]))
        scale = spread * spread / self._usual
        issued = self._bands.issue(mean * _trust(gate), outputs, scale, factors)
        # In the order of the state's rows.
        rows = torch.stack([weight, unit, median, mean, self._bands.width(outputs), spread])
        new = torch.cat([learnt.state, means, gate, rows, factors, issued])
        return CalibratedTensors(
            new, issued[: self._num_levels], surprise.masked_fill(~is_judged, torch.nan), errors
        )

    def _learn(
        self,
        state: torch.Tensor,
        change: torch.Tensor,
        median: torch.Tensor,
        observed: torch.Tensor,
        rescale: torch.Tensor,
        begins: torch.Tensor,
    ) -> _Learnt:
        """See `foretell.lattice.learn`; observed and begins are bool [n]."""
        past, energy, reflection, regression = torch.split_with_sizes(state, [lattice.NUM_STAGES] * 4)
        entered = _limit(change, OUTLIER)
        cut = change - entered
        # By stage: the error of predicting forward, and what the median missed, before it and after the last one.
        first = torch.stack([entered, entered - median])
        explained = torch.stack([reflection * past, regression * past], dim=1)
        forward, missed = _running_sums(torch.cat([first[None], -explained])).unbind(1)
        backward_after = past - reflection * forward[:-1]
        backward = torch.cat([entered[None], backward_after[:-1]])

        keep = 1.0 - observed * self._habit_rate
        energy = keep * energy + observed * (past * past + forward[:-1] * forward[:-1])
        energy = energy.clamp(min=float(lattice.LEAST_ENERGY))
        gain = observed / energy
        reflection = reflection + gain * (past * forward[1:] + forward[:-1] * backward_after)
        reflection = reflection.clamp(-1.0, 1.0)
        regression = regression + (gain + gain) * past * missed[1:]
        largest = float(lattice.LARGEST_COEFFICIENT)
        regression = regression.clamp(-largest, largest)

        said = torch.stack([reflection * backward, regression * backward], dim=1)
        changes, misses = (_running_sums(said) * rescale).unbind(1)
        energy = (energy * (rescale * rescale)).clamp(max=float(lattice.LARGEST_ENERGY))
        energy = energy.masked_fill(begins, float(lattice.FIRST_ENERGY))
        return _Learnt(
            torch.cat([backward * rescale, energy, reflection, regression]),
            changes.index_select(0, self._changes - 1),
            misses.index_select(0, self._misses - 1),
            (cut + forward.index_select(0, self._changes)).abs(),
            (cut + missed.index_select(0, self._misses)).abs(),
        )


def _running_sums(terms: torch.Tensor) -> torch.Tensor:
    """Sums [k, ...] of the first terms, of the first two, and so on, added in this order in float32."""
    if terms.is_cuda:  # where a thread adds a column up; a CPU would add in float64
        return terms.cumsum(0)
    sums = [terms[0]]
    for term in terms[1:]:
        sums.append(sums[-1] + term)
    return torch.stack(sums)


def _average(
    errors: torch.Tensor,
    old: torch.Tensor,
    share: torch.Tensor,
    is_known: torch.Tensor,
    rescale: torch.Tensor,
) -> torch.Tensor:
    """Mean absolute errors [k, n] moved on, the first of which is persistence's, in the new unit."""
    limited = torch.where(is_known, torch.minimum(errors, _big(old)), errors)
    return ((old + share * (limited - old)) * rescale).clamp(max=float(calibrate.LARGEST_MEAN))


def _big(errors: torch.Tensor) -> torch.Tensor:
    return float(calibrate.BIG_ERROR) * errors[0].clamp(min=1.0)


def _combined(errors: torch.Tensor, experts: torch.Tensor) -> torch.Tensor:
    """The experts' mean [n] by their errors, of which the first is that of persistence and the second the median's."""
    errors = torch.cat([errors[:2], errors[2:] * float(calibrate.HABIT_MARGIN)])
    nothing = _negligible(errors[0])
    ratio = (errors.amin(dim=0) + nothing) / (errors + nothing)
    ratio = _powered(ratio.clamp(min=float(calibrate.LEAST_RATIO)), calibrate.POWER)
    total = _running_sums(ratio[1:] * _limit(experts, SATURATION))[-1]
    return total / _running_sums(ratio)[-1]


def _trust(gate: torch.Tensor) -> torch.Tensor:
    """How far the experts' mean is to be trusted against persistence [n], by the errors [2, n] of both."""
    at_rest, moving = gate.unbind(0)
    nothing = _negligible(at_rest)
    both = torch.stack([at_rest + nothing, moving * float(calibrate.MARGIN) + nothing])
    ratio = (both.amin(dim=0) / both).clamp(min=float(calibrate.LEAST_GATE_RATIO))
    rest, move = _powered(ratio, calibrate.GATE_POWER).unbind(0)
    return move / (rest + move)


def _negligible(error: torch.Tensor) -> torch.Tensor:
    return 1e-6 * error + 1e-30


def _powered(x: torch.Tensor, squarings: int) -> torch.Tensor:
    for _ in range(squarings):
        x = x * x
    return x


def _limit(x: torch.Tensor, largest: np.float32) -> torch.Tensor:
    return x.clamp(-float(largest), float(largest))
