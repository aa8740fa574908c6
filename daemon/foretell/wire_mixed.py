"""Bodies of both forms and of any channel counts, mixed, and some of them malformed: sorted into columns."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from foretell import wire_array, wire_packed
from foretell.wire_array import ArrayFrames, decode_array
from foretell.wire_packed import HEAD_BYTES, channels_of, find_malformed, frame_dtype, read_records
from foretell.wire_types import Array, FrameBatch, Refusal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def decode_mixed(
    bodies: Sequence[bytes | Array], arrival_ns: int, max_channels: int
) -> tuple[list[FrameBatch], Counter[Refusal]]:
    """Batches of one channel count each that keep every stream's order, and the counted refusals."""
    refused: Counter[Refusal] = Counter()
    groups = _group_by_channels(bodies, arrival_ns, max_channels, refused)
    decoded = [_decode_group(group, arrival_ns, refused) for group in groups]
    return _keep_order([placed for placed in decoded if placed is not None]), refused


@dataclass(slots=True)
class _Group:
    """The bodies of one channel count, each with its place in the order of arrival."""

    num_channels: int
    record_bytes: int
    parts: list[bytes] = field(default_factory=list)
    part_places: list[int] = field(default_factory=list)
    arrays: list[ArrayFrames] = field(default_factory=list)
    array_places: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Placed:
    """Frames, each with the place of its body, ascending."""

    batch: FrameBatch
    place: NDArray[np.int64]  # [n]


class _Groups(dict[int, _Group]):
    """The groups by their channel count, each made when first asked for."""

    def __missing__(self, num_channels: int) -> _Group:
        group = self[num_channels] = _Group(num_channels, frame_dtype(num_channels).itemsize)
        return group


class _Verdicts(dict[bytes, _Group | Refusal]):
    """Where a packed part belongs by its head alone: of heads there are few, of parts thousands."""

    def __init__(self, groups: _Groups, max_channels: int) -> None:
        super().__init__()
        self._groups = groups
        self._max_channels = max_channels

    def __missing__(self, head: bytes) -> _Group | Refusal:
        num_channels = channels_of(head)
        verdict: _Group | Refusal
        if num_channels is None:
            verdict = Refusal.MALFORMED
        elif num_channels > self._max_channels:
            verdict = Refusal.OVERSIZE
        else:
            verdict = self._groups[num_channels]
        self[head] = verdict
        return verdict


def _group_by_channels(
    bodies: Sequence[bytes | Array], arrival_ns: int, max_channels: int, refused: Counter[Refusal]
) -> list[_Group]:
    groups = _Groups()
    verdicts = _Verdicts(groups, max_channels)
    for place, body in enumerate(bodies):
        if isinstance(body, bytes):
            verdict = verdicts[body[:HEAD_BYTES]]
            if isinstance(verdict, Refusal):
                refused[verdict] += 1
            elif len(body) % verdict.record_bytes:
                refused[Refusal.MALFORMED] += 1
            else:
                verdict.parts.append(body)
                verdict.part_places.append(place)
        else:
            frames = decode_array(body, arrival_ns, max_channels)
            if isinstance(frames, Refusal):
                refused[frames] += 1
            else:
                group = groups[frames.num_channels]
                group.arrays.append(frames)
                group.array_places.append(place)
    return list(groups.values())


def _decode_group(group: _Group, arrival_ns: int, refused: Counter[Refusal]) -> _Placed | None:
    """The frames of a group in order of arrival, or None where all were refused."""
    packed = _decode_parts(group, arrival_ns, refused) if group.parts else None
    if not group.arrays:
        return packed
    batch = wire_array.columns_of(group.arrays)
    place = np.array(group.array_places)
    if len(place) < len(batch.names):
        place = place.repeat([frames.rows for frames in group.arrays])
    arrays = _Placed(batch, place)
    if packed is None:
        return arrays
    both = _Placed(_concatenate(packed.batch, arrays.batch), np.concatenate([packed.place, arrays.place]))
    rows = np.argsort(both.place, kind="stable")
    return _Placed(_take(both.batch, rows), both.place[rows])


def _decode_parts(group: _Group, arrival_ns: int, refused: Counter[Refusal]) -> _Placed | None:
    """The records of the group's sound parts; one malformed record refuses its part."""
    records = read_records(group.parts, group.num_channels)
    part = np.arange(len(group.parts))
    if len(part) < len(records):
        part = part.repeat(np.array(list(map(len, group.parts))) // group.record_bytes)
    malformed = find_malformed(records, group.num_channels)
    if malformed is not None:
        bad_parts = np.unique(part[malformed])
        refused[Refusal.MALFORMED] += len(bad_parts)
        is_sound = ~np.isin(part, bad_parts)
        records, part = records[is_sound], part[is_sound]
    if not len(records):
        return None
    return _Placed(wire_packed.columns_of(records, arrival_ns), np.array(group.part_places)[part])


def _keep_order(placed: list[_Placed]) -> list[FrameBatch]:
    """Batches that keep every stream's order, where each of `placed` is of another channel count.

    A stream of one channel count is in one of them alone. One that changes back to an earlier batch's count waits for
    the next layer of batches, so that the others' batches stay whole.
    """
    if len(placed) < 2:
        return [frames.batch for frames in placed]
    names = [name for frames in placed for name in frames.batch.names]
    if len(set(names)) == sum(len(set(frames.batch.names)) for frames in placed):
        return [frames.batch for frames in placed]
    sizes = [len(frames.batch.names) for frames in placed]
    group = np.repeat(np.arange(len(placed)), sizes).tolist()
    key = np.zeros(len(names), np.int64)  # layer x groups + group, ascending along every stream
    last: dict[bytes, int] = {}
    for row in np.argsort(np.concatenate([frames.place for frames in placed]), kind="stable").tolist():
        earliest = last.get(names[row], 0)
        layer = -(-(earliest - group[row]) // len(placed))
        last[names[row]] = key[row] = layer * len(placed) + group[row]
    rows = np.argsort(key, kind="stable")
    bounds = [0, *(np.flatnonzero(np.diff(key[rows])) + 1).tolist(), len(names)]
    starts = np.cumsum(sizes) - sizes
    batches = []
    for start, stop in pairwise(bounds):
        of = group[rows[start]]
        batches.append(_take(placed[of].batch, rows[start:stop] - starts[of]))
    return batches


def _take(batch: FrameBatch, rows: NDArray[np.int64]) -> FrameBatch:
    names = list(batch.names)
    return FrameBatch(
        names=[names[row] for row in rows.tolist()],
        frame=batch.frame[rows],
        timestamp_ns=batch.timestamp_ns[rows],
        epoch=batch.epoch[rows],
        unnumbered=batch.unnumbered[rows],
        values=batch.values[rows],
    )


def _concatenate(first: FrameBatch, second: FrameBatch) -> FrameBatch:
    return FrameBatch(
        names=[*first.names, *second.names],
        frame=np.concatenate([first.frame, second.frame]),
        timestamp_ns=np.concatenate([first.timestamp_ns, second.timestamp_ns]),
        epoch=np.concatenate([first.epoch, second.epoch]),
        unnumbered=np.concatenate([first.unnumbered, second.unnumbered]),
        values=np.concatenate([first.values, second.values]),
    )
