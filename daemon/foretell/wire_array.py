"""`array-1.0`: a JSON header and a payload, as areaDetector's ZMQ plug-in, mflow and detector gateways send it."""

from __future__ import annotations

import functools
import math
import operator
from typing import TYPE_CHECKING, Annotated, NamedTuple

import msgspec
import numpy as np

from foretell.errors import WireError
from foretell.wire_types import CHANNELS_MAX, Array, Flag, ForecastBatch, FrameBatch, Refusal, is_valid_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

HEADER_MAX_BYTES = 4096
HTYPE = "array-1.0"
_U64_MAX = 2**64 - 1
_I64_MAX = 2**63 - 1
_WIRE_DTYPE = np.dtype("<f4")
_DTYPES: dict[tuple[str, str], np.dtype[np.float32] | np.dtype[np.float64]] = {
    ("float32", "little"): _WIRE_DTYPE,
    ("float32", "big"): np.dtype(">f4"),
    ("float64", "little"): np.dtype("<f8"),
    ("float64", "big"): np.dtype(">f8"),
}
_ENCODINGS = (None, "", "none")
_FLAGS = {flag.name.lower(): flag for flag in Flag if flag.name}

_Size = Annotated[int, msgspec.Meta(ge=1)]


class _FrameHeader(msgspec.Struct):
    htype: str | list[str]
    type: str
    shape: Annotated[list[_Size], msgspec.Meta(min_length=1, max_length=2)]
    source: str
    frame: Annotated[int, msgspec.Meta(ge=0)] | None = None
    timestamp_ns: Annotated[int, msgspec.Meta(ge=-(2**63), le=_I64_MAX)] | None = None
    period_ns: Annotated[int, msgspec.Meta(ge=0, le=_I64_MAX)] | None = None
    epoch: Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)] | None = None
    endianness: str | None = None
    encoding: str | None = None


class _ForecastHeader(msgspec.Struct, gc=False):
    """Keys in the order in which they are written."""

    htype: str | list[str]
    type: str
    endianness: str
    shape: tuple[_Size, _Size, _Size]
    source: str
    frame: int
    timestamp_ns: int
    epoch: int
    kind: str
    quantiles: list[float]
    model: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{16}$")]
    flags: tuple[str, ...]
    count: int
    values: list[float | None]
    surprise: list[float | None]
    latency_ns: int


_decode_frame_header = msgspec.json.Decoder(_FrameHeader).decode
_decode_forecast_header = msgspec.json.Decoder(_ForecastHeader).decode
_encode_header = msgspec.json.Encoder().encode  # writes NaN as null


class ArrayFrames(NamedTuple):
    """One message's frames: `rows` of `num_channels`, the first numbered `frame` (None: unnumbered)."""

    name: bytes
    rows: int
    num_channels: int
    frame: int | None
    timestamp_ns: int
    period_ns: int
    epoch: int
    payload: bytes  # float32, little-endian


def decode_array(array: Array, arrival_ns: int, max_channels: int) -> ArrayFrames | Refusal:
    """The frames of one message, or why it is refused; a time of 0 or none becomes `arrival_ns` for every row."""
    header, payload = array
    head = _read_header(header)
    if head is None:
        return Refusal.MALFORMED
    dtype = _DTYPES.get((head.type, head.endianness or "little"))
    if head.htype not in (HTYPE, [HTYPE]) or dtype is None or head.encoding not in _ENCODINGS:
        return Refusal.UNSUPPORTED
    rows, num_channels = head.shape if len(head.shape) == 2 else (1, head.shape[0])
    timestamp_ns, period_ns = head.timestamp_ns or 0, head.period_ns or 0
    if not timestamp_ns:
        timestamp_ns, period_ns = arrival_ns, 0
    if (
        num_channels > CHANNELS_MAX
        or len(payload) != rows * num_channels * dtype.itemsize
        or (head.frame or 0) + rows - 1 > _U64_MAX
        or timestamp_ns + (rows - 1) * period_ns > _I64_MAX
    ):
        return Refusal.MALFORMED
    name = head.source.encode()
    if not is_valid_name(name):
        return Refusal.BAD_SOURCE
    if num_channels > max_channels:
        return Refusal.OVERSIZE
    return ArrayFrames(
        name=name,
        rows=rows,
        num_channels=num_channels,
        frame=head.frame,
        timestamp_ns=timestamp_ns,
        period_ns=period_ns,
        epoch=head.epoch or 0,
        payload=payload if dtype is _WIRE_DTYPE else _to_float32(payload, dtype),
    )


def _read_header(header: bytes) -> _FrameHeader | None:
    if len(header) > HEADER_MAX_BYTES:
        return None
    try:
        # Text, because msgspec passes over the bytes of unknown keys without a look at their UTF-8.
        return _decode_frame_header(header.decode())
    except (ValueError, RecursionError):
        return None


def _to_float32(payload: bytes, dtype: np.dtype[np.float32] | np.dtype[np.float64]) -> bytes:
    # What overflows becomes infinite and is judged as such; a signalling NaN is a missing value like any other.
    with np.errstate(over="ignore", invalid="ignore"):
        return np.frombuffer(payload, dtype).astype(_WIRE_DTYPE).tobytes()


def columns_of(arrays: Sequence[ArrayFrames]) -> FrameBatch:
    """The frames of messages of equal channel count as columns."""
    frame = np.array([array.frame or 0 for array in arrays], np.uint64)
    timestamp_ns = np.array([array.timestamp_ns for array in arrays], np.int64)
    epoch = np.array([array.epoch for array in arrays], np.uint32)
    unnumbered = np.array([array.frame is None for array in arrays])
    names = [array.name for array in arrays]
    num_rows = [array.rows for array in arrays]
    if max(num_rows) > 1:
        rows = np.array(num_rows)
        row = np.arange(rows.sum()) - np.repeat(np.cumsum(rows) - rows, rows)
        period_ns = np.array([array.period_ns for array in arrays], np.int64)
        frame = np.repeat(frame, rows) + row.astype(np.uint64)
        timestamp_ns = np.repeat(timestamp_ns, rows) + row * np.repeat(period_ns, rows)
        epoch = np.repeat(epoch, rows)
        unnumbered = np.repeat(unnumbered, rows)
        names = [array.name for array in arrays for _ in range(array.rows)]
    values = np.frombuffer(bytearray().join([array.payload for array in arrays]), _WIRE_DTYPE)
    return FrameBatch(
        names, frame, timestamp_ns, epoch, unnumbered, values.reshape(-1, arrays[0].num_channels)
    )


def encode_frame_array(
    source: bytes,
    values: NDArray[np.float32] | NDArray[np.float64],
    *,
    frame: int | None = None,
    timestamp_ns: int | None = None,
    period_ns: int | None = None,
    epoch: int | None = None,
) -> Array:
    """One message of a stream's successive frames, [rows, channels] or [channels]; the name must be valid."""
    header: dict[str, object] = {
        "htype": HTYPE,
        "type": values.dtype.name,
        "shape": values.shape,
        "source": source.decode(),
    }
    optional = {"frame": frame, "timestamp_ns": timestamp_ns, "period_ns": period_ns, "epoch": epoch}
    header |= {key: value for key, value in optional.items() if value is not None}
    return _encode_header(header), values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()


def encode_array(batch: ForecastBatch, latency_ns: int) -> list[Array]:
    """One header and payload a forecast; the names must be valid."""
    quantiles = [float(str(level)) for level in batch.quantiles]  # 0.05 rather than 0.05000000074505806
    shape = batch.forecast.shape[1:]
    model = f"{batch.model:016x}"
    num_bytes = 4 * math.prod(shape)
    payload = batch.forecast.astype(_WIRE_DTYPE, copy=False).tobytes()
    columns = zip(
        batch.names,
        batch.frame.tolist(),
        batch.timestamp_ns.tolist(),
        batch.epoch.tolist(),
        batch.flags.tolist(),
        batch.count.tolist(),
        batch.values.tolist(),
        batch.surprise.tolist(),
        range(0, len(payload), num_bytes),
        strict=True,
    )
    return [
        (
            _encode_header(
                _ForecastHeader(
                    HTYPE,
                    "float32",
                    "little",
                    shape,
                    name.decode(),
                    frame,
                    timestamp_ns,
                    epoch,
                    "forecast",
                    quantiles,
                    model,
                    _flag_names(flags),
                    count,
                    values,
                    surprise,
                    latency_ns,
                )
            ),
            payload[start : start + num_bytes],
        )
        for name, frame, timestamp_ns, epoch, flags, count, values, surprise, start in columns
    ]


def decode_array_forecast(header: bytes, payload: bytes) -> tuple[ForecastBatch, NDArray[np.int64]]:
    """The one forecast of a message and its latency, i64[1]; WireError where it cannot be read."""
    try:
        head = _decode_forecast_header(header.decode())
        return _forecast_of(head, payload), np.array((head.latency_ns,), np.int64)
    except (ValueError, KeyError, OverflowError, RecursionError) as error:
        raise WireError(f"not an array-1.0 forecast: {error}") from error


@np.errstate(over="ignore")  # what no float32 holds becomes infinite
def _forecast_of(head: _ForecastHeader, payload: bytes) -> ForecastBatch:
    """ValueError, KeyError or OverflowError where the parts of a forecast do not fit together."""
    num_steps, num_quantiles, num_channels = head.shape
    if head.htype not in (HTYPE, [HTYPE]) or head.kind != "forecast":
        raise ValueError(f"htype {head.htype}, kind {head.kind}")
    if (head.type, head.endianness) != ("float32", "little"):
        raise ValueError(f"type {head.type}, endianness {head.endianness}")
    if (len(head.quantiles), len(head.values), len(head.surprise)) != (
        num_quantiles,
        num_channels,
        num_channels,
    ):
        raise ValueError(f"quantiles, values or surprise do not fit the shape {head.shape}")
    if len(payload) != 4 * math.prod(head.shape):
        raise ValueError(f"{len(payload)} bytes of payload do not fit the shape {head.shape}")
    return ForecastBatch(
        names=[head.source.encode()],
        frame=np.array((head.frame,), np.uint64),
        timestamp_ns=np.array((head.timestamp_ns,), np.int64),
        epoch=np.array((head.epoch,), np.uint32),
        flags=np.array((functools.reduce(operator.or_, map(_FLAGS.__getitem__, head.flags), 0),), np.uint16),
        count=np.array((head.count,), np.uint64),
        values=np.array([head.values], np.float32),  # None becomes NaN
        surprise=np.array([head.surprise], np.float32),
        forecast=np.frombuffer(payload, _WIRE_DTYPE)
        .reshape(1, num_steps, num_quantiles, num_channels)
        .copy(),
        quantiles=np.array(head.quantiles, np.float32),
        model=int(head.model, 16),
    )


@functools.cache  # at most 2**16, of which a handful occur
def _flag_names(flags: int) -> tuple[str, ...]:
    return tuple(name for name, flag in _FLAGS.items() if flag & flags)
