"""What travels on the wire, as columns: frames, forecasts, flags, names and the reasons for refusal.

`foretell.wire` offers all of it; this module is apart so that both forms of message can share it.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, overload

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

PACKED_FRAME = b"FTL1"
PACKED_FORECAST = b"FTC1"
ARRAY_START = b"{"
BATCH_TOPIC = b"*"
TOPIC_MAX_BYTES = 128
NAME_MAX_BYTES = 64
CHANNELS_MAX = 4096

Array = tuple[bytes, bytes]
"""An `array-1.0` header and its payload."""

_RESERVED_STARTS = (ARRAY_START, PACKED_FRAME, PACKED_FORECAST, BATCH_TOPIC)
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")


class Refusal(enum.StrEnum):
    """Why a frame was refused; values of the `reason` label. The set is closed."""

    MALFORMED = "malformed"
    UNSUPPORTED = "unsupported"
    OVERSIZE = "oversize"
    BAD_SOURCE = "bad_source"
    FORBIDDEN = "forbidden"
    WRONG_CHANNELS = "wrong_channels"
    NO_SLOT = "no_slot"
    DUPLICATE = "duplicate"
    LATE = "late"
    NON_FINITE = "non_finite"
    MISSING_VALUE = "missing_value"
    OVERLOAD = "overload"


class Flag(enum.IntFlag):
    """What a subscriber must know before it trusts a forecast; the lower-case names stand in `array-1.0` headers."""

    WARMING = 1
    GAP = 2
    IMPUTED = 4
    RESET = 8
    RESTORED = 16
    UNNUMBERED = 32


class Names(Sequence[bytes]):  # noqa: PLW1641 - not to be hashed, as no list is
    """Names as they lie in packed records: a column, of which objects are made only where they are asked for.

    To make a list of a column and a column of that list again costs 0.05 us a name.
    column: S64 [n], C-contiguous, padded by NULs.
    """

    __slots__ = ("column",)

    def __init__(self, column: NDArray[np.bytes_]) -> None:
        self.column = column

    def __len__(self) -> int:
        return self.column.size

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> Names: ...
    def __getitem__(self, index: int | slice) -> bytes | Names:
        if isinstance(index, slice):
            return Names(np.ascontiguousarray(self.column[index]))
        name: bytes = self.column.item(index)
        return name

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.tolist())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and self.tolist() == list(other)

    def tolist(self) -> list[bytes]:
        """All of them as bytes without padding."""
        names: list[bytes] = self.column.tolist()
        return names


class Parts(Sequence[bytes]):  # noqa: PLW1641 - not to be hashed, as no list is
    """Packed parts of one length that lie one behind the other, as the records in them are decoded.

    data: u8 [parts, bytes], C-contiguous.
    """

    __slots__ = ("data",)

    def __init__(self, data: NDArray[np.uint8]) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> Parts: ...
    def __getitem__(self, index: int | slice) -> bytes | Parts:
        if isinstance(index, slice):
            return Parts(np.ascontiguousarray(self.data[index]))
        part: bytes = self.data[index].tobytes()
        return part

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)


# The values that flow between the stages are made once or more a batch, and a batch can be one frame: none of them is
# frozen, which would cost as much as 1 us each. No stage changes what it was given.


@dataclass(slots=True)
class FrameBatch:
    """n frames of F channels each, in order of arrival.

    `names` are UTF-8 bytes without padding; those of packed records are `Names`, as received: whoever first meets a
    name judges it by `is_valid_name`. `timestamp_ns` is the time of arrival where the producer gave none. `frame` is
    without meaning where `unnumbered`. `values` is C-contiguous; NaN is a missing value, and infinity is possible.
    """

    names: Sequence[bytes]
    frame: NDArray[np.uint64]  # [n]
    timestamp_ns: NDArray[np.int64]  # [n], UTC epoch
    epoch: NDArray[np.uint32]  # [n]
    unnumbered: NDArray[np.bool_]  # [n]
    values: NDArray[np.float32]  # [n, F]

    def part(self, rows: slice) -> FrameBatch:
        """Some of the frames, as views."""
        return FrameBatch(
            names=self.names[rows],
            frame=self.frame[rows],
            timestamp_ns=self.timestamp_ns[rows],
            epoch=self.epoch[rows],
            unnumbered=self.unnumbered[rows],
            values=self.values[rows],
        )


@dataclass(slots=True)
class Decoded:
    """What the bodies of some messages held: batches to step one after another, and what was refused.

    A refused message counts as one frame.
    """

    batches: list[FrameBatch]
    refused: dict[Refusal, int]


@dataclass(slots=True)
class ForecastBatch:
    """n forecasts of equal horizon H, quantiles Q and channels F, each of the frames that follow `frame`.

    `values` is the frame just seen, NaN where it was missing; `surprise` is NaN where there is none; `count` numbers
    the forecasts of a stream, so that a subscriber sees what it lost; `model` is the model's fingerprint, 64 bits.
    """

    names: Sequence[bytes]
    frame: NDArray[np.uint64]  # [n]
    timestamp_ns: NDArray[np.int64]  # [n], UTC epoch
    epoch: NDArray[np.uint32]  # [n]
    flags: NDArray[np.uint16]  # [n], see Flag
    count: NDArray[np.uint64]  # [n]
    values: NDArray[np.float32]  # [n, F]
    surprise: NDArray[np.float32]  # [n, F]
    forecast: NDArray[np.float32]  # [n, H, Q, F]
    quantiles: NDArray[np.float32]  # [Q], levels, ascending
    model: int


def is_valid_name(name: bytes) -> bool:
    """Whether a stream may be called so.

    UTF-8 of 1 to 64 bytes without control characters, and not the beginning of a body or of the batch topic.
    """
    if not 1 <= len(name) <= NAME_MAX_BYTES or name.startswith(_RESERVED_STARTS):
        return False
    try:
        text = name.decode()
    except UnicodeDecodeError:
        return False
    return _CONTROL.search(text) is None
