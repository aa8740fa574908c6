"""Who may be stepped: stream name to slot, order within a stream, values, and the steps that follow.

Everything is columns over the batch. A stream whose frames are simply the next ones, as nearly all are, is judged by
one comparison over the whole batch; the frames of the others are judged round by round (`foretell.order`), where round
k holds the k-th frame of each stream, so that one stream's trouble costs the others nothing.
"""

from __future__ import annotations

import enum
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from foretell.config import OnMissing, StreamsConfig
from foretell.order import ACCEPTED, CODE, REFUSALS, OrderPolicy, ResetReason, Round, judge_round
from foretell.rounds import (
    Grouped,
    Steps,
    group_by_stream,
    is_ascending,
    lay_out,
    of_same_streams,
    rank_in_stream,
    split_rounds,
)
from foretell.seating import Seating, Streams
from foretell.slots import NOBODY, SlotTable
from foretell.wire import Flag, FrameBatch, Refusal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray


class EvictReason(enum.StrEnum):
    """Why a stream lost its slot; values of the `reason` label."""

    FULL = "full"
    IDLE = "idle"


@dataclass(frozen=True, slots=True)
class Accepted:
    """The accepted frames of a batch in order of arrival, and the steps to make for them.

    Columns as in `FrameBatch`, with slot i64 and flags, count u64 (the stream's forecasts up to and with this one).
    """

    names: list[bytes]
    slot: NDArray[np.int64]
    frame: NDArray[np.uint64]
    timestamp_ns: NDArray[np.int64]
    epoch: NDArray[np.uint32]
    flags: NDArray[np.uint16]
    count: NDArray[np.uint64]
    values: NDArray[np.float32]
    steps: Steps


@dataclass(slots=True)
class Admission:
    """The verdicts over a batch: what was accepted (None for nothing) and how the rest is counted."""

    accepted: Accepted | None = None
    refused: Counter[Refusal] = field(default_factory=Counter)
    resets: Counter[ResetReason] = field(default_factory=Counter)
    evicted: Counter[EvictReason] = field(default_factory=Counter)
    num_missed: int = 0
    num_epochs: int = 0
    num_imputed: int = 0

    @property
    def num_accepted(self) -> int:
        """How many frames were accepted."""
        return 0 if self.accepted is None else len(self.accepted.names)


class Admitter:
    """Judges batches and keeps the slot table."""

    def __init__(self, config: StreamsConfig, streams: Streams) -> None:
        self._config = config
        self._streams = streams
        self.table = SlotTable(config.capacity, streams.num_rows, streams.rows_of(config.max_channels))
        self._seating = Seating(self.table, streams, config.when_full)
        self._next_ns = 0
        self._policy = OrderPolicy(
            on_gap=config.on_gap,
            max_fill=config.max_fill,
            on_long_gap=config.on_long_gap,
            on_epoch=config.on_epoch,
            restart_after=config.restart_after,
            can_fill=streams.can_fill,
        )

    def admit(self, batch: FrameBatch, now_ns: int) -> Iterator[Admission]:
        """Judge a batch received at `now_ns` (monotonic; batches received together may share it).

        Gives one admission, or several where a batch of new streams is larger than the table and streams of its
        beginning must make room for those of its end. Each must be stepped before the next is asked for.
        """
        while True:
            now_ns = max(now_ns, self._next_ns)  # so that of any two frames it is known which came later
            admission, num_judged = self._judge(batch, now_ns)
            self._next_ns = now_ns + num_judged
            yield admission
            if num_judged == len(batch.names):
                return
            batch = batch.part(slice(num_judged, None))

    def evict_idle(self, now_ns: int) -> int:
        """Evict the streams that have been silent for `streams.idle_timeout_s`; how many there were."""
        timeout_s = self._config.idle_timeout_s
        if not timeout_s:
            return 0
        idle = self.table.idle_before(now_ns - round(timeout_s * 1e9))
        for slot in idle:
            self.table.evict(slot)
        return len(idle)

    def began_anew(self, accepted: Accepted, restarted: NDArray[np.bool_]) -> Accepted:
        """Note that stepping made some states non-finite, so that they began anew with these frames."""
        flags = accepted.flags.copy()
        for index in np.flatnonzero(restarted).tolist():
            following = index + np.flatnonzero(accepted.slot[index:] == accepted.slot[index])
            flags[index] |= np.uint16(Flag.RESET)
            flags[following] &= ~np.uint16(Flag.WARMING)
            flags[following[: max(0, self._streams.warm_up - 1)]] |= np.uint16(Flag.WARMING)
            self.table.seen[accepted.slot[index]] = following.size
        return replace(accepted, flags=flags)

    def _judge(self, batch: FrameBatch, now_ns: int) -> tuple[Admission, int]:
        """Judge as much of the batch as can be seated together; how much that was."""
        admission = Admission()
        num_frames, num_channels = batch.values.shape
        if self._streams.num_channels not in (None, num_channels):
            admission.refused[Refusal.WRONG_CHANNELS] += num_frames
            return admission, num_frames
        is_finite = np.isfinite(batch.values)
        is_whole = bool(is_finite.all())
        unusable = None if is_whole else self._judge_values(batch.values, is_finite)
        seats = self._seating.seat(batch, unusable, now_ns)
        slot, verdict, num_seated = seats.slot, seats.verdict, seats.slot.size
        if seats.num_evicted:
            admission.evicted[EvictReason.FULL] += seats.num_evicted
        if num_seated < num_frames:
            batch = batch.part(slice(0, num_seated))
            unusable = None if unusable is None else unusable[:num_seated]
        seated = np.flatnonzero(slot != NOBODY)
        if seated.size:
            columns = self._judge_order(batch, slot, seated, unusable, verdict, admission)
            if columns.at.size:
                self._accept(batch, columns, admission, may_miss=not is_whole)
        for code, count in enumerate(np.bincount(verdict).tolist()):
            if code != ACCEPTED and count:
                admission.refused[REFUSALS[code - 1]] += count
        return admission, num_seated

    def _judge_values(
        self, values: NDArray[np.float32], is_finite: NDArray[np.bool_]
    ) -> NDArray[np.uint8] | None:
        """u8 [frames]: 0, or the code of the refusal that a frame's values call for; None where no frame's do."""
        unusable = np.zeros(len(values), np.uint8)
        if self._config.on_missing is OnMissing.REFUSE:
            unusable[~is_finite.all(axis=1)] = CODE[Refusal.MISSING_VALUE]
        unusable[np.isinf(values).any(axis=1)] = CODE[Refusal.NON_FINITE]
        return unusable if unusable.any() else None

    def _judge_order(
        self,
        batch: FrameBatch,
        slot: NDArray[np.int64],
        seated: NDArray[np.int64],
        unusable: NDArray[np.uint8] | None,
        verdict: NDArray[np.uint8],
        admission: Admission,
    ) -> Grouped:
        """Judge the order of the frames at `seated`; the accepted ones."""
        table, num_channels = self.table, batch.values.shape[1]
        at, rank = group_by_stream(slot, seated)
        seat, frame, epoch, unnumbered = slot[at], batch.frame[at], batch.epoch[at], batch.unnumbered[at]
        last = table.frame[seat]
        number = last + rank.astype(np.uint64) + 1
        is_next = (
            table.is_steady[seat]
            & (number > last)  # after the largest number comes none
            & (table.channels[seat] == num_channels)
            & (table.epoch[seat] == epoch)
            & ((frame == number) | unnumbered)
        )
        unusable_at = None if unusable is None else unusable[at]
        if unusable_at is not None:
            is_next &= unusable_at == ACCEPTED
        seen = table.seen[seat] + rank + 1
        begins = has_gap = num_fills = None
        if is_next.all():
            _note_last(table, seat, rank, number, seen)
        else:
            is_odd = of_same_streams(seat, ~is_next, table.capacity)
            steady = ~is_odd
            _note_last(table, seat[steady], rank[steady], number[steady], seen[steady])
            begins, has_gap = np.zeros(at.size, np.bool_), np.zeros(at.size, np.bool_)
            num_fills, verdict_at = np.zeros(at.size, np.int64), np.zeros(at.size, np.uint8)
            for part in split_rounds(np.flatnonzero(is_odd), rank):
                codes = np.zeros(part.size, np.uint8) if unusable_at is None else unusable_at[part]
                sent = Round(seat[part], frame[part], epoch[part], unnumbered[part], codes, num_channels)
                judged = judge_round(table, self._policy, sent, self._reseat)
                verdict_at[part], number[part], seen[part] = judged.verdict, judged.number, judged.seen
                begins[part], num_fills[part], has_gap[part] = judged.begins, judged.num_fills, judged.has_gap
                admission.num_missed += judged.num_missed
                admission.num_epochs += judged.num_epochs
                admission.resets.update(judged.resets)
            verdict[at] = verdict_at
            keep = verdict_at == ACCEPTED
            if not keep.all():
                at, seat, number, seen, unnumbered = (
                    at[keep],
                    seat[keep],
                    number[keep],
                    seen[keep],
                    unnumbered[keep],
                )
                begins, num_fills, has_gap = begins[keep], num_fills[keep], has_gap[keep]
                rank = rank_in_stream(seat)
        flags = self._flags(seen, unnumbered, begins, has_gap)
        return Grouped(at, seat, rank, number, flags, begins, num_fills)

    def _reseat(self, slot: int, num_channels: int) -> bool:
        return self.table.reseat(slot, num_channels, self._streams.rows_of(num_channels))

    def _flags(
        self,
        seen: NDArray[np.int64],
        unnumbered: NDArray[np.bool_],
        begins: NDArray[np.bool_] | None,
        has_gap: NDArray[np.bool_] | None,
    ) -> NDArray[np.uint16]:
        flags = (seen < self._streams.warm_up).astype(np.uint16) * np.uint16(Flag.WARMING)
        flags += unnumbered.astype(np.uint16) * np.uint16(Flag.UNNUMBERED)
        if begins is not None and has_gap is not None:
            flags += begins.astype(np.uint16) * np.uint16(Flag.RESET)
            flags += has_gap.astype(np.uint16) * np.uint16(Flag.GAP)
        return flags

    def _accept(self, batch: FrameBatch, columns: Grouped, admission: Admission, *, may_miss: bool) -> None:
        """Put the accepted frames back into order of arrival and lay out their steps."""
        at, seat, number, flags = columns.at, columns.seat, columns.number, columns.flags
        count = self.table.count[seat] + columns.rank.astype(np.uint64) + 1
        is_last = np.append(columns.rank[1:] == 0, True)
        self.table.count[seat[is_last]] = count[is_last]
        num_rows = self._streams.rows_of(batch.values.shape[1])
        rows = self.table.rows[seat, :num_rows]
        steps = lay_out(columns, rows, batch.values, may_miss=may_miss)
        if columns.num_fills is not None and columns.num_fills.any():
            flags = flags | ((columns.num_fills > 0) * np.uint16(Flag.IMPUTED))
            admission.num_imputed += int(columns.num_fills.sum()) * batch.values.shape[1]
        if not is_ascending(at):
            order = np.argsort(at)
            at, seat, number, flags, count = at[order], seat[order], number[order], flags[order], count[order]
        is_whole = at.size == len(batch.names)
        values = batch.values if is_whole else batch.values[at]
        if may_miss:
            is_missing = np.isnan(values)
            flags = flags | (is_missing.any(axis=1) * np.uint16(Flag.IMPUTED))
            admission.num_imputed += int(np.count_nonzero(is_missing))
        admission.accepted = Accepted(
            names=batch.names if is_whole else [batch.names[index] for index in at.tolist()],
            slot=seat,
            frame=number,
            timestamp_ns=batch.timestamp_ns if is_whole else batch.timestamp_ns[at],
            epoch=batch.epoch if is_whole else batch.epoch[at],
            flags=flags,
            count=count,
            values=values,
            steps=steps,
        )


def _note_last(
    table: SlotTable,
    seat: NDArray[np.int64],
    rank: NDArray[np.int64],
    number: NDArray[np.uint64],
    seen: NDArray[np.int64],
) -> None:
    """Bring the table up to the last of each stream's frames, all of them simply the next ones."""
    is_last = np.append(rank[1:] == 0, True)[: seat.size]
    table.frame[seat[is_last]] = number[is_last]
    table.seen[seat[is_last]] = seen[is_last]
