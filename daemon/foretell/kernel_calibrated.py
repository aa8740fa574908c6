"""The end of a step whose forecasts are calibrated, around the tile of `foretell.kernel_calibrate`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llvmlite import ir

from foretell.kernel_ends import Chunk, NormalizedEnds, published
from foretell.vector_ir import FLOAT, Function, Value, constant

if TYPE_CHECKING:
    from collections.abc import Iterator

    from foretell.kernel_layout import Layout, Scratch


class CalibratedEnds(NormalizedEnds):
    """As `NormalizedEnds`, and quantiles are corrected by what the lanes really did.

    calibrators: the calibrator's states in the arena, [rows, channels * state_size]; in the scratch they lie as those
    of the normaliser do, [blocks, state_size, lanes]. What is told beside the forecasts: the surprise of every value,
    and the sums of `Calibrated.errors`, which begin with `begin` and end in the scratch with `end`.
    """

    def __init__(
        self,
        f: Function,
        layout: Layout,
        scratch: Scratch,
        tiles: tuple[ir.Function, ir.Function],
        states: tuple[Value, Value],
        room: Value,
    ) -> None:
        super().__init__(f, layout, scratch, tiles[0], states[0], room)
        assert layout.calibrator is not None
        self._correct, self._calibrators = tiles[1], states[1]
        self._size = layout.calibrator.state_size
        self._calibrator_blocks = f.at(room, scratch.calibrator)
        self._before, self._observed = f.at(room, scratch.before), f.at(room, scratch.observed)
        self._totals, self._errors = f.at(room, scratch.totals), f.at(room, scratch.errors)
        self._said, self._levels = f.at(room, scratch.said), f.at(room, scratch.levels)
        self._surprise = f.at(room, scratch.surprise)
        self._zero = f.everywhere(0.0)

    def begin(self) -> None:
        """Nothing was off yet."""
        for row in range(2):
            self._f.store(self._zero, self._f.at(self._totals, row * self._f.lanes))

    def end(self) -> None:
        """Sum up how far off the forecasts were, and persistence."""
        f = self._f
        for row in range(2):
            total = f.variable(FLOAT, ir.Constant(FLOAT, 0.0))
            with f.loop(constant(0), constant(f.lanes)) as lane:
                part = f.code.load(f.at(self._totals, f.add(lane, row * f.lanes)))
                f.code.store(f.code.fadd(f.code.load(total), part), total)
            f.code.store(f.code.load(total), f.at(self._errors, row))

    def leave(self, outputs: Value, forecast: Value, surprise: Value, num_rows: Value) -> None:
        """From outputs [rows, padded outputs] to forecast [rows, quantiles, channels] and surprise [rows, channels]."""
        f, layout, lanes = self._f, self._layout, self._f.lanes
        num_lanes = f.times(num_rows, layout.num_channels)
        with f.loop(constant(0), num_lanes, lanes) as first:
            here = f.smaller(f.code.sub(num_lanes, first), constant(lanes))
            with f.loop(constant(0), here) as lane:
                source = self._of_lane(outputs, f.add(first, lane), layout.outputs)
                for quantile in range(layout.num_quantiles):
                    output = f.code.load(f.at(source, quantile * layout.num_channels))
                    f.code.store(output, f.at(self._said, f.add(lane, quantile * lanes)))
            self._put_in_order()
            base, unit = f.at(self._base, first), f.at(self._unit, first)
            f.code.call(
                self._correct,
                [
                    f.at(self._calibrator_blocks, f.times(first, self._size)),
                    base,
                    f.at(self._before, first),
                    f.at(self._observed, first),
                    unit,
                    self._said,
                    self._levels,
                    self._surprise,
                    self._totals,
                ],
            )
            for quantile in range(layout.num_quantiles):
                place = f.at(self._levels, quantile * lanes)
                f.store(published(f, f.load(base), f.load(unit), f.load(place)), place)
            with f.loop(constant(0), here) as lane:
                at = f.add(first, lane)
                target = self._of_lane(forecast, at, layout.num_outputs)
                for quantile in range(layout.num_quantiles):
                    level = f.code.load(f.at(self._levels, f.add(lane, quantile * lanes)))
                    f.code.store(level, f.at(target, quantile * layout.num_channels), align=4)
                told = f.code.load(f.at(self._surprise, lane))
                f.code.store(told, f.at(surprise, at), align=4)

    def _of_lane(self, array: Value, lane: Value, cells_a_row: int) -> Value:
        """Where `array`, which has one such row after the other, has a lane's first cell."""
        f, channels = self._f, constant(self._layout.num_channels)
        row, channel = f.code.sdiv(lane, channels), f.code.srem(lane, channels)
        return f.at(array, f.add(f.times(row, cells_a_row), channel))

    def _put_in_order(self) -> None:
        """Quantiles that do not cross: running maxima upwards and minima downwards from the median."""
        f, layout = self._f, self._layout
        places = [f.at(self._said, quantile * f.lanes) for quantile in range(layout.num_quantiles)]
        for outwards, beyond in (
            (range(layout.median + 1, layout.num_quantiles), ">"),
            (range(layout.median - 1, -1, -1), "<"),
        ):
            level = f.load(places[layout.median])
            for quantile in outwards:
                output = f.load(places[quantile])
                level = f.code.select(f.code.fcmp_ordered(beyond, output, level), output, level)
                f.store(level, places[quantile])

    def _look_back(self, first: Value, block: Value) -> None:
        """Keep the lanes' last values, which the normaliser is about to replace; no lane is observed yet."""
        f = self._f
        f.store(f.load(block), f.at(self._before, first))
        f.store(self._zero, f.at(self._observed, first))

    def _note_observed(self, at: Value, is_observed: Value) -> None:
        self._f.code.store(is_observed, self._f.at(self._observed, at))

    def _state_cells(self, chunk: Chunk, row: Value) -> Iterator[tuple[Value, Value]]:
        yield from super()._state_cells(chunk, row)
        yield from self._cells(chunk, row, self._calibrators, self._calibrator_blocks, self._size)
