"""Leads beyond the first: each is believed as far as its own past forecasts came true, and doubted as far as not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from foretell.leads import LEAST_JUDGED, LeadCalibrator, Led

HORIZON = 4
LEVELS = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
MEDIAN = LEVELS.index(0.5)
CALIBRATOR = LeadCalibrator(HORIZON, LEVELS)
ANY_FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)

Values = NDArray[np.float32]


def run(
    values: Values, paths: Values, observed: NDArray[np.bool_] | None = None, state: Values | None = None
) -> list[Led]:
    """Values [frames, lanes] and what was forecast after each, [frames, HORIZON - 1, lanes]."""
    state, results = CALIBRATOR.initial_state(values.shape[1]) if state is None else state, []
    for t, frame in enumerate(values):
        result = CALIBRATOR.advance(state, frame, paths[t], None if observed is None else observed[t])
        state = result.state
        results.append(result)
    return results


def medians_of(results: list[Led]) -> Values:
    """[frames, HORIZON - 1, lanes]."""
    return np.stack([one.levels[:, MEDIAN] for one in results])


def ahead(values: Values) -> Values:
    """The values that follow each frame by 2, 3, 4 frames, [frames - HORIZON, HORIZON - 1, lanes]."""
    last = len(values) - HORIZON
    return np.stack([values[lead : lead + last] for lead in range(2, HORIZON + 1)], axis=1)


def walk(num_frames: int, lanes: int = 1) -> Values:
    """A random walk."""
    steps = np.random.default_rng(1).normal(size=(num_frames, lanes))
    walked: Values = steps.cumsum(axis=0).astype(np.float32)
    return walked


def test_a_path_that_comes_true_is_believed() -> None:
    """Leads that were right are given as they are."""
    values = walk(300)
    truth = ahead(values)
    medians = medians_of(run(values[:-HORIZON], truth))
    np.testing.assert_allclose(medians, truth, atol=1e-4)


def test_a_path_that_misleads_is_shrunk_to_persistence() -> None:
    """Leads that are off by twice as much as persistence become persistence."""
    values = walk(400)
    base = values[:-HORIZON, None]
    wrong = base - 1.5 * (ahead(values) - base)
    medians = medians_of(run(values[:-HORIZON], wrong))[100:]
    np.testing.assert_allclose(medians, np.broadcast_to(base[100:], medians.shape), atol=1e-4)


def test_each_lead_goes_by_its_own_errors() -> None:
    """One lead that is wrong costs the others nothing."""
    values = walk(400)
    paths = ahead(values)
    base = values[:-HORIZON]
    paths[:, 1] = base - 1.5 * (paths[:, 1] - base)
    medians = medians_of(run(values[:-HORIZON], paths))[100:]
    np.testing.assert_allclose(medians[:, [0, 2]], paths[100:][:, [0, 2]], atol=1e-4)
    np.testing.assert_allclose(medians[:, 1], base[100:], atol=1e-4)


def test_each_lead_is_judged_in_its_frame() -> None:
    """A path has its leads judged one after the other, each once, from two frames after it began to its last."""
    values = walk(200)
    weights = np.stack([one.state[CALIBRATOR._weight, 0] for one in run(values, rest_of(values))])
    judged = [
        (np.flatnonzero(np.diff(weights[:, k]) > 0.0) + 1 - (k + 2)).tolist() for k in range(HORIZON - 1)
    ]
    assert judged[0][: len(judged[-1])] == judged[-1]
    assert judged[1][: len(judged[-1])] == judged[-1]
    assert np.diff(judged[-1]).min() >= HORIZON


def test_no_cycle_is_seen_from_one_side_alone() -> None:
    """Whatever the period of a cycle, the horizon's own too, paths begin in every phase of it about as often."""
    values = walk(6000)
    ages = np.array([one.state[CALIBRATOR._age, 0] for one in run(values, rest_of(values))])
    starts = np.flatnonzero(ages == 1.0)
    for period in range(2, 4 * HORIZON):
        shares = np.bincount(starts % period, minlength=period) / starts.size * period
        assert shares.min() > 0.6
        assert shares.max() < 1.4


def test_what_was_not_observed_judges_nothing() -> None:
    """Imputed values leave all errors, and what follows from them, as they are."""
    values = walk(300)
    observed = np.arange(300)[:, None] < 250
    before, after = (run(values[:last], rest_of(values[:last]), observed[:last])[-1] for last in (250, 300))
    for name in ("rest", "moving", "weight", "root", "factors", "shared", "change", "change_weight"):
        rows = getattr(CALIBRATOR, f"_{name}")
        assert (before.state[rows] == after.state[rows]).all()


def rest_of(values: Values) -> Values:
    """Paths that say that every value stays as it is."""
    return np.repeat(values[:, None], HORIZON - 1, axis=1)


def noise(lanes: int, *, heavy: bool = False) -> Values:
    """Independent values, of a normal or a heavy-tailed distribution."""
    rng = np.random.default_rng(3)
    drawn = rng.standard_t(3, (3000, lanes)) if heavy else rng.normal(size=(3000, lanes))
    return drawn.astype(np.float32)


def autoregression(lanes: int) -> tuple[Values, Values]:
    """A damped oscillation driven by noise, and the best paths that there are for it."""
    drive, values = np.random.default_rng(4).normal(size=(3000, lanes)), np.zeros((3000, lanes))
    for t in range(2, 3000):
        values[t] = 1.6 * values[t - 1] - 0.8 * values[t - 2] + drive[t]
    last, forecast = values, 1.6 * values - 0.8 * np.roll(values, 1, axis=0)
    paths = []
    for _ in range(HORIZON - 1):
        last, forecast = forecast, 1.6 * forecast - 0.8 * last
        paths.append(forecast)
    return values.astype(np.float32), np.stack(paths, axis=1).astype(np.float32)


def held(values: Values, results: list[Led], first: int) -> Values:
    """By lead and level, how often what came was not above the quantile issued, [HORIZON - 1, Q, lanes]."""
    issued = np.stack([one.levels for one in results[first:-HORIZON]])
    return np.asarray((ahead(values)[first:, :, None] <= issued).mean(axis=0), np.float32)


@pytest.mark.parametrize("series", ["noise", "heavy tails", "random walk", "autoregression"])
def test_quantiles_settle_at_their_levels(series: str) -> None:
    """Each quantile of each lead holds as often as it says, within a point over all, five in a series."""
    if series == "autoregression":
        values, paths = autoregression(16)
    elif series == "random walk":
        values = walk(3000, 16)
        paths = rest_of(values)
    else:
        values = noise(16, heavy=series == "heavy tails")
        paths = np.zeros((3000, HORIZON - 1, 16), np.float32)
    off = held(values, run(values, paths), 400) - np.array(LEVELS)[:, None]
    assert np.abs(off.mean(axis=2)).max() <= 0.01
    assert np.abs(off).max() <= 0.05


def test_quantiles_follow_a_change_of_noise() -> None:
    """A noise that grows tenfold for a while is within each lead's 90 % band as often as said, within two points."""
    values = noise(16) * np.where(np.arange(3000) // 600 % 2, 10.0, 1.0).astype(np.float32)[:, None]
    below = held(values, run(values, np.zeros((3000, HORIZON - 1, 16), np.float32)), 400).mean(axis=2)
    assert np.abs(below[:, 5] - below[:, 1] - 0.9).max() <= 0.02


def test_nothing_is_said_until_there_is_something_to_go_by() -> None:
    """Quantiles but the median are NaN until their lead was judged so often, and never again."""
    values = walk(300)
    results = run(values, rest_of(values))
    levels = np.stack([one.levels[..., 0] for one in results])
    weights = np.stack([one.state[CALIBRATOR._weight, 0] for one in results])
    assert np.isfinite(levels[:, :, MEDIAN]).all()
    for k in range(HORIZON - 1):
        first = np.flatnonzero(np.diff(weights[:, k]) > 0.0)[LEAST_JUDGED - 1] + 1
        others = np.delete(levels[:, k], MEDIAN, axis=1)
        assert np.isnan(others[:first]).all()
        assert np.isfinite(others[first:]).all()


def test_further_leads_of_a_walk_are_wider() -> None:
    """The error of a random walk grows with the root of the lead, and so does each band."""
    values = walk(3000, 16)
    levels = np.stack([one.levels for one in run(values, rest_of(values))[1000:]])
    widths = (levels[:, :, 5] - levels[:, :, 1]).mean(axis=(0, 2))
    np.testing.assert_allclose(widths / widths[0], np.sqrt(np.arange(2, HORIZON + 1) / 2), rtol=0.06)


def test_scale_changes_nothing() -> None:
    """Values of 1e30 and of 1e-30 get the quantiles that those around 1 get, in their unit."""
    values = walk(300, 2)
    plain = np.stack([one.levels for one in run(values, rest_of(values))[200:]])
    for exponent in (-99, 99):
        scale = np.float32(2.0**exponent)
        scaled = np.stack([one.levels for one in run(values * scale, rest_of(values * scale))[200:]])
        np.testing.assert_allclose(scaled / scale, plain, rtol=1e-5, atol=1e-5)


def test_a_constant_has_no_doubt_and_learns_none() -> None:
    """While nothing moves the quantiles are the value, and the noise that follows is soon held as any other."""
    values = np.concatenate([np.full((1500, 16), 7.0, np.float32), 7 + noise(16)])
    results = run(values, np.full((4500, HORIZON - 1, 16), 7.0, np.float32))
    assert (results[1400].levels == 7.0).all()
    off = held(values, results, 1700).mean(axis=2) - np.array(LEVELS)
    assert np.abs(off).max() <= 0.03


def test_a_model_of_points_gets_its_medians() -> None:
    """With the median alone the medians are those that come with quantiles."""
    values = walk(300, 3)
    points = LeadCalibrator(HORIZON, (0.5,))
    state = points.initial_state(3)
    for frame, path, expected in zip(values, rest_of(values), run(values, rest_of(values)), strict=True):
        led = points.advance(state, frame, path)
        state = led.state
        assert (led.levels[:, 0] == expected.levels[:, MEDIAN]).all()


def test_a_path_that_is_not_there_is_left_out() -> None:
    """Leads that could not be forecast have no quantiles, and the state goes on with the next path."""
    values = walk(300)
    paths = rest_of(values)
    paths[200:203, 1:] = np.nan
    results = run(values, paths)
    assert np.isnan(results[200].levels[1:]).all()
    assert np.isfinite(results[200].levels[0]).all()
    assert all(np.isfinite(one.state).all() for one in results)
    assert np.isfinite(results[203].levels).all()


@settings(max_examples=40)
@given(
    st.integers(1, 9).flatmap(
        lambda lanes: st.tuples(
            arrays(np.float32, (9, lanes), elements=ANY_FINITE),
            arrays(np.float32, (9, HORIZON - 1, lanes), elements=ANY_FINITE),
            arrays(np.bool_, (9, lanes)),
        )
    )
)
def test_finite_and_alone_for_any_input(history: tuple[Values, Values, NDArray[np.bool_]]) -> None:
    """Whatever finite comes after some past, levels are finite and in order, and a lane's bits those it gets alone."""
    values, paths, observed = history
    past = walk(200, values.shape[1])
    state = run(past, rest_of(past))[-1].state
    together = run(values, paths, observed, state)
    for k in range(values.shape[1]):
        one = slice(k, k + 1)
        alone = run(values[:, one], paths[:, :, one], observed[:, one], state[:, one])
        for both, single in zip(together, alone, strict=True):
            assert np.isfinite(both.state).all()
            assert np.isfinite(both.levels).all()
            assert (np.diff(both.levels, axis=1) >= 0.0).all()
            assert both.levels[..., one].tobytes() == single.levels.tobytes()
            assert both.state[:, one].tobytes() == single.state.tobytes()
