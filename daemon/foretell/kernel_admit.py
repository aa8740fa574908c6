"""Admission as machine code: a batch of which every frame is simply the next one of a known stream, in one pass.

Nearly every batch is such a one. What `foretell.admit` finds out by sorting and by columns is found here by looking at
each frame once: its stream's slot by an index of names, its number by how many frames of the stream came before it.
Nothing is noted in the table before all of them were looked at, so that any other batch can still go the general way.
"""

from __future__ import annotations

from typing import Final

from llvmlite import ir

from foretell.kernel_index import HALVES, INDEX_KINDS, NAME_WORDS, write_index
from foretell.vector_ir import BYTE, BYTES, INT, INTS, Function, Value, constant
from foretell.wire import Flag

ADMIT: Final = "admit"
"""Name of the function that is made: see `write_admission`."""

_SHORT: Final = ir.IntType(16)
_SHORTS: Final = _SHORT.as_pointer()

_TABLE: Final = [INTS, HALVES, _SHORTS, INTS, INTS, BYTES, INTS, INTS, INTS]
_BATCH: Final = [BYTES, INTS, HALVES, BYTES, INTS, INTS, _SHORTS, INTS, INTS, INTS, INTS, INTS]


def write_admission() -> str:
    """Write the module as text, with the functions of `write_index` and one more; all arrays are C-contiguous.

        i64 admit(index..., frame, epoch, channels, seen, count, is_steady, last_seen_ns, rows, latest,
                  names, frame, epoch, unnumbered, slot, number, flags, count, step_rows, step_frame, ends, room,
                  capacity, warm_up, num_frames, num_channels, num_rows, now_ns)

    It judges a batch by the columns of the table (see `foretell.slots`; `latest` i64 [slots] is 0 before and after). It
    gives 0, with nothing noted, where any frame calls for more than that; else the number of rounds. Then the table is
    up to date, slot, number, flags and count are written by frame, and by step its rows i64 [steps, num_rows] and the
    frame that it is made for; ends says where each round ends. Rounds hold their streams in order of first arrival.
    Room is i64 [3, num_frames].
    """
    module = ir.Module("foretell admission")
    _AdmitWriter(module, write_index(module)).write()
    return str(module)


class _AdmitWriter:
    """Writes the public function: look at every frame, then note down what was found, stream by stream."""

    def __init__(self, module: ir.Module, find: ir.Function) -> None:
        kinds = [*INDEX_KINDS, *_TABLE, *_BATCH, *[INT] * 6]
        self.f = Function(module, ADMIT, kinds, result=INT, lanes=1, is_public=True)
        self.find = find
        args = list(self.f.args)
        self.index, args = args[: len(INDEX_KINDS)], args[len(INDEX_KINDS) :]
        self.last, self.epochs, self.channels, self.seen, self.counts = args[:5]
        self.is_steady, self.last_seen, self.rows, self.latest = args[5 : len(_TABLE)]
        args = args[len(_TABLE) :]
        self.names, self.frame, self.epoch, self.unnumbered, self.slot, self.number = args[:6]
        self.flags, self.count, self.step_rows, self.step_frame, self.ends, room = args[6 : len(_BATCH)]
        self.capacity, self.warm_up, self.num, self.num_channels, self.num_rows, self.now = args[
            len(_BATCH) :
        ]
        # By frame: its rank among its stream's, and the next of these, 0 for none; the streams by their first frames.
        self.rank, self.next, self.first = (
            self.f.at(room, self.f.times(self.num, part)) for part in range(3)
        )
        self.num_rounds, self.num_streams = (self.f.variable(INT, constant(0)) for _ in range(2))

    def write(self) -> None:
        code = self.f.code
        self._look()
        self._begin_rounds()
        with self.f.loop(constant(0), code.load(self.num_streams)) as stream:
            self._note(code.load(self.f.at(self.first, stream)))
        code.ret(code.load(self.num_rounds))

    def _get(self, column: Value, place: Value) -> Value:
        return self.f.code.load(self.f.at(column, place))

    def _put(self, value: Value, column: Value, place: Value) -> None:
        self.f.code.store(value, self.f.at(column, place))

    def _look(self) -> None:
        """Find every frame's slot, number and rank; leave with 0 at the first that is not simply the next."""
        f, code = self.f, self.f.code
        one, nothing = constant(1), constant(0)
        with f.loop(nothing, self.num) as at:
            slot = code.call(self.find, [*self.index, f.at(self.names, f.times(at, 4 * NAME_WORDS))])
            with code.if_then(code.icmp_signed("<", slot, nothing), likely=False):
                self._give_up(at)
            latest = self._get(self.latest, slot)
            is_first = code.icmp_signed("==", latest, nothing)
            before = code.select(is_first, nothing, code.sub(latest, one))
            last = code.select(is_first, self._get(self.last, slot), self._get(self.number, before))
            rank = code.select(is_first, nothing, f.add(self._get(self.rank, before), 1))
            number = f.add(last, 1)
            conditions = [
                code.icmp_unsigned("!=", self._get(self.is_steady, slot), ir.Constant(BYTE, 0)),
                code.icmp_unsigned("==", code.zext(self._get(self.channels, slot), INT), self.num_channels),
                code.icmp_unsigned("==", self._get(self.epochs, slot), self._get(self.epoch, at)),
                code.icmp_unsigned("!=", number, nothing),  # after the largest number comes none
                code.or_(
                    code.icmp_unsigned("!=", self._get(self.unnumbered, at), ir.Constant(BYTE, 0)),
                    code.icmp_unsigned("==", self._get(self.frame, at), number),
                ),
            ]
            is_simple = conditions[0]
            for condition in conditions[1:]:
                is_simple = code.and_(is_simple, condition)
            with code.if_then(code.not_(is_simple), likely=False):
                self._give_up(at)
            for value, column in ((slot, self.slot), (number, self.number), (rank, self.rank)):
                self._put(value, column, at)
            self._put(nothing, self.next, at)
            with code.if_else(is_first) as (when_first, when_not):
                with when_first:
                    num_streams = code.load(self.num_streams)
                    self._put(at, self.first, num_streams)
                    code.store(f.add(num_streams, 1), self.num_streams)
                with when_not:
                    self._put(at, self.next, before)
            self._put(f.add(at, 1), self.latest, slot)
            with code.if_then(code.icmp_signed("==", rank, code.load(self.num_rounds))):
                self._put(nothing, self.ends, rank)
                code.store(f.add(rank, 1), self.num_rounds)
            self._put(f.add(self._get(self.ends, rank), 1), self.ends, rank)

    def _give_up(self, num_looked: Value) -> None:
        """Leave no trace of the frames that were looked at, and return."""
        with self.f.loop(constant(0), num_looked) as at:
            self._put(constant(0), self.latest, self._get(self.slot, at))
        self.f.code.ret(constant(0))

    def _begin_rounds(self) -> None:
        """From the sizes of the rounds to where each begins; filling them moves that on to where they end."""
        f, code = self.f, self.f.code
        start = f.variable(INT, constant(0))
        with f.loop(constant(0), code.load(self.num_rounds)) as number:
            size = self._get(self.ends, number)
            self._put(code.load(start), self.ends, number)
            code.store(code.add(code.load(start), size), start)

    def _note(self, first: Value) -> None:
        """All frames of a stream: what is published of them, their steps, and what the table remembers."""
        f, code = self.f, self.f.code
        slot = self._get(self.slot, first)
        at, latest = f.variable(INT), f.variable(INT)
        seen, count = f.variable(INT), f.variable(INT)
        code.store(first, at)
        code.store(self._get(self.seen, slot), seen)
        code.store(self._get(self.counts, slot), count)
        with f.repeat() as end:
            frame = code.load(at)
            code.store(frame, latest)
            for number in (seen, count):
                code.store(f.add(code.load(number), 1), number)
            self._put(code.load(count), self.count, frame)
            self._put(self._flags_of(frame, code.load(seen)), self.flags, frame)
            self._lay_out(frame, slot)
            following = self._get(self.next, frame)
            code.store(following, at)
            with code.if_then(code.icmp_signed("==", following, constant(0))):
                code.branch(end)
        last = code.load(latest)
        self._put(code.load(seen), self.seen, slot)
        self._put(code.load(count), self.counts, slot)
        self._put(self._get(self.number, last), self.last, slot)
        self._put(code.add(self.now, last), self.last_seen, slot)
        self._put(constant(0), self.latest, slot)

    def _flags_of(self, frame: Value, seen: Value) -> Value:
        code, none = self.f.code, ir.Constant(_SHORT, 0)
        is_warming = code.icmp_signed("<", seen, self.warm_up)
        unnumbered = code.zext(self._get(self.unnumbered, frame), _SHORT)
        return code.or_(
            code.select(is_warming, ir.Constant(_SHORT, int(Flag.WARMING)), none),
            code.mul(unnumbered, ir.Constant(_SHORT, int(Flag.UNNUMBERED))),
        )

    def _lay_out(self, frame: Value, slot: Value) -> None:
        """Append the frame's step to its round."""
        f = self.f
        rank = self._get(self.rank, frame)
        place = self._get(self.ends, rank)
        self._put(f.add(place, 1), self.ends, rank)
        self._put(frame, self.step_frame, place)
        first = f.times(place, self.num_rows)
        with f.loop(constant(0), self.num_rows) as row:
            held = self._get(self.rows, f.code.add(f.times(row, self.capacity), slot))
            self._put(held, self.step_rows, f.add(first, row))
