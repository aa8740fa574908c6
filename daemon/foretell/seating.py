"""Stream names to slots: known streams by one look-up over the batch, strangers together, with room made for them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import repeat
from typing import TYPE_CHECKING

import numpy as np

from foretell.choices import WhenFull
from foretell.order import ACCEPTED, CODE
from foretell.slots import NOBODY
from foretell.wire import FrameBatch, Refusal, is_valid_name

if TYPE_CHECKING:
    from collections.abc import Sequence

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
        table, names = self._table, list(batch.names)
        num_frames = len(names)
        slot = np.fromiter(map(table.by_name.get, names, repeat(NOBODY)), np.int64, num_frames)
        verdict = np.zeros(num_frames, np.uint8)
        seen_ns = np.arange(now_ns, now_ns + num_frames)
        strangers = np.flatnonzero(slot == NOBODY)
        if not strangers.size:
            table.last_seen_ns[slot] = seen_ns
            return Seats(slot, verdict)
        is_known = slot != NOBODY
        table.last_seen_ns[slot[is_known]] = seen_ns[is_known]
        unknown = [names[index] for index in strangers.tolist()]
        return self._seat_strangers(
            unknown, batch.values.shape[1], unusable, Seats(slot, verdict), strangers, now_ns
        )

    def _seat_strangers(
        self,
        names: Sequence[bytes],
        num_channels: int,
        unusable: NDArray[np.uint8] | None,
        seats: Seats,
        strangers: NDArray[np.int64],
        now_ns: int,
    ) -> Seats:
        """Seat the streams without a slot, `names`, whose frames are at `strangers`, in the order in which they came.

        A bad frame takes no slot, so that it can fill or empty none; a stream is seated by its first good one.
        """
        table, slot, verdict = self._table, seats.slot, seats.verdict
        verdict[strangers] = judged = _judge_strangers(
            names, None if unusable is None else unusable[strangers]
        )
        first = _first_places(names, judged)
        num_rows = self._streams.rows_of(num_channels)
        num_evicted = self._make_room(len(first), num_rows, now_ns)
        entering = list(first)[: table.num_fitting(num_rows)]
        table.admit(entering, num_channels, num_rows, now_ns)

        slot[strangers] = seat = np.fromiter(
            map(table.by_name.get, names, repeat(NOBODY)), np.int64, len(names)
        )
        if unusable is not None:
            is_early = np.arange(len(names)) < np.fromiter(
                map(first.get, names, repeat(0)), np.int64, len(names)
            )
            slot[strangers[is_early]] = seat[is_early] = NOBODY
        verdict[strangers[seat != NOBODY]] = (
            ACCEPTED  # what a frame of theirs is refused for is judged in its order
        )
        num_frames = slot.size
        unseated = strangers[(seat == NOBODY) & (judged == ACCEPTED)]
        if unseated.size:
            verdict[unseated] = CODE[Refusal.NO_SLOT]
            if self._may_evict and num_rows <= self._streams.num_rows and unseated[-1]:
                # What is full is full of streams of this very batch: they make room once they are stepped.
                num_frames = int(unseated[unseated > 0][0])
        seated = strangers[(seat != NOBODY) & (strangers < num_frames)]
        table.last_seen_ns[slot[seated]] = now_ns + seated
        return Seats(slot[:num_frames], verdict[:num_frames], num_evicted)

    def _make_room(self, num_streams: int, num_rows: int, before_ns: int) -> int:
        """Evict the longest idle streams, none seen since `before_ns`, until `num_streams` more of `num_rows` rows fit.

        Or until none is left; how many there were.
        """
        if not self._may_evict or num_rows > self._streams.num_rows:
            return 0
        num_evicted = 0
        while num := self._table.num_to_evict(num_streams, num_rows):
            idle = self._table.longest_idle(num, before_ns)
            if not idle.size:
                break
            self._table.evict(idle)
            num_evicted += idle.size
        return num_evicted


def _judge_strangers(names: Sequence[bytes], unusable: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
    """The verdicts over frames of unknown streams, by their names and their values."""
    verdict = np.zeros(len(names), np.uint8) if unusable is None else unusable
    is_valid = {name: is_valid_name(name) for name in names}
    if not all(is_valid.values()):
        verdict[~np.fromiter(map(is_valid.__getitem__, names), np.bool_, len(names))] = CODE[
            Refusal.BAD_SOURCE
        ]
    return verdict


def _first_places(names: Sequence[bytes], verdict: NDArray[np.uint8]) -> dict[bytes, int]:
    """Where each stream's first good frame is, in the order of these."""
    first: dict[bytes, int] = {}
    for place in np.flatnonzero(verdict == ACCEPTED).tolist():
        first.setdefault(names[place], place)
    return first
