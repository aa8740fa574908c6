"""Frames, bodies and broken bodies for the tests of the wire format."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from foretell.wire import Array, Decoded, FrameBatch, encode_frame_array, encode_frames, is_valid_name

ARRIVAL_NS = 1_700_000_000_123_456_789
MAX_CHANNELS = 64
MAX_FRAMES = 4096

Body = bytes | Array
Row = tuple[bytes, int | None, int, int, bytes]
"""A frame as one value: name, number (None: unnumbered), time, epoch, values as the bytes of float32."""

VECTORS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent / "wire-vectors.json").read_text(encoding="utf-8")
)["vectors"]


def record(source: bytes = b"pump-1", values: tuple[float, ...] = (1.0,), **fields: int) -> bytes:
    """A packed record by the table of the wire format, not by the code under test."""
    header = {
        "channels": len(values),
        "flags": 0,
        "frame": 1,
        "timestamp_ns": 10,
        "epoch": 0,
        "reserved": 0,
    } | fields
    return struct.pack(f"<4sHHQqII64s{len(values)}f", b"FTL1", *header.values(), source, *values)


def array(source: str = "pump-1", values: tuple[float, ...] = (1.0,), **keys: object) -> Array:
    """An array of one row."""
    header = {"htype": "array-1.0", "type": "float32", "shape": [len(values)], "source": source} | keys
    return json.dumps(header).encode(), struct.pack(f"<{len(values)}f", *values)


def rows_of(batch: FrameBatch) -> list[Row]:
    """The frames of a batch, one by one."""
    return [
        (
            name,
            None if batch.unnumbered[i] else int(batch.frame[i]),
            int(batch.timestamp_ns[i]),
            int(batch.epoch[i]),
            batch.values[i].tobytes(),
        )
        for i, name in enumerate(batch.names)
    ]


def by_stream(decoded: Decoded) -> dict[bytes, list[Row]]:
    """Every stream's frames in the order in which the batches would step them."""
    streams: dict[bytes, list[Row]] = {}
    for batch in decoded.batches:
        for row in rows_of(batch):
            streams.setdefault(row[0], []).append(row)
    return streams


def num_refused(decoded: Decoded) -> int:
    """How many bodies were refused."""
    return sum(decoded.refused.values())


names = st.one_of(
    st.sampled_from([b"a", b"pump-1", "Pumpe-ä/温度".encode(), b"x" * 64]),
    st.text(min_size=1, max_size=64).map(str.encode).filter(is_valid_name),
)
floats = st.floats(width=32)
u64 = st.integers(0, 2**64 - 1)
i64 = st.integers(-(2**63), 2**63 - 1)
u32 = st.integers(0, 2**32 - 1)


@st.composite
def frame_batches(draw: st.DrawFn, max_frames: int = 6) -> FrameBatch:
    """Any valid frames of one channel count; times are known."""
    n, num_channels = draw(st.integers(1, max_frames)), draw(st.integers(1, 9))

    def column(values: st.SearchStrategy[Any], dtype: type, *shape: int) -> Any:
        size = n * int(np.prod(shape))
        return np.array(draw(st.lists(values, min_size=size, max_size=size)), dtype).reshape(n, *shape)

    return FrameBatch(
        names=draw(st.lists(names, min_size=n, max_size=n)),
        frame=column(u64, np.uint64),
        timestamp_ns=column(i64.filter(bool), np.int64),
        epoch=column(u32, np.uint32),
        unnumbered=column(st.booleans(), np.bool_),
        values=column(floats, np.float32, num_channels),
    )


@st.composite
def array_bodies(draw: st.DrawFn, max_rows: int = 4) -> Array:
    """Valid arrays of some rows."""
    rows, num_channels = draw(st.integers(1, max_rows)), draw(st.integers(1, 3))
    values = draw(st.lists(floats, min_size=rows * num_channels, max_size=rows * num_channels))
    return encode_frame_array(
        draw(names),
        np.array(values, np.float32).reshape(rows, num_channels),
        frame=draw(st.none() | st.integers(0, 2**64 - max_rows)),
        timestamp_ns=draw(st.none() | st.integers(-(2**62), 2**62)),
        period_ns=draw(st.none() | st.integers(0, 2**50)),
        epoch=draw(st.none() | u32),
    )


@st.composite
def mutated(draw: st.DrawFn, whole: bytes) -> bytes:
    """The bytes with some of them changed, cut off, or put in."""
    changed = bytearray(whole)
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(changed)))
        length = draw(st.integers(0, 4))
        changed[at : at + length] = draw(st.binary(max_size=4))
    return bytes(changed)


@st.composite
def broken_bodies(draw: st.DrawFn) -> Body:
    """A body of the vectors, mutated a little, or bytes without any meaning."""
    if draw(st.booleans()):
        return draw(st.binary(max_size=300) | st.tuples(st.binary(max_size=100), st.binary(max_size=30)))
    parts = [bytes.fromhex(part) for part in draw(st.sampled_from(VECTORS))["parts"]]
    if len(parts) > 1 and draw(st.booleans()):
        return draw(mutated(parts[-2])), draw(mutated(parts[-1]))
    return draw(mutated(parts[-1]))


bodies = st.one_of(frame_batches(max_frames=3).map(encode_frames), array_bodies(), broken_bodies())
"""Any bodies, most of them sound."""
