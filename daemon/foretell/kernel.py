"""The LSTM as machine code: gather rows of state, make time steps, scatter, in one call.

Written in LLVM's intermediate representation for one model and one processor. Rows are taken a chunk at a time, so
that what belongs to them stays in the cache; within a layer a tile of a few rows times one vector of hidden units is
computed in registers, from the products to the new state, so that the gates are never written to memory.

Every row is computed by the same operations in the same order wherever it stands: products are added one after the
other from the first input to the last hidden unit (`fma`, rounded once each), and vectors run across hidden units,
never across rows. So the bits of a row do not depend on its batch, its place, nor on the number of steps in a call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from llvmlite import ir

from foretell.kernel_calibrate import write_calibrator_tile
from foretell.kernel_calibrated import CalibratedEnds
from foretell.kernel_ends import Chunk, NormalizedEnds, PlainEnds, write_normalizer_tile
from foretell.kernel_layout import GATES, Layout, Scratch, Target
from foretell.kernel_tiles import Bfloat, Bfloat16, Operands, operands_of, write_layer_tile, write_output_tile
from foretell.vector_ir import BYTE, BYTES, CELLS, INT, INTS, Function, Value, constant

if TYPE_CHECKING:
    from collections.abc import Callable

STEP: Final = "step"
"""Name of the function that is made: see `write_step`."""


def write_step(layout: Layout, target: Target) -> str:
    """Write the module as text. It has one public function.

        i64 step(states, normalizers, calibrators, guesses, rows, values, observed, forecast, surprise, bad,
                 weights, scratch, total, first, last, steps)

    It steps rows[first..last) of `total` by values float32 [steps, total, channels], of which `observed`, u8 of the
    same shape, says whether they were; forecast: float32 [steps, total, num_outputs]; surprise: as values, written
    where the layout has a calibrator. In the arena: states float32 [..., row_cells], normalizers [..., channels *
    STATE_SIZE], calibrators [..., channels * state_size], guesses [..., channels]. rows: i64, distinct; weights and
    scratch as `layout` says. bad: u8 [total], set to 1 for the rows of which any output is not finite, else 0; all
    of theirs in the arena is left as it was. Gives their number. The states, the weights and the scratch begin at
    multiples of 64 bytes.
    """
    module = ir.Module("foretell")
    operands = operands_of(layout, target)
    sizes = sorted({target.tile_rows, max(1, target.tile_rows // 2), 2, 1}, reverse=True)
    layer_tiles = [(rows, write_layer_tile(module, layout, target, operands, rows)) for rows in sizes]
    output_tiles = [(rows, write_output_tile(module, layout, target, operands, rows)) for rows in sizes]
    ends = [] if layout.rates is None else [write_normalizer_tile(module, layout, target)]
    if layout.calibrator is not None:
        ends.append(write_calibrator_tile(module, layout.calibrator, target))
    _StepWriter(module, layout, target, operands, layer_tiles, output_tiles, ends).write()
    return str(module)


_Tiles = list[tuple[int, ir.Function]]


class _StepWriter:
    """Writes the public function: chunks, gather, steps of layers of tiles, scatter."""

    def __init__(
        self,
        module: ir.Module,
        layout: Layout,
        target: Target,
        operands: Operands,
        layer_tiles: _Tiles,
        output_tiles: _Tiles,
        ends: list[ir.Function],
    ) -> None:
        kinds = [*[CELLS] * 4, INTS, CELLS, BYTES, *[CELLS] * 2, BYTES, *[CELLS] * 2, *[INT] * 4]
        self.f = Function(module, STEP, kinds, result=INT, lanes=target.lanes, is_public=True)
        self.layout, self.scratch, self.operands = layout, Scratch(layout), operands
        self.layer_tiles, self.output_tiles = layer_tiles, output_tiles
        self.states, *ends_states, self.guesses, self.rows, self.values, self.observed = self.f.args[:7]
        self.forecast, self.surprise, self.bad, self.weights, self.room = self.f.args[7:12]
        self.total, self.first, self.last, self.steps = self.f.args[12:]
        self.ends = self._choose_ends(ends, ends_states)
        # Which of a layer's two arrays holds the h before the step, and which takes the h after it.
        self.before, self.after = (
            [self.f.variable(CELLS) for _ in range(layout.num_layers)] for _ in range(2)
        )

    def write(self) -> None:
        f, code = self.f, self.f.code
        num_bad = f.variable(INT, constant(0))
        self.ends.begin()
        with f.loop(self.first, self.last, self.layout.chunk_rows) as start:
            num_rows = f.smaller(code.sub(self.last, start), constant(self.layout.chunk_rows))
            chunk = Chunk(self.rows, start, num_rows)
            self._gather(chunk)
            with f.loop(constant(0), self.steps) as step:
                at = f.add(f.times(step, self.total), start)
                first = f.times(at, self.layout.num_channels)
                entered = self.ends.enter(f.at(self.values, first), f.at(self.observed, first), num_rows)
                self._step_layers(entered, num_rows)
                self._finish(
                    f.at(self.forecast, f.times(at, self.layout.num_outputs)),
                    f.at(self.surprise, first),
                    chunk,
                )
            self._scatter(chunk, num_bad)
        self.ends.end()
        code.ret(code.load(num_bad))

    def _choose_ends(self, tiles: list[ir.Function], states: list[Value]) -> PlainEnds:
        f, layout, scratch = self.f, self.layout, self.scratch
        if not tiles:
            return PlainEnds(f, layout)
        if len(tiles) == 1:
            return NormalizedEnds(f, layout, scratch, tiles[0], states[0], self.room)
        return CalibratedEnds(f, layout, scratch, (tiles[0], tiles[1]), (states[0], states[1]), self.room)

    def _place(self, offset: int) -> Value:
        return self.f.at(self.room, offset)

    def _of_row(self, index: Value, array: Value, cells: int) -> Value:
        """Where the arena has the cells of a row of the call."""
        row = self.f.code.load(self.f.at(self.rows, index))
        return self.f.at(array, self.f.times(row, cells))

    def _gather(self, chunk: Chunk) -> None:
        f, units, start = self.f, self.layout.units, chunk.start
        self.ends.gather(chunk)
        for layer, (before, after) in enumerate(self.scratch.operands):
            f.code.store(self._place(before), self.before[layer])
            f.code.store(self._place(after), self.after[layer])
        with f.loop(constant(0), chunk.num_rows) as row:
            f.code.store(ir.Constant(BYTE, 0), f.at(self.bad, f.add(start, row)))
            source = self._of_row(f.add(start, row), self.states, self.layout.row_cells)
            for layer in range(self.layout.num_layers):
                at = f.times(row, units)
                h, c = (f.at(source, (2 * layer + part) * units) for part in range(2))
                f.copy(c, f.at(self._place(self.scratch.c[layer]), at), units)
                before = f.at(
                    self._place(self.scratch.operands[layer][0]),
                    f.times(row, self.layout.operand_cells(units)),
                )
                if isinstance(self.operands, Bfloat16):
                    self._narrow_vectors(h, before, units)
                else:
                    f.copy(h, before, units)

    def _step_layers(self, source: Value, num_rows: Value) -> None:
        """One time step of all layers, by what enters, [rows, input_size]."""
        f, layout, stride = self.f, self.layout, self.layout.input_size
        if isinstance(self.operands, Bfloat16):
            wide, source, stride = source, self._place(self.scratch.narrow_input), layout.input_cells(0)
            with f.loop(constant(0), num_rows) as row:
                self._narrow(
                    f.at(wide, f.times(row, layout.input_size)),
                    f.at(source, f.times(row, stride)),
                    layout.input_size,
                )
        for layer in range(layout.num_layers):
            before, after = f.code.load(self.before[layer]), f.code.load(self.after[layer])
            self._step_layer(layer, source, stride, before, after, num_rows)
            f.code.store(after, self.before[layer])
            f.code.store(before, self.after[layer])
            source, stride = after, layout.operand_cells(layout.units)

    def _step_layer(
        self, layer: int, source: Value, stride: int, before: Value, after: Value, num_rows: Value
    ) -> None:
        """All units of a layer: the weights of one vector of units stay in the cache over all tiles."""
        f, layout = self.f, self.layout
        h_cells, x_cells = layout.operand_cells(layout.units), layout.input_cells(layer)
        cells_a_unit = GATES * (x_cells + h_cells)
        cells_a_number = layout.units // h_cells
        with f.loop(constant(0), constant(layout.units), f.lanes) as unit:
            weights = f.at(f.at(self.weights, layout.weights_at(layer)), f.times(unit, cells_a_unit))
            biases = f.at(f.at(self.weights, layout.biases_at(layer)), f.times(unit, GATES))
            cell = f.code.sdiv(unit, constant(cells_a_number))

            def arguments(row: Value) -> list[Value]:
                at = f.add(f.times(row, layout.units), unit)
                operand = f.at(f.at(after, f.times(row, h_cells)), cell)
                h, c = (f.at(self._place(part[layer]), at) for part in (self.scratch.h, self.scratch.c))
                return [
                    f.at(source, f.times(row, stride)),
                    constant(x_cells),
                    constant(stride),
                    f.at(before, f.times(row, h_cells)),
                    weights,
                    biases,
                    c,
                    h,
                    operand,
                ]

            self._tile(self.layer_tiles, num_rows, arguments)

    def _finish(self, forecast: Value, surprise: Value, chunk: Chunk) -> None:
        """The output layer of one time step, which rows it shows to be bad, and the forecasts."""
        f, layout = self.f, self.layout
        h, h_cells = f.code.load(self.before[-1]), layout.operand_cells(layout.units)
        weights, biases = (
            f.at(self.weights, place) for place in (layout.output_weights_at, layout.output_biases_at)
        )
        outputs = self._place(self.scratch.outputs)
        self._tile(
            self.output_tiles,
            chunk.num_rows,
            lambda row: [
                f.at(h, f.times(row, h_cells)),
                weights,
                biases,
                f.at(outputs, f.times(row, layout.outputs)),
            ],
        )
        with f.loop(constant(0), chunk.num_rows) as row:
            is_bad = f.at(self.bad, f.add(chunk.start, row))
            with f.loop(constant(0), constant(layout.outputs), f.lanes) as output:
                place = f.add(f.times(row, layout.outputs), output)
                is_finite = f.is_finite(f.load(f.at(outputs, place)))
                bit = f.code.zext(f.code.not_(is_finite), BYTE)
                f.code.store(f.code.or_(f.code.load(is_bad), bit), is_bad)
        self.ends.leave(outputs, forecast, surprise, chunk.num_rows)

    def _scatter(self, chunk: Chunk, num_bad: Value) -> None:
        f, units = self.f, self.layout.units
        with f.loop(constant(0), chunk.num_rows) as row:
            is_bad = f.code.load(f.at(self.bad, f.add(chunk.start, row)))
            f.code.store(f.code.add(f.code.load(num_bad), f.code.zext(is_bad, INT)), num_bad)
            with f.code.if_then(f.code.icmp_unsigned("==", is_bad, ir.Constant(BYTE, 0))):
                self.ends.scatter(chunk, row)
                self._guess(f.add(chunk.start, row))
                target = self._of_row(f.add(chunk.start, row), self.states, self.layout.row_cells)
                for layer in range(self.layout.num_layers):
                    at = f.times(row, units)
                    if isinstance(self.operands, Bfloat16):
                        source = self._place(self.scratch.h[layer])
                    else:
                        source = f.code.load(self.before[layer])
                    f.copy(f.at(source, at), f.at(target, 2 * layer * units), units)
                    c = f.at(self._place(self.scratch.c[layer]), at)
                    f.copy(c, f.at(target, (2 * layer + 1) * units), units)

    def _guess(self, index: Value) -> None:
        """What stands in for a missing value: the last forecast's median, or the last values where it is of others."""
        f, layout = self.f, self.layout
        at = f.add(f.times(f.code.sub(self.steps, constant(1)), self.total), index)
        if layout.outputs_are_inputs:
            source = f.at(
                self.forecast, f.add(f.times(at, layout.num_outputs), layout.median * layout.num_channels)
            )
        else:
            source = f.at(self.values, f.times(at, layout.num_channels))
        f.copy_unaligned(source, self._of_row(index, self.guesses, layout.num_channels), layout.num_channels)

    def _tile(self, tiles: _Tiles, num_rows: Value, arguments: Callable[[Value], list[Value]]) -> None:
        """Call the largest tile for as many rows as it takes, then the next for those that remain."""
        f, code = self.f, self.f.code
        done = f.variable(INT, constant(0))
        for rows, tile in tiles:
            start = code.load(done)
            count = code.sdiv(code.sub(num_rows, start), constant(rows))
            end = f.add(start, f.times(count, rows))
            with f.loop(start, end, rows) as row:
                code.call(tile, arguments(row))
            code.store(end, done)

    def _narrow_vectors(self, source: Value, target: Value, size: int) -> None:
        """Round whole vectors of float32 to bfloat16 pairs."""
        f, kind = self.f, ir.VectorType(Bfloat(), self.f.lanes)
        halves = f.code.bitcast(target, Bfloat().as_pointer())
        with f.loop(constant(0), constant(size), f.lanes) as index:
            place = f.code.bitcast(f.at(halves, index), kind.as_pointer())
            f.code.store(f.code.fptrunc(f.load(f.at(source, index)), kind), place, align=2 * f.lanes)

    def _narrow(self, source: Value, target: Value, size: int) -> None:
        """Round `size` float32 to bfloat16 pairs; the second of the last pair is 0 where there is none."""
        f, code, bfloat = self.f, self.f.code, Bfloat()
        halves = code.bitcast(target, bfloat.as_pointer())
        with f.loop(constant(0), constant(size)) as index:
            number = code.load(f.at(source, index), align=4)
            code.store(code.fptrunc(number, bfloat), f.at(halves, index), align=2)
        if size % 2:
            sixteen = ir.IntType(16)
            last = f.at(code.bitcast(target, sixteen.as_pointer()), size)
            code.store(ir.Constant(sixteen, 0), last, align=2)
