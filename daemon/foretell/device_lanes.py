"""A batch as a device steps it: single rows in the order of their rounds, cut into calls and transfers."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from foretell.rounds import Steps


@dataclass(frozen=True, slots=True)
class Lanes:
    """Steps of single rows in the order of their rounds; the rows of a round are distinct.

    rows: i64 [n]; values: float32 [n, channels]; begins: bool [n], where the state begins anew before; sizes: of each
    round.
    """

    rows: NDArray[np.int64]
    values: NDArray[np.float32]
    begins: NDArray[np.bool_]
    sizes: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Transfer:
    """What goes to the device at once: which lanes, their places in it, and the padded size of each call."""

    part: slice
    places: slice | NDArray[np.int64]
    buckets: list[int]


def lanes_of(steps: Steps, num_channels: int) -> Lanes:
    """The steps of a batch, each as many lanes as its stream has rows."""
    num_steps, rows_a_stream = steps.rows.shape
    rows = steps.rows.reshape(-1)
    begins = np.zeros(num_steps, np.bool_) if steps.begins is None else steps.begins
    if len(steps.round_ends) == 1:
        sizes = np.array([rows.size])
    else:
        sizes = np.diff(steps.round_ends, prepend=0) * rows_a_stream
    values = steps.values.reshape(rows.size, num_channels)
    return Lanes(rows, values, np.repeat(begins, rows_a_stream), sizes)


def cut(sizes: NDArray[np.int64], buckets: Sequence[int], num_lanes: int) -> Iterator[Transfer]:
    """Cut rounds of these sizes into calls of `buckets` rows, and calls into transfers of up to `num_lanes`.

    `buckets` ascend; a round beyond the largest is several calls.
    """
    most = buckets[-1]
    if sizes.size == 1 and sizes[0] <= most:
        whole = slice(0, int(sizes[0]))
        yield Transfer(whole, whole, [buckets[bisect_left(buckets, whole.stop)]])
        return
    num_calls = -(-sizes // most)
    calls = np.full(num_calls.sum(), most)
    calls[np.cumsum(num_calls) - 1] = sizes - (num_calls - 1) * most
    padded = np.array(buckets)[np.searchsorted(buckets, calls)]
    start = first = 0
    while first < calls.size:
        last = first + int(np.searchsorted(np.cumsum(padded[first:]), num_lanes, side="right"))
        here, there = calls[first:last], padded[first:last]
        part = slice(start, start + int(here.sum()))
        padding_before = np.cumsum(there - here) - (there - here)
        places = np.arange(part.stop - part.start) + np.repeat(padding_before, here)
        yield Transfer(part, places, there.tolist())
        start, first = part.stop, last


def from_first(lanes: Lanes, again: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Where the lanes of marked rows are, from the first marked one of each row on, and which of them are these."""
    rows, first = np.unique(lanes.rows[again], return_index=True)
    first = np.flatnonzero(again)[first]
    nearest = np.minimum(np.searchsorted(rows, lanes.rows), rows.size - 1)
    at = np.flatnonzero((rows[nearest] == lanes.rows) & (np.arange(lanes.rows.size) >= first[nearest]))
    return at, np.isin(at, first)


def select(lanes: Lanes, at: NDArray[np.int64], begins: NDArray[np.bool_]) -> Lanes:
    """The lanes `at` alone; where `begins` too, the state begins anew."""
    of_round = np.repeat(np.arange(lanes.sizes.size), lanes.sizes)[at]
    sizes = np.bincount(of_round)
    return Lanes(lanes.rows[at], lanes.values[at], lanes.begins[at] | begins, sizes[sizes > 0])
