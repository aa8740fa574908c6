"""The slot table: a stream's seat, what is remembered of its order, and the rows of state that it holds.

Reserved once at its capacity and never grown. Columns are numpy arrays by slot; admitting and evicting cost O(1), and
finding the longest idle stream costs O(1) on average over many evictions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

NOBODY: Final = -1
"""The slot number of a name that has no slot, in columns of slots."""

_MIN_CANDIDATES: Final = 64


class SlotTable:
    """Slots by stream name, with at most `capacity` streams and `num_rows` rows of state among them.

    The columns are for `foretell.admit` and `foretell.order` to read and write:

    frame u64, epoch u32: the last number taken and the epoch that it counts in; valid where `started`.
    channels u16: channels of the stream.
    seen i64: frames stepped since the state began. count u64: forecasts made since the stream was admitted.
    num_unseen u64: numbers since the last step that the state did not see, be they missed or refused for their values.
    has_missed bool: some of these were missed. must_restart bool: the state begins anew with the next accepted frame.
    run i32, run_frame u64: how many frames in a row were refused as behind with numbers ascending by one, and the last.
    is_steady bool: nothing of the last four rows is pending, so that the next frame is simply the next number.
    last_seen_ns i64: monotonic time of the last frame; frames of one batch lie 1 ns apart, in their order.
    rows i64 [capacity, rows a stream]: the rows of state, in the order of the channels.
    """

    def __init__(self, capacity: int, num_rows: int, max_rows_per_stream: int) -> None:
        self.capacity = capacity
        self.by_name: dict[bytes, int] = {}
        self.frame = np.zeros(capacity, np.uint64)
        self.epoch = np.zeros(capacity, np.uint32)
        self.started = np.zeros(capacity, np.bool_)
        self.channels = np.zeros(capacity, np.uint16)
        self.seen = np.zeros(capacity, np.int64)
        self.count = np.zeros(capacity, np.uint64)
        self.num_unseen = np.zeros(capacity, np.uint64)
        self.has_missed = np.zeros(capacity, np.bool_)
        self.must_restart = np.zeros(capacity, np.bool_)
        self.run = np.zeros(capacity, np.int32)
        self.run_frame = np.zeros(capacity, np.uint64)
        self.is_steady = np.zeros(capacity, np.bool_)
        self.last_seen_ns = np.zeros(capacity, np.int64)
        self.rows = np.zeros((capacity, max_rows_per_stream), np.int64)
        self._num_rows_of = np.zeros(capacity, np.int64)
        self._names: list[bytes | None] = [None] * capacity
        self._free_slots: list[int] = []
        self._num_slots_used = 0
        self._free_rows = _RowStack(num_rows)
        self._candidates: list[tuple[int, int]] = []  # (last seen, slot), the longest idle at the end

    def __len__(self) -> int:
        return len(self.by_name)

    def name_of(self, slot: int) -> bytes | None:
        """The stream that sits in `slot`."""
        return self._names[slot]

    def has_room(self, num_rows: int) -> bool:
        """Whether one more stream of `num_rows` rows fits."""
        return len(self.by_name) < self.capacity and num_rows <= self._free_rows.num_free

    def admit(self, name: bytes, num_channels: int, num_rows: int, now_ns: int) -> int:
        """Seat a new stream, with all its columns as of a stream never seen; there must be room for it."""
        if self._free_slots:
            slot = self._free_slots.pop()
        else:
            slot = self._num_slots_used
            self._num_slots_used += 1
        self.by_name[name] = slot
        self._names[slot] = name
        self.frame[slot] = self.epoch[slot] = self.seen[slot] = self.count[slot] = 0
        self.num_unseen[slot] = self.run[slot] = self.run_frame[slot] = 0
        self.started[slot] = self.has_missed[slot] = self.must_restart[slot] = self.is_steady[slot] = False
        self.last_seen_ns[slot] = now_ns
        self._take_rows(slot, num_channels, num_rows)
        return slot

    def reseat(self, slot: int, num_channels: int, num_rows: int) -> bool:
        """Give a stream the rows for another number of channels; says no, changing nothing, where there are too few."""
        held = int(self._num_rows_of[slot])
        if num_rows > self._free_rows.num_free + held:
            return False
        self._free_rows.give_back(self.rows[slot, :held])
        self._take_rows(slot, num_channels, num_rows)
        return True

    def evict(self, slot: int) -> None:
        """Forget a stream: its name, its slot and its rows are free."""
        name = self._names[slot]
        assert name is not None
        del self.by_name[name]
        self._names[slot] = None
        self._free_rows.give_back(self.rows[slot, : self._num_rows_of[slot]])
        self._num_rows_of[slot] = 0
        self._free_slots.append(slot)

    def longest_idle(self, before_ns: int) -> int | None:
        """The stream whose last frame is the oldest, if that was before `before_ns`.

        One pass over the table finds the next many candidates in order. A stream seen meanwhile is no longer one, and
        none that is not among them can be older than those that remain.
        """
        if not self._is_candidate_left():
            self._find_candidates()
        if not self._is_candidate_left():
            return None
        last_seen_ns, slot = self._candidates[-1]
        return slot if last_seen_ns < before_ns else None

    def idle_before(self, time_ns: int) -> list[int]:
        """The streams whose last frame was before `time_ns`."""
        used = self.last_seen_ns[: self._num_slots_used]
        return [slot for slot in np.flatnonzero(used < time_ns).tolist() if self._names[slot] is not None]

    def _take_rows(self, slot: int, num_channels: int, num_rows: int) -> None:
        self.channels[slot] = num_channels
        self._num_rows_of[slot] = num_rows
        self.rows[slot, :num_rows] = self._free_rows.take(num_rows)

    def _is_candidate_left(self) -> bool:
        candidates = self._candidates
        while candidates:
            last_seen_ns, slot = candidates[-1]
            if self._names[slot] is not None and self.last_seen_ns[slot] == last_seen_ns:
                return True
            candidates.pop()
        return False

    def _find_candidates(self) -> None:
        seated = np.fromiter(self.by_name.values(), np.int64, len(self.by_name))
        seen = self.last_seen_ns[seated]
        num = min(len(seated), max(_MIN_CANDIDATES, len(seated) // 64))
        if num < len(seated):
            oldest = np.argpartition(seen, num - 1)[:num]
            seated, seen = seated[oldest], seen[oldest]
        newest_first = np.argsort(-seen, kind="stable")
        self._candidates = list(zip(seen[newest_first].tolist(), seated[newest_first].tolist(), strict=True))


class _RowStack:
    """Which rows are free. Rows never used come last, so that untouched memory stays untouched."""

    def __init__(self, num_rows: int) -> None:
        self.num_free = num_rows
        self._num_touched = 0
        self._returned: list[int] = []

    def take(self, num: int) -> list[int]:
        assert num <= self.num_free
        self.num_free -= num
        start = len(self._returned) - num
        if start >= 0:
            taken = self._returned[start:]
            del self._returned[start:]
            return taken
        taken, self._returned = self._returned, []
        num_new = num - len(taken)
        taken.extend(range(self._num_touched, self._num_touched + num_new))
        self._num_touched += num_new
        return taken

    def give_back(self, rows: NDArray[np.int64]) -> None:
        self.num_free += rows.size
        self._returned.extend(rows[::-1].tolist())
