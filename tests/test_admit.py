"""Admission: seats, order, values, eviction."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretell.admission import Admission, EvictReason
from foretell.admit import Admitter
from foretell.choices import OnEpoch, OnGap, OnLongGap, OnMissing, WhenFull
from foretell.config import StreamsConfig
from foretell.seating import Streams
from foretell.wire import Flag, FrameBatch, Refusal
from order_model import Outcome, ReferenceStream, Sent

ANY_WIDTH = Streams(num_channels=None, rows_a_channel=True, can_fill=True, warm_up=3, num_rows=400)
VALUES = {"finite": 1.0, "missing": np.nan, "infinite": np.inf}
LARGEST = 2**64 - 1


def batch_of(frames: list[Sent]) -> FrameBatch:
    """Frames of one width as a batch."""
    values = np.ones((len(frames), frames[0].num_channels), np.float32)
    values[:, 0] = [VALUES[frame.kind] for frame in frames]
    return FrameBatch(
        names=[frame.name for frame in frames],
        frame=np.array([frame.frame for frame in frames], np.uint64),
        timestamp_ns=np.arange(len(frames), dtype=np.int64),
        epoch=np.array([frame.epoch for frame in frames], np.uint32),
        unnumbered=np.array([frame.unnumbered for frame in frames]),
        values=values,
    )


def numbered(name: bytes, *numbers: int, **kwargs: Any) -> list[Sent]:
    """Frames of one stream by their numbers."""
    return [Sent(name, number, **kwargs) for number in numbers]


def admitter(streams: Streams = ANY_WIDTH, **config: Any) -> Admitter:
    """An admitter of few slots with the settings of `[streams]` that matter to a test."""
    return Admitter(StreamsConfig(**{"capacity": 50, "max_channels": 8, **config}), streams)


def admit_all(subject: Admitter, frames: list[Sent], now_ns: int = 1000) -> list[Admission]:
    """Admit frames of one width as one batch."""
    return list(subject.admit(batch_of(frames), now_ns))


def admit_one(subject: Admitter, *frames: Sent, now_ns: int = 1000) -> Admission:
    """Admit a batch that can be seated at once."""
    (admission,) = admit_all(subject, list(frames), now_ns)
    return admission


def test_the_next_frame_is_accepted_without_a_flag() -> None:
    """A frame whose number follows the last is simply accepted."""
    subject = admitter(Streams(num_channels=None, rows_a_channel=True, can_fill=True, warm_up=0, num_rows=9))
    admit_one(subject, Sent(b"a", 7))
    admission = admit_one(subject, Sent(b"a", 8))
    assert admission.accepted is not None
    assert admission.accepted.flags.tolist() == [0]
    assert admission.accepted.count.tolist() == [2]


def test_a_gap_is_counted_exactly_at_the_edge_of_u64() -> None:
    """The whole range of frame numbers may be missed at once and is counted to the last."""
    subject = admitter()
    admission = admit_one(subject, *numbered(b"a", 0, LARGEST))
    assert admission.num_missed == LARGEST - 1
    assert admission.num_accepted == 2


def test_a_frame_refused_for_its_values_takes_its_number() -> None:
    """After an infinite frame the next number is no gap, and the state makes up for the step that it did not see."""
    subject = admitter()
    admission = admit_one(subject, Sent(b"a", 0), Sent(b"a", 1, kind="infinite"), Sent(b"a", 2))
    assert admission.num_missed == 0
    assert admission.refused == {Refusal.NON_FINITE: 1}
    assert admission.accepted is not None
    assert not admission.accepted.flags[1] & Flag.GAP
    assert admission.accepted.steps.is_fill is not None
    assert admission.accepted.steps.is_fill.sum() == 1


def test_an_infinite_first_frame_takes_no_slot() -> None:
    """A stranger cannot fill the table with frames that are refused."""
    subject = admitter()
    admit_one(subject, Sent(b"a", 0, kind="infinite"))
    assert len(subject.table) == 0


def test_a_bad_name_is_refused_alone() -> None:
    """A name that is none refuses its frame and not its neighbours."""
    admission = admit_one(admitter(), Sent(b"a", 0), Sent(b"\xff", 0), Sent(b"b", 0))
    assert admission.refused == {Refusal.BAD_SOURCE: 1}
    assert admission.accepted is not None
    assert admission.accepted.names == [b"a", b"b"]


def test_a_joint_model_refuses_other_widths() -> None:
    """A model that takes two channels has no use for three."""
    streams = Streams(num_channels=2, rows_a_channel=False, can_fill=True, warm_up=0, num_rows=9)
    admission = admit_one(admitter(streams), Sent(b"a", 0, num_channels=3))
    assert admission.refused == {Refusal.WRONG_CHANNELS: 1}


def test_a_full_table_refuses_new_streams() -> None:
    """With when_full = refuse, known streams go on and new ones are refused."""
    subject = admitter(capacity=1)
    admission = admit_one(subject, Sent(b"a", 0), Sent(b"b", 0), Sent(b"a", 1))
    assert admission.refused == {Refusal.NO_SLOT: 1}
    assert admission.num_accepted == 2


def test_too_few_rows_refuse_as_a_full_table_does() -> None:
    """A stream whose channels do not fit into the reserved memory has no slot."""
    streams = Streams(num_channels=None, rows_a_channel=True, can_fill=True, warm_up=0, num_rows=3)
    subject = admitter(streams)
    assert admit_one(subject, Sent(b"a", 0, num_channels=4)).refused == {Refusal.NO_SLOT: 1}
    assert admit_one(subject, Sent(b"b", 0, num_channels=3)).num_accepted == 1


def test_eviction_takes_the_longest_idle_stream() -> None:
    """With when_full = evict a new stream takes the place of the one heard least recently."""
    subject = admitter(capacity=2, when_full=WhenFull.EVICT)
    admit_one(subject, Sent(b"a", 0), Sent(b"b", 0), now_ns=1000)
    admit_one(subject, Sent(b"a", 1), now_ns=2000)
    admission = admit_one(subject, Sent(b"c", 0), now_ns=3000)
    assert admission.evicted == {EvictReason.FULL: 1}
    assert set(subject.table.by_name) == {b"a", b"c"}


def test_batches_received_together_keep_their_order() -> None:
    """Of streams that came in one turn, in batches of their own, the one that came first is the longest idle."""
    subject = admitter(capacity=2, when_full=WhenFull.EVICT)
    for name in (b"a", b"b", b"c", b"d"):
        assert admit_one(subject, Sent(name, 0), now_ns=1000).num_accepted == 1
    assert set(subject.table.by_name) == {b"c", b"d"}


def test_a_batch_larger_than_the_table_is_admitted_in_parts() -> None:
    """Streams of one batch make room for one another: each frame is accepted and the last streams remain."""
    subject = admitter(capacity=2, when_full=WhenFull.EVICT)
    admissions = admit_all(subject, [Sent(b"%d" % number, 0) for number in range(5)])
    assert sum(admission.num_accepted for admission in admissions) == 5
    assert len(admissions) == 3
    assert set(subject.table.by_name) == {b"3", b"4"}


def test_silent_streams_are_evicted_after_their_time() -> None:
    """With idle_timeout_s a stream is forgotten once it has been silent for so long, and not before."""
    subject = admitter(idle_timeout_s=1.0)
    admit_one(subject, Sent(b"a", 0), now_ns=0)
    admit_one(subject, Sent(b"b", 0), now_ns=500_000_000)
    assert subject.evict_idle(1_000_000_000) == 0
    assert subject.evict_idle(1_000_000_001) == 1
    assert set(subject.table.by_name) == {b"b"}


def test_a_state_that_began_anew_is_flagged_and_warms_up_again() -> None:
    """What the engine had to restart counts its frames from one again."""
    subject = admitter()
    accepted = admit_one(subject, *numbered(b"a", *range(9))).accepted
    assert accepted is not None
    flagged = subject.began_anew(accepted, np.array([False] * 8 + [True]))
    assert flagged.flags[8] & Flag.RESET
    following = admit_one(subject, Sent(b"a", 9)).accepted
    assert following is not None
    assert following.flags[0] & Flag.WARMING


def test_frames_after_one_that_began_anew_count_from_it() -> None:
    """Where a state begins anew in the middle of a batch, the stream's later frames warm up from there."""
    subject = admitter()  # warm_up = 3: the first two frames of a state are warming
    admit_one(subject, *numbered(b"a", *range(9)))
    accepted = admit_one(subject, *numbered(b"a", *range(9, 14))).accepted
    assert accepted is not None
    flagged = subject.began_anew(accepted, np.array([False, True, False, False, False]))
    reset, warming = int(Flag.RESET), int(Flag.WARMING)
    assert flagged.flags.tolist() == [0, reset | warming, warming, 0, 0]


@pytest.mark.parametrize("run", [15, 16])
def test_a_producer_without_epochs_may_begin_again(run: int) -> None:
    """After 16 refused frames with ascending numbers, and not after 15, the next begins a new epoch."""
    subject = admitter()
    admit_one(subject, Sent(b"a", 1000))
    admission = admit_one(subject, *numbered(b"a", *range(run + 1)))
    assert admission.num_epochs == (run == 16)
    assert admission.num_accepted == (run == 16)


FRAMES = st.builds(
    Sent,
    name=st.sampled_from([b"a", b"b", b"c"]),
    frame=st.one_of(st.integers(0, 12), st.integers(LARGEST - 3, LARGEST)),
    epoch=st.sampled_from([0, 0, 0, 1, 2]),
    unnumbered=st.sampled_from([False, False, False, True]),
    kind=st.sampled_from(["finite", "finite", "finite", "missing", "infinite"]),
    num_channels=st.sampled_from([1, 1, 1, 2]),
)
CONFIGS = st.builds(
    StreamsConfig,
    capacity=st.just(50),
    max_channels=st.just(8),
    on_gap=st.sampled_from(OnGap),
    max_fill=st.integers(0, 3),
    on_long_gap=st.sampled_from(OnLongGap),
    on_epoch=st.sampled_from(OnEpoch),
    on_missing=st.sampled_from(OnMissing),
    restart_after=st.integers(1, 3),
)


@settings(max_examples=400)
@given(sent=st.lists(FRAMES, min_size=1, max_size=60), config=CONFIGS, can_fill=st.booleans(), data=st.data())
def test_columns_judge_as_one_frame_at_a_time(
    *, sent: list[Sent], config: StreamsConfig, can_fill: bool, data: st.DataObject
) -> None:
    """However frames are cut into batches, each gets the verdict, number, flags and fills of the plain rules."""
    streams = Streams(num_channels=None, rows_a_channel=True, can_fill=can_fill, warm_up=3, num_rows=400)
    subject = Admitter(config, streams)
    expected, references = [], {}
    for frame in sent:
        if frame.name not in references:
            if frame.kind == "infinite" or (
                frame.kind == "missing" and config.on_missing is OnMissing.REFUSE
            ):
                is_infinite = frame.kind == "infinite"
                expected.append(Outcome(refused=Refusal.NON_FINITE if is_infinite else Refusal.MISSING_VALUE))
                continue
            references[frame.name] = ReferenceStream(config, frame.num_channels, 3, can_fill=can_fill)
        expected.append(references[frame.name].judge(frame))
    start = 0
    while start < len(sent):
        widths = [frame.num_channels for frame in sent[start:]]
        run = next((i for i, width in enumerate(widths) if width != widths[0]), len(widths))
        end = start + data.draw(st.integers(1, run))
        _compare(admit_one(subject, *sent[start:end], now_ns=1000 + start), expected[start:end])
        start = end


def _compare(admission: Admission, expected: list[Outcome]) -> None:
    refused = [outcome.refused for outcome in expected if outcome.refused]
    assert admission.refused == {reason: refused.count(reason) for reason in set(refused)}
    assert admission.num_missed == sum(outcome.num_missed for outcome in expected)
    assert admission.num_epochs == sum(outcome.is_new_epoch for outcome in expected)
    good = [outcome for outcome in expected if not outcome.refused]
    assert sum(admission.resets.values()) == sum(outcome.is_reset for outcome in good)
    if admission.accepted is None:
        assert not good
        return
    assert admission.accepted.frame.tolist() == [outcome.number for outcome in good]
    assert [Flag(flags) for flags in admission.accepted.flags.tolist()] == [outcome.flags for outcome in good]
    steps = admission.accepted.steps
    frame = np.arange(len(good)) if steps.frame is None else steps.frame
    num_steps = np.bincount(frame, minlength=len(good)).tolist()
    assert num_steps == [outcome.num_fills + 1 for outcome in good]
