"""Seats: known streams, strangers, and the room that is made for them."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from foretell.choices import WhenFull
from foretell.order import ACCEPTED, CODE
from foretell.seating import Seating, Streams
from foretell.slots import NOBODY, SlotTable
from foretell.wire import FrameBatch, Refusal, is_valid_name

INFINITE = CODE[Refusal.NON_FINITE]


class ReferenceSeating:
    """The rules of seating, once more and one frame at a time: who sits, with how many rows, and since when."""

    def __init__(self, capacity: int, num_rows: int, *, may_evict: bool) -> None:
        self.capacity, self.num_rows, self.may_evict = capacity, num_rows, may_evict
        self.rows_of: dict[bytes, int] = {}
        self.seen: dict[bytes, int] = {}

    def seat(self, sent: list[tuple[bytes, int]], num_rows: int, now_ns: int) -> tuple[list[int], int]:
        """The verdicts over frames of a name and a verdict over their values, as far as seated; how many evicted."""
        num_evicted = 0
        for index, (name, _) in enumerate(sent):
            if name in self.seen:
                self.seen[name] = now_ns + index
        verdicts: list[int] = []
        for index, (name, unusable) in enumerate(sent):
            if name not in self.seen:
                verdict = unusable if is_valid_name(name) else CODE[Refusal.BAD_SOURCE]
                if verdict == ACCEPTED:
                    num_evicted += self._make_room(num_rows, now_ns)
                    if not self._has_room(num_rows):
                        if index and self.may_evict and num_rows <= self.num_rows:
                            return verdicts, num_evicted
                        verdict = CODE[Refusal.NO_SLOT]
                if verdict != ACCEPTED:
                    verdicts.append(verdict)
                    continue
                self.rows_of[name] = num_rows
                self.seen[name] = now_ns + index
            self.seen[name] = max(self.seen[name], now_ns + index)
            verdicts.append(ACCEPTED)
        return verdicts, num_evicted

    def _has_room(self, num_rows: int) -> bool:
        return len(self.seen) < self.capacity and sum(self.rows_of.values()) + num_rows <= self.num_rows

    def _make_room(self, num_rows: int, now_ns: int) -> int:
        num_evicted = 0
        while self.may_evict and num_rows <= self.num_rows and not self._has_room(num_rows):
            idle = min(self.seen, key=self.seen.__getitem__, default=b"")
            if not self.seen or self.seen[idle] >= now_ns:
                break
            del self.seen[idle], self.rows_of[idle]
            num_evicted += 1
        return num_evicted


FRAMES = st.tuples(
    st.sampled_from([b"a", b"b", b"c", b"d", b"e", b"f", b"g", b"\xff"]),
    st.sampled_from([ACCEPTED, ACCEPTED, ACCEPTED, INFINITE]),
)


@settings(max_examples=300)
@given(
    batches=st.lists(
        st.tuples(st.lists(FRAMES, min_size=1, max_size=12), st.integers(1, 3)), min_size=1, max_size=12
    ),
    capacity=st.integers(1, 6),
    num_rows=st.integers(1, 9),
    when_full=st.sampled_from(WhenFull),
)
def test_streams_of_a_batch_are_seated_as_one_after_the_other(
    batches: list[tuple[list[tuple[bytes, int]], int]], capacity: int, num_rows: int, when_full: WhenFull
) -> None:
    """Who gets a seat, who makes room and who is refused does not depend on strangers being seated together."""
    streams = Streams(num_channels=None, rows_a_channel=True, can_fill=True, warm_up=0, num_rows=num_rows)
    table = SlotTable(capacity, num_rows, max_rows_per_stream=3)
    seating = Seating(table, streams, when_full)
    reference = ReferenceSeating(capacity, num_rows, may_evict=when_full is WhenFull.EVICT)
    now_ns = 1
    for sent, num_channels in batches:
        names, unusable = [name for name, _ in sent], np.array([code for _, code in sent], np.uint8)
        n = len(sent)
        batch = FrameBatch(
            names, np.zeros(n, np.uint64), np.zeros(n, np.int64), np.zeros(n, np.uint32),
            np.ones(n, np.bool_), np.ones((n, num_channels), np.float32),
        )  # fmt: skip
        seats = seating.seat(batch, unusable if unusable.any() else None, now_ns)
        verdicts, num_evicted = reference.seat(sent, num_channels, now_ns)
        assert seats.verdict.tolist() == verdicts
        assert seats.num_evicted == num_evicted
        assert [slot != NOBODY for slot in seats.slot.tolist()] == [code == ACCEPTED for code in verdicts]
        assert {name: table.last_seen_ns[slot] for name, slot in table.by_name.items()} == reference.seen
        now_ns += n
