"""Admission by machine code gives what the general way gives."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretell.admit import Admitter
from foretell.choices import WhenFull
from foretell.config import StreamsConfig
from foretell.native_admit import NativeAdmission
from foretell.rounds import Steps
from foretell.seating import Streams
from foretell.wire import FrameBatch, Names
from plain_admissions import columns, plain, plain_all

if TYPE_CHECKING:
    from foretell.admission import Admission

LARGEST = 2**64 - 1
STREAMS = Streams(num_channels=None, rows_a_channel=True, can_fill=True, warm_up=3, num_rows=12)
CONFIG = StreamsConfig(capacity=5, max_channels=2, when_full=WhenFull.EVICT)
NAMES = [b"a", b"ab", b"\xc3\xa4", b"x" * 64, b"x" * 63, b"b", b"c", b"d"]

# What a producer sends as its next number: that very number nearly always.
NEXT = st.sampled_from([1] * 97 + [0, 2, -1])
FRAMES = st.tuples(
    st.sampled_from(NAMES[:4] * 25 + NAMES), NEXT, st.booleans(), st.sampled_from([0] * 100 + [1])
)
BATCHES = st.tuples(
    st.lists(FRAMES, min_size=2, max_size=12),
    st.sampled_from([1, 1, 1, 2]),
    st.sampled_from([1.0] * 20 + [np.nan, np.inf]),
)


def batch_of(
    names: list[bytes], numbers: list[int], values: list[list[float]], **more: list[Any]
) -> FrameBatch:
    """Frames as they come from packed records."""
    n = len(names)
    return FrameBatch(
        names=Names(np.array(names, "S64")),
        frame=np.array(numbers, np.uint64),
        timestamp_ns=np.arange(n, dtype=np.int64),
        epoch=np.array(more.get("epochs", [0] * n), np.uint32),
        unnumbered=np.array(more.get("unnumbered", [False] * n), np.bool_),
        values=np.array(values, np.float32),
    )


def native_of(subject: Admitter) -> NativeAdmission:
    """What admits simple batches there."""
    assert subject._native is not None
    return subject._native


def steps_of(steps: Steps) -> list[tuple[Any, ...]]:
    """Every step: round, frame, rows and values; the order within a round is nobody's concern."""
    ends = np.array(steps.round_ends)
    frame = np.arange(len(steps.rows)) if steps.frame is None else steps.frame
    return sorted(
        (int(np.searchsorted(ends, at, "right")), int(frame[at]), *plain(steps.rows[at]), *plain(steps.values[at]))
        for at in range(len(steps.rows))
    )  # fmt: skip


def bare(admissions: list[Admission]) -> list[Any]:
    """The admissions without their steps, and these as `steps_of` gives them."""
    steps = [None if admission.accepted is None else admission.accepted.steps for admission in admissions]
    for admission in admissions:
        if admission.accepted is not None:
            admission.accepted = replace(
                admission.accepted,
                names=list(admission.accepted.names),
                steps=Steps(np.zeros((0, 1), np.int64), np.zeros((0, 1), np.float32), [], 0),
            )
    return [plain_all(admissions), [one and (steps_of(one), one.has_missing) for one in steps]]


@settings(max_examples=150)
@given(st.lists(BATCHES, min_size=1, max_size=25), st.sampled_from([0, LARGEST - 6]))
def test_machine_code_equals_the_general_way(
    sent: list[tuple[list[tuple[bytes, int, bool, int]], int, float]], first: int
) -> None:
    """Any batches get the same admissions and leave the same table, whichever way they take."""
    native, general = Admitter(CONFIG, STREAMS), Admitter(CONFIG, STREAMS)
    for now_ns, (frames, num_channels, value) in enumerate(sent):
        numbers, table = dict[bytes, int](), general.table
        sequence, epochs = [], []
        for name, ahead, _, is_new_epoch in frames:
            slot = table.by_name.get(name)
            before = numbers.get(name, first if slot is None else int(table.frame[slot]))
            numbers[name] = min(max(before + ahead, 0), LARGEST)
            sequence.append(numbers[name])
            epochs.append(is_new_epoch + (0 if slot is None else int(table.epoch[slot])))
        values = np.ones((len(frames), num_channels))
        values[-1, 0] = value
        batch = batch_of(
            [name for name, *_ in frames],
            sequence,
            values.tolist(),
            unnumbered=[frame[2] for frame in frames],
            epochs=epochs,
        )
        expected = bare(list(general.admit_columns(batch, now_ns)))
        assert bare(list(native.admit(batch, now_ns))) == expected
        assert columns(native) == columns(general)


@given(st.lists(st.sampled_from(NAMES[:5]), min_size=2, max_size=30))
def test_frames_that_simply_follow_go_through_machine_code(names: list[bytes]) -> None:
    """However many frames of a stream there are, and with and without numbers, nothing else is asked."""
    subject = Admitter(CONFIG, STREAMS)
    known = NAMES[:5]
    list(subject.admit_columns(batch_of(known, [7] * 5, [[0.0]] * 5), 1))
    numbers = [8 + names[:at].count(name) for at, name in enumerate(names)]
    unnumbered = [bool(number % 3) for number in numbers]
    batch = batch_of(names, numbers, [[1.0]] * len(names), unnumbered=unnumbered)
    admission = native_of(subject).admit(batch, 2)
    assert admission is not None
    assert admission.accepted is not None
    assert admission.accepted.frame.tolist() == numbers


def test_equal_rounds_hold_their_streams_in_one_order() -> None:
    """Rounds of one size are stepped in one call, by the rows of the first."""
    subject = Admitter(CONFIG, STREAMS)
    list(subject.admit_columns(batch_of([b"a", b"b", b"c"], [0] * 3, [[0.0]] * 3), 1))
    names = [b"c", b"a", b"b", b"a", b"c", b"c", b"a", b"a"]
    numbers = [1 + names[:at].count(name) for at, name in enumerate(names)]
    admission = native_of(subject).admit(batch_of(names, numbers, [[1.0]] * 8), 2)
    assert admission is not None
    assert admission.accepted is not None
    steps = admission.accepted.steps
    assert steps.round_ends == [3, 5, 7, 8]
    assert steps.rows[3:5].tolist() == steps.rows[5:7].tolist()
    assert steps.frame is not None
    assert steps.frame.tolist() == [0, 1, 2, 4, 3, 5, 6, 7]


def test_after_the_largest_number_comes_none() -> None:
    """A frame without a number, after the last number that there is, is left to the general way."""
    subject = Admitter(CONFIG, STREAMS)
    list(subject.admit_columns(batch_of([b"a"], [LARGEST - 1], [[1.0]]), 1))
    batch = batch_of([b"a", b"a"], [0, 0], [[1.0]] * 2, unnumbered=[True, True])
    assert native_of(subject).admit(batch, 2) is None


@pytest.mark.parametrize(
    "batch",
    [
        batch_of([b"a", b"b"], [6, 1], [[1.0]] * 2),
        batch_of([b"a", b"a"], [6, 6], [[1.0]] * 2),
        batch_of([b"a", b"a"], [6, 8], [[1.0]] * 2),
        batch_of([b"a", b"a"], [6, 7], [[1.0]] * 2, epochs=[0, 1]),
        batch_of([b"a", b"a"], [6, 7], [[1.0, 2.0]] * 2),
        batch_of([b"a", b"a"], [6, 7], [[1.0], [np.nan]]),
        batch_of([b"a", b"a"], [6, 7], [[-np.inf], [1.0]]),
        batch_of([b"a", b"a\0b"], [6, 7], [[1.0]] * 2),
        replace(batch_of([b"a", b"a"], [6, 7], [[1.0]] * 2), names=[b"a", b"a"]),
    ],
    ids=["stranger", "repeat", "gap", "epoch", "channels", "missing", "infinite", "nul", "list"],
)
def test_any_other_batch_leaves_no_trace(batch: FrameBatch) -> None:
    """What calls for a judgement is given back, and the table is as it was."""
    subject = Admitter(CONFIG, STREAMS)
    list(subject.admit_columns(batch_of([b"a"], [5], [[1.0]]), 1))
    before = columns(subject)
    assert native_of(subject).admit(batch, 2) is None
    assert columns(subject) == before
    admission = native_of(subject).admit(batch_of([b"a", b"a"], [6, 7], [[1.0]] * 2), 3)
    assert admission is not None


def test_without_machine_code_all_goes_the_general_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where llvmlite cannot be imported, every batch is judged by columns."""
    monkeypatch.setitem(sys.modules, "foretell.native_admit", None)
    subject = Admitter(CONFIG, STREAMS)
    for number in (7, 8):
        (admission,) = subject.admit(batch_of([b"a", b"b"], [number] * 2, [[1.0]] * 2), number)
        assert admission.num_accepted == 2


@settings(max_examples=60)
@given(st.lists(st.lists(st.integers(0, 60), unique=True, max_size=20), max_size=30))
def test_the_index_finds_who_is_there_and_no_one_else(turns: list[list[int]]) -> None:
    """However streams come and go, in whatever order, each is found in its slot while it has one."""
    streams = replace(STREAMS, num_rows=64)
    subject = Admitter(StreamsConfig(capacity=61, max_channels=1), streams)
    table = subject.table
    for turn in turns:
        names = [b"stream-%d" % number for number in turn]
        gone = [table.by_name[name] for name in names if name in table.by_name]
        new = [name for name in names if name not in table.by_name]
        table.evict(np.array(gone, np.int64))
        table.admit(new, 1, 1, 0)
        table.is_steady[:] = True
        for number in range(61):
            name = b"stream-%d" % number
            number_next = int(table.frame[table.by_name.get(name, 0)]) + 1
            batch = batch_of([name, name], [number_next, number_next + 1], [[1.0]] * 2)
            admission = native_of(subject).admit(batch, 1)
            assert (admission is not None) == (name in table.by_name)
            if admission is not None and admission.accepted is not None:
                assert admission.accepted.slot.tolist() == [table.by_name[name]] * 2
