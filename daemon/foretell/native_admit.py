"""The admission of `foretell.kernel_admit`, compiled for this processor and run on the slot table's memory."""

from __future__ import annotations

import ctypes
import functools
import secrets
from typing import TYPE_CHECKING, Final

import numpy as np

from foretell.admission import Accepted, Admission
from foretell.kernel_admit import ADMIT, write_admission
from foretell.kernel_index import ENTER, LEAVE, NAME_WORDS
from foretell.machine_code import compile_module
from foretell.rounds import Steps
from foretell.wire import FrameBatch, Names

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from foretell.seating import Streams
    from foretell.slots import SlotTable

_WORD_BITS: Final = 64
_INDEX: Final = [*[ctypes.c_void_p] * 3, *[ctypes.c_int64] * 2]
_ADMIT: Final = [*_INDEX, *[ctypes.c_void_p] * 21, *[ctypes.c_int64] * 6]
_SEAT: Final = [*_INDEX, ctypes.c_void_p, ctypes.c_int64]


class Code:
    """Machine code of the module of `write_admission`; holds the memory that it lies in. It keeps the GIL."""

    def __init__(self) -> None:
        self._engine = compile_module(write_admission())
        find = self._engine.get_function_address
        self.admit = ctypes.PYFUNCTYPE(ctypes.c_int64, *_ADMIT)(find(ADMIT))
        self.enter, self.leave = (ctypes.PYFUNCTYPE(None, *_SEAT)(find(name)) for name in (ENTER, LEAVE))


@functools.cache
def compile_code() -> Code:
    """The machine code, compiled once in a process: it is the same for every model and table."""
    return Code()


class NameIndex:
    """Finds slots by their names: see `foretell.slots.Index`."""

    def __init__(self, code: Code, names: NDArray[np.bytes_]) -> None:
        num_bits = max(1, (2 * names.size - 1).bit_length())  # so that at most half of the places are taken
        self._code, self._names = code, names
        self._places = np.zeros(1 << num_bits, np.int32)
        self._multipliers = np.frombuffer(secrets.token_bytes(8 * (NAME_WORDS + 1)), np.int64)
        arrays = (self._places, self._multipliers, names)
        self.where = (
            *(array.ctypes.data for array in arrays), _WORD_BITS - num_bits, (1 << num_bits) - 1,
        )  # fmt: skip

    def enter(self, slots: NDArray[np.int64]) -> None:
        """See `foretell.slots.Index`."""
        self._code.enter(*self.where, slots.ctypes.data, slots.size)

    def leave(self, slots: NDArray[np.int64]) -> None:
        """See `foretell.slots.Index`."""
        self._code.leave(*self.where, slots.ctypes.data, slots.size)


class NativeAdmission:
    """Judges batches that call for nothing but their order, and notes them down in `table`; no one else indexes it.

    Raises RuntimeError where LLVM refuses.
    """

    def __init__(self, table: SlotTable, streams: Streams) -> None:
        self._code = compile_code()
        self._streams = streams
        table.index = index = NameIndex(self._code, table.names)
        self._latest = np.zeros(table.capacity, np.int64)
        columns = (
            table.frame, table.epoch, table.channels, table.seen, table.count, table.is_steady,
            table.last_seen_ns, table.rows, self._latest,
        )  # fmt: skip
        self._table_at = (*index.where, *(column.ctypes.data for column in columns))
        self._sizes = table.capacity, streams.warm_up
        self._room = np.zeros(0, np.int64)

    def admit(self, batch: FrameBatch, now_ns: int) -> Admission | None:
        """The admission of a batch received at `now_ns`; None, with nothing noted, where it takes more than this."""
        num, num_channels = batch.values.shape
        if (
            not isinstance(batch.names, Names)
            or self._streams.num_channels not in (None, num_channels)
            or not np.isfinite(batch.values).all()
        ):
            return None
        num_rows = self._streams.rows_of(num_channels)
        if self._room.size < 3 * num:
            self._room = np.empty(3 * num, np.int64)
        slot, frame_of, ends = np.empty((3, num), np.int64)
        number, count = np.empty((2, num), np.uint64)
        flags, rows = np.empty(num, np.uint16), np.empty((num, num_rows), np.int64)
        columns = (
            batch.names.column, batch.frame, batch.epoch, batch.unnumbered,
            slot, number, flags, count, rows, frame_of, ends, self._room,
        )  # fmt: skip
        num_rounds: int = self._code.admit(
            *self._table_at,
            *[column.ctypes.data for column in columns],
            *self._sizes,
            *(num, num_channels, num_rows, now_ns),
        )
        if not num_rounds:
            return None
        is_single = num_rounds == 1
        values = batch.values if is_single else np.take(batch.values, frame_of, axis=0)
        steps = Steps(rows, values, ends[:num_rounds].tolist(), num, frame=None if is_single else frame_of)
        return Admission(
            Accepted(
                names=batch.names,
                slot=slot,
                frame=number,
                timestamp_ns=batch.timestamp_ns,
                epoch=batch.epoch,
                flags=flags,
                count=count,
                values=batch.values,
                steps=steps,
            )
        )
