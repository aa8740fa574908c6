"""An index of names as machine code: from 64 bytes to a slot without an object, beside the dictionary of names.

Open addressing, the next place where one is taken, at most half of the places taken. Taking a name out moves those
after it up, so that nothing is left behind and a table of strangers that come and go needs no clearing up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from llvmlite import ir

from foretell.vector_ir import BYTES, INT, INTS, Function, Value, constant

if TYPE_CHECKING:
    from collections.abc import Sequence

ENTER: Final = "enter"
LEAVE: Final = "leave"
"""Names of the functions that are made: see `write_index`."""

NAME_WORDS: Final = 16
"""A name in words of 32 bits."""

HALF: Final = ir.IntType(32)
HALVES: Final = HALF.as_pointer()
INDEX_KINDS: Final = [HALVES, INTS, BYTES, INT, INT]
"""Arguments that say where an index lies: see `write_index`."""

_WORDS: Final = ir.VectorType(HALF, NAME_WORDS)
_PRODUCTS: Final = ir.VectorType(INT, NAME_WORDS)


def write_index(module: ir.Module) -> ir.Function:
    """Write two public functions into the module, and i64 find(index..., name), which is given: the slot, or -1.

    An index is (places i32 [2^k], multipliers i64 [17], names S64 [slots], 64 - k, 2^k - 1). In the place that the hash
    of a slot's name says, or after it, stands the slot + 1; 0 ends the search. Multipliers are random and the hash is
    the strongly universal one of Lemire and Kaser (Strongly universal string hashing is fast, 2014): who does not know
    them cannot choose names that meet in one place.

        void enter(index..., slots, num)
        void leave(index..., slots, num)

    put the slots i64 [num], whose names are in `names`, into the index, or take them out of it.
    """
    for name, write in ((ENTER, _write_enter), (LEAVE, _write_leave)):
        function = Function(module, name, [*INDEX_KINDS, INTS, INT], lanes=1, is_public=True)
        write(function)
        function.code.ret_void()
    return _write_find(module)


class _Index:
    """Words for the index of names."""

    def __init__(self, f: Function, args: Sequence[Value]) -> None:
        self.f = f
        self.places, self.multipliers, self.names, self.shift, self.mask = args

    def name_of(self, slot: Value) -> Value:
        return self.f.at(self.names, self.f.times(slot, 4 * NAME_WORDS))

    def words(self, name: Value) -> Value:
        return self.f.code.load(self.f.code.bitcast(name, _WORDS.as_pointer()), align=1)

    def home(self, words: Value) -> Value:
        """Where the search for a name begins."""
        f, code = self.f, self.f.code
        multipliers = code.load(code.bitcast(self.multipliers, _PRODUCTS.as_pointer()), align=8)
        products = code.mul(code.zext(words, _PRODUCTS), multipliers)
        total = f.intrinsic(f"llvm.vector.reduce.add.v{NAME_WORDS}i64", INT, products)
        return code.lshr(f.add(total, code.load(f.at(self.multipliers, NAME_WORDS))), self.shift)

    def after(self, place: Value) -> Value:
        return self.f.code.and_(self.f.add(place, 1), self.mask)

    def slot_at(self, place: Value) -> Value:
        """The slot that stands there, -1 for none."""
        entry = self.f.code.load(self.f.at(self.places, place))
        return self.f.code.sub(self.f.code.zext(entry, INT), constant(1))

    def put(self, place: Value, slot: Value) -> None:
        self.f.code.store(self.f.code.trunc(self.f.add(slot, 1), HALF), self.f.at(self.places, place))


def _write_find(module: ir.Module) -> ir.Function:
    """Write i64 find(index..., name): the slot of a name of 64 bytes, or -1."""
    f = Function(module, "find", [*INDEX_KINDS, BYTES], result=INT, lanes=1)
    code, index = f.code, _Index(f, f.args[: len(INDEX_KINDS)])
    words = index.words(f.args[len(INDEX_KINDS)])
    place, found = f.variable(INT, index.home(words)), f.variable(INT)
    with f.repeat() as end:
        slot = index.slot_at(code.load(place))
        code.store(slot, found)
        with code.if_then(code.icmp_signed("<", slot, constant(0))):
            code.branch(end)
        differs = code.icmp_unsigned("!=", words, index.words(index.name_of(slot)))
        bits = code.bitcast(differs, ir.IntType(NAME_WORDS))
        with code.if_then(code.icmp_unsigned("==", bits, ir.Constant(bits.type, 0))):
            code.branch(end)
        code.store(index.after(code.load(place)), place)
    code.ret(code.load(found))
    return f.function


def _write_enter(f: Function) -> None:
    code, index = f.code, _Index(f, f.args[: len(INDEX_KINDS)])
    slots, num = f.args[len(INDEX_KINDS) :]
    with f.loop(constant(0), num) as number:
        slot = code.load(f.at(slots, number))
        place = f.variable(INT)
        code.store(index.home(index.words(index.name_of(slot))), place)
        with f.repeat() as end:
            with code.if_then(code.icmp_signed("<", index.slot_at(code.load(place)), constant(0))):
                code.branch(end)
            code.store(index.after(code.load(place)), place)
        index.put(code.load(place), slot)


def _write_leave(f: Function) -> None:
    """Empty the place of each slot, and let those after it move up that are looked for across it."""
    code, index = f.code, _Index(f, f.args[: len(INDEX_KINDS)])
    slots, num = f.args[len(INDEX_KINDS) :]
    with f.loop(constant(0), num) as number:
        slot = code.load(f.at(slots, number))
        gap, place = f.variable(INT), f.variable(INT)
        code.store(index.home(index.words(index.name_of(slot))), gap)
        with f.repeat() as end:
            with code.if_then(code.icmp_signed("==", index.slot_at(code.load(gap)), slot)):
                code.branch(end)
            code.store(index.after(code.load(gap)), gap)
        code.store(code.load(gap), place)
        with f.repeat() as end:
            here = index.after(code.load(place))
            code.store(here, place)
            other = index.slot_at(here)
            with code.if_then(code.icmp_signed("<", other, constant(0))):
                code.branch(end)
            home = index.home(index.words(index.name_of(other)))
            from_home, from_gap = (
                code.and_(code.sub(here, start), index.mask) for start in (home, code.load(gap))
            )
            with code.if_then(code.icmp_unsigned(">=", from_home, from_gap)):
                index.put(code.load(gap), other)
                code.store(here, gap)
        index.put(code.load(gap), constant(-1))
