"""`foretell.wire`: what goes out, and how a subscriber reads it."""

from __future__ import annotations

import dataclasses
import json
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretell.errors import WireError
from foretell.wire import (
    Flag,
    ForecastBatch,
    decode_forecasts,
    encode_array,
    encode_packed,
    encode_packed_batch,
)
from wire_cases import floats, i64, mutated, names, u32, u64

HEADER_KEYS = [
    "htype",
    "type",
    "endianness",
    "shape",
    "source",
    "frame",
    "timestamp_ns",
    "epoch",
    "kind",
    "quantiles",
    "model",
    "flags",
    "count",
    "values",
    "surprise",
    "latency_ns",
]


@st.composite
def forecast_batches(draw: st.DrawFn) -> ForecastBatch:
    """Any forecasts of one shape."""
    n, num_channels, num_steps, num_quantiles = (draw(st.integers(1, most)) for most in (4, 5, 3, 5))

    def column(values: st.SearchStrategy[Any], dtype: type, *shape: int) -> Any:
        size = n * int(np.prod(shape))
        return np.array(draw(st.lists(values, min_size=size, max_size=size)), dtype).reshape(n, *shape)

    levels = st.lists(st.integers(1, 999), min_size=num_quantiles, max_size=num_quantiles, unique=True)
    seen = st.floats(width=32, allow_infinity=False)
    return ForecastBatch(
        names=draw(st.lists(names, min_size=n, max_size=n)),
        frame=column(u64, np.uint64),
        timestamp_ns=column(i64, np.int64),
        epoch=column(u32, np.uint32),
        flags=column(st.integers(0, 63), np.uint16),
        count=column(u64, np.uint64),
        values=column(seen, np.float32, num_channels),
        surprise=column(st.floats(0, 12, width=32) | st.just(np.nan), np.float32, num_channels),
        forecast=column(floats, np.float32, num_steps, num_quantiles, num_channels),
        quantiles=np.array(sorted(draw(levels)), np.float32) / np.float32(1000),
        model=draw(u64),
    )


FORECAST = ForecastBatch(
    names=[b"pump-1", "Pumpe-ä".encode()],
    frame=np.array([7, 2**64 - 1], np.uint64),
    timestamp_ns=np.array([1_700_000_000_000_000_001, -1], np.int64),
    epoch=np.array([5, 0], np.uint32),
    flags=np.array([Flag.WARMING | Flag.RESET, 0], np.uint16),
    count=np.array([1, 9], np.uint64),
    values=np.array([[1.5, np.nan], [0.1, 2.0]], np.float32),
    surprise=np.array([[np.nan, np.nan], [0.25, 12.0]], np.float32),
    forecast=np.arange(2 * 1 * 3 * 2, dtype=np.float32).reshape(2, 1, 3, 2),
    quantiles=np.array([0.05, 0.5, 0.95], np.float32),
    model=0xABC,
)


def assert_equal(left: ForecastBatch, right: ForecastBatch) -> None:
    """Equal in every column, value and dtype; NaN equals NaN."""
    for field in dataclasses.fields(ForecastBatch):
        np.testing.assert_array_equal(getattr(left, field.name), getattr(right, field.name), field.name)
        if isinstance(getattr(left, field.name), np.ndarray):
            assert getattr(left, field.name).dtype == getattr(right, field.name).dtype


def row_of(batch: ForecastBatch, i: int) -> ForecastBatch:
    """One forecast of a batch, or none where it has no such row."""
    columns = {
        field.name: getattr(batch, field.name)[i : i + 1]
        for field in dataclasses.fields(ForecastBatch)
        if field.name not in ("quantiles", "model")
    }
    return ForecastBatch(quantiles=batch.quantiles, model=batch.model, **columns)


@given(forecast_batches(), i64)
def test_packed_batch_comes_back(batch: ForecastBatch, latency_ns: int) -> None:
    """decode(encode(x)) = x for a packed batch, with its topic and without."""
    part = bytes(encode_packed_batch(batch, latency_ns))
    for parts in ([b"*", part], [part]):
        back, latencies = decode_forecasts(parts)
        assert_equal(back, batch)
        assert latencies.tolist() == [latency_ns] * len(batch.names)


@given(forecast_batches(), i64)
def test_packed_forecasts_come_back(batch: ForecastBatch, latency_ns: int) -> None:
    """decode(encode(x)) = x for packed forecasts, a message each; together they are the packed batch."""
    parts = encode_packed(batch, latency_ns)
    assert b"".join(parts) == encode_packed_batch(batch, latency_ns)
    for i, part in enumerate(parts):
        back, latencies = decode_forecasts([batch.names[i], part])
        assert_equal(back, row_of(batch, i))
        assert latencies.tolist() == [latency_ns]


@given(forecast_batches(), i64)
def test_a_lone_packed_forecast_has_the_bytes_it_has_among_others(
    batch: ForecastBatch, latency_ns: int
) -> None:
    """A batch of one forecast takes a shorter way to the same record."""
    parts = encode_packed(batch, latency_ns)
    for i, part in enumerate(parts):
        assert encode_packed(row_of(batch, i), latency_ns) == [part]
        assert encode_packed_batch(row_of(batch, i), latency_ns) == part


@given(forecast_batches(), i64)
def test_array_forecasts_come_back(batch: ForecastBatch, latency_ns: int) -> None:
    """decode(encode(x)) = x for forecasts as arrays, with the topic and without."""
    for i, (header, payload) in enumerate(encode_array(batch, latency_ns)):
        for parts in ([batch.names[i], header, payload], [header, payload]):
            back, latencies = decode_forecasts(parts)
            assert_equal(back, row_of(batch, i))
            assert latencies.tolist() == [latency_ns]


def test_array_header() -> None:
    """The header holds exactly the keys of the wire format, with null for NaN and levels as they are written."""
    headers = [json.loads(header) for header, _ in encode_array(FORECAST, latency_ns=321)]
    assert [list(header) for header in headers] == [HEADER_KEYS] * 2
    assert headers[0] == {
        "htype": "array-1.0",
        "type": "float32",
        "endianness": "little",
        "shape": [1, 3, 2],
        "source": "pump-1",
        "frame": 7,
        "timestamp_ns": 1_700_000_000_000_000_001,
        "epoch": 5,
        "kind": "forecast",
        "quantiles": [0.05, 0.5, 0.95],
        "model": "0000000000000abc",
        "flags": ["warming", "reset"],
        "count": 1,
        "values": [1.5, None],
        "surprise": [None, None],
        "latency_ns": 321,
    }
    assert headers[1]["source"] == "Pumpe-ä"
    assert headers[1]["frame"] == 2**64 - 1
    assert headers[1]["flags"] == []
    assert np.float32(headers[1]["values"][0]) == np.float32(0.1)


def test_array_payload() -> None:
    """The payload is the forecast alone, float32, little-endian, C order [H, Q, F]."""
    assert [payload for _, payload in encode_array(FORECAST, latency_ns=0)] == [
        struct.pack("<6f", *range(6)),
        struct.pack("<6f", *range(6, 12)),
    ]


def test_packed_layout() -> None:
    """A packed forecast is laid out byte for byte as the table of the wire format says."""
    part = encode_packed(FORECAST, latency_ns=321)[1]
    header = struct.pack(
        "<4sHHQqIHH64sQqQ", b"FTC1", 2, 0, 2**64 - 1, -1, 0, 1, 3, "Pumpe-ä".encode(), 0xABC, 321, 9
    )
    levels = struct.pack("<3f", 0.05, 0.5, 0.95)
    surprise, values = struct.pack("<2f", 0.25, 12), struct.pack("<2f", 0.1, 2)
    assert part == header + levels + surprise + values + struct.pack("<6f", *range(6, 12))
    assert len(part) == 120 + 4 * (3 + 2 * 2 + 1 * 3 * 2)


def test_nothing_to_encode() -> None:
    """No forecasts make no parts."""
    nothing = row_of(FORECAST, 2)
    assert encode_packed(nothing, 1) == []
    assert encode_array(nothing, 1) == []


@pytest.mark.parametrize(
    "parts",
    [
        [],
        [b""],
        [b"pump-1"],
        [b"pump-1", b"x"],
        [b"pump-1", b"FTC1"],
        [b"pump-1", b"FTL1" + b"\0" * 200],
        [b"{}", b""],
        [b"FTC1" + b"\0" * 116],
        [b"a", b"b", encode_packed(FORECAST, 1)[0]],
        [encode_packed(FORECAST, 1)[0], b"b"],
        [encode_packed(FORECAST, 1)[0][:-1]],
        [
            encode_packed(FORECAST, 1)[0]
            + encode_packed(row_of(dataclasses.replace(FORECAST, model=1), 0), 1)[0]
        ],
        [*encode_array(FORECAST, 1)[0], b""],
        [b"a", encode_array(FORECAST, 1)[0][0]],
    ],
    ids=str,
)
def test_unreadable_message(parts: list[bytes]) -> None:
    """A message that is no forecast, or more than one, raises WireError."""
    with pytest.raises(WireError):
        decode_forecasts(parts)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("htype", "histogram-1.0"),
        ("type", "float64"),
        ("endianness", "big"),
        ("kind", "frame"),
        ("shape", [1, 2, 3]),
        ("shape", [3, 2]),
        ("shape", [1, 0, 2]),
        ("quantiles", [0.5]),
        ("values", [1.0]),
        ("surprise", []),
        ("model", "0x12"),
        ("model", "-000000000000001"),
        ("flags", ["warm"]),
        ("frame", -1),
        ("frame", 2**64),
        ("count", 1.5),
        ("epoch", 2**32),
        ("timestamp_ns", 2**63),
        ("latency_ns", 2**63),
    ],
)
def test_unreadable_header(key: str, value: object) -> None:
    """A header with a key of another kind, range or length raises WireError."""
    header, payload = encode_array(FORECAST, 1)[0]
    with pytest.raises(WireError):
        decode_forecasts([json.dumps(json.loads(header) | {key: value}).encode(), payload])


@given(st.data())
def test_any_bytes_give_forecasts_or_wire_errors(data: st.DataObject) -> None:
    """Whatever the bytes of a message, a subscriber gets columns of one length or a WireError."""
    sound = [
        encode_array(FORECAST, 1)[0],
        encode_packed(FORECAST, 1)[:1],
        [bytes(encode_packed_batch(FORECAST, 1))],
    ]
    parts = [data.draw(mutated(part)) for part in data.draw(st.sampled_from(sound))]
    parts += data.draw(st.lists(st.binary(max_size=8), max_size=1))
    try:
        batch, latencies = decode_forecasts(parts)
    except WireError:
        return
    n = len(batch.names)
    assert batch.values.shape == batch.surprise.shape == (n, batch.forecast.shape[-1])
    assert len(latencies) == len(batch.frame) == len(batch.forecast) == n


def test_new_flag_bits_pass() -> None:
    """Flag bits of a later version reach a subscriber of packed records as they are."""
    batch = dataclasses.replace(FORECAST, flags=np.array([64, 65], np.uint16))
    assert decode_forecasts([bytes(encode_packed_batch(batch, 1))])[0].flags.tolist() == [64, 65]
