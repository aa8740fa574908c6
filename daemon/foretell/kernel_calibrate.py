"""Calibration as machine code: what `foretell.calibrate` does, operation by operation and rounded alike.

A vector is one quantity of as many lanes, as in the normaliser's tile. A test holds the two equal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from foretell import calibrate, lattice
from foretell.kernel_bands import BandsWriter
from foretell.normalize import LARGEST, OUTLIER, SATURATION, SMALLEST
from foretell.vector_ir import CELLS, Function, Value, constant

if TYPE_CHECKING:
    from llvmlite import ir

    from foretell.calibrate import Calibrator
    from foretell.kernel_layout import Target

NAME: Final = "calibrate"
NUM_ARGUMENTS: Final = 9

_ORDERS: Final = sorted({*lattice.CHANGE_ORDERS, *lattice.MISS_ORDERS})
assert _ORDERS[-1] == lattice.NUM_STAGES


def write_calibrator_tile(module: ir.Module, calibrator: Calibrator, target: Target) -> ir.Function:
    """One frame of a vector of lanes, as `Calibrator.advance`.

    Arguments: the lanes' states [state_size, lanes], moved on in place; values, the values before and whether observed,
    1 or 0 [lanes] each; unit [lanes]; the model's outputs in order [Q, lanes]; levels [Q, lanes] and surprise [lanes]
    to be written; errors [2, lanes] to be added to. All begin at multiples of the vector's size.
    """
    f = Function(module, NAME, [CELLS] * NUM_ARGUMENTS, lanes=target.lanes)
    _CalibratorTile(f, calibrator).write()
    f.code.ret_void()
    return f.function


class _CalibratorTile(BandsWriter):
    """The arithmetic of `foretell.calibrate` and what it calls, in its order; see there for what it means."""

    def __init__(self, f: Function, calibrator: Calibrator) -> None:
        state, *self._frame, self._outputs_at, self._levels_at, self._surprise_at, self._errors_at = f.args
        super().__init__(f, calibrator, state)
        self._habit_rate, self._trust_rate = calibrator.habit_rate, calibrator.trust_rate
        self._gate_delay, self._first_spread = calibrator.gate_delay, calibrator.first_spread

    def write(self) -> None:
        f, code, rows = self._f, self._f.code, self._rows
        value, base, observed, unit = (f.load(place) for place in self._frame)
        old_unit, old_weight, median, width, spread = (
            self._load(rows[name].start) for name in ("unit", "weight", "median", "width", "spread")
        )
        was_forecast = self._above(old_unit, self._zero)
        width = code.select(was_forecast, width, self._one)
        spread = code.select(was_forecast, spread, self._number(self._first_spread))
        is_known = self._above(old_weight, self._zero)
        known = code.select(is_known, self._one, self._zero)
        divisor = self._max(old_unit, self._number(SMALLEST))
        change = code.fdiv(self._limit(code.fsub(value, base), LARGEST), divisor)
        change = code.select(was_forecast, self._limit(change, calibrate.LARGEST_CHANGE), self._zero)
        rescale = self._min(
            self._max(code.fdiv(divisor, unit), self._number(calibrate.LEAST_RESCALE)),
            self._number(calibrate.LARGEST_RESCALE),
        )
        begins = code.and_(code.not_(is_known), code.and_(was_forecast, self._above(observed, self._zero)))
        predicted = self._learn(change, median, observed, rescale, begins)

        middle = self._load(rows["issued"].start + self._bands.median)
        counts = self._above(code.fmul(observed, known), self._zero)
        judged = self._judge(value, base, old_unit, counts, was_forecast)
        has_surprise = code.and_(self._above(observed, self._zero), is_known)
        f.store(code.select(has_surprise, judged, self._number(float("nan"))), self._surprise_at)

        trust_rate = self._number(self._trust_rate)
        rate = code.fmul(code.fmul(observed, code.select(was_forecast, self._one, self._zero)), trust_rate)
        weight = code.fadd(old_weight, code.fmul(rate, code.fsub(self._one, old_weight)))
        self._store(weight, rows["weight"].start)
        share = code.fdiv(rate, self._max(weight, trust_rate))
        miss = self._abs(code.fsub(change, middle))
        self._add_errors([miss, self._abs(change)], has_surprise)
        root = self._sqrt(code.fdiv(miss, width))
        root = self._min(root, code.fmul(self._number(calibrate.BIG_ERROR), spread))
        fastest = code.fmul(self._min(share, self._number(calibrate.FASTEST)), known)
        spread = code.fadd(spread, code.fmul(fastest, code.fsub(root, spread)))
        spread = self._max(spread, self._number(calibrate.LEAST_SPREAD))
        self._store(spread, rows["spread"].start)

        errors = [self._abs(change), self._abs(code.fsub(change, median)), *predicted.errors]
        means = self._averaged(errors, rows["errors"].start, share, is_known, rescale)
        share = code.fsub(share, code.fmul(rate, self._number(self._gate_delay)))
        errors = [self._abs(change), self._abs(code.fsub(change, self._load(rows["mean"].start)))]
        at_rest, moving = self._averaged(errors, rows["gate"].start, share, is_known, rescale)

        outputs = [f.load(self._row(self._outputs_at, k)) for k in range(self._bands.num_levels)]
        median = outputs[self._bands.median]
        experts = [median, *(code.fadd(median, missed) for missed in predicted.misses), *predicted.changes]
        mean = self._combined(means, experts)
        self._store(mean, rows["mean"].start)
        center = code.fmul(mean, self._trust(at_rest, moving))
        self._store(unit, rows["unit"].start)
        self._store(median, rows["median"].start)
        self._store(self._width(outputs), rows["width"].start)
        scale = code.fdiv(code.fmul(spread, spread), self._number(self._bands.usual))
        for row, level in enumerate(self._issue(center, outputs, scale)):
            f.store(level, self._row(self._levels_at, row))

    # The stages.

    def _add_errors(self, errors: list[Value], is_judged: Value) -> None:
        f, code = self._f, self._f.code
        largest = self._max(self._load(self._rows["errors"].start), self._one)
        largest = code.fmul(self._number(calibrate.BIG_ERROR), largest)
        for row, error in enumerate(errors):
            place = self._row(self._errors_at, row)
            off = code.select(is_judged, self._min(error, largest), self._zero)
            f.store(code.fadd(f.load(place), off), place)

    def _learn(
        self, change: Value, median: Value, observed: Value, rescale: Value, begins: Value
    ) -> _Predicted:
        f, code = self._f, self._f.code
        entered = self._limit(change, OUTLIER)
        cut = code.fsub(change, entered)
        keep = code.fsub(self._one, code.fmul(observed, self._number(self._habit_rate)))
        rescale_squared = code.fmul(rescale, rescale)
        forward, backward, missed, next_change, next_miss = (
            f.variable(f.vector, start)
            for start in (entered, entered, code.fsub(entered, median), self._zero, self._zero)
        )
        predicted = _Predicted()
        done = 0
        for order in _ORDERS:
            with f.loop(constant(done), constant(order)) as stage:
                cells = [
                    f.at(self._state, f.times(f.add(stage, rows.start), f.lanes))
                    for rows in (lattice.BACKWARD, lattice.ENERGY, lattice.REFLECTION, lattice.REGRESSION)
                ]
                past, energy, reflection, regression = (f.load(cell) for cell in cells)
                ahead, behind, off = (code.load(place) for place in (forward, backward, missed))
                forward_error = code.fsub(ahead, code.fmul(reflection, past))
                backward_error = code.fsub(past, code.fmul(reflection, ahead))
                squares = code.fadd(code.fmul(past, past), code.fmul(ahead, ahead))
                energy = code.fadd(code.fmul(keep, energy), code.fmul(observed, squares))
                energy = self._max(energy, self._number(lattice.LEAST_ENERGY))
                gain = code.fdiv(observed, energy)
                both = code.fadd(code.fmul(past, forward_error), code.fmul(ahead, backward_error))
                reflection = self._limit(code.fadd(reflection, code.fmul(gain, both)), 1.0)
                off = code.fsub(off, code.fmul(regression, past))
                step = code.fmul(code.fmul(code.fadd(gain, gain), past), off)
                regression = self._limit(code.fadd(regression, step), lattice.LARGEST_COEFFICIENT)
                for total, coefficient in ((next_miss, regression), (next_change, reflection)):
                    code.store(code.fadd(code.load(total), code.fmul(coefficient, behind)), total)
                energy = self._min(code.fmul(energy, rescale_squared), self._number(lattice.LARGEST_ENERGY))
                energy = code.select(begins, self._number(lattice.FIRST_ENERGY), energy)
                for cell, new in zip(
                    cells, (code.fmul(behind, rescale), energy, reflection, regression), strict=True
                ):
                    f.store(new, cell)
                for place, new in ((forward, forward_error), (backward, backward_error), (missed, off)):
                    code.store(new, place)
            done = order
            if order in lattice.CHANGE_ORDERS:
                predicted.changes.append(code.fmul(code.load(next_change), rescale))
                predicted.change_errors.append(self._abs(code.fadd(cut, code.load(forward))))
            if order in lattice.MISS_ORDERS:
                predicted.misses.append(code.fmul(code.load(next_miss), rescale))
                predicted.miss_errors.append(self._abs(code.fadd(cut, code.load(missed))))
        return predicted

    def _averaged(
        self, errors: list[Value], start: int, share: Value, is_known: Value, rescale: Value
    ) -> list[Value]:
        """Moves the mean absolute errors on; gives them."""
        code = self._f.code
        largest = self._max(self._load(start), self._one)
        largest = code.fmul(self._number(calibrate.BIG_ERROR), largest)
        means = []
        for row, error in enumerate(errors, start):
            mean = self._load(row)
            limited = code.select(is_known, self._min(error, largest), error)
            mean = code.fadd(mean, code.fmul(share, code.fsub(limited, mean)))
            means.append(self._min(code.fmul(mean, rescale), self._number(calibrate.LARGEST_MEAN)))
            self._store(means[-1], row)
        return means

    def _combined(self, means: list[Value], experts: list[Value]) -> Value:
        code, margin = self._f.code, self._number(calibrate.HABIT_MARGIN)
        means = [*means[:2], *(code.fmul(mean, margin) for mean in means[2:])]
        least = means[0]
        for mean in means[1:]:
            least = self._min(least, mean)
        nothing = self._negligible(means[0])
        weights, total = self._zero, self._zero
        for k, mean in enumerate(means):
            ratio = code.fdiv(code.fadd(least, nothing), code.fadd(mean, nothing))
            ratio = self._powered(self._max(ratio, self._number(calibrate.LEAST_RATIO)), calibrate.POWER)
            weights = code.fadd(weights, ratio)
            if k:
                total = code.fadd(total, code.fmul(ratio, self._limit(experts[k - 1], SATURATION)))
        return code.fdiv(total, weights)

    def _trust(self, at_rest: Value, moving: Value) -> Value:
        code = self._f.code
        nothing = self._negligible(at_rest)
        at_rest = code.fadd(at_rest, nothing)
        moving = code.fadd(code.fmul(moving, self._number(calibrate.MARGIN)), nothing)
        least = self._min(at_rest, moving)
        ratios = (code.fdiv(least, error) for error in (at_rest, moving))
        rest, move = (
            self._powered(self._max(ratio, self._number(calibrate.LEAST_GATE_RATIO)), calibrate.GATE_POWER)
            for ratio in ratios
        )
        return code.fdiv(move, code.fadd(rest, move))

    def _negligible(self, error: Value) -> Value:
        code = self._f.code
        return code.fadd(code.fmul(self._number(1e-6), error), self._number(1e-30))


class _Predicted:
    """What `lattice.Learnt` holds beside the state."""

    def __init__(self) -> None:
        self.changes: list[Value] = []
        self.misses: list[Value] = []
        self.change_errors: list[Value] = []
        self.miss_errors: list[Value] = []

    @property
    def errors(self) -> list[Value]:
        return [*self.miss_errors, *self.change_errors]
