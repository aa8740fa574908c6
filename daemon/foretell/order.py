"""The order of a stream's frames: duplicates, late frames, gaps, epochs, and what they do to the state.

`judge_round` judges one round, at most one frame of each stream, as columns; the rules are those of the wire format
under "Order". Frame numbers are u64 and differences are taken only where they are known not to be negative.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from foretell.choices import OnEpoch, OnGap, OnLongGap
from foretell.wire import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from foretell.slots import SlotTable

ACCEPTED: Final = 0
REFUSALS: Final = tuple(Refusal)
CODE: Final = {refusal: code for code, refusal in enumerate(REFUSALS, start=1)}
"""Verdicts as u8: `ACCEPTED`, or the code of a refusal; `REFUSALS[code - 1]` is what a code means."""

_MANY: Final = 1 << 40


class ResetReason(enum.StrEnum):
    """Why the state of a known stream began anew; values of the `reason` label."""

    GAP = "gap"
    EPOCH = "epoch"
    CHANNELS = "channels"
    NON_FINITE = "non_finite"


@dataclass(frozen=True, slots=True)
class OrderPolicy:
    """The settings of `[streams]` that concern order. `can_fill`: forecasts can stand in for missed frames."""

    on_gap: OnGap
    max_fill: int
    on_long_gap: OnLongGap
    on_epoch: OnEpoch
    restart_after: int
    can_fill: bool


@dataclass(frozen=True, slots=True)
class Judged:
    """Columns over a round, valid where `verdict` is `ACCEPTED` unless said.

    verdict u8 (all); number u64: the frame's number; begins bool: the state begins anew with the frame;
    num_fills i64: steps to make with the stream's own forecasts before the frame; has_gap bool: frames were missed
    right before it; seen i64: frames since the state began, this one included.
    missed: the gaps found, exact; num_epochs: epochs that began; resets: number of resets by reason.
    """

    verdict: NDArray[np.uint8]
    number: NDArray[np.uint64]
    begins: NDArray[np.bool_]
    num_fills: NDArray[np.int64]
    has_gap: NDArray[np.bool_]
    seen: NDArray[np.int64]
    num_missed: int
    num_epochs: int
    resets: dict[ResetReason, int]


@dataclass(frozen=True, slots=True)
class Round:
    """Frames of `num_channels` channels, each of another stream; columns as in `FrameBatch`, with slot i64.

    unusable u8: the code of a refusal for the frame's values, or 0. Such a frame takes its number all the same.
    """

    slot: NDArray[np.int64]
    frame: NDArray[np.uint64]
    epoch: NDArray[np.uint32]
    unnumbered: NDArray[np.bool_]
    unusable: NDArray[np.uint8]
    num_channels: int


def judge_round(
    table: SlotTable, policy: OrderPolicy, sent: Round, reseat: Callable[[int, int], bool]
) -> Judged:
    """Judge a round and bring the table up to date.

    `reseat(slot, num_channels)` finds room for a stream that comes back with another number of channels.
    """
    slot, frame, epoch, unnumbered = sent.slot, sent.frame, sent.epoch, sent.unnumbered
    started, last = table.started[slot], table.frame[slot]
    is_same = started & (epoch == table.epoch[slot])
    is_newer = started & (epoch > table.epoch[slot])
    is_repeat = is_same & ~unnumbered & (frame == last)
    is_behind = is_same & ~unnumbered & (frame < last)
    restarts = _count_runs(table, policy, slot, frame, (is_repeat | is_behind) & (epoch == 0))
    is_first = ~started | is_newer | restarts

    verdict = np.zeros(slot.size, np.uint8)
    verdict[is_repeat & ~restarts] = CODE[Refusal.DUPLICATE]
    verdict[(is_behind & ~restarts) | (started & ~is_same & ~is_newer)] = CODE[Refusal.LATE]
    has_changed = started & (table.channels[slot] != sent.num_channels)
    verdict[(verdict == ACCEPTED) & has_changed & ~is_first] = CODE[Refusal.WRONG_CHANNELS]
    in_order = verdict == ACCEPTED
    verdict[in_order] = sent.unusable[in_order]
    for index in np.flatnonzero(has_changed & (verdict == ACCEPTED)).tolist():
        if not reseat(int(slot[index]), sent.num_channels):
            verdict[index] = CODE[Refusal.NO_SLOT]
    is_accepted = verdict == ACCEPTED
    takes_number = is_accepted | (in_order & (sent.unusable != ACCEPTED) & ~has_changed)

    number = np.where(unnumbered, np.where(is_first, 0, last + 1), frame)
    gap = np.where(takes_number & ~is_first & ~unnumbered, frame - last - 1, 0).astype(np.uint64)
    num_unseen = np.where(is_first, 0, table.num_unseen[slot]) + np.minimum(gap, _MANY)
    has_missed = (table.has_missed[slot] & ~is_first) | (gap > 0)
    is_fresh = table.seen[slot] == 0
    by_epoch = table.must_restart[slot] | (is_first & started & (policy.on_epoch is OnEpoch.RESET))
    by_gap, num_fills = _close_gaps(policy, num_unseen.astype(np.int64))
    begins = is_fresh | by_epoch | has_changed | by_gap
    num_fills[begins | ~is_accepted] = 0
    seen = np.where(begins, 0, table.seen[slot]) + 1

    taken = slot[takes_number]
    table.frame[taken], table.epoch[taken], table.started[taken] = (
        number[takes_number],
        epoch[takes_number],
        True,
    )
    table.num_unseen[taken] = np.where(is_accepted, 0, num_unseen + 1)[takes_number]
    table.has_missed[taken] = (has_missed & ~is_accepted)[takes_number]
    table.must_restart[taken] = (by_epoch & ~is_accepted)[takes_number]
    table.seen[slot[is_accepted]] = seen[is_accepted]
    table.is_steady[slot] = table.started[slot] & (table.num_unseen[slot] == 0) & (table.run[slot] == 0)

    is_reset = is_accepted & ~is_fresh
    return Judged(
        verdict=verdict,
        number=number,
        begins=begins,
        num_fills=num_fills,
        has_gap=has_missed,
        seen=seen,
        num_missed=sum(gap[gap > 0].tolist()),
        num_epochs=int(np.count_nonzero(takes_number & (is_newer | restarts))),
        resets={
            ResetReason.CHANNELS: int(np.count_nonzero(is_reset & has_changed)),
            ResetReason.EPOCH: int(np.count_nonzero(is_reset & by_epoch & ~has_changed)),
            ResetReason.GAP: int(np.count_nonzero(is_reset & by_gap & ~by_epoch & ~has_changed)),
        },
    )


def _count_runs(
    table: SlotTable,
    policy: OrderPolicy,
    slot: NDArray[np.int64],
    frame: NDArray[np.uint64],
    is_stuck: NDArray[np.bool_],
) -> NDArray[np.bool_]:
    """Which frames of producers without epochs are taken as a new epoch's first; counts the runs that lead there."""
    run, previous = table.run[slot], table.run_frame[slot]
    ascends = is_stuck & (run > 0) & (frame > previous) & (frame - previous == 1)
    restarts: NDArray[np.bool_] = ascends & (run >= policy.restart_after)
    table.run[slot] = np.where(is_stuck & ~restarts, np.where(ascends, run + 1, 1), 0)
    table.run_frame[slot] = frame
    return restarts


def _close_gaps(
    policy: OrderPolicy, num_unseen: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """What the steps that a state did not see lead to: a reset, or a number of fills, or neither (carry)."""
    is_gap = num_unseen > 0
    none = np.zeros(num_unseen.size, np.int64)
    if policy.on_gap is OnGap.RESET:
        return is_gap, none
    if policy.on_gap is OnGap.CARRY:
        return np.zeros(num_unseen.size, np.bool_), none
    is_long = num_unseen > policy.max_fill
    fills = np.where(is_gap & ~is_long, num_unseen, 0) if policy.can_fill else none
    return is_long & (policy.on_long_gap is OnLongGap.RESET), fills
