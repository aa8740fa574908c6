"""`foretell.wire`: what comes in. Every vector, and what becomes of many bodies together."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest

from foretell.part_reader import read_message
from foretell.wire import Decoded, Refusal, decode, is_valid_name
from foretell.wire_packed import frame_dtype
from wire_cases import ARRIVAL_NS, MAX_CHANNELS, MAX_FRAMES, VECTORS, Body, array, by_stream, record, rows_of


def decode_all(*bodies: Body, max_frames: int = MAX_FRAMES) -> Decoded:
    """The bodies as one batch of the loop."""
    return decode(bodies, ARRIVAL_NS, MAX_CHANNELS, max_frames)


def shapes_of(decoded: Decoded) -> list[tuple[int, ...]]:
    """[frames, channels] of each batch."""
    return [batch.values.shape for batch in decoded.batches]


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])
def test_vector(vector: dict[str, Any]) -> None:
    """Each message of the vectors gives the frames and the refusals that stand beside it."""
    inbox = read_message([bytes.fromhex(part) for part in vector["parts"]])
    decoded = decode(inbox.bodies, ARRIVAL_NS, MAX_CHANNELS, MAX_FRAMES)
    refused = [Refusal.MALFORMED] * inbox.num_malformed
    for reason, count in decoded.refused.items():
        refused += [reason] * count
    accepted = []
    for row in (row for batch in decoded.batches for row in rows_of(batch)):
        if not is_valid_name(row[0]):
            refused.append(Refusal.BAD_SOURCE)
        elif np.isinf(np.frombuffer(row[4], np.float32)).any():
            refused.append(Refusal.NON_FINITE)
        else:
            accepted.append(row)
    assert [(name, frame, time, epoch) for name, frame, time, epoch, _ in accepted] == [
        (
            frame["source"].encode(),
            frame["frame"],
            ARRIVAL_NS if frame["timestamp_ns"] is None else frame["timestamp_ns"],
            frame["epoch"],
        )
        for frame in vector.get("frames", [])
    ]
    for row, frame in zip(accepted, vector.get("frames", []), strict=True):
        expected = [np.nan if value is None else value for value in frame["values"]]
        np.testing.assert_array_equal(np.frombuffer(row[4], np.float32), np.array(expected, np.float32))
    expected_reasons = vector.get("also_refused", [vector["refused"]] if "refused" in vector else [])
    assert sorted(refused) == sorted(expected_reasons)


def test_frame_layout() -> None:
    """The dtype of a frame is the C struct of the wire format, without padding."""

    class Frame(ctypes.LittleEndianStructure):
        _pack_ = 1
        _layout_ = "ms"
        _fields_ = (
            ("head", ctypes.c_uint64),
            ("frame", ctypes.c_uint64),
            ("timestamp_ns", ctypes.c_int64),
            ("epoch", ctypes.c_uint32),
            ("reserved", ctypes.c_uint32),
            ("source", ctypes.c_char * 64),
            ("values", ctypes.c_float * 3),
        )

    dtype = frame_dtype(3)
    assert dtype.itemsize == ctypes.sizeof(Frame) == 96 + 4 * 3
    assert dtype.fields is not None
    assert {name: dtype.fields[name][1] for name in dtype.fields} == {
        name: getattr(Frame, name).offset for name, _ in Frame._fields_
    }


@pytest.mark.parametrize("length", [1, 64])
def test_name_lengths(length: int) -> None:
    """A name has 1 to 64 bytes."""
    assert is_valid_name(b"x" * length)
    assert not is_valid_name(b"")
    assert not is_valid_name(b"x" * 65)


@pytest.mark.parametrize("code", [0x00, 0x1F, 0x7F, 0x80, 0x9F])
def test_control_characters(code: int) -> None:
    """No control character may stand in a name, be it the first, a middle or the last one."""
    character = chr(code).encode()
    assert not any(
        is_valid_name(name)
        for name in (character, character + b"a", b"a" + character, b"a" + character + b"a")
    )


@pytest.mark.parametrize("code", [0x20, 0x7E, 0xA0, 0x200D, 0x1F600])
def test_other_characters(code: int) -> None:
    """Every other character may."""
    assert is_valid_name(b"a" + chr(code).encode())


@pytest.mark.parametrize("start", [b"{", b"FTL1", b"FTC1", b"*"])
def test_reserved_starts(start: bytes) -> None:
    """A name cannot be taken for a body or for the topic of a batch, but may hold what begins one."""
    assert not is_valid_name(start)
    assert not is_valid_name(start + b"x")
    assert is_valid_name(b"x" + start)


def test_nothing() -> None:
    """No bodies give no batches."""
    assert decode_all() == Decoded([], {})


def test_parts_of_one_channel_count_are_one_batch() -> None:
    """Records, parts of several records and arrays of one channel count become one batch, in order of arrival."""
    decoded = decode_all(
        record(b"a", frame=1) + record(b"b", frame=2),
        array("c", frame=3),
        record(b"d", frame=4),
        array("e", shape=[1, 1], frame=5),
        record(b"f", frame=6) + record(b"g", frame=7) + record(b"h", frame=8),
    )
    assert shapes_of(decoded) == [(8, 1)]
    assert decoded.batches[0].names == [b"a", b"b", b"c", b"d", b"e", b"f", b"g", b"h"]
    assert decoded.batches[0].frame.tolist() == [1, 2, 3, 4, 5, 6, 7, 8]


def test_rows_count_on() -> None:
    """The rows of an array are numbered and timed from its first, also between other bodies."""
    header, _ = array("a", (1, 2, 3), shape=[3, 1], frame=7, timestamp_ns=100, period_ns=10)
    decoded = decode_all(array("b"), (header, np.array([1, 2, 3], "<f4").tobytes()), record(b"c"))
    (batch,) = decoded.batches
    assert batch.names == [b"b", b"a", b"a", b"a", b"c"]
    assert batch.frame[1:4].tolist() == [7, 8, 9]
    assert batch.timestamp_ns.tolist() == [ARRIVAL_NS, 100, 110, 120, 10]
    assert batch.unnumbered.tolist() == [True, False, False, False, False]
    assert batch.values[:, 0].tolist() == [1, 1, 2, 3, 1]


def test_row_at_time_zero() -> None:
    """A row that the period takes to the epoch itself keeps that time: only a first row's 0 is unknown."""
    (batch,) = decode_all(array(values=(1, 2), shape=[2, 1], timestamp_ns=-5, period_ns=5)).batches
    assert batch.timestamp_ns.tolist() == [-5, 0]


@pytest.mark.parametrize("num_others", [0, 1, 5])
def test_unknown_time(num_others: int) -> None:
    """A time of 0 becomes the time of arrival, in a lone record as in company."""
    others = [record(b"b", timestamp_ns=3)] * num_others
    (batch,) = decode_all(*others, record(timestamp_ns=0)).batches
    assert batch.timestamp_ns.tolist() == [3] * num_others + [ARRIVAL_NS]


@pytest.mark.parametrize("num_others", [0, 1, 5])
def test_unnumbered_record(num_others: int) -> None:
    """Bit 0 of the flags says that a record is unnumbered, in a lone record as in company."""
    (batch,) = decode_all(*[record(b"b")] * num_others, record(flags=1)).batches
    assert batch.unnumbered.tolist() == [False] * num_others + [True]


def test_channel_counts_apart() -> None:
    """Frames of different channel counts go in different batches."""
    decoded = decode_all(record(b"a"), record(b"b", (1, 2)), array("c", (1, 2)), array("d"))
    assert [batch.names for batch in decoded.batches] == [[b"a", b"d"], [b"b", b"c"]]


@pytest.mark.parametrize(
    "bad",
    [
        record(b"bad", channels=2),
        record(b"bad", flags=2),
        record(b"bad", reserved=1),
        record(b"bad") + record(b"bad", flags=2),
        record(b"bad") + record(b"bad", reserved=1) + record(b"bad"),
        record(b"bad", (1, 2)) + record(b"bad", (1, 2), channels=1),
        record(b"bad") + record(b"bad")[:-1],
        b"",
        b"FTL1",
        b"FTL1\x01\x00",
        (b"{}", b""),
        array("bad", shape=[2]),
    ],
)
@pytest.mark.parametrize("num_others", [0, 1, 3])
def test_malformed_body_refuses_itself_alone(bad: Body, num_others: int) -> None:
    """A malformed body counts as one refused frame, however many records it has, and its neighbours stand."""
    decoded = decode_all(*[record(b"a")] * num_others, bad, *[record(b"b")] * num_others)
    assert decoded.refused == {Refusal.MALFORMED: 1}
    assert [batch.names for batch in decoded.batches] == (
        [[b"a"] * num_others + [b"b"] * num_others] if num_others else []
    )


@pytest.mark.parametrize("body", [record(values=(1.0,) * 65) * 2, array(values=(1.0,) * 130, shape=[2, 65])])
def test_more_channels_than_allowed(body: Body) -> None:
    """A body of more than `max_channels` counts once as oversize; its neighbours stand."""
    decoded = decode_all(record(), body)
    assert decoded.refused == {Refusal.OVERSIZE: 1}
    assert shapes_of(decoded) == [(1, 1)]
    assert decode_all(body).refused == {Refusal.OVERSIZE: 1}


@pytest.mark.parametrize("body", [record(values=(1.0,) * 64), array(values=(1.0,) * 64)])
def test_as_many_channels_as_allowed(body: Body) -> None:
    """A body of exactly `max_channels` is taken."""
    assert shapes_of(decode_all(body)) == [(1, 64)]


@pytest.mark.parametrize("num_channels", [4096, 4097])
def test_channels_of_the_format(num_channels: int) -> None:
    """4096 channels are the most of the format, whatever the settings allow."""
    values = (1.0,) * num_channels
    decoded = [
        decode([body], ARRIVAL_NS, 2**16, MAX_FRAMES)
        for body in (record(values=values), array(values=values))
    ]
    if num_channels == 4096:
        assert [shapes_of(each) for each in decoded] == [[(1, 4096)], [(1, 4096)]]
    else:
        assert [each.refused for each in decoded] == [{Refusal.MALFORMED: 1}] * 2


def test_no_batch_beyond_max_frames() -> None:
    """What is more than `max_frames` becomes several batches, in order."""
    decoded = decode_all(*(record(frame=i) + record(frame=i + 1) for i in range(0, 10, 2)), max_frames=4)
    assert shapes_of(decoded) == [(4, 1), (4, 1), (2, 1)]
    assert [frame for batch in decoded.batches for frame in batch.frame.tolist()] == list(range(10))


def test_stream_that_changes_its_channel_count() -> None:
    """The frames of a stream stay in order where its channel count goes to and fro; the others' batches stay whole."""
    wide, narrow = (1.0, 2.0), (1.0,)
    bodies = [record(b"x", narrow if i % 2 else wide, frame=i) for i in range(6)]
    for i in range(6):
        bodies.insert(2 * i, record(b"n", narrow, frame=i))
        bodies.insert(2 * i, record(b"w", wide, frame=i))
    decoded = decode_all(*bodies)
    streams = by_stream(decoded)
    assert set(streams) == {b"x", b"n", b"w"}
    for rows in streams.values():
        assert [row[1] for row in rows] == [0, 1, 2, 3, 4, 5]
    assert [len(batch.names) for batch in decoded.batches] == [7, 7, 1, 1, 1, 1]


@pytest.mark.parametrize(
    "bodies",
    [
        [record(values=(1, 2, 3))],
        [record(values=(1, 2, 3))] * 3,
        [record(values=(1, 2, 3)), array(values=(1, 2, 3))],
        [array(values=(1, 2, 3))],
        [array(values=(1, 2), type="float64", shape=[1])],
    ],
)
def test_columns_are_the_batchs_own(bodies: list[Body]) -> None:
    """The columns are C-contiguous, aligned and writable: nothing points into a received message."""
    (batch,) = decode_all(*bodies).batches
    for column in (batch.frame, batch.timestamp_ns, batch.epoch, batch.unnumbered, batch.values):
        assert column.flags.c_contiguous
        assert column.flags.aligned
        assert column.flags.writeable


def test_deep_nesting() -> None:
    """A header of nothing but brackets is refused, and does not exhaust the stack."""
    depth = 2000
    header = b'{"x":' + b"[" * depth + b"]" * depth + b"}"
    assert decode_all((header[:4096], b"")).refused == {Refusal.MALFORMED: 1}
    assert decode_all((header, b"")).refused == {Refusal.MALFORMED: 1}
