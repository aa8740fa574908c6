"""Batches as rounds."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from foretell.rounds import _stable_order, group_by_stream, is_run_end, rank_in_stream

SLOTS = st.lists(st.integers(0, 5), min_size=1, max_size=50)


@given(st.lists(st.integers(0, 2**40), max_size=50))
def test_the_order_is_that_of_a_stable_sort(keys: list[int]) -> None:
    """Sorting key and place as one integer keeps equal keys in their order."""
    array = np.array(keys, np.int64)
    assert _stable_order(array).tolist() == np.argsort(array, kind="stable").tolist()


@given(SLOTS)
def test_rank_is_the_number_of_earlier_frames_of_the_stream(slots: list[int]) -> None:
    """A frame's rank counts the frames of its stream that came before it in the batch."""
    at, rank = group_by_stream(np.array(slots), np.arange(len(slots)))
    assert rank.tolist() == [slots[:place].count(slots[place]) for place in at.tolist()]


def test_distinct_streams_stay_in_order_of_arrival() -> None:
    """Where every stream has one frame nothing is sorted."""
    at, rank = group_by_stream(np.array([7, 3, 5]), np.arange(3))
    assert at.tolist() == [0, 1, 2]
    assert rank.tolist() == [0, 0, 0]


def test_rank_restarts_with_each_run() -> None:
    """Neighbours that are equal are counted, and every other begins at 0."""
    assert rank_in_stream(np.array([4, 4, 4, 2, 9, 9])).tolist() == [0, 1, 2, 0, 0, 1]


@given(SLOTS)
def test_the_last_of_a_stream_ends_its_run(slots: list[int]) -> None:
    """Of every stream's frames exactly the last one ends the group."""
    slot = np.array(slots, np.int64)
    at, rank = group_by_stream(slot, np.arange(slot.size))
    last = {number: place for place, number in enumerate(slots)}
    assert at[is_run_end(rank)].tolist() == [last[number] for number in slot[at[rank == 0]].tolist()]
