"""The short way through admission: a batch of one frame that is simply the next one of its stream.

At low load every batch is such a one. It is judged by a handful of comparisons between plain numbers, a tenth of what
the columns of the general way (`foretell.admit`) cost a batch, and gives and notes down exactly what they would.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

from foretell.admission import Accepted, Admission
from foretell.rounds import Steps
from foretell.wire import Flag

if TYPE_CHECKING:
    from foretell.seating import Streams
    from foretell.slots import SlotTable
    from foretell.wire import FrameBatch

_FRAME_MAX: Final = 2**64 - 1
_WARMING, _UNNUMBERED = int(Flag.WARMING), int(Flag.UNNUMBERED)


def admit_lone(table: SlotTable, streams: Streams, batch: FrameBatch, now_ns: int) -> Admission | None:
    """The admission of a batch of one frame received at `now_ns`; None, with nothing noted, where it takes more."""
    slot, values = table.by_name.get(batch.names[0]), batch.values
    if slot is None or not table.is_steady.item(slot):
        return None
    number, num_channels, is_unnumbered = table.frame.item(slot) + 1, values.shape[1], batch.unnumbered.item()
    if (
        number > _FRAME_MAX
        or not (is_unnumbered or batch.frame.item() == number)
        or table.epoch.item(slot) != batch.epoch.item()
        or table.channels.item(slot) != num_channels
        or not math.isfinite(np.vdot(values, values))  # large values overflow, and take the general way
    ):
        return None
    table.last_seen_ns[slot] = now_ns
    table.frame[slot] = number
    table.seen[slot] = seen = table.seen.item(slot) + 1
    table.count[slot] = count = table.count.item(slot) + 1
    flags = (_WARMING if seen < streams.warm_up else 0) | (_UNNUMBERED if is_unnumbered else 0)
    rows = table.rows[: streams.rows_of(num_channels), slot].reshape(1, -1).copy()
    return Admission(
        Accepted(
            names=batch.names,
            slot=np.array((slot,), np.int64),
            frame=np.array((number,), np.uint64) if is_unnumbered else batch.frame,
            timestamp_ns=batch.timestamp_ns,
            epoch=batch.epoch,
            flags=np.array((flags,), np.uint16),
            count=np.array((count,), np.uint64),
            values=values,
            steps=Steps(rows, values, [1], 1),
        )
    )
