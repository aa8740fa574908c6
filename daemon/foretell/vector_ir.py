"""Words to write machine code in: a function of LLVM's intermediate representation, in vectors of cells.

A cell is 4 bytes: one float32, or two bfloat16. Addresses are counted in cells. Nothing here knows of LSTMs.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from llvmlite import ir

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

FLOAT: Final = ir.FloatType()
INT: Final = ir.IntType(64)
BYTE: Final = ir.IntType(8)
CELLS: Final = FLOAT.as_pointer()
INTS: Final = INT.as_pointer()
BYTES: Final = BYTE.as_pointer()
NOTHING: Final = ir.VoidType()

Value = Any  # llvmlite has no types of its own for mypy


def constant(value: int) -> Value:
    """An index."""
    return ir.Constant(INT, value)


class Function:
    """One function being written: arguments in `args`, vectors of `lanes` float32."""

    def __init__(
        self,
        module: ir.Module,
        name: str,
        kinds: Sequence[Value],
        *,
        result: Value = NOTHING,
        lanes: int,
        is_public: bool = False,
    ) -> None:
        self.module, self.lanes = module, lanes
        self.vector = ir.VectorType(FLOAT, lanes)
        self.function = ir.Function(module, ir.FunctionType(result, kinds), name)
        self.function.linkage = "external" if is_public else "internal"
        for argument in self.function.args:
            if isinstance(argument.type, ir.PointerType):
                argument.add_attribute("noalias")  # what is written is never read through another argument
        self.args = self.function.args
        self.code = ir.IRBuilder(self.function.append_basic_block("entry"))

    # Numbers and addresses.

    def add(self, a: Value, b: int | Value) -> Value:
        """Sum of indices."""
        return self.code.add(a, constant(b) if isinstance(b, int) else b)

    def times(self, a: Value, b: int | Value) -> Value:
        """Product of indices."""
        return self.code.mul(a, constant(b) if isinstance(b, int) else b)

    def at(self, pointer: Value, index: int | Value) -> Value:
        """The address `index` places behind `pointer`."""
        return self.code.gep(pointer, [constant(index) if isinstance(index, int) else index])

    def variable(self, kind: Value, value: Value | None = None) -> Value:
        """A variable; LLVM keeps it in a register where it can."""
        with self.code.goto_entry_block():
            place = self.code.alloca(kind)
        if value is not None:
            self.code.store(value, place)
        return place

    def smaller(self, a: Value, b: Value) -> Value:
        """Lesser of two indices."""
        return self.code.select(self.code.icmp_signed("<", a, b), a, b)

    @contextmanager
    def loop(self, start: Value, stop: Value, step: int = 1) -> Iterator[Value]:
        """Write what is done for `start`, `start + step`, ... while below `stop`."""
        code, place = self.code, self.variable(INT, start)
        head, body, end = (self.function.append_basic_block(name) for name in ("loop", "body", "end"))
        code.branch(head)
        code.position_at_end(head)
        index = code.load(place)
        code.cbranch(code.icmp_signed("<", index, stop), body, end)
        code.position_at_end(body)
        yield index
        code.store(self.add(index, step), place)
        code.branch(head)
        code.position_at_end(end)

    @contextmanager
    def repeat(self) -> Iterator[Value]:
        """Write what is done again and again, until it branches to the block that is given; what follows goes there."""
        code = self.code
        body, end = (self.function.append_basic_block(name) for name in ("again", "left"))
        code.branch(body)
        code.position_at_end(body)
        yield end
        code.branch(body)
        code.position_at_end(end)

    # Vectors.

    def load(self, pointer: Value) -> Value:
        """The vector at `pointer`, which is a multiple of the vector's size."""
        return self.code.load(self._as_vectors(pointer), align=4 * self.lanes)

    def store(self, vector: Value, pointer: Value) -> None:
        """Write a vector to `pointer`, which is a multiple of the vector's size."""
        self.code.store(vector, self._as_vectors(pointer), align=4 * self.lanes)

    def copy(self, source: Value, target: Value, num_cells: int) -> None:
        """Copy whole vectors."""
        with self.loop(constant(0), constant(num_cells), self.lanes) as cell:
            self.store(self.load(self.at(source, cell)), self.at(target, cell))

    def copy_unaligned(self, source: Value, target: Value, num_cells: int) -> None:
        """Copy cells that begin anywhere and are no whole number of vectors."""
        whole = num_cells // self.lanes * self.lanes
        with self.loop(constant(0), constant(whole), self.lanes) as cell:
            self._move(self.at(source, cell), self.at(target, cell), self.lanes)
        if whole < num_cells:
            self._move(self.at(source, whole), self.at(target, whole), num_cells - whole)

    def everywhere(self, number: float) -> Value:
        """A vector of one number."""
        return ir.Constant(self.vector, [number] * self.lanes)

    def broadcast(self, scalar: Value) -> Value:
        """A vector of one scalar, of whatever type has the size of a cell."""
        kind = ir.VectorType(scalar.type, self.lanes)
        nothing = ir.Constant(kind, ir.Undefined)
        one = self.code.insert_element(nothing, scalar, ir.Constant(ir.IntType(32), 0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), self.lanes), [0] * self.lanes)
        return self.code.shuffle_vector(one, nothing, zeros)

    def fma(self, a: Value, b: Value, c: Value) -> Value:
        """Give a * b + c, rounded once."""
        return self.intrinsic(f"llvm.fma.v{self.lanes}f32", self.vector, a, b, c)

    def clamp(self, x: Value, limit: float) -> Value:
        """Limit x to -limit and limit; NaN stays NaN."""
        code = self.code
        for bound, beyond in ((self.everywhere(limit), ">"), (self.everywhere(-limit), "<")):
            x = code.select(code.fcmp_ordered(beyond, x, bound), bound, x)
        return x

    def is_finite(self, x: Value) -> Value:
        """Whether all lanes are finite, one bit."""
        zero = self.code.fmul(x, self.everywhere(0.0))  # NaN where x is not finite, else a zero
        lanes = self.code.fcmp_ordered("==", zero, self.everywhere(0.0))
        word = self.code.bitcast(lanes, ir.IntType(self.lanes))
        return self.code.icmp_unsigned("==", word, ir.Constant(word.type, -1))

    def intrinsic(self, name: str, result: Value, *args: Value) -> Value:
        """Call one of LLVM's own functions."""
        function = self.module.globals.get(name)
        if function is None:
            function = ir.Function(self.module, ir.FunctionType(result, [a.type for a in args]), name)
        return self.code.call(function, args)

    def _move(self, source: Value, target: Value, num_cells: int) -> None:
        kind = ir.VectorType(FLOAT, num_cells).as_pointer()
        cells = self.code.load(self.code.bitcast(source, kind), align=4)
        self.code.store(cells, self.code.bitcast(target, kind), align=4)

    def _as_vectors(self, pointer: Value) -> Value:
        return self.code.bitcast(pointer, self.vector.as_pointer())
