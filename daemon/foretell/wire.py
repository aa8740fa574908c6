"""The wire format: bytes to frames and forecasts to bytes, both directions, both forms.

`foretell.wire_packed` and `foretell.wire_array` know one form each; `foretell.wire_mixed` sorts bodies of both.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, cast

import numpy as np

from foretell.errors import WireError
from foretell.wire_array import (
    decode_array_forecast,
    encode_array,
    encode_frame_array,
)
from foretell.wire_mixed import decode_mixed
from foretell.wire_packed import (
    HEAD_BYTES,
    channels_of,
    columns_of,
    decode_lone,
    decode_packed_forecasts,
    encode_frames,
    encode_packed,
    encode_packed_batch,
    find_malformed,
    frame_dtype,
    read_records,
)
from foretell.wire_types import (
    ARRAY_START,
    BATCH_TOPIC,
    PACKED_FORECAST,
    PACKED_FRAME,
    TOPIC_MAX_BYTES,
    Array,
    Decoded,
    Flag,
    ForecastBatch,
    FrameBatch,
    Names,
    Parts,
    Refusal,
    is_valid_name,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = [
    "ARRAY_START",
    "BATCH_TOPIC",
    "PACKED_FORECAST",
    "PACKED_FRAME",
    "TOPIC_MAX_BYTES",
    "Array",
    "Decoded",
    "Flag",
    "ForecastBatch",
    "FrameBatch",
    "Names",
    "Parts",
    "Refusal",
    "decode",
    "decode_forecasts",
    "encode_array",
    "encode_frame_array",
    "encode_frames",
    "encode_packed",
    "encode_packed_batch",
    "is_valid_name",
]


def decode(bodies: Sequence[bytes | Array], arrival_ns: int, max_channels: int, max_frames: int) -> Decoded:
    """The frames of bodies in order of arrival; `arrival_ns` is the time of those that tell none, UTC epoch.

    A packed part is given as it is, an array as header and payload. The batches, each of one channel count and of at
    most `max_frames`, keep every stream's order where they are stepped one after another. Whatever the bytes, the
    answer is batches and counted refusals: each body gives its frames or one refusal.
    """
    if len(bodies) == 1 and isinstance(bodies[0], bytes):
        lone = decode_lone(bodies[0], arrival_ns, max_channels)
        if lone is not None:
            return Decoded([lone], {})
    batch = _decode_uniform(bodies, arrival_ns, max_channels)
    if batch is not None:
        return Decoded(_split(batch, max_frames), {})
    batches, refused = decode_mixed(bodies, arrival_ns, max_channels)
    return Decoded([part for batch in batches for part in _split(batch, max_frames)], dict(refused))


def decode_forecasts(parts: Sequence[bytes]) -> tuple[ForecastBatch, NDArray[np.int64]]:
    """The forecasts of one message, with or without a topic before them, and their latencies in ns, i64[n].

    WireError where the message holds anything else.
    """
    body = parts if parts and parts[0].startswith((PACKED_FORECAST, ARRAY_START)) else parts[1:]
    if len(body) == 1 and body[0].startswith(PACKED_FORECAST):
        return decode_packed_forecasts(body[0])
    if len(body) == 2 and body[0].startswith(ARRAY_START):
        return decode_array_forecast(*body)
    raise WireError(f"a message of {len(parts)} parts that is no forecast")


def _decode_uniform(bodies: Sequence[bytes | Array], arrival_ns: int, max_channels: int) -> FrameBatch | None:
    """The frames of sound packed parts of one length and channel count, as nearly always; None for anything else."""
    lengths = {bodies.data.shape[1]} if isinstance(bodies, Parts) else set(map(len, bodies))
    if len(lengths) != 1 or not isinstance(first := bodies[0], bytes):
        return None
    num_channels = channels_of(first[:HEAD_BYTES])
    if num_channels is None or num_channels > max_channels:
        return None
    parts = cast("Sequence[bytes]", bodies)  # an array is a tuple of length 2, and a head is longer than that
    length, record_bytes = lengths.pop(), frame_dtype(num_channels).itemsize
    if length % record_bytes:
        return None
    records = read_records(parts, num_channels)
    return None if find_malformed(records, num_channels) is not None else columns_of(records, arrival_ns)


def _split(batch: FrameBatch, max_frames: int) -> list[FrameBatch]:
    num_frames = len(batch.names)
    if num_frames <= max_frames:
        return [batch]
    bounds = [*range(0, num_frames, max_frames), num_frames]
    return [batch.part(slice(start, stop)) for start, stop in pairwise(bounds)]
