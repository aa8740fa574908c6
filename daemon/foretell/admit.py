"""Who may be stepped: stream name to slot, order within a stream, values, and the steps that follow.

Everything is columns over the batch. Frames that are simply the next ones, as nearly all are, are judged by one
comparison over the whole batch (`foretell.succession`), and a frame that comes alone in a shorter way still
(`foretell.lone`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from foretell.admission import Accepted, Admission, EvictReason
from foretell.choices import OnMissing
from foretell.config import StreamsConfig
from foretell.lone import admit_lone
from foretell.order import ACCEPTED, CODE, REFUSALS, OrderPolicy
from foretell.rounds import (
    Grouped,
    group_by_stream,
    is_ascending,
    is_run_end,
    lay_out,
    rank_in_stream,
    rank_of_places,
)
from foretell.seating import Seating, Streams
from foretell.slots import NOBODY, SlotTable
from foretell.succession import Sent, judge_order
from foretell.wire import Flag, FrameBatch, Names, Refusal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from foretell.native_admit import NativeAdmission

IDLE_AT_ONCE: Final = 4096
"""The most streams that one call evicts for their silence: some milliseconds, that frames may have to wait."""


class Admitter:
    """Judges batches and keeps the slot table."""

    def __init__(self, config: StreamsConfig, streams: Streams) -> None:
        self._config = config
        self._streams = streams
        self.table = SlotTable(config.capacity, streams.num_rows, streams.rows_of(config.max_channels))
        self._seating = Seating(self.table, streams, config.when_full)
        self._native = _open_native(self.table, streams)
        self._next_ns = 0
        self._policy = OrderPolicy(
            on_gap=config.on_gap,
            max_fill=config.max_fill,
            on_long_gap=config.on_long_gap,
            on_epoch=config.on_epoch,
            restart_after=config.restart_after,
            can_fill=streams.can_fill,
        )

    def admit(self, batch: FrameBatch, now_ns: int) -> Iterable[Admission]:
        """Judge a batch received at `now_ns` (monotonic; batches received together may share it).

        Gives one admission, or several where a batch of new streams is larger than the table and streams of its
        beginning must make room for those of its end. Each must be stepped before the next is asked for.
        """
        now_ns, num_frames = max(now_ns, self._next_ns), len(batch.names)
        admission = None
        if num_frames == 1:
            admission = admit_lone(self.table, self._streams, batch, now_ns)
        elif self._native is not None:
            admission = self._native.admit(batch, now_ns)
        if admission is not None:
            self._next_ns = now_ns + num_frames
            return (admission,)
        return self.admit_columns(batch, now_ns)

    def admit_columns(self, batch: FrameBatch, now_ns: int) -> Iterator[Admission]:
        """What `admit` does, the general way: for a batch of any number of frames, whatever is to be said of them."""
        now_ns = max(now_ns, self._next_ns)  # so that of any two frames it is known which came later
        while True:
            admission, num_judged = self._judge(batch, now_ns)
            self._next_ns = now_ns = now_ns + num_judged
            yield admission
            if num_judged == len(batch.names):
                return
            batch = batch.part(slice(num_judged, None))

    def evict_idle(self, now_ns: int) -> int:
        """Evict streams that have been silent for `streams.idle_timeout_s`, `IDLE_AT_ONCE` at most; how many."""
        timeout_s = self._config.idle_timeout_s
        if not timeout_s:
            return 0
        idle = self.table.idle_before(now_ns - round(timeout_s * 1e9), IDLE_AT_ONCE)
        self.table.evict(idle)
        return idle.size

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
            admission.refused[Refusal.WRONG_CHANNELS] = num_frames
            return admission, num_frames
        is_finite = np.isfinite(batch.values)
        is_whole = bool(is_finite.all())
        unusable = None if is_whole else self._judge_values(batch.values, is_finite)
        seats = self._seating.seat(batch, unusable, now_ns)
        slot, verdict, num_seated = seats.slot, seats.verdict, seats.slot.size
        if seats.num_evicted:
            admission.evicted[EvictReason.FULL] = seats.num_evicted
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
                admission.refused[REFUSALS[code - 1]] = count
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
        at, rank = group_by_stream(slot, seated)
        seat, unnumbered = slot[at], batch.unnumbered[at]
        unusable_at = None if unusable is None else unusable[at]
        sent = Sent(
            seat, rank, batch.frame[at], batch.epoch[at], unnumbered, unusable_at, batch.values.shape[1]
        )
        judged = judge_order(self.table, self._policy, sent, self._reseat)
        number, seen, begins, num_fills = judged.number, judged.seen, judged.begins, judged.num_fills
        flags = self._flags(seen, unnumbered, begins, judged.has_gap)
        if judged.verdict is not None:
            admission.num_missed, admission.num_epochs = judged.num_missed, judged.num_epochs
            admission.resets = judged.resets
            verdict[at] = judged.verdict
            keep = judged.verdict == ACCEPTED
            if not keep.all():
                at, seat, number, flags = at[keep], seat[keep], number[keep], flags[keep]
                begins = None if begins is None else begins[keep]
                num_fills = None if num_fills is None else num_fills[keep]
                rank = rank_in_stream(seat)
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
        is_last = is_run_end(columns.rank)
        self.table.count[seat[is_last]] = count[is_last]
        num_rows = self._streams.rows_of(batch.values.shape[1])
        steps = lay_out(columns, self.table.rows_of(seat, num_rows), batch.values, may_miss=may_miss)
        if columns.num_fills is not None and columns.num_fills.any():
            flags = flags | ((columns.num_fills > 0) * np.uint16(Flag.IMPUTED))
            admission.num_imputed += int(columns.num_fills.sum()) * batch.values.shape[1]
        if not is_ascending(at):
            order = np.empty(at.size, np.int64)
            order[rank_of_places(at, len(batch.names))] = np.arange(at.size)
            at, seat, number, flags, count = at[order], seat[order], number[order], flags[order], count[order]
        is_whole = at.size == len(batch.names)
        values = batch.values if is_whole else batch.values[at]
        if may_miss:
            is_missing = np.isnan(values)
            flags = flags | (is_missing.any(axis=1) * np.uint16(Flag.IMPUTED))
            admission.num_imputed += int(np.count_nonzero(is_missing))
        admission.accepted = Accepted(
            names=batch.names if is_whole else _names_at(batch.names, at),
            slot=seat,
            frame=number,
            timestamp_ns=batch.timestamp_ns if is_whole else batch.timestamp_ns[at],
            epoch=batch.epoch if is_whole else batch.epoch[at],
            flags=flags,
            count=count,
            values=values,
            steps=steps,
        )


def _open_native(table: SlotTable, streams: Streams) -> NativeAdmission | None:
    """What admits most batches by machine code, None where there cannot be any."""
    try:
        from foretell.native_admit import NativeAdmission  # llvmlite may be absent

        return NativeAdmission(table, streams)
    except (ImportError, RuntimeError):
        return None


def _names_at(names: Sequence[bytes], at: NDArray[np.int64]) -> Sequence[bytes]:
    if isinstance(names, Names):
        return Names(names.column[at])
    return [names[index] for index in at.tolist()]
