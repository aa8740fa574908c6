"""Calibration: bands hold what they say, persistence is not undercut, and a lane never sees another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from foretell.bands import publish
from foretell.calibrate import Calibrated, Calibrator, CalibratorSpec
from foretell.normalize import Normalizer, NormalizerSpec

LEVELS = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
NORMAL = np.array([-2.326, -1.645, -0.674, 0.0, 0.674, 1.645, 2.326], np.float32)
CALIBRATOR = Calibrator(CalibratorSpec(), LEVELS)
ANY_FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)

Values = NDArray[np.float32]


@dataclass(frozen=True)
class Run:
    """What a recording [frames, lanes] gave: published quantiles [frames, Q, lanes] of the next frame, and the rest."""

    published: Values
    calibrated: list[Calibrated]
    base: Values


def run(
    values: Values,
    observed: NDArray[np.bool_] | None = None,
    outputs: Values = NORMAL,
    calibrator: Calibrator = CALIBRATOR,
) -> Run:
    """Normalise and calibrate values [frames, lanes]; the model always says `outputs` [Q] or [Q, lanes]."""
    normalizer = Normalizer(NormalizerSpec())
    lanes = values.shape[1]
    scaling, state = normalizer.initial_state(lanes), calibrator.initial_state(lanes)
    published, calibrated = [], []
    said = outputs if outputs.ndim == 2 else np.repeat(outputs[:, None], lanes, axis=1)
    for t, frame in enumerate(values):
        seen = None if observed is None else observed[t]
        advanced = normalizer.advance(scaling, frame, seen)
        result = calibrator.advance(state, frame, scaling[0], advanced.unit, said, seen)
        scaling, state = advanced.state, result.state
        calibrated.append(result)
        published.append(publish(advanced.base, advanced.unit, result.levels))
    return Run(np.stack(published), calibrated, values)


def errors(values: Values, ran: Run, first: int = 500) -> NDArray[np.float64]:
    """Mean absolute error against persistence, by lane, from frame `first` on."""
    actual = values[first:].astype(np.float64)
    median = ran.published[first - 1 : -1, len(LEVELS) // 2]
    ratio: NDArray[np.float64] = np.abs(actual - median).mean(0) / np.abs(
        np.diff(values[first - 1 :], axis=0)
    ).mean(0)
    return ratio


def coverage(values: Values, ran: Run, first: int = 500) -> NDArray[np.float64]:
    """Share of values within the 50, 90 and 98 % bands, [3, lanes]."""
    actual, bands = values[first:], ran.published[first - 1 : -1]
    return np.stack(
        [((actual >= bands[:, 3 - k]) & (actual <= bands[:, 3 + k])).mean(axis=0) for k in (1, 2, 3)]
    )


def walks(num_frames: int, lanes: int, seed: int = 0) -> Values:
    """Random walks of any scale and tail."""
    rng = np.random.default_rng(seed)
    steps = rng.standard_t(rng.choice([3, 10, 100], lanes), (num_frames, lanes)).cumsum(axis=0)
    scaled: Values = (steps * 10.0 ** rng.uniform(-20, 20, lanes)).astype(np.float32)
    return scaled


def noises(num_frames: int) -> Values:
    """Exchangeable values: normal, heavy-tailed, skewed, bounded."""
    rng, size = np.random.default_rng(5), (num_frames, 2)
    kinds = (
        rng.normal(size=size),
        rng.standard_t(3, size),
        rng.exponential(size=size),
        rng.uniform(size=size),
    )
    return np.concatenate(kinds, axis=1).astype(np.float32)


def same_bits(first: Calibrated, second: Calibrated) -> bool:
    """Whether two results agree in every bit."""
    return all(
        getattr(first, name).tobytes() == getattr(second, name).tobytes()
        for name in ("state", "levels", "surprise")
    )


@st.composite
def histories(draw: st.DrawFn) -> tuple[Values, NDArray[np.bool_] | None]:
    """Values [frames, lanes] of any size, and which of them were observed."""
    shape = draw(st.tuples(st.integers(1, 8), st.integers(1, 19)))
    values = draw(arrays(np.float32, shape, elements=st.floats(-1e3, 1e3, width=32) | ANY_FINITE))
    return values, draw(st.none() | arrays(np.bool_, shape))


@settings(max_examples=30, deadline=None)
@given(histories())
def test_batched_equals_alone(history: tuple[Values, NDArray[np.bool_] | None]) -> None:
    """A lane among others gets the bits that it gets alone."""
    values, observed = history
    together = run(values, observed).calibrated
    for k in range(values.shape[1]):
        one = slice(k, k + 1)
        alone = run(values[:, one], None if observed is None else observed[:, one]).calibrated
        for both, single in zip(together, alone, strict=True):
            part = Calibrated(
                both.state[:, one], both.levels[:, one], both.surprise[one], both.errors[:, one]
            )
            assert same_bits(part, single)


@settings(max_examples=60, deadline=None)
@given(histories(), arrays(np.float32, len(LEVELS), elements=st.floats(-1e3, 1e3, width=32)))
def test_finite_and_in_order_for_any_input(
    history: tuple[Values, NDArray[np.bool_] | None], outputs: Values
) -> None:
    """Whatever finite values come and whatever the model says, all is finite and quantiles do not cross."""
    for result in run(*history, outputs=np.sort(outputs)).calibrated:
        assert result.state.dtype == result.levels.dtype == result.surprise.dtype == np.float32
        assert np.isfinite(result.state).all()
        assert (np.diff(result.levels, axis=0) >= 0.0).all()
        assert not ((result.surprise < 0.0) | (result.surprise > 12.0)).any()


def test_scale_changes_nothing() -> None:
    """Values of 1e30 and of 1e-30 are forecast as those around 1 are, in their unit."""
    values = np.random.default_rng(7).normal(size=(300, 2)).cumsum(axis=0).astype(np.float32)
    plain = np.stack([one.levels for one in run(values).calibrated[100:]])
    for exponent in (-99, 99):
        scaled = np.stack([one.levels for one in run(values * np.float32(2.0**exponent)).calibrated[100:]])
        np.testing.assert_allclose(scaled, plain, atol=0.02)


def test_no_worse_than_persistence_on_a_random_walk() -> None:
    """Where persistence is all there is to know, at most half a percent is lost, whatever the model says."""
    values = walks(2500, 24)
    # To the last twelve the model always says that they rise by a unit.
    outputs = np.stack([NORMAL + np.float32(k >= 12) for k in range(24)], axis=1)
    assert errors(values, run(values, outputs=outputs)).max() <= 1.005


def test_learns_a_sine() -> None:
    """A sine is known after three periods, whatever it stands upon, though the model knows nothing of it."""
    periods = np.array([8, 16, 30, 100, 240])
    values = (100 + np.sin(2 * np.pi * np.arange(1200)[:, None] / periods)).astype(np.float32)
    ran = run(values)
    for lane, period in enumerate(periods.tolist()):
        last = min(6 * period + 50, 1200)
        off = np.abs(values[3 * period : last] - ran.published[3 * period - 1 : last - 1, 3])[:, lane].mean()
        step = np.abs(np.diff(values[3 * period - 1 : last, lane])).mean()
        assert off / step <= (0.1 if period == 8 else 0.03)


def test_rare_jumps_are_not_feared() -> None:
    """A level that jumps once in thirty frames is forecast no worse than by persistence, whatever the model says."""
    rng = np.random.default_rng(10)
    jumps = rng.random((3000, 12)) < 1 / 30
    values = np.cumsum(jumps * rng.standard_t(3, jumps.shape), axis=0).astype(np.float32)
    outputs = np.repeat(NORMAL[:, None] + np.float32(0.3), 12, axis=1)
    assert errors(values, run(values, outputs=outputs)).max() <= 1.005


def test_trust_comes_back() -> None:
    """A stream that was a random walk for long and then repeats itself is believed within some hundred frames."""
    cycle = 5 * np.sin(np.arange(600)[:, None] / np.array([1.0, 3.0]))
    values = np.concatenate([walks(900, 2, seed=4) / np.abs(walks(900, 2, seed=4)).max(axis=0), cycle])
    assert errors(values.astype(np.float32), run(values.astype(np.float32)), first=1200).max() <= 0.1


def test_learns_a_daily_pattern() -> None:
    """A pattern that repeats every 24 frames is learnt down to its noise."""
    rng = np.random.default_rng(6)
    values = (np.resize(rng.normal(size=24), 2000) + 0.1 * rng.normal(size=2000))[:, None].astype(np.float32)
    assert errors(values, run(values))[0] <= 0.2


def test_bands_hold_what_they_say() -> None:
    """Each series is within its 50, 90 and 98 % bands as often as said, within 2 points, whatever the model's width."""
    series = np.concatenate([walks(3500, 8), noises(3500)], axis=1)
    models = np.stack([NORMAL, NORMAL * 5, NORMAL / 5, np.exp(NORMAL) - 1], axis=1)
    values = np.tile(series, models.shape[1])
    outputs = np.repeat(models, series.shape[1], axis=1).astype(np.float32)
    held = coverage(values, run(values, outputs=outputs))
    assert np.abs(held - np.array([[0.5], [0.9], [0.98]])).max() <= 0.02
    assert np.abs(held.mean(axis=1) - [0.5, 0.9, 0.98]).max() <= 0.01


def test_bands_follow_a_change_of_noise() -> None:
    """A noise that grows tenfold for a while is covered all the same."""
    rng = np.random.default_rng(8)
    scale = np.where(np.arange(3000) // 400 % 2, 10.0, 1.0)[:, None]
    values = (scale * rng.normal(size=(3000, 6))).cumsum(axis=0).astype(np.float32)
    held = coverage(values, run(values))
    assert np.abs(held - np.array([[0.5], [0.9], [0.98]])).max() <= 0.02


def test_one_frame_in_a_hundred_is_surprising() -> None:
    """On exchangeable values 1 % of the frames, give or take .3, have a surprise above 2."""
    values = noises(3000)
    surprises = np.stack([one.surprise for one in run(values).calibrated[500:]])
    assert abs((surprises > 2.0).mean() - 0.01) <= 0.003


def test_surprise_judges_the_forecast_before() -> None:
    """A jump is surprising in its own frame; the first two frames of a lane have no surprise."""
    values = np.random.default_rng(9).normal(size=(1000, 1)).astype(np.float32)
    values[700] += 30.0
    surprises = np.array([one.surprise[0] for one in run(values).calibrated])
    assert np.isnan(surprises[:2]).all()
    assert np.isfinite(surprises[2:]).all()
    assert surprises[700] > 4.0


def test_imputed_values_teach_nothing() -> None:
    """An imputed value moves no mean, no factor and no coefficient, and has no surprise."""
    values = walks(200, 3, seed=2)
    observed = np.ones(values.shape, np.bool_)
    observed[-1] = False
    before, after = run(values, observed).calibrated[-2:]
    assert np.isnan(after.surprise).all()
    for name in ("weight", "spread", "factors"):
        rows = CALIBRATOR.rows[name]
        assert (before.state[rows] == after.state[rows]).all()


def test_a_constant_a_step_a_constant() -> None:
    """A level that changes once is followed at once, and nothing is left of the step after it."""
    values = np.repeat(np.array([3.0, 70.0], np.float32), 300)[:, None]
    ran = run(values)
    np.testing.assert_allclose(ran.published[:299, 3], 3.0, rtol=1e-5)
    assert np.abs(ran.published[301:, 3] - 70.0).max() <= 0.1


def test_missing_for_long_is_sane() -> None:
    """After a hundred frames without a value the forecast goes on as before."""
    values = walks(800, 4, seed=3)
    observed = np.ones(values.shape, np.bool_)
    observed[300:400] = False
    values[300:400] = values[299]
    held = coverage(values, run(values, observed), first=450)
    assert (held[1] > 0.8).all()


def test_a_model_of_points_is_corrected_only() -> None:
    """With the median alone there is no band and no surprise, and the median is learnt all the same."""
    points = Calibrator(CalibratorSpec(), (0.5,))
    values = (5 + np.sin(np.arange(400) / 4))[:, None].astype(np.float32)
    ran = run(values, outputs=np.zeros(1, np.float32), calibrator=points)
    assert np.isnan([one.surprise[0] for one in ran.calibrated]).all()
    off = np.abs(ran.published[199:-1, 0, 0] - values[200:, 0]).mean()
    assert off < 0.05 * np.abs(np.diff(values[199:, 0])).mean()


def test_leaves_its_arguments_alone() -> None:
    """Advancing changes nothing that it was given."""
    state, one = run(walks(5, 1)).calibrated[-1].state, np.ones(1, np.float32)
    outputs = NORMAL[:, None].copy()
    copies = state.copy(), outputs.copy()
    CALIBRATOR.advance(state, one, one, one, outputs)
    assert (state == copies[0]).all()
    assert (outputs == copies[1]).all()


def test_a_value_a_hair_beyond_the_band_is_not_impossible() -> None:
    """Where the tails have shrunk to nothing, a value just beyond the outermost quantile has no surprise of 12."""
    rng = np.random.default_rng(8)
    values = rng.uniform(-1.0, 1.0, (3000, 40)).astype(np.float32)  # no tails at all
    surprise = np.stack([one.surprise for one in run(values).calibrated[500:]])
    assert surprise.max() < 8.0
