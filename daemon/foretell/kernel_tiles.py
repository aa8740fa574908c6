"""Tiles of the kernel: a few rows times one vector of hidden units or outputs, computed in registers.

With z the gates' sums, sigma(z) = (1 + tanh(z / 2)) / 2 and tanh a ratio of two polynomials p / q (below), the step

    c' = sigma(z_f) c + sigma(z_i) tanh(z_g)        h' = sigma(z_o) tanh(c')

(S. Hochreiter and J. Schmidhuber, "Long short-term memory", 1997, with the forget gate of F. Gers et al., 2000, as in
`torch.nn.LSTM`) needs two divisions: its terms are brought to a common denominator.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from llvmlite import ir

from foretell.choices import Precision
from foretell.kernel_layout import GATES, Layout, Target
from foretell.vector_ir import CELLS, INT, Function, Value, constant

if TYPE_CHECKING:
    from collections.abc import Sequence

TANH_LIMIT: Final = 9.0
TANH_P: Final = (
    0.9999999063672301,
    0.1337319364236168,
    0.0034865770133268464,
    2.047174900721061e-05,
    1.3184111488572205e-08,
)
TANH_Q: Final = (
    1.0,
    0.4670649050923565,
    0.0258419607836171,
    0.0003271377333990181,
    7.702617225020435e-07,
)
"""tanh x = x P(x^2) / Q(x^2) within 2e-8 for |x| <= 9, where tanh is 1 to float32. Found by weighted least squares on
the linearised error, the weights raised where it was largest until it was even (C. Lawson, 1961; H. Loeb, 1957)."""

_SPLIT_CELLS: Final = 2  # cells of a loop's body


class Float32:
    """Operands are float32, one a cell."""

    cell = ir.FloatType()

    def multiply_add(self, f: Function, scalar: Value, weights: Value, total: Value) -> Value:
        """Add one cell's product to the sums of a vector: one row's operand with a vector of weights."""
        return f.fma(f.broadcast(scalar), weights, total)


class Bfloat(ir.Type):  # type: ignore[misc]
    """LLVM's bfloat, which llvmlite does not name."""

    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Bfloat)

    def __hash__(self) -> int:
        return hash(Bfloat)


class Bfloat16:
    """Operands are bfloat16, two a cell: the first in the lower half."""

    cell = ir.IntType(32)

    def __init__(self, target: Target) -> None:
        self._is_native = target.has_bfloat16 and target.lanes == 16

    def multiply_add(self, f: Function, scalar: Value, weights: Value, total: Value) -> Value:
        """Add one cell's two products to the sums of a vector: one row's operands with a vector of weights."""
        pairs = f.broadcast(scalar)
        if self._is_native:
            kind = ir.VectorType(Bfloat(), 2 * f.lanes)
            a, b = (f.code.bitcast(cells, kind) for cells in (pairs, weights))
            return f.intrinsic("llvm.x86.avx512bf16.dpbf16ps.512", f.vector, total, a, b)
        weights = f.code.bitcast(weights, pairs.type)
        shift, mask = (ir.Constant(pairs.type, [number] * f.lanes) for number in (16, -(1 << 16)))
        first = f.code.shl(pairs, shift), f.code.shl(weights, shift)
        second = f.code.and_(pairs, mask), f.code.and_(weights, mask)
        for cells in (first, second):
            a, b = (f.code.bitcast(half, f.vector) for half in cells)
            total = f.fma(a, b, total)
        return total


Operands = Float32 | Bfloat16


def operands_of(layout: Layout, target: Target) -> Operands:
    """How the layout's operands are multiplied."""
    return Bfloat16(target) if layout.precision is Precision.BFLOAT16 else Float32()


def write_layer_tile(
    module: ir.Module, layout: Layout, target: Target, operands: Operands, rows: int
) -> ir.Function:
    """A layer's step for `rows` rows and one vector of units.

    Arguments: x, its cells and stride a row; h; weights and biases of these units; their c; where their h goes, as
    float32 and as an operand.
    """
    kinds = [CELLS, INT, INT, *[CELLS] * 6]
    f = Function(module, f"layer_{rows}", kinds, lanes=target.lanes)
    x, x_cells, x_stride, h, weights, biases, c, h_next, operand = f.args
    h_cells = layout.operand_cells(layout.units)
    sums = []
    for _ in range(rows):
        sums.append([f.variable(f.vector) for _ in range(GATES)])
        for gate, place in enumerate(sums[-1]):
            f.code.store(f.load(f.at(biases, gate * f.lanes)), place)
    x_rows = [f.at(x, f.times(x_stride, row)) for row in range(rows)]
    h_rows = [f.at(h, row * h_cells) for row in range(rows)]
    with f.loop(constant(0), x_cells) as cell:
        _add_products(f, operands, sums, x_rows, weights, cell)
    weights = f.at(weights, f.times(x_cells, GATES * f.lanes))
    with f.loop(constant(0), constant(h_cells), _SPLIT_CELLS) as cell:
        for k in range(_SPLIT_CELLS):
            _add_products(f, operands, sums, h_rows, weights, f.add(cell, k))
    for row in range(rows):
        c_row = f.at(c, row * layout.units)
        h_new, c_new = _gate(f, [f.code.load(place) for place in sums[row]], f.load(c_row))
        f.store(c_new, c_row)
        if isinstance(operands, Bfloat16):
            f.store(h_new, f.at(h_next, row * layout.units))
            halves = f.code.fptrunc(h_new, ir.VectorType(Bfloat(), f.lanes))
            place = f.code.bitcast(f.at(operand, row * h_cells), halves.type.as_pointer())
            f.code.store(halves, place, align=2 * f.lanes)
        else:
            f.store(h_new, f.at(operand, row * h_cells))
    f.code.ret_void()
    return f.function


def _add_products(
    f: Function,
    operands: Operands,
    sums: Sequence[Sequence[Value]],
    sources: Sequence[Value],
    weights: Value,
    cell: Value,
) -> None:
    """Add one cell's products to the sums of every row: one vector of weights for each of a row's sums."""
    num_vectors = len(sums[0])
    vectors = [f.load(f.at(weights, f.times(cell, num_vectors * f.lanes)))]
    vectors += [
        f.load(f.at(weights, f.add(f.times(cell, num_vectors * f.lanes), place * f.lanes)))
        for place in range(1, num_vectors)
    ]
    for source, row_sums in zip(sources, sums, strict=True):
        scalar = f.code.load(f.code.bitcast(f.at(source, cell), operands.cell.as_pointer()))
        for vector, place in zip(vectors, row_sums, strict=True):
            total = operands.multiply_add(f, scalar, vector, f.code.load(place))
            f.code.store(total, place)


def _gate(f: Function, sums: Sequence[Value], c: Value) -> tuple[Value, Value]:
    """The new h and c of one vector of units; the sums of the sigmoid gates come halved."""
    code, two = f.code, f.everywhere(2.0)
    (p_i, q_i), (p_f, q_f), (p_g, q_g), (p_o, q_o) = (_tanh(f, total) for total in sums)
    q_ig = code.fmul(q_i, q_g)
    kept = code.fmul(code.fmul(code.fadd(q_f, p_f), c), q_ig)
    both = f.fma(code.fmul(code.fadd(q_i, p_i), p_g), q_f, kept)
    c_new = code.fdiv(both, code.fmul(code.fmul(q_f, q_ig), two))
    p_c, q_c = _tanh(f, c_new)
    h_new = code.fdiv(
        code.fmul(code.fadd(q_o, p_o), p_c),
        code.fmul(code.fmul(q_o, q_c), two),
    )
    return h_new, c_new


def _tanh(f: Function, x: Value) -> tuple[Value, Value]:
    """Numerator and denominator of tanh x."""
    x = f.clamp(x, TANH_LIMIT)
    square = f.code.fmul(x, x)
    p, q = (_polynomial(f, square, coefficients) for coefficients in (TANH_P, TANH_Q))
    return f.code.fmul(p, x), q


def _polynomial(f: Function, x: Value, coefficients: Sequence[float]) -> Value:
    total = f.everywhere(coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        total = f.fma(total, x, f.everywhere(coefficient))
    return total


def write_output_tile(
    module: ir.Module, layout: Layout, target: Target, operands: Operands, rows: int
) -> ir.Function:
    """The output layer for `rows` rows. Arguments: h as operands, weights, biases, y [rows, outputs]."""
    f = Function(module, f"output_{rows}", [CELLS] * 4, lanes=target.lanes)
    h, weights, biases, y = f.args
    h_cells = layout.operand_cells(layout.units)
    h_rows = [f.at(h, row * h_cells) for row in range(rows)]
    with f.loop(constant(0), constant(layout.outputs), f.lanes) as output:
        sums = [[f.variable(f.vector, f.load(f.at(biases, output)))] for _ in range(rows)]
        of_output = f.at(weights, f.times(output, h_cells))
        with f.loop(constant(0), constant(h_cells), _SPLIT_CELLS) as cell:
            for k in range(_SPLIT_CELLS):
                _add_products(f, operands, sums, h_rows, of_output, f.add(cell, k))
        for row, (place,) in enumerate(sums):
            f.store(f.code.load(place), f.at(f.at(y, row * layout.outputs), output))
    f.code.ret_void()
    return f.function
