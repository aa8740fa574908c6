"""Batches as rounds."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from foretell.rounds import _stable_order, group_by_stream, rank_in_stream, split_rounds

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


@given(SLOTS)
def test_a_round_holds_no_stream_twice(slots: list[int]) -> None:
    """Rounds are all frames, each once, no stream twice in one round, and every stream in order."""
    at, rank = group_by_stream(np.array(slots), np.arange(len(slots)))
    rounds = split_rounds(np.arange(len(slots)), rank)
    assert sorted(at[np.concatenate(rounds)].tolist()) == list(range(len(slots)))
    for part in rounds:
        streams = [slots[place] for place in at[part].tolist()]
        assert len(streams) == len(set(streams))


def test_distinct_streams_stay_in_order_of_arrival() -> None:
    """Where every stream has one frame nothing is sorted."""
    at, rank = group_by_stream(np.array([7, 3, 5]), np.arange(3))
    assert at.tolist() == [0, 1, 2]
    assert rank.tolist() == [0, 0, 0]


def test_rank_restarts_with_each_run() -> None:
    """Neighbours that are equal are counted, and every other begins at 0."""
    assert rank_in_stream(np.array([4, 4, 4, 2, 9, 9])).tolist() == [0, 1, 2, 0, 0, 1]
