"""The normaliser: lanes are independent to the bit, and nothing that can be received upsets it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from foretell.normalize import LAST, NUM_FEATURES, STATE_SIZE, Advanced, Normalizer, NormalizerSpec

NORMALIZER = Normalizer(NormalizerSpec())
LARGEST = float(np.finfo(np.float32).max)
ANY_FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)
CHANGE, FROM_FAST_MEAN, FROM_SLOW_MEAN, TREND_OF_CHANGE, ROUGHNESS, HISTORY = range(NUM_FEATURES)


@st.composite
def histories(draw: st.DrawFn) -> tuple[NDArray[np.float32], NDArray[np.bool_] | None]:
    """Values [frames, lanes] of any size, and which of them were observed."""
    shape = draw(st.tuples(st.integers(1, 12), st.integers(1, 40)))
    ordinary = st.floats(-1e3, 1e3, width=32)
    values = draw(arrays(np.float32, shape, elements=ordinary | ANY_FINITE))
    observed = draw(st.none() | arrays(np.bool_, shape))
    return values, observed


def run(values: NDArray[np.float32], observed: NDArray[np.bool_] | None = None) -> list[Advanced]:
    """Advance by values [frames, lanes], frame by frame."""
    state = NORMALIZER.initial_state(values.shape[1])
    given_back = []
    for t, frame in enumerate(values):
        advanced = NORMALIZER.advance(state, frame, None if observed is None else observed[t])
        given_back.append(advanced)
        state = advanced.state
    return given_back


def lane(*values: float) -> NDArray[np.float32]:
    """One lane's history [frames, 1]."""
    return np.array(values, np.float32)[:, None]


def walk(num_frames: int, scale: float = 1.0, seed: int = 0) -> NDArray[np.float32]:
    """A random walk [frames, 1] whose steps have a mean absolute value of `scale`."""
    steps = np.random.default_rng(seed).normal(size=(num_frames, 1))
    values: NDArray[np.float32] = (scale * steps.cumsum(axis=0) / np.sqrt(2 / np.pi)).astype(np.float32)
    return values


def same_bits(first: Advanced, second: Advanced) -> bool:
    """Whether two results agree in every bit."""
    pairs = ((getattr(first, name), getattr(second, name)) for name in ("state", "features", "base", "unit"))
    return all(a.tobytes() == b.tobytes() for a, b in pairs)


@given(histories())
def test_batched_equals_alone(history: tuple[NDArray[np.float32], NDArray[np.bool_] | None]) -> None:
    """A lane among others gets the bits that it gets alone."""
    values, observed = history
    together = run(values, observed)
    for k in range(values.shape[1]):
        one = slice(k, k + 1)
        alone = run(values[:, one], None if observed is None else observed[:, one])
        for both, single in zip(together, alone, strict=True):
            part = Advanced(both.state[:, one], both.features[:, one], both.base[one], both.unit[one])
            assert same_bits(part, single)


@given(histories())
def test_finite_for_any_finite_input(history: tuple[NDArray[np.float32], NDArray[np.bool_] | None]) -> None:
    """Whatever finite values come, every output is finite, features are small and units positive."""
    for advanced in run(*history):
        for array in (advanced.state, advanced.features, advanced.base, advanced.unit):
            assert array.dtype == np.float32
            assert np.isfinite(array).all()
        assert (np.abs(advanced.features) <= 8.0).all()
        assert (advanced.unit > 0.0).all()


@given(histories())
def test_all_observed_is_the_default(history: tuple[NDArray[np.float32], NDArray[np.bool_] | None]) -> None:
    """Saying that every value was observed gives the bits of saying nothing."""
    values, _ = history
    said = run(values, np.ones(values.shape, np.bool_))
    assert all(same_bits(a, b) for a, b in zip(run(values), said, strict=True))


@given(histories(), ANY_FINITE)
def test_imputed_values_move_only_the_last(
    history: tuple[NDArray[np.float32], NDArray[np.bool_] | None], imputed: float
) -> None:
    """An imputed value becomes the base of the next forecast and leaves every average as it was."""
    before = run(*history)[-1].state
    values = np.full(before.shape[1], imputed, np.float32)
    after = NORMALIZER.advance(before, values, np.zeros(values.size, np.bool_))
    assert (after.base == values).all()
    assert (after.state[LAST] == values).all()
    averages = np.arange(STATE_SIZE) != LAST
    seen = before[-2] > 0.0  # the weight of a lane that was observed
    assert (after.state[averages][:, seen] == before[averages][:, seen]).all()


@given(arrays(np.float32, (5, 3), elements=ANY_FINITE))
def test_never_observed_gives_no_features(values: NDArray[np.float32]) -> None:
    """A lane of which nothing was ever observed has zero features."""
    assert all((advanced.features == 0.0).all() for advanced in run(values, np.zeros(values.shape, np.bool_)))


def test_leaves_its_arguments_alone() -> None:
    """Advancing changes neither the state nor the values that it was given."""
    state, values = run(walk(5))[-1].state, np.array([3.0], np.float32)
    copies = state.copy(), values.copy()
    NORMALIZER.advance(state, values)
    assert (state == copies[0]).all()
    assert (values == copies[1]).all()


def test_first_frame_has_no_change() -> None:
    """After one frame nothing is known but the value: no change, no distance from a mean."""
    features = run(lane(5.0))[0].features[:, 0]
    assert (features[[CHANGE, FROM_FAST_MEAN, FROM_SLOW_MEAN, TREND_OF_CHANGE]] == 0.0).all()


def test_first_change_is_the_unit() -> None:
    """The first change counts in full: the unit equals it."""
    assert run(lane(5.0, 7.0))[-1].unit[0] == pytest.approx(2.0)


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1.0, 1e6, 1e30])
def test_unit_is_the_mean_absolute_change(scale: float) -> None:
    """The unit of a random walk is its mean absolute step, from the smallest to the largest scale."""
    unit = run(walk(2000, scale))[-1].unit[0]
    assert 0.6 * scale < unit < 1.6 * scale


def test_features_do_not_depend_on_the_scale() -> None:
    """A signal and its 1024-fold (a power of two, so that rounding agrees) have equal features."""
    plain, large = run(walk(300))[-1], run(walk(300) * np.float32(1024))[-1]
    assert (plain.features == large.features).all()


def test_averages_forget_at_their_half_life() -> None:
    """As many frames after a step as the fast half-life, the fast mean has covered half of it."""
    spec = NormalizerSpec(fast_half_life=10.0, slow_half_life=1000.0)
    normalizer = Normalizer(spec)
    state = normalizer.initial_state(1)
    for value in [0.0] * 2000 + [1.0] * 10:
        state = normalizer.advance(state, np.array([value], np.float32)).state
    assert state[1, 0] == pytest.approx(0.5, abs=1e-4)


def test_a_constant_has_a_unit_of_its_resolution() -> None:
    """At rest the unit falls to what a float32 of that size can resolve, and no feature moves."""
    last = run(np.full((5000, 1), 1000.0, np.float32))[-1]
    assert last.unit[0] == pytest.approx(1000.0 * 2.0**-23)
    assert (last.features[[CHANGE, FROM_FAST_MEAN, FROM_SLOW_MEAN], 0] == 0.0).all()


def test_a_spike_does_not_blind() -> None:
    """One value a billion times too large no more than doubles the unit, and thirty frames later it is as before."""
    values = np.concatenate([walk(1000), walk(60, seed=1)])
    spiked = values.copy()
    spiked[1000] = 1e9
    before, after = run(values), run(spiked)
    assert after[1001].unit[0] < 2.0 * before[1001].unit[0]
    assert after[1040].unit[0] < 1.3 * before[1040].unit[0]


def test_a_new_scale_is_learnt_soon() -> None:
    """When changes become a million times larger for good, the unit follows within 60 frames."""
    calm, wild = walk(1000), walk(60, scale=1e6, seed=1)
    assert run(np.concatenate([calm, wild]))[-1].unit[0] > 1e5


def test_waking_from_rest_is_learnt_at_once() -> None:
    """After a long rest the first change is no outlier: it enters the unit as what it is."""
    values = np.concatenate([np.zeros((3000, 1), np.float32), walk(30)])
    assert run(values)[-1].unit[0] > 0.05


def test_state_stays_free_of_subnormal_numbers() -> None:
    """However long a channel rests at zero after it moved, no number decays into the slow subnormal range."""
    normalizer = Normalizer(NormalizerSpec(fast_half_life=2.0, slow_half_life=10.0))
    state = normalizer.initial_state(1)
    for value in np.concatenate([walk(100), np.zeros((2000, 1), np.float32)]):
        state = normalizer.advance(state, value).state
        size = np.abs(state)
        assert ((size == 0.0) | (size >= np.finfo(np.float32).tiny)).all()


def test_history_grows_from_nothing_to_one() -> None:
    """The last feature tells how much history there is."""
    history = [advanced.features[HISTORY, 0] for advanced in run(walk(3000))]
    assert history[0] < 0.01
    assert history[-1] > 0.99
    assert (np.diff(history) >= 0.0).all()


def test_extremes_in_turn_keep_the_base() -> None:
    """Between the ends of float32 the base is the value itself, to the bit."""
    values = lane(LARGEST, -LARGEST, LARGEST, 0.0, -LARGEST)
    assert [advanced.base[0] for advanced in run(values)] == list(values[:, 0])
