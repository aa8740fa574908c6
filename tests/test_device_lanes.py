"""Batches as a device steps them: cut into calls of few sizes, and cut again for what is to be stepped anew."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from foretell.device_lanes import Lanes, cut, from_first, lanes_of, select
from foretell.rounds import Steps

BUCKETS = [2, 4, 6]


@given(st.lists(st.integers(1, 20), min_size=1, max_size=12), st.integers(6, 30))
def test_every_lane_has_a_place_of_its_own_in_its_rounds_calls(sizes: list[int], num_lanes: int) -> None:
    """Transfers carry all lanes in order; a call holds lanes of one round alone, up to its bucket."""
    of_round = np.repeat(np.arange(len(sizes)), sizes)
    carried = []
    for transfer in cut(np.array(sizes), BUCKETS, num_lanes):
        lanes = np.arange(of_round.size)[transfer.part]
        places = np.arange(sum(transfer.buckets))[transfer.places]
        assert sum(transfer.buckets) <= num_lanes
        assert set(transfer.buckets) <= set(BUCKETS)
        assert (np.diff(places) > 0).all()
        call = np.repeat(np.arange(len(transfer.buckets)), transfer.buckets)[places]
        for index in range(len(transfer.buckets)):
            assert len(set(of_round[lanes[call == index]])) == 1
        carried += lanes.tolist()
    assert carried == list(range(of_round.size))


def test_a_stream_of_several_rows_is_as_many_lanes() -> None:
    """Rows, values and resets of a step are laid out row by row."""
    steps = Steps(
        np.array([[4, 5], [6, 7], [4, 5]]),
        np.arange(6, dtype=np.float32).reshape(3, 2),
        [2, 3],
        3,
        begins=np.array([False, True, False]),
    )
    lanes = lanes_of(steps, 1)
    assert lanes.rows.tolist() == [4, 5, 6, 7, 4, 5]
    assert lanes.values[:, 0].tolist() == [0, 1, 2, 3, 4, 5]
    assert lanes.begins.tolist() == [False, False, True, True, False, False]
    assert lanes.sizes.tolist() == [4, 2]


def test_what_is_stepped_anew_is_a_row_from_its_first_failure_on() -> None:
    """Lanes before it and those of other rows are left out; it begins from an empty state, what follows does not."""
    rows = np.array([0, 1, 2, 0, 1, 2, 0, 2])
    lanes = Lanes(rows, rows[:, None].astype(np.float32), np.zeros(8, np.bool_), np.array([3, 3, 2]))
    again = np.array([0, 0, 1, 1, 0, 1, 0, 0], np.bool_)
    at, is_first = from_first(lanes, again)
    assert at.tolist() == [2, 3, 5, 6, 7]
    assert is_first.tolist() == [True, True, False, False, False]
    anew = select(lanes, at, is_first)
    assert anew.rows.tolist() == [2, 0, 2, 0, 2]
    assert anew.begins.tolist() == is_first.tolist()
    assert anew.sizes.tolist() == [1, 2, 2]
