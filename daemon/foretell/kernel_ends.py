"""Both ends of a step: from a frame's values to the LSTM's input, and from its outputs to forecasts.

`PlainEnds` pass on what there is. `NormalizedEnds` compute what `foretell.normalize` does, operation by operation and
rounded alike, so that the bits are the same; a test holds the two equal. A lane is one channel of one row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from llvmlite import ir

from foretell import normalize
from foretell.kernel_lanes import Lanes
from foretell.kernel_layout import Layout, Scratch, Target
from foretell.normalize import NUM_FEATURES, STATE_SIZE
from foretell.vector_ir import CELLS, FLOAT, Function, Value, constant

if TYPE_CHECKING:
    from collections.abc import Iterator

_LARGEST_FLOAT: Final = float(np.finfo(np.float32).max)
_UNROLLED: Final = 8  # cells that are moved without a loop


@dataclass(frozen=True, slots=True)
class Chunk:
    """The rows being stepped: arena rows i64, the first of them among the `total` of the call, and how many."""

    rows: Value
    start: Value
    num_rows: Value


class PlainEnds:
    """Values enter as they are, outputs are forecasts."""

    def __init__(self, f: Function, layout: Layout) -> None:
        self._f, self._layout = f, layout

    def begin(self) -> None:
        """Nothing to do before the first chunk."""

    def end(self) -> None:
        """Nor after the last."""

    def gather(self, chunk: Chunk) -> None:
        """Nothing is remembered."""

    def enter(self, values: Value, observed: Value, num_rows: Value) -> Value:  # noqa: ARG002 - as NormalizedEnds
        """Where the input of the rows' step is, [rows, input_size]."""
        return values

    def leave(self, outputs: Value, forecast: Value, surprise: Value, num_rows: Value) -> None:  # noqa: ARG002
        """From outputs [rows, padded outputs] to forecast [rows, outputs]."""
        f, layout = self._f, self._layout
        with f.loop(constant(0), num_rows) as row:
            source = f.at(outputs, f.times(row, layout.outputs))
            f.copy_unaligned(source, f.at(forecast, f.times(row, layout.num_outputs)), layout.num_outputs)

    def scatter(self, chunk: Chunk, row: Value) -> None:
        """Nothing is remembered."""


class NormalizedEnds(PlainEnds):
    """Values enter as features of their own past, outputs come back in its units, quantiles in order.

    `state` is the normaliser's in the arena, [rows, channels * STATE_SIZE]. While a chunk is stepped it lies in the
    scratch by blocks of as many lanes as a vector has, [blocks, STATE_SIZE, lanes].
    """

    def __init__(
        self, f: Function, layout: Layout, scratch: Scratch, tile: ir.Function, state: Value, room: Value
    ) -> None:
        super().__init__(f, layout)
        self._tile, self._state = tile, state
        self._blocks = f.at(room, scratch.normalizer)
        self._frame = f.at(room, scratch.frame)  # values and whether observed, [2, lanes]
        self._features = f.at(room, scratch.features)  # of one block, [NUM_FEATURES, lanes]
        self._input = f.at(room, scratch.input)  # of the chunk, [rows, input_size]
        self._base, self._unit = f.at(room, scratch.base), f.at(room, scratch.unit)  # [lanes of the chunk]

    def gather(self, chunk: Chunk) -> None:
        """Take the states of the chunk's lanes in."""
        f = self._f
        with f.loop(constant(0), chunk.num_rows) as row:
            for source, place in self._state_cells(chunk, row):
                f.code.store(f.code.load(source), place)

    def enter(self, values: Value, observed: Value, num_rows: Value) -> Value:
        """Where the input of the rows' step is, [rows, input_size]; moves the lanes' states on."""
        f, lanes = self._f, self._f.lanes
        num_lanes = f.times(num_rows, self._layout.num_channels)
        with f.loop(constant(0), num_lanes, lanes) as first:
            here = f.smaller(f.code.sub(num_lanes, first), constant(lanes))
            block = f.at(self._blocks, f.times(first, STATE_SIZE))
            self._look_back(first, block)
            with f.loop(constant(0), here) as lane:
                at = f.add(first, lane)
                value = f.code.load(f.at(values, at), align=4)
                f.code.store(value, f.at(self._frame, lane))
                f.code.store(value, f.at(self._base, at))
                is_observed = f.code.uitofp(f.code.load(f.at(observed, at)), FLOAT)
                f.code.store(is_observed, f.at(self._frame, f.add(lane, lanes)))
                self._note_observed(at, is_observed)
            f.code.call(self._tile, [block, self._frame, self._features, f.at(self._unit, first)])
            with f.loop(constant(0), here) as lane:
                target = f.at(self._input, f.times(f.add(first, lane), NUM_FEATURES))
                for feature in range(NUM_FEATURES):
                    source = f.at(self._features, f.add(lane, feature * lanes))
                    f.code.store(f.code.load(source), f.at(target, feature))
        return self._input

    def leave(self, outputs: Value, forecast: Value, surprise: Value, num_rows: Value) -> None:  # noqa: ARG002
        """From outputs [rows, padded outputs] to forecast [rows, quantiles, channels].

        Quantiles are put in order: running maxima upwards and minima downwards from the median.
        """
        f, layout = self._f, self._layout
        channels, median = layout.num_channels, layout.median
        with f.loop(constant(0), num_rows) as row, f.loop(constant(0), constant(channels)) as channel:
            source = f.at(f.at(outputs, f.times(row, layout.outputs)), channel)
            target = f.at(f.at(forecast, f.times(row, layout.num_outputs)), channel)
            lane = f.add(f.times(row, channels), channel)
            base, unit = (f.code.load(f.at(part, lane)) for part in (self._base, self._unit))
            middle = f.code.load(f.at(source, median * channels))
            level = f.variable(FLOAT)
            for places, beyond in (
                (range(median, layout.num_quantiles), ">"),
                (range(median - 1, -1, -1), "<"),
            ):
                f.code.store(middle, level)
                with f.loop(constant(0), constant(len(places))) as index:
                    step = f.times(index, places.step * channels)
                    place = f.add(step, places.start * channels)
                    output, last = f.code.load(f.at(source, place)), f.code.load(level)
                    ordered = f.code.select(f.code.fcmp_ordered(beyond, output, last), output, last)
                    f.code.store(ordered, level)
                    f.code.store(published(f, base, unit, ordered), f.at(target, place), align=4)

    def scatter(self, chunk: Chunk, row: Value) -> None:
        """Give back the states of a row's lanes."""
        f = self._f
        for place, source in self._state_cells(chunk, row):
            f.code.store(f.code.load(source), place)

    def _look_back(self, first: Value, block: Value) -> None:
        """For who needs what the lanes from `first` on were before, as `block` has them."""

    def _note_observed(self, at: Value, is_observed: Value) -> None:
        """For who needs to know later whether a lane's value was observed, 1 or 0."""

    def _state_cells(self, chunk: Chunk, row: Value) -> Iterator[tuple[Value, Value]]:
        """Of each cell of a row's states: where it is in the arena and in the scratch."""
        yield from self._cells(chunk, row, self._state, self._blocks, STATE_SIZE)

    def _cells(
        self, chunk: Chunk, row: Value, states: Value, blocks: Value, size: int
    ) -> Iterator[tuple[Value, Value]]:
        """The cells of `size` a lane that the arena has in `states` and the scratch in `blocks`."""
        f, lanes, channels = self._f, self._f.lanes, self._layout.num_channels
        arena_row = f.code.load(f.at(chunk.rows, f.add(chunk.start, row)))
        of_row = f.at(states, f.times(arena_row, channels * size))
        with f.loop(constant(0), constant(channels)) as channel:
            lane = f.add(f.times(row, channels), channel)
            block, within = f.code.sdiv(lane, constant(lanes)), f.code.srem(lane, constant(lanes))
            source = f.at(of_row, f.times(channel, size))
            target = f.at(blocks, f.add(f.times(block, size * lanes), within))
            if size <= _UNROLLED:
                for cell in range(size):
                    yield f.at(source, cell), f.at(target, cell * lanes)
            else:
                with f.loop(constant(0), constant(size)) as cell:
                    yield f.at(source, cell), f.at(target, f.times(cell, lanes))


def published(f: Function, base: Value, unit: Value, level: Value) -> Value:
    """A level, in units, as a finite value; one lane or a vector of them."""
    value = f.code.fadd(f.code.fmul(level, unit), base)
    for limit, beyond in ((_LARGEST_FLOAT, ">"), (-_LARGEST_FLOAT, "<")):
        bound = f.everywhere(limit) if value.type == f.vector else ir.Constant(FLOAT, limit)
        value = f.code.select(f.code.fcmp_ordered(beyond, value, bound), bound, value)
    return value


def write_normalizer_tile(module: ir.Module, layout: Layout, target: Target) -> ir.Function:
    """One frame of a vector of lanes, as `Normalizer.advance`.

    Arguments: the lanes' states [STATE_SIZE, lanes], moved on in place; values and whether observed [2, lanes];
    features [NUM_FEATURES, lanes] and unit [lanes] to be written.
    """
    f = Function(module, "normalize", [CELLS] * 4, lanes=target.lanes)
    state, frame, features, unit_at = f.args
    tile = _NormalizerTile(f, layout)
    old = [f.load(f.at(state, cell * f.lanes)) for cell in range(STATE_SIZE)]
    new, computed, unit = tile.advance(old, f.load(frame), f.load(f.at(frame, f.lanes)))
    for vectors, place in ((new, state), (computed, features)):
        for cell, vector in enumerate(vectors):
            f.store(vector, f.at(place, cell * f.lanes))
    f.store(unit, unit_at)
    f.code.ret_void()
    return f.function


class _NormalizerTile(Lanes):
    """The arithmetic of `foretell.normalize`, in its order; see there for what it means."""

    def __init__(self, f: Function, layout: Layout) -> None:
        super().__init__(f)
        assert layout.rates is not None
        self._rates = [self._number(rate) for rate in layout.rates]
        self._smallest, self._largest = self._number(normalize.SMALLEST), self._number(normalize.LARGEST)

    def advance(
        self, state: list[Value], value: Value, observed: Value
    ) -> tuple[list[Value], list[Value], Value]:
        """The next state, the features and the unit of a forecast."""
        code = self._f.code
        last, *means, change_fast, change_slow, weight_fast, weight_slow, deviation = state
        changes, old_weights = [change_fast, change_slow], [weight_fast, weight_slow]
        has_past = code.fcmp_ordered(">", weight_slow, self._zero)
        rates = [code.fmul(observed, rate) for rate in self._rates]
        weights = [
            code.fadd(old, code.fmul(rate, code.fsub(self._one, old)))
            for old, rate in zip(old_weights, rates, strict=True)
        ]
        value_shares, change_shares = (
            [
                code.fdiv(rate, self._max(weight, least))
                for rate, weight, least in zip(rates, by, self._rates, strict=True)
            ]
            for by in (weights, old_weights)
        )

        step = code.select(has_past, self._limit_by(code.fsub(value, last), self._largest), self._zero)
        smaller = self._min(self._abs(value), self._abs(last))
        resolution = self._max(code.fmul(smaller, self._number(normalize.RESOLUTION)), self._smallest)
        new_changes = self._averaged(changes, self._abs(step), change_shares, resolution)

        distances = [self._limit_by(code.fsub(value, mean), self._largest) for mean in means]
        largest = self._outlier_limit(self._max(deviation, change_slow), resolution)
        distances[1] = self._limit_by(distances[1], largest)
        new_means = [
            self._flushed(code.fadd(mean, code.fmul(share, distance)))
            for mean, share, distance in zip(means, value_shares, distances, strict=True)
        ]
        size = code.fmul(self._abs(distances[1]), code.select(has_past, self._one, self._zero))
        moved = code.fadd(deviation, code.fmul(change_shares[1], code.fsub(size, deviation)))
        new_deviation = self._max(moved, self._smallest)

        unit = self._max(code.fmul(*(self._sqrt(change) for change in new_changes)), resolution)
        spread = self._max(new_deviation, resolution)
        features = [
            self._squashed(code.fdiv(step, unit)),
            self._squashed(code.fdiv(code.fsub(value, new_means[0]), unit)),
            self._squashed(code.fdiv(code.fsub(value, new_means[1]), spread)),
            self._contrast(*new_changes),
            self._contrast(unit, spread),
            weights[1],
        ]
        has_history = code.select(code.fcmp_ordered(">", weights[1], self._zero), self._one, self._zero)
        features = [code.fmul(feature, has_history) for feature in features]
        return [value, *new_means, *new_changes, *weights, new_deviation], features, unit

    def _averaged(self, old: list[Value], size: Value, shares: list[Value], resolution: Value) -> list[Value]:
        code = self._f.code
        size = self._min(size, self._outlier_limit(self._max(*old), resolution))
        return [
            self._max(code.fadd(mean, code.fmul(share, code.fsub(size, mean))), self._smallest)
            for mean, share in zip(old, shares, strict=True)
        ]

    def _outlier_limit(self, scale: Value, resolution: Value) -> Value:
        code = self._f.code
        is_scale = code.fcmp_ordered(">", scale, resolution)
        return code.select(is_scale, code.fmul(self._number(normalize.OUTLIER), scale), self._largest)

    def _flushed(self, x: Value) -> Value:
        code = self._f.code
        return code.select(code.fcmp_ordered("<", self._abs(x), self._smallest), self._zero, x)

    def _squashed(self, x: Value) -> Value:
        code = self._f.code
        x = self._limit(x, normalize.SATURATION)
        return code.fdiv(x, self._sqrt(code.fadd(self._one, self._abs(x))))

    def _contrast(self, a: Value, b: Value) -> Value:
        code = self._f.code
        return code.fdiv(code.fsub(a, b), code.fadd(a, b))
