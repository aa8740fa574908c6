"""Stream names to slots: known streams by one look-up over the batch, strangers one by one, with room made for them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import repeat
from typing import TYPE_CHECKING

import numpy as np

from foretell.config import WhenFull
from foretell.order import ACCEPTED, CODE
from foretell.slots import NOBODY
from foretell.wire import FrameBatch, Refusal, is_valid_name

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from foretell.slots import SlotTable


@dataclass(frozen=True, slots=True)
class Streams:
    """What admission needs to know of the model.

    `num_channels` that every stream must have, None for any; `rows_a_channel` says that each channel takes a row of
    state (else a stream takes one); `can_fill`, that forecasts can stand in for frames; `warm_up` in frames; `num_rows`
    of state that there are in all.
    """

    num_channels: int | None
    rows_a_channel: bool
    can_fill: bool
    warm_up: int
    num_rows: int

    def rows_of(self, num_channels: int) -> int:
        """Rows of state that a stream of `num_channels` channels takes."""
        return num_channels if self.rows_a_channel else 1


@dataclass(frozen=True, slots=True)
class Seats:
    """The seats of a batch's frames, or of the first of them where the others must wait for these to be stepped.

    slot: i64, `NOBODY` where the frame is refused. verdict: u8, see `foretell.order`, of the frames without a slot.
    num_evicted: streams that made room.
    """

    slot: NDArray[np.int64]
    verdict: NDArray[np.uint8]
    num_evicted: int = 0


class Seating:
    """Finds the slots of a batch's streams in `table`."""

    def __init__(self, table: SlotTable, streams: Streams, when_full: WhenFull) -> None:
        self._table = table
        self._streams = streams
        self._may_evict = when_full is WhenFull.EVICT

    def seat(self, batch: FrameBatch, unusable: NDArray[np.uint8] | None, now_ns: int) -> Seats:
        """Seat the streams of a batch received at `now_ns`, those of unusable values only if they have a slot already.

        `unusable` is a verdict over the values of each frame, None where all are usable.
        """
        table, num_frames = self._table, len(batch.names)
        slot = np.fromiter(map(table.by_name.get, batch.names, repeat(NOBODY)), np.int64, num_frames)
        verdict = np.zeros(num_frames, np.uint8)
        seen_ns = np.arange(now_ns, now_ns + num_frames)
        strangers = np.flatnonzero(slot == NOBODY)
        if not strangers.size:
            table.last_seen_ns[slot] = seen_ns
            return Seats(slot, verdict)
        is_known = slot != NOBODY
        table.last_seen_ns[slot[is_known]] = seen_ns[is_known]
        num_evicted = 0
        for index in strangers.tolist():
            name = batch.names[index]
            seat = table.by_name.get(name)  # it may have come earlier in this batch
            if seat is None:
                verdict[index] = self._judge(name, 0 if unusable is None else unusable[index])
                if verdict[index] != ACCEPTED:
                    continue
                num_rows = self._streams.rows_of(batch.values.shape[1])
                num_evicted += self._make_room(num_rows, now_ns)
                if not table.has_room(num_rows):
                    if index and self._may_evict and num_rows <= self._streams.num_rows:
                        # What is full is full of streams of this very batch: they make room once they are stepped.
                        return Seats(slot[:index], verdict[:index], num_evicted)
                    verdict[index] = CODE[Refusal.NO_SLOT]
                    continue
                seat = table.admit(name, batch.values.shape[1], num_rows, now_ns + index)
            slot[index] = seat
            table.last_seen_ns[seat] = now_ns + index
        return Seats(slot, verdict, num_evicted)

    def _judge(self, name: bytes, unusable: int) -> int:
        """The verdict over a stranger: a bad frame takes no slot, so that it can fill or empty none."""
        return unusable if is_valid_name(name) else CODE[Refusal.BAD_SOURCE]

    def _make_room(self, num_rows: int, before_ns: int) -> int:
        """Evict the longest idle streams, none seen since `before_ns`, until a stream of `num_rows` fits; how many."""
        num_evicted = 0
        if self._may_evict and num_rows <= self._streams.num_rows:
            while not self._table.has_room(num_rows):
                idle = self._table.longest_idle(before_ns)
                if idle is None:
                    break
                self._table.evict(idle)
                num_evicted += 1
        return num_evicted
