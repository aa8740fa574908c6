"""`foretell.wire`: what holds of any frames and of any bytes that come in."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from foretell.wire import Decoded, FrameBatch, Refusal, decode, encode_frame_array, encode_frames
from wire_cases import (
    ARRIVAL_NS,
    MAX_CHANNELS,
    MAX_FRAMES,
    Body,
    Row,
    bodies,
    broken_bodies,
    by_stream,
    frame_batches,
    num_refused,
    record,
    rows_of,
)

MESSAGE_FAULTS = {Refusal.MALFORMED, Refusal.UNSUPPORTED, Refusal.OVERSIZE, Refusal.BAD_SOURCE}


def decode_all(
    given_bodies: list[Body], max_channels: int = MAX_CHANNELS, max_frames: int = MAX_FRAMES
) -> Decoded:
    """The bodies as one batch of the loop."""
    return decode(given_bodies, ARRIVAL_NS, max_channels, max_frames)


@given(frame_batches())
def test_packed_frames_come_back(batch: FrameBatch) -> None:
    """decode(encode(x)) = x for packed frames, in one part and as a part each."""
    part = encode_frames(batch)
    size = len(part) // len(batch.names)
    for parts in ([part], [part[start : start + size] for start in range(0, len(part), size)]):
        decoded = decode_all(list(parts))
        assert [rows_of(each) for each in decoded.batches] == [rows_of(batch)]
        assert not decoded.refused


@given(
    frame_batches(),
    st.none() | st.integers(0, 2**64 - 6),
    st.none() | st.integers(-(2**62), 2**62).filter(bool),
    st.none() | st.integers(0, 2**50),
    st.sampled_from(["<f4", ">f4", "<f8", ">f8"]),
)
def test_array_frames_come_back(
    batch: FrameBatch, frame: int | None, timestamp_ns: int | None, period_ns: int | None, dtype: str
) -> None:
    """decode(encode(x)) = x for the rows of an array, from float32 or float64 of either byte order."""
    name, epoch, rows = batch.names[0], int(batch.epoch[0]), range(len(batch.names))
    header, payload = encode_frame_array(
        name,
        batch.values.astype(dtype),
        frame=frame,
        timestamp_ns=timestamp_ns,
        period_ns=period_ns,
        epoch=epoch,
    )
    decoded = decode_all([(header, payload)])
    times = [ARRIVAL_NS if timestamp_ns is None else timestamp_ns + row * (period_ns or 0) for row in rows]
    frames = [None if frame is None else frame + row for row in rows]
    (back,) = decoded.batches
    assert [row[:4] for row in rows_of(back)] == [(name, frames[row], times[row], epoch) for row in rows]
    np.testing.assert_array_equal(back.values, batch.values)
    assert not decoded.refused


@given(st.lists(broken_bodies() | bodies, max_size=6), st.sampled_from([1, 2, MAX_FRAMES]))
def test_any_bytes_give_frames_or_refusals(given_bodies: list[Body], max_frames: int) -> None:
    """Whatever the bytes: batches within the limits, refusals of the closed set, and no exception."""
    decoded = decode_all(given_bodies, max_channels=2, max_frames=max_frames)
    assert set(decoded.refused) <= MESSAGE_FAULTS
    assert all(count > 0 for count in decoded.refused.values())
    for batch in decoded.batches:
        n, num_channels = batch.values.shape
        assert 1 <= n <= max_frames
        assert 1 <= num_channels <= 2
        assert {
            len(batch.names),
            len(batch.frame),
            len(batch.timestamp_ns),
            len(batch.epoch),
            len(batch.unnumbered),
        } == {n}
        columns = (batch.frame, batch.timestamp_ns, batch.epoch, batch.unnumbered, batch.values)
        assert [column.dtype.str[1:] for column in columns] == ["u8", "i8", "u4", "b1", "f4"]


@given(st.lists(bodies, max_size=8), st.sampled_from([1, 3, MAX_FRAMES]))
def test_together_as_alone(given_bodies: list[Body], max_frames: int) -> None:
    """Bodies decoded together give each stream the frames that they give alone, in the same order, and the refusals.

    So each body gives its frames or one refusal, and neither neighbours, channel counts nor splitting change that.
    """
    expected: dict[bytes, list[Row]] = {}
    refused: Counter[Refusal] = Counter()
    for body in given_bodies:
        alone = decode_all([body])
        assert num_refused(alone) == (0 if alone.batches else 1)
        refused.update(alone.refused)
        for name, rows in by_stream(alone).items():
            expected.setdefault(name, []).extend(rows)
    together = decode_all(given_bodies, max_frames=max_frames)
    assert by_stream(together) == expected
    assert together.refused == refused


@given(st.lists(st.tuples(st.sampled_from(b"abc"), st.integers(1, 3), st.integers(1, 2)), max_size=30))
def test_order_holds_while_channel_counts_change(sent: list[tuple[int, int, int]]) -> None:
    """Streams that change their channel count at will are stepped in the order in which they were sent."""
    given_bodies: list[Body] = [
        b"".join(record(bytes([name]), (1.0,) * num_channels, frame=10 * i + k) for k in range(num_records))
        for i, (name, num_channels, num_records) in enumerate(sent)
    ]
    streams = by_stream(decode_all(given_bodies, max_frames=5))
    assert sum(map(len, streams.values())) == sum(num_records for _, _, num_records in sent)
    for rows in streams.values():
        numbers = [row[1] or 0 for row in rows]
        assert numbers == sorted(numbers)
