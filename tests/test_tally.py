"""What is concluded from forecasts alone: errors, coverage, losses, latency, in bounded memory."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forecasts import latencies, make_forecasts
from foretell.tally import HISTORY_FRAMES, Tally
from foretell.wire import Flag

_NAN = float("nan")


def _add(tally: Tally, *args: object, **kwargs: object) -> None:
    batch = make_forecasts(*args, **kwargs)  # type: ignore[arg-type]
    tally.add(batch, latencies(len(batch.names)))


def test_error_is_judged_by_the_next_frame() -> None:
    """The forecast after frame n is compared with the values of frame n + 1, and so is persistence."""
    tally = Tally()
    _add(tally, ["a"], [0], [[10.0]], [[13.0]])
    _add(tally, ["a"], [1], [[14.0]], [[14.0]])
    score = tally.score(b"a")
    assert score.num_scored == 1
    assert score.relative_mae == pytest.approx(1 / 4)


def test_channels_of_any_unit_count_alike() -> None:
    """Over several channels errors count in units of each one's deviation; one that never changes does not count."""
    tally = Tally()
    _add(tally, ["a"], [0], [[0.0, 0.0, 5.0]], [[3.0, 0.0, 5.0]])
    _add(tally, ["a"], [1], [[4.0, 1e6, 5.0]], [[4.0, 1e6, 5.0]])
    deviations = 2.0, 5e5
    error, persistence = 1 / deviations[0] + 1e6 / deviations[1], 4 / deviations[0] + 1e6 / deviations[1]
    assert tally.score(b"a").relative_mae == pytest.approx(error / persistence)
    assert tally.score(b"a", 1).relative_mae == pytest.approx(1.0)
    assert tally.score(b"a", 2).relative_mae is None


@pytest.mark.parametrize(
    ("frame", "epoch", "flags"),
    [(2, 0, Flag(0)), (1, 1, Flag(0)), (1, 0, Flag.WARMING)],
    ids=["gap", "epoch", "warming"],
)
def test_forecasts_that_do_not_apply_are_not_judged(frame: int, epoch: int, flags: Flag) -> None:
    """A forecast of another frame than the one that came, or one made while warming up, is not scored."""
    tally = Tally()
    _add(tally, ["a"], [0], [[10.0]], [[13.0]], flags=flags)
    _add(tally, ["a"], [frame], [[14.0]], [[14.0]], epoch=epoch)
    assert tally.score(b"a").num_scored == 0
    assert tally.score(b"a").relative_mae is None


def test_missing_values_are_not_judged() -> None:
    """A missing value says nothing of its forecast, nor of the persistence after it."""
    tally = Tally()
    for frame, value in enumerate([1.0, _NAN, 3.0, 4.0]):
        _add(tally, ["a"], [frame], [[value]], [[value]])
    assert tally.score(b"a").num_scored == 1


def test_coverage_is_the_share_inside_the_band() -> None:
    """Of two values, one inside the 90 % band before it, half were held; a model without a band has no coverage."""
    tally = Tally()
    _add(tally, ["a"], [0], [[0.0]], [[0.0]], band=1.0)
    _add(tally, ["a"], [1], [[0.5]], [[0.5]], band=1.0)
    _add(tally, ["a"], [2], [[2.0]], [[2.0]], band=1.0)
    assert tally.score(b"a").coverage == 0.5
    points = Tally()
    _add(points, ["a", "a"], [0, 1], [[0.0], [1.0]], [[0.0], [1.0]])
    assert points.score(b"a").coverage is None
    assert np.isnan(points.state(b"a").lower).all()


def test_jumps_of_count_are_losses() -> None:
    """Counts 5, 6, 9 lost two; a count that goes back is a daemon that started again, and nothing is lost by it."""
    tally = Tally()
    for frame, count in enumerate([5, 6, 9, 1, 2]):
        _add(tally, ["a"], [frame], [[0.0]], [[0.0]], counts=[count])
    assert tally.state(b"a").num_lost == 2
    assert tally.num_lost == 2


def test_channels_may_change_with_an_epoch() -> None:
    """A stream that comes back with another number of channels starts again and keeps its losses."""
    tally = Tally()
    _add(tally, ["a"], [0], [[1.0]], [[1.0]])
    _add(tally, ["a"], [0], [[1.0, 2.0]], [[1.0, 2.0]], epoch=1)
    assert tally.state(b"a").value.tolist() == [1.0, 2.0]
    assert tally.streams == [b"a"]


def test_streams_beyond_the_limit_count_in_the_totals_only() -> None:
    """Memory is bounded: the third stream of two, and the channel beyond the last row, are not followed."""
    tally = Tally(max_streams=2, max_channels=3)
    _add(tally, ["a", "b", "c"], [0, 0, 0], [[1.0]] * 3, [[1.0]] * 3)
    assert tally.streams == [b"a", b"b"]
    assert (tally.num_forecasts, tally.num_untracked) == (3, 1)
    wide = Tally(max_streams=2, max_channels=3)
    _add(wide, ["a", "b"], [0, 0], [[1.0, 2.0]] * 2, [[1.0, 2.0]] * 2)
    assert wide.streams == [b"a"]


def test_history_pairs_values_with_their_forecasts() -> None:
    """A value stands beside what was forecast for it; the last forecast is of the frame to come."""
    tally = Tally()
    for frame in range(3):
        _add(tally, ["a"], [frame], [[float(frame)]], [[frame + 1.5]])
    history = tally.history(b"a", 0)
    assert history.value.tolist() == [0.0, 1.0, 2.0]
    assert history.median[1:].tolist() == [1.5, 2.5, 3.5]
    assert np.isnan(history.median[0])


def test_history_keeps_the_newest_frames() -> None:
    """Beyond its length the history forgets the oldest and keeps its order."""
    tally = Tally()
    num_frames = HISTORY_FRAMES + 10
    frames = list(range(num_frames))
    _add(tally, ["a"] * num_frames, frames, [[float(frame)] for frame in frames], [[0.0]] * num_frames)
    assert tally.history(b"a", 0).value.tolist() == [float(frame) for frame in frames[10:]]


@given(
    names=st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=30),
    cuts=st.sets(st.integers(min_value=1, max_value=29)),
    data=st.data(),
)
def test_batches_are_judged_as_if_one_by_one(names: list[str], cuts: set[int], data: st.DataObject) -> None:
    """However forecasts are cut into batches, scores, losses and states are the same."""
    number = st.floats(min_value=-100, max_value=100, width=32)
    rows = [(data.draw(number), data.draw(number)) for _ in names]
    frames = [names[:i].count(name) for i, name in enumerate(names)]

    def tally_of(edges: list[int]) -> Tally:
        tally = Tally()
        for start, end in itertools.pairwise(edges):
            part = slice(start, end)
            _add(tally, names[part], frames[part], [[v] for v, _ in rows[part]], [[m] for _, m in rows[part]])
        return tally

    whole = tally_of([0, *sorted(cut for cut in cuts if cut < len(names)), len(names)])
    single = tally_of(list(range(len(names) + 1)))
    assert whole.streams == single.streams
    for name in whole.streams:
        assert whole.score(name) == single.score(name)
        assert whole.history(name, 0).value.tolist() == single.history(name, 0).value.tolist()
        assert whole.state(name).num_forecasts == single.state(name).num_forecasts


@given(st.lists(st.floats(min_value=-1e3, max_value=1e3, width=16), min_size=3, max_size=20, unique=True))
def test_score_does_not_depend_on_units(values: list[float]) -> None:
    """Multiplied by 1024, a channel weighs as much against another one as before."""

    def score_of(factor: float) -> float | None:
        tally = Tally()
        for frame, value in enumerate(values):
            _add(tally, ["a"], [frame], [[value * factor, frame % 2]], [[value * factor, 0.25]])
        return tally.score(b"a").relative_mae

    assert score_of(1024.0) == pytest.approx(score_of(1.0))
