"""The short way through admission gives what the general way gives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretell.admit import Admitter
from foretell.config import StreamsConfig
from foretell.lone import admit_lone
from foretell.seating import Streams
from foretell.wire import FrameBatch
from plain_admissions import columns, plain_all

LARGEST = 2**64 - 1
STREAMS = Streams(num_channels=None, rows_a_channel=True, can_fill=True, warm_up=3, num_rows=40)
CONFIG = StreamsConfig(capacity=8, max_channels=3)
VALUES = (1.0, -2.5, 3e38, np.nan, np.inf)

LONE_FRAMES = st.tuples(
    st.sampled_from([b"a", b"b", b"\xff"]),
    st.one_of(st.integers(0, 9), st.integers(LARGEST - 2, LARGEST)),
    st.sampled_from([0, 0, 0, 1]),
    st.sampled_from([False, False, True]),
    st.lists(st.sampled_from(VALUES), min_size=1, max_size=3),
)


def lone(
    name: bytes, number: int, epoch: int = 0, *, unnumbered: bool = False, values: list[float]
) -> FrameBatch:
    """A batch of one frame."""
    return FrameBatch(
        names=[name],
        frame=np.array([number], np.uint64),
        timestamp_ns=np.array([7], np.int64),
        epoch=np.array([epoch], np.uint32),
        unnumbered=np.array([unnumbered]),
        values=np.array([values], np.float32),
    )


@settings(max_examples=300)
@given(st.lists(LONE_FRAMES, min_size=1, max_size=40))
def test_the_short_way_equals_the_general_way(
    sent: list[tuple[bytes, int, int, bool, list[float]]],
) -> None:
    """Frames that come one by one get the same admissions and leave the same table, whichever way they take."""
    short, general = Admitter(CONFIG, STREAMS), Admitter(CONFIG, STREAMS)
    for now_ns, (name, number, epoch, unnumbered, values) in enumerate(sent):
        batch = lone(name, number, epoch, unnumbered=unnumbered, values=values)
        expected = list(general.admit_columns(batch, now_ns))
        assert plain_all(short.admit(batch, now_ns)) == plain_all(expected)
        assert columns(short) == columns(general)


@pytest.mark.parametrize("is_unnumbered", [False, True])
def test_the_next_frame_of_a_known_stream_goes_the_short_way(*, is_unnumbered: bool) -> None:
    """What the short way is for, it takes: frames that simply follow."""
    subject = Admitter(CONFIG, STREAMS)
    list(subject.admit(lone(b"a", 5, values=[1.0, 2.0]), 1))
    batch = lone(b"a", 6, unnumbered=is_unnumbered, values=[1.0, 2.0])
    admission = admit_lone(subject.table, STREAMS, batch, 2)
    assert admission is not None
    assert admission.accepted is not None
    assert admission.accepted.frame.tolist() == [6]
    assert admission.accepted.steps.rows.shape == (1, 2)


@pytest.mark.parametrize(
    "batch",
    [
        lone(b"b", 6, values=[1.0]),
        lone(b"a", 5, values=[1.0]),
        lone(b"a", 7, values=[1.0]),
        lone(b"a", 6, 1, values=[1.0]),
        lone(b"a", 6, values=[1.0, 2.0]),
        lone(b"a", 6, values=[np.nan]),
        lone(b"a", 6, values=[-np.inf]),
    ],
    ids=["stranger", "repeat", "gap", "epoch", "channels", "missing", "infinite"],
)
def test_whatever_needs_a_judgement_is_left_to_the_general_way(batch: FrameBatch) -> None:
    """For any other frame the short way gives nothing and notes nothing."""
    subject = Admitter(CONFIG, STREAMS)
    list(subject.admit(lone(b"a", 5, values=[1.0]), 1))
    before = columns(subject)
    assert admit_lone(subject.table, STREAMS, batch, 2) is None
    assert columns(subject) == before
