"""Packed records, `FTL1` frames and `FTC1` forecasts: one numpy structured dtype is one C struct without padding."""

from __future__ import annotations

import functools
import struct
from typing import TYPE_CHECKING, Any

import numpy as np

from foretell.errors import WireError
from foretell.wire_types import (
    CHANNELS_MAX,
    NAME_MAX_BYTES,
    PACKED_FORECAST,
    PACKED_FRAME,
    ForecastBatch,
    FrameBatch,
    Names,
    Parts,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Records = np.ndarray[tuple[int], np.dtype[np.void]]

FRAME_HEADER_BYTES = 96
FORECAST_HEADER_BYTES = 120
_UNNUMBERED_BIT = 1
_FRAME_HEADER = struct.Struct(f"<QQqII{NAME_MAX_BYTES}s")
_HEAD = struct.Struct("<4sHH")
HEAD_BYTES = _HEAD.size
_FORECAST_HEADER = struct.Struct(f"<4sHHQqIHH{NAME_MAX_BYTES}sQqQ")
_FLOAT32 = np.dtype("<f4")


@functools.cache  # at most CHANNELS_MAX
def frame_dtype(num_channels: int) -> np.dtype[np.void]:
    """The dtype of a frame. `head` is magic, channels and flags read as one u64, so that one comparison checks all."""
    fields: list[Any] = [
        ("head", "<u8"),
        ("frame", "<u8"),
        ("timestamp_ns", "<i8"),
        ("epoch", "<u4"),
        ("reserved", "<u4"),
        ("source", f"S{NAME_MAX_BYTES}"),
        ("values", "<f4", (num_channels,)),
    ]
    return np.dtype(fields)


@functools.lru_cache(maxsize=64)  # shapes of the models in use, of which there are few
def forecast_dtype(num_channels: int, num_steps: int, num_quantiles: int) -> np.dtype[np.void]:
    """The dtype of a forecast of horizon `num_steps`."""
    fields: list[Any] = [
        ("magic", "S4"),
        ("channels", "<u2"),
        ("flags", "<u2"),
        ("frame", "<u8"),
        ("timestamp_ns", "<i8"),
        ("epoch", "<u4"),
        ("horizon", "<u2"),
        ("num_quantiles", "<u2"),
        ("source", f"S{NAME_MAX_BYTES}"),
        ("model", "<u8"),
        ("latency_ns", "<i8"),
        ("count", "<u8"),
        ("quantiles", "<f4", (num_quantiles,)),
        ("surprise", "<f4", (num_channels,)),
        ("values", "<f4", (num_channels,)),
        ("forecast", "<f4", (num_steps, num_quantiles, num_channels)),
    ]
    return np.dtype(fields)


@functools.cache  # at most CHANNELS_MAX x 2
def _head(num_channels: int, flags: int) -> int:
    return int.from_bytes(_HEAD.pack(PACKED_FRAME, num_channels, flags), "little")


def channels_of(head: bytes) -> int | None:
    """The channels that the first 8 bytes of a part promise, or None where they begin no frame."""
    if len(head) < HEAD_BYTES:
        return None
    magic, num_channels, flags = _HEAD.unpack(head)
    is_frame = magic == PACKED_FRAME and 1 <= num_channels <= CHANNELS_MAX and flags in (0, _UNNUMBERED_BIT)
    return num_channels if is_frame else None


def decode_lone(part: bytes, arrival_ns: int, max_channels: int) -> FrameBatch | None:
    """The frame of a sound part of exactly one record of at most `max_channels`; None for any other part.

    What `columns_of` makes of one record, in a fraction of the time: at low load a batch is one frame.
    """
    num_channels, rest = divmod(len(part) - FRAME_HEADER_BYTES, _FLOAT32.itemsize)
    if rest or not 1 <= num_channels <= min(max_channels, CHANNELS_MAX):
        return None
    head, frame, timestamp_ns, epoch, reserved, name = _FRAME_HEADER.unpack_from(part)
    is_unnumbered = head == _head(num_channels, _UNNUMBERED_BIT)
    if reserved or not (is_unnumbered or head == _head(num_channels, 0)):
        return None
    return FrameBatch(
        names=[name.rstrip(b"\0")],
        frame=np.array((frame,), np.uint64),
        timestamp_ns=np.array((timestamp_ns or arrival_ns,), np.int64),
        epoch=np.array((epoch,), np.uint32),
        unnumbered=np.array((is_unnumbered,)),
        values=np.frombuffer(part, _FLOAT32, num_channels, FRAME_HEADER_BYTES).reshape(1, -1).copy(),
    )


def read_records(parts: Sequence[bytes], num_channels: int) -> Records:
    """All records of parts whose lengths are multiples of a record, joined."""
    joined = parts.data if isinstance(parts, Parts) else b"".join(parts)
    return np.frombuffer(joined, frame_dtype(num_channels))


def find_malformed(records: Records, num_channels: int) -> NDArray[np.bool_] | None:
    """Which records are no frames of so many channels, by their heads and `reserved`; None where all are."""
    differs = records["head"] != _head(num_channels, 0)
    has_reserved = records["reserved"] != 0
    if differs.any():
        differs &= records["head"] != _head(num_channels, _UNNUMBERED_BIT)
    differs |= has_reserved
    return differs if differs.any() else None


def columns_of(records: Records, arrival_ns: int) -> FrameBatch:
    """Sound records as columns of their own, an unknown time replaced by `arrival_ns`."""
    num_channels = records.dtype["values"].shape[0]
    timestamp_ns = records["timestamp_ns"].copy()
    if not timestamp_ns.all():
        timestamp_ns[timestamp_ns == 0] = arrival_ns
    return FrameBatch(
        names=Names(records["source"].copy()),
        frame=records["frame"].copy(),
        timestamp_ns=timestamp_ns,
        epoch=records["epoch"].copy(),
        unnumbered=records["head"] != _head(num_channels, 0),
        values=records["values"].copy(),
    )


def encode_frames(batch: FrameBatch) -> bytes:
    """One part of n records; the names must be valid."""
    num_frames, num_channels = batch.values.shape
    records = np.zeros(num_frames, frame_dtype(num_channels))
    flags = batch.unnumbered.astype(np.uint64) * np.uint64(_UNNUMBERED_BIT)
    records["head"] = np.uint64(_head(num_channels, 0)) | flags << np.uint64(48)
    records["frame"] = batch.frame
    records["timestamp_ns"] = batch.timestamp_ns
    records["epoch"] = batch.epoch
    records["source"] = _column(batch.names)
    records["values"] = batch.values
    return records.tobytes()


def encode_packed(batch: ForecastBatch, latency_ns: int) -> list[bytes]:
    """One part a forecast, for one message each; the names must be valid."""
    if len(batch.names) == 1:
        return [_encode_lone(batch, latency_ns)]
    records = _forecast_records(batch, latency_ns)
    parts: list[bytes] = records.view(f"V{records.dtype.itemsize}").tolist()
    return parts


def encode_packed_batch(batch: ForecastBatch, latency_ns: int) -> bytes | memoryview:
    """One part of n records, for one message of the whole batch; the names must be valid.

    The bytes are the array's own: a copy of a megabyte or two costs more than filling it does.
    """
    if len(batch.names) == 1:
        return _encode_lone(batch, latency_ns)
    return _forecast_records(batch, latency_ns).view(np.uint8).data


def _encode_lone(batch: ForecastBatch, latency_ns: int) -> bytes:
    """What `_forecast_records` makes of one forecast, in a fraction of the time."""
    _, num_steps, num_quantiles, num_channels = batch.forecast.shape
    header = _FORECAST_HEADER.pack(
        PACKED_FORECAST,
        num_channels,
        batch.flags.item(),
        batch.frame.item(),
        batch.timestamp_ns.item(),
        batch.epoch.item(),
        num_steps,
        num_quantiles,
        batch.names[0],
        batch.model,
        latency_ns,
        batch.count.item(),
    )
    floats = (batch.quantiles, batch.surprise, batch.values, batch.forecast)
    return b"".join((header, *[column.astype(_FLOAT32, copy=False).tobytes() for column in floats]))


def _forecast_records(batch: ForecastBatch, latency_ns: int) -> Records:
    num_frames, num_steps, num_quantiles, num_channels = batch.forecast.shape
    records = np.empty(num_frames, forecast_dtype(num_channels, num_steps, num_quantiles))
    records["magic"] = PACKED_FORECAST
    records["channels"] = num_channels
    records["flags"] = batch.flags
    records["frame"] = batch.frame
    records["timestamp_ns"] = batch.timestamp_ns
    records["epoch"] = batch.epoch
    records["horizon"] = num_steps
    records["num_quantiles"] = num_quantiles
    records["source"] = _column(batch.names)
    records["model"] = batch.model
    records["latency_ns"] = latency_ns
    records["count"] = batch.count
    records["quantiles"] = batch.quantiles
    records["surprise"] = batch.surprise
    records["values"] = batch.values
    records["forecast"] = batch.forecast
    return records


def _column(names: Sequence[bytes]) -> NDArray[np.bytes_] | Sequence[bytes]:
    return names.column if isinstance(names, Names) else names


def decode_packed_forecasts(part: bytes) -> tuple[ForecastBatch, NDArray[np.int64]]:
    """The forecasts of a part and their latencies, i64[n]; WireError where it cannot be read."""
    if len(part) < FORECAST_HEADER_BYTES:
        raise WireError(f"a packed forecast of {len(part)} bytes is shorter than its header")
    num_channels, num_steps, num_quantiles = (
        int.from_bytes(part[at : at + 2], "little") for at in (4, 28, 30)
    )
    if not (num_channels and num_steps and num_quantiles):
        raise WireError("a packed forecast without channels, horizon or quantiles")
    size = FORECAST_HEADER_BYTES + 4 * (
        num_quantiles + 2 * num_channels + num_steps * num_quantiles * num_channels
    )
    if len(part) % size:
        raise WireError(f"{len(part)} bytes are no whole number of packed forecasts of {size} bytes")
    records = np.frombuffer(part, forecast_dtype(num_channels, num_steps, num_quantiles))
    first = records[:1]
    for field in ("magic", "channels", "horizon", "num_quantiles", "quantiles", "model"):
        if not np.array_equal(
            records[field], np.broadcast_to(first[field], records[field].shape), equal_nan=False
        ):
            raise WireError(f"packed forecasts of one part differ in {field}")
    if records["magic"][0] != PACKED_FORECAST:
        raise WireError("not a packed forecast")
    batch = ForecastBatch(
        names=records["source"].tolist(),
        frame=records["frame"].copy(),
        timestamp_ns=records["timestamp_ns"].copy(),
        epoch=records["epoch"].copy(),
        flags=records["flags"].copy(),
        count=records["count"].copy(),
        values=records["values"].copy(),
        surprise=records["surprise"].copy(),
        forecast=records["forecast"].copy(),
        quantiles=records["quantiles"][0].copy(),
        model=int(records["model"][0]),
    )
    return batch, records["latency_ns"].copy()
