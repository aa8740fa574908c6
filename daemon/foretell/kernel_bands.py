"""Bands and surprise as machine code: what `foretell.bands` and `foretell.surprise` do, operation by operation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from foretell import bands, surprise
from foretell.kernel_lanes import Lanes
from foretell.normalize import LARGEST, SMALLEST
from foretell.vector_ir import Function, Value

if TYPE_CHECKING:
    from foretell.bands import Side
    from foretell.calibrate import Calibrator


class BandsWriter(Lanes):
    """Writes what belongs to the edges. state: the lanes' states [state_size, lanes], as the calibrator has them."""

    def __init__(self, f: Function, calibrator: Calibrator, state: Value) -> None:
        super().__init__(f)
        self._bands, self._rows, self._state = calibrator.bands, calibrator.rows, state

    def _issue(self, center: Value, outputs: list[Value], scale: Value) -> list[Value]:
        """Writes the edges around `center` to the state; gives the quantiles."""
        code, middle = self._f.code, self._bands.median
        issued = {middle: center}
        if not self._bands.sides:
            for row, output in enumerate(outputs):
                if row != middle:
                    issued[row] = code.fadd(center, code.fsub(output, outputs[middle]))
        factor_at = self._rows["factors"].start
        for is_upper, side in enumerate(self._bands.sides):
            inner = None
            for k, (row, model_row) in enumerate(zip(side.issued, side.at, strict=True)):
                distance = self._abs(code.fsub(outputs[model_row], outputs[middle]))
                distance = code.fmul(self._number(side.reach[k]), distance)
                distance = self._max(distance, self._number(bands.LEAST_WIDTH))
                reach = code.fmul(code.fmul(self._load(factor_at), scale), distance)
                edge = code.fadd(center, reach) if is_upper else code.fsub(center, reach)
                order = self._max if is_upper else self._min
                if inner is not None:
                    edge = order(edge, inner)
                if row == side.issued[-1]:
                    gap = code.fmul(self._number(side.gap), code.fsub(inner, center))
                    edge = order(edge, code.fadd(inner, gap))
                issued[row] = inner = edge
                factor_at += 1
        for row, edge in issued.items():
            self._store(edge, self._rows["issued"].start + row)
        return [issued[row] for row in range(self._bands.num_levels)]

    def _width(self, outputs: list[Value]) -> Value:
        """Half the model's own band."""
        if not self._bands.sides:
            return self._one
        low, high = self._bands.reference
        width = self._f.code.fmul(self._number(0.5), self._f.code.fsub(outputs[high], outputs[low]))
        return self._max(width, self._number(bands.LEAST_WIDTH))

    def _judge(self, value: Value, base: Value, unit: Value, counts: Value, was_forecast: Value) -> Value:
        """Moves the factors on; gives the surprise."""
        if not self._bands.sides:
            return self._number(float("nan"))
        code, rows = self._f.code, self._rows
        factor_at = rows["factors"].start
        least, beyond = self._number(0.5), self._zero
        for is_upper, side in enumerate(self._bands.sides):
            edges = [
                self._limit(
                    code.fadd(base, code.fmul(unit, self._load(rows["issued"].start + row))),
                    float(np.finfo(np.float32).max),
                )
                for row in (self._bands.median, *side.issued)
            ]
            for k, edge in enumerate(edges[1:]):
                is_beyond = self._above(value, edge) if is_upper else self._above(edge, value)
                step = code.select(is_beyond, self._number(side.step_out[k]), self._number(side.step_in[k]))
                factor = code.select(was_forecast, self._load(factor_at), self._one)
                moved = code.select(counts, code.fmul(factor, step), factor)
                moved = self._max(moved, self._number(bands.LEAST_FACTOR))
                self._store(self._min(moved, self._number(bands.LARGEST_FACTOR)), factor_at)
                factor_at += 1
            if not is_upper:
                edges = [code.fneg(edge) for edge in edges]
            left, farther = self._tail(value if is_upper else code.fneg(value), edges, side)
            least = self._min(least, left)
            beyond = code.fadd(beyond, farther)
        probability = self._max(code.fadd(least, least), self._number(surprise.LEAST_PROBABILITY))
        found = code.fsub(code.fmul(beyond, self._number(surprise.LOG10_2)), self._log10(probability))
        return self._min(self._max(found, self._zero), self._number(surprise.MOST))

    def _tail(self, value: Value, edges: list[Value], side: Side) -> tuple[Value, Value]:
        """The probability left beyond `value` on one side, and how far it is beyond the outermost level."""
        code = self._f.code
        left = self._number(0.5)
        for k in range(len(edges) - 2):
            share = self._min(self._distance(value, edges[k], edges[k + 1]), self._one)
            held = self._number(side.beyond[k] - side.beyond[k + 1])
            left = code.fsub(left, code.fmul(held, share))
        return left, self._distance(value, edges[-2], edges[-1])

    def _distance(self, value: Value, start: Value, end: Value) -> Value:
        code = self._f.code
        gap = self._min(code.fsub(end, start), self._number(LARGEST))
        gone = self._min(code.fsub(value, start), self._number(LARGEST))
        return code.fdiv(self._max(gone, self._zero), self._max(gap, self._number(SMALLEST)))

    def _log10(self, p: Value) -> Value:
        code = self._f.code
        doublings = self._zero
        for power in (8, 4, 2, 1):
            is_small = self._above(self._number(2.0**-power), p)
            p = code.select(is_small, code.fmul(p, self._number(2.0**power)), p)
            doublings = code.fadd(doublings, code.select(is_small, self._number(power), self._zero))
        c = self._number(surprise.MIDDLE)
        t = code.fdiv(code.fsub(p, c), code.fadd(p, c))
        t2 = code.fmul(t, t)
        series = self._number(surprise.SERIES[0])
        for coefficient in surprise.SERIES[1:]:
            series = code.fadd(code.fmul(series, t2), self._number(coefficient))
        series = code.fmul(code.fmul(t, series), self._number(surprise.TWO_LOG10_E))
        halves = code.fadd(doublings, self._number(0.5))
        return code.fsub(series, code.fmul(halves, self._number(surprise.LOG10_2)))

    def _row(self, place: Value, row: int) -> Value:
        return self._f.at(place, row * self._f.lanes)

    def _load(self, row: int) -> Value:
        return self._f.load(self._row(self._state, row))

    def _store(self, vector: Value, row: int) -> None:
        self._f.store(vector, self._row(self._state, row))
