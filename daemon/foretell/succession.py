"""The order of a batch: what simply follows is judged all at once, the rest round by round.

Frames of a stream that is steady either take the next number, or repeat or lie behind what was taken. However many
these are, and however they are mixed, they are judged together by running maxima. Only a frame that calls for more (a
stream's first, a gap, an epoch, unusable values) goes through the rules one by one (`foretell.order`), together with
the first such frame of each other stream; then what simply follows it is judged together again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from foretell.order import ACCEPTED, CODE, OrderPolicy, ResetReason, Round, judge_round
from foretell.rounds import is_run_end, rank_in_stream
from foretell.wire import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from foretell.slots import SlotTable


@dataclass(frozen=True, slots=True)
class Sent:
    """Frames of `num_channels` channels, grouped by stream and each stream's in order of arrival.

    Columns as in `Round`, and rank: place within the stream's group. `unusable` is None where all are usable.
    """

    slot: NDArray[np.int64]
    rank: NDArray[np.int64]
    frame: NDArray[np.uint64]
    epoch: NDArray[np.uint32]
    unnumbered: NDArray[np.bool_]
    unusable: NDArray[np.uint8] | None
    num_channels: int

    def part(self, places: NDArray[np.int64]) -> Sent:
        """Some of the frames, ranked anew."""
        slot = self.slot[places]
        return Sent(
            slot,
            rank_in_stream(slot),
            self.frame[places],
            self.epoch[places],
            self.unnumbered[places],
            None if self.unusable is None else self.unusable[places],
            self.num_channels,
        )


@dataclass(slots=True)
class Verdicts:
    """Columns over the frames sent, valid where accepted: number u64, seen i64 and the others as in `order.Judged`.

    verdict u8, begins, num_fills and has_gap are None where every frame was simply the next one.
    """

    number: NDArray[np.uint64]
    seen: NDArray[np.int64]
    verdict: NDArray[np.uint8] | None = None
    begins: NDArray[np.bool_] | None = None
    num_fills: NDArray[np.int64] | None = None
    has_gap: NDArray[np.bool_] | None = None
    num_missed: int = 0
    num_epochs: int = 0
    resets: dict[ResetReason, int] = field(default_factory=dict)


def judge_order(
    table: SlotTable, policy: OrderPolicy, sent: Sent, reseat: Callable[[int, int], bool]
) -> Verdicts:
    """Judge the order of frames and bring the table up to date; `reseat` as for `judge_round`."""
    last = table.frame[sent.slot]
    number = last + sent.rank.astype(np.uint64) + 1
    seen = table.seen[sent.slot] + sent.rank + 1
    is_next = _is_plain(table, sent) & (number > last)  # after the largest number comes none
    is_next &= (sent.frame == number) | sent.unnumbered
    if is_next.all():
        ends = is_run_end(sent.rank)
        table.frame[sent.slot[ends]] = number[ends]
        table.seen[sent.slot[ends]] = seen[ends]
        return Verdicts(number, seen)
    return _judge_apart(table, policy, sent, reseat)


def _judge_apart(
    table: SlotTable, policy: OrderPolicy, sent: Sent, reseat: Callable[[int, int], bool]
) -> Verdicts:
    """Judge frames of which some call for more than a look at their number."""
    num = sent.slot.size
    verdict, number, seen = np.zeros(num, np.uint8), np.zeros(num, np.uint64), np.zeros(num, np.int64)
    begins, num_fills, has_gap = np.zeros(num, np.bool_), np.zeros(num, np.int64), np.zeros(num, np.bool_)
    verdicts = Verdicts(number, seen, verdict, begins, num_fills, has_gap)
    places = np.arange(num)
    while places.size:
        part = sent.part(places) if places.size < num else sent
        is_plain = _is_plain(table, part)
        first = part.rank == 0
        if is_plain[first].any():
            simple = _judge_simple(table, policy, part, is_plain)
            done, odd, places = places[simple.places], places[simple.odd], places[simple.beyond]
            verdict[done], number[done], seen[done] = simple.verdict, simple.number, simple.seen
        else:  # as of a batch of new streams
            odd, places = places[first], places[~first]
        if odd.size:
            codes = np.zeros(odd.size, np.uint8) if sent.unusable is None else sent.unusable[odd]
            columns = sent.slot[odd], sent.frame[odd], sent.epoch[odd], sent.unnumbered[odd]
            judged = judge_round(table, policy, Round(*columns, codes, sent.num_channels), reseat)
            verdict[odd], number[odd], seen[odd] = judged.verdict, judged.number, judged.seen
            begins[odd], num_fills[odd], has_gap[odd] = judged.begins, judged.num_fills, judged.has_gap
            verdicts.num_missed += judged.num_missed
            verdicts.num_epochs += judged.num_epochs
            for reason, count in judged.resets.items():
                verdicts.resets[reason] = verdicts.resets.get(reason, 0) + count
    return verdicts


@dataclass(frozen=True, slots=True)
class _Simple:
    """What could be judged at once.

    places: of the frames that were judged, with their verdict, number and seen; odd: places of those that each stream's
    frames were judged up to; beyond: places of those after them.
    """

    places: NDArray[np.int64]
    verdict: NDArray[np.uint8]
    number: NDArray[np.uint64]
    seen: NDArray[np.int64]
    odd: NDArray[np.int64]
    beyond: NDArray[np.int64]


def _judge_simple(table: SlotTable, policy: OrderPolicy, sent: Sent, is_plain: NDArray[np.bool_]) -> _Simple:
    """Judge each stream's frames up to the first that is not plain, or neither takes the next number nor is behind."""
    slot, frame, rank = sent.slot, sent.frame, sent.rank
    last, num = table.frame[slot], slot.size
    # How far ahead of the last number taken before, 0 for what is not; what is further than the batch is long is a gap.
    ahead = np.where(frame > last, np.minimum(frame - last, num + 1), 0).astype(np.int64)
    ahead[sent.unnumbered] = (
        rank[sent.unnumbered] + 1
    )  # right if all before it were accepted; looks like a gap if not
    top = _running_maximum(ahead, rank)
    is_next = (ahead == top + 1) & (last + ahead.astype(np.uint64) > last)
    is_behind = (ahead <= top) & ~sent.unnumbered
    run = _count_runs(frame, rank, is_behind & (sent.epoch == 0))
    is_simple = is_plain & (is_next | is_behind) & (run <= policy.restart_after)

    num_odd = np.cumsum(~is_simple)
    num_odd -= (num_odd - ~is_simple)[np.arange(num) - rank]  # of the stream's own frames
    judged = np.flatnonzero(num_odd == 0)
    taken = np.where(is_next, ahead, top)[judged]
    slot, run, last, is_next = slot[judged], run[judged], last[judged], is_next[judged]
    number, seen = last + taken.astype(np.uint64), table.seen[slot] + taken
    is_repeat = frame[judged] == number
    verdict = np.where(is_repeat, np.uint8(CODE[Refusal.DUPLICATE]), np.uint8(CODE[Refusal.LATE]))
    verdict[is_next] = ACCEPTED

    ends = is_run_end(rank[judged])
    end = slot[ends]
    table.frame[end], table.seen[end] = number[ends], seen[ends]
    table.run[end], table.run_frame[end], table.is_steady[end] = (
        run[ends],
        frame[judged[ends]],
        run[ends] == 0,
    )
    return _Simple(
        places=judged,
        verdict=verdict,
        number=number,
        seen=seen,
        odd=np.flatnonzero(~is_simple & (num_odd == 1)),
        beyond=np.flatnonzero((num_odd > 1) | (is_simple & (num_odd == 1))),
    )


def _is_plain(table: SlotTable, sent: Sent) -> NDArray[np.bool_]:
    """Which frames have nothing about them but, maybe, their number."""
    slot = sent.slot
    is_plain = table.is_steady[slot]
    is_plain &= table.channels[slot] == sent.num_channels
    is_plain &= table.epoch[slot] == sent.epoch
    if sent.unusable is not None:
        is_plain &= sent.unusable == ACCEPTED
    return is_plain


def _running_maximum(ahead: NDArray[np.int64], rank: NDArray[np.int64]) -> NDArray[np.int64]:
    """The largest of the elements before each in its group, 0 for the first; none is above the number of them all."""
    offset = np.cumsum(rank == 0) * (ahead.size + 2)
    top = np.maximum.accumulate(ahead + offset)
    before = np.zeros_like(ahead)
    before[1:] = (top - offset)[:-1]
    before[rank == 0] = 0
    return before


def _count_runs(
    frame: NDArray[np.uint64], rank: NDArray[np.int64], is_behind: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """How many frames behind came in a row with numbers ascending by one, up to and with each; 0 for all others."""
    if not is_behind.any():
        return np.zeros(frame.size, np.int64)
    goes_on = np.zeros(frame.size, np.bool_)
    goes_on[1:] = is_behind[1:] & is_behind[:-1] & (frame[1:] == frame[:-1] + 1) & (rank[1:] > 0)
    place = np.arange(frame.size)
    return np.where(is_behind, place - np.maximum.accumulate(np.where(goes_on, 0, place)) + 1, 0)
