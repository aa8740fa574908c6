"""What admission gives: the accepted frames of a batch, and how the rest of them is counted."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from foretell.order import ResetReason
    from foretell.rounds import Steps
    from foretell.wire import Refusal


class EvictReason(enum.StrEnum):
    """Why a stream lost its slot; values of the `reason` label."""

    FULL = "full"
    IDLE = "idle"


@dataclass(slots=True)
class Accepted:
    """The accepted frames of a batch in order of arrival, and the steps to make for them.

    Columns as in `FrameBatch`, with slot i64 and flags, count u64 (the stream's forecasts up to and with this one).
    """

    names: Sequence[bytes]
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
    """The verdicts over a batch: what was accepted (None for nothing) and how the rest is counted, by reason."""

    accepted: Accepted | None = None
    refused: dict[Refusal, int] = field(default_factory=dict)
    resets: dict[ResetReason, int] = field(default_factory=dict)
    evicted: dict[EvictReason, int] = field(default_factory=dict)
    num_missed: int = 0
    num_epochs: int = 0
    num_imputed: int = 0

    @property
    def num_accepted(self) -> int:
        """How many frames were accepted."""
        return 0 if self.accepted is None else len(self.accepted.names)
