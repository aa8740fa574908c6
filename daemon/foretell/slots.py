"""The slot table: a stream's seat, what is remembered of its order, and the rows of state that it holds.

Reserved once at its capacity and never grown. Columns are numpy arrays by slot. Streams are admitted and evicted many
at a time, each of them in O(1); finding the longest idle ones costs O(1) on average over many evictions.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

from foretell.wire_types import NAME_MAX_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

NOBODY: Final = -1
"""The slot number of a name that has no slot, in columns of slots."""

_NEVER: Final = np.iinfo(np.int64).max  # when a free slot was last seen: no time lies after it
_NUM_SAMPLES: Final = 2048
_CANDIDATE_SHARE: Final = 16
_MIN_CANDIDATES: Final = 64
_SLACK: Final = 64  # candidates looked at beyond those that are needed, since some were seen meanwhile


class Index(Protocol):
    """Finds slots by their names for machine code; told of every slot that is taken or given up."""

    def enter(self, slots: NDArray[np.int64]) -> None:
        """Take in streams whose names stand in the table's column."""
        ...

    def leave(self, slots: NDArray[np.int64]) -> None:
        """Forget streams whose names still stand there."""
        ...


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
    rows i64 [rows a stream, capacity]: the rows of state, in the order of the channels. A stream of few channels
    touches the first of them only, so that the memory of the others stays untouched.
    names S64: empty where nobody sits. by_name: the slots by name; `index`, where there is one, says the same.
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
        self.rows = np.zeros((max_rows_per_stream, capacity), np.int64)
        self._num_rows_of = np.zeros(capacity, np.int64)
        self.names = np.zeros(capacity, f"S{NAME_MAX_BYTES}")
        self.index: Index | None = None
        self._free_slots = _FreeStack(capacity)
        self._free_rows = _FreeStack(num_rows)
        # Slots and when they were last seen, the longest idle at the end; the first `_num_candidates` are left.
        self._candidates = np.zeros(0, np.int64)
        self._candidates_seen_ns = np.zeros(0, np.int64)
        self._num_candidates = 0

    def __len__(self) -> int:
        return len(self.by_name)

    def name_of(self, slot: int) -> bytes | None:
        """The stream that sits in `slot`."""
        return self.names.item(slot) or None

    def num_fitting(self, num_rows: int) -> int:
        """How many more streams of `num_rows` rows fit."""
        return min(self._free_slots.num_free, self._free_rows.num_free // num_rows)

    def num_to_evict(self, num_streams: int, num_rows: int) -> int:
        """At least so many streams must go before `num_streams` more of `num_rows` rows fit; 0 where they fit."""
        missing_slots = num_streams - self._free_slots.num_free
        missing_rows = num_streams * num_rows - self._free_rows.num_free
        return max(0, missing_slots, -(-missing_rows // len(self.rows)))

    def admit(
        self, names: Sequence[bytes], num_channels: int, num_rows: int, now_ns: int
    ) -> NDArray[np.int64]:
        """Seat new streams of one width, seen at `now_ns`; their slots, i64.

        Their columns are as of streams never seen. The names are distinct and unknown, and there must be room.
        """
        slots = self._free_slots.take(len(names))
        self.by_name.update(zip(names, slots.tolist(), strict=True))
        self.names[slots] = names
        if self.index is not None:
            self.index.enter(slots)
        for column in (
            self.frame,
            self.epoch,
            self.seen,
            self.count,
            self.num_unseen,
            self.run,
            self.run_frame,
        ):
            column[slots] = 0
        for flag in (self.started, self.has_missed, self.must_restart, self.is_steady):
            flag[slots] = False
        self.last_seen_ns[slots] = now_ns
        self.channels[slots] = num_channels
        self._num_rows_of[slots] = num_rows
        self.rows[:num_rows, slots] = self._free_rows.take(len(names) * num_rows).reshape(-1, num_rows).T
        return slots

    def reseat(self, slot: int, num_channels: int, num_rows: int) -> bool:
        """Give a stream the rows for another number of channels; says no, changing nothing, where there are too few."""
        held = int(self._num_rows_of[slot])
        if num_rows > self._free_rows.num_free + held:
            return False
        self._free_rows.give_back(self.rows[:held, slot])
        self.channels[slot] = num_channels
        self._num_rows_of[slot] = num_rows
        self.rows[:num_rows, slot] = self._free_rows.take(num_rows)
        return True

    def evict(self, slots: NDArray[np.int64]) -> None:
        """Forget the streams in these slots: their names, their slots and their rows are free."""
        deque(map(self.by_name.__delitem__, self.names[slots].tolist()), maxlen=0)
        if self.index is not None:
            self.index.leave(np.ascontiguousarray(slots))
        self.names[slots] = b""
        held = self._num_rows_of[slots]
        rows = self.rows[: held.max(initial=0), slots]
        self._free_rows.give_back(rows[np.arange(len(rows))[:, None] < held])
        self._free_slots.give_back(slots)
        self.last_seen_ns[slots] = _NEVER

    def rows_of(self, slots: NDArray[np.int64], num_rows: int) -> NDArray[np.int64]:
        """The rows of streams that hold `num_rows` each, [slots, rows a stream]."""
        return np.ascontiguousarray(self.rows[:num_rows, slots].T)

    def longest_idle(self, num: int, before_ns: int) -> NDArray[np.int64]:
        """The slots of up to `num` streams whose last frames are the oldest, if before `before_ns`; the oldest first.

        `before_ns` never goes back. None only if no stream is so old, but perhaps fewer than there are. One pass over
        the table finds the next many candidates. A stream seen meanwhile is no longer one, and none that is not among
        them can be older than those that remain.
        """
        idle = self._next_candidates(num)
        if not idle.size:
            self._find_candidates(before_ns)
            idle = self._next_candidates(num)
        return idle

    def idle_before(self, time_ns: int, most: int) -> NDArray[np.int64]:
        """The slots of up to `most` streams whose last frame was before `time_ns`."""
        return np.flatnonzero(self.last_seen_ns[: self._free_slots.num_touched] < time_ns)[:most]

    def _next_candidates(self, num: int) -> NDArray[np.int64]:
        """The oldest candidates, the oldest first, up to `num`; none only if there are none. They remain candidates."""
        while self._num_candidates:
            start = max(0, self._num_candidates - num - _SLACK)
            slots = self._candidates[start : self._num_candidates]
            valid = np.flatnonzero(
                self.last_seen_ns[slots] == self._candidates_seen_ns[start : self._num_candidates]
            )
            self._num_candidates = start + (int(valid[-1]) + 1 if valid.size else 0)
            if valid.size:
                return slots[valid[: -num - 1 : -1]]
        return self._candidates[:0]

    def _find_candidates(self, before_ns: int) -> None:
        """Take all streams last seen up to a time that a sample says about a sixteenth were, and before `before_ns`.

        So none that is admitted or seen from now on, at `before_ns` or later, can be older than a candidate.
        """
        seen_ns = self.last_seen_ns[: self._free_slots.num_touched]
        sample = np.sort(seen_ns[:: max(1, len(seen_ns) // _NUM_SAMPLES)])
        share = max(len(sample) // _CANDIDATE_SHARE, _MIN_CANDIDATES)
        limit_ns = min(sample[min(share, len(sample) - 1)], before_ns - 1) if len(sample) else 0
        slots = np.flatnonzero(seen_ns <= limit_ns)
        self._candidates = slots[np.argsort(-seen_ns[slots])]
        self._candidates_seen_ns = seen_ns[self._candidates]
        self._num_candidates = len(slots)


class _FreeStack:
    """Which of the numbers below `num` are free. Those never taken come last, so that their memory stays untouched."""

    def __init__(self, num: int) -> None:
        self.num_free = num
        self.num_touched = 0
        self._returned = np.zeros(num, np.int64)
        self._num_returned = 0

    def take(self, num: int) -> NDArray[np.int64]:
        """Take `num` of them; there must be as many."""
        assert num <= self.num_free
        self.num_free -= num
        num_again = min(num, self._num_returned)
        self._num_returned -= num_again
        again = self._returned[self._num_returned : self._num_returned + num_again].copy()
        if num_again == num:
            return again
        start = self.num_touched
        self.num_touched += num - num_again
        return np.concatenate((again, np.arange(start, self.num_touched)))

    def give_back(self, numbers: NDArray[np.int64]) -> None:
        """These are free again."""
        self.num_free += numbers.size
        self._returned[self._num_returned : self._num_returned + numbers.size] = numbers
        self._num_returned += numbers.size
