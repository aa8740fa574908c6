"""The slot table: seats, rows and the longest idle stream."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from foretell.slots import SlotTable


def admit(table: SlotTable, name: bytes, num_channels: int, num_rows: int, now_ns: int) -> int:
    """Seat one stream; its slot."""
    return int(table.admit([name], num_channels, num_rows, now_ns)[0])


def evict(table: SlotTable, *slots: int) -> None:
    """Evict the streams in these slots."""
    table.evict(np.array(slots))


def test_a_stream_keeps_its_slot_until_it_is_evicted() -> None:
    """A name maps to its slot, and to none after eviction."""
    table = SlotTable(capacity=2, num_rows=2, max_rows_per_stream=1)
    slot = admit(table, b"a", 3, 1, 1)
    assert table.by_name == {b"a": slot}
    assert table.name_of(slot) == b"a"
    evict(table, slot)
    assert len(table) == 0
    assert table.name_of(slot) is None


def test_room_is_bounded_by_slots_and_by_rows() -> None:
    """A stream fits only while both a slot and enough rows are free."""
    table = SlotTable(capacity=2, num_rows=5, max_rows_per_stream=4)
    admit(table, b"a", 3, 3, 1)
    assert (table.num_fitting(1), table.num_fitting(2), table.num_fitting(3)) == (1, 1, 0)
    admit(table, b"b", 1, 1, 2)
    assert table.num_fitting(1) == 0


def test_a_reused_slot_remembers_nothing() -> None:
    """What one stream leaves in the columns of its slot is not there for the next."""
    table = SlotTable(capacity=1, num_rows=1, max_rows_per_stream=1)
    slot = admit(table, b"a", 1, 1, 1)
    for column in (
        table.frame,
        table.epoch,
        table.seen,
        table.count,
        table.num_unseen,
        table.run,
        table.run_frame,
    ):
        column[slot] = 9
    for flag in (table.started, table.has_missed, table.must_restart, table.is_steady):
        flag[slot] = True
    evict(table, slot)
    again = admit(table, b"b", 1, 1, 2)
    assert again == slot
    columns = (
        table.frame, table.epoch, table.seen, table.count, table.num_unseen, table.run, table.run_frame,
        table.started, table.has_missed, table.must_restart, table.is_steady,
    )  # fmt: skip
    assert [int(column[slot]) for column in columns] == [0] * len(columns)


def test_reseating_exchanges_the_rows() -> None:
    """A stream that changes its width holds as many rows as it needs, and the others are free again."""
    table = SlotTable(capacity=2, num_rows=4, max_rows_per_stream=4)
    slot = admit(table, b"a", 3, 3, 1)
    assert table.reseat(slot, 4, 4)
    assert table.num_fitting(1) == 0
    assert table.reseat(slot, 1, 1)
    assert table.num_fitting(3) == 1
    assert table.channels[slot] == 1


def test_reseating_without_room_changes_nothing() -> None:
    """Where the rows do not suffice, the stream stays as it was."""
    table = SlotTable(capacity=2, num_rows=4, max_rows_per_stream=4)
    slot = admit(table, b"a", 2, 2, 1)
    admit(table, b"b", 1, 1, 1)
    before = table.rows[:2, slot].tolist()
    assert not table.reseat(slot, 4, 4)
    assert table.rows[:2, slot].tolist() == before
    assert table.channels[slot] == 2


def test_streams_of_this_moment_are_never_the_longest_idle() -> None:
    """Only a stream last seen before the given time is named."""
    table = SlotTable(capacity=2, num_rows=2, max_rows_per_stream=1)
    admit(table, b"a", 1, 1, 5)
    assert table.longest_idle(1, before_ns=5).size == 0
    assert table.longest_idle(1, before_ns=6).size == 1


@given(st.lists(st.tuples(st.sampled_from(["see", "evict", "admit"]), st.integers(0, 199)), max_size=300))
def test_the_longest_idle_stream_is_found_exactly(actions: list[tuple[str, int]]) -> None:
    """Whatever was seen, admitted and evicted meanwhile, eviction takes the stream with the oldest last frame."""
    table = SlotTable(capacity=150, num_rows=150, max_rows_per_stream=1)
    last_seen: dict[bytes, int] = {}
    for now, (action, number) in enumerate(actions, start=1):
        name = b"%d" % number
        if action == "evict":
            slots = table.longest_idle(1 + number % 7, before_ns=now)
            assert bool(slots.size) == bool(last_seen)
            for slot in slots.tolist():
                evicted = table.name_of(slot)
                assert evicted == min(last_seen, key=last_seen.__getitem__)
                del last_seen[evicted]
            table.evict(slots)
        elif name in table.by_name:
            table.last_seen_ns[table.by_name[name]] = last_seen[name] = now
        elif table.num_fitting(1):
            admit(table, name, 1, 1, now)
            last_seen[name] = now


@given(st.lists(st.integers(1, 5), max_size=40))
def test_no_row_is_ever_held_twice(widths: list[int]) -> None:
    """Rows of seated streams are distinct, through any admissions, evictions and reseatings."""
    table = SlotTable(capacity=8, num_rows=20, max_rows_per_stream=5)
    for number, width in enumerate(widths):
        name = b"%d" % (number % 11)
        if name in table.by_name:
            slot = table.by_name[name]
            table.reseat(slot, width, width) if width % 2 else evict(table, slot)
        elif table.num_fitting(width):
            admit(table, name, width, width, number)
        held = [
            row
            for slot in table.by_name.values()
            for row in table.rows[: table.channels[slot], slot].tolist()
        ]
        assert len(held) == len(set(held))
        assert all(0 <= row < 20 for row in held)
        assert np.all(table.channels >= 0)
