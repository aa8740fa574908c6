"""Leads beyond the first: each is believed as far as its own past forecasts came true."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from foretell.leads import LeadCalibrator, Shrunk

HORIZON = 4
CALIBRATOR = LeadCalibrator(HORIZON)
ANY_FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)

Values = NDArray[np.float32]


def run(values: Values, paths: Values, observed: NDArray[np.bool_] | None = None) -> list[Shrunk]:
    """Values [frames, lanes] and what was forecast after each, [frames, HORIZON - 1, lanes]."""
    state, results = CALIBRATOR.initial_state(values.shape[1]), []
    for t, frame in enumerate(values):
        result = CALIBRATOR.advance(state, frame, paths[t], None if observed is None else observed[t])
        state = result.state
        results.append(result)
    return results


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
    medians = np.stack([one.medians for one in run(values[:-HORIZON], truth)])
    np.testing.assert_allclose(medians, truth, atol=1e-4)


def test_a_path_that_misleads_is_shrunk_to_persistence() -> None:
    """Leads that are off by twice as much as persistence become persistence."""
    values = walk(400)
    base = values[:-HORIZON, None]
    wrong = base - 1.5 * (ahead(values) - base)
    medians = np.stack([one.medians for one in run(values[:-HORIZON], wrong)])[100:]
    np.testing.assert_allclose(medians, np.broadcast_to(base[100:], medians.shape), atol=1e-4)


def test_each_lead_goes_by_its_own_errors() -> None:
    """One lead that is wrong costs the others nothing."""
    values = walk(400)
    paths = ahead(values)
    base = values[:-HORIZON]
    paths[:, 1] = base - 1.5 * (paths[:, 1] - base)
    medians = np.stack([one.medians for one in run(values[:-HORIZON], paths)])[100:]
    np.testing.assert_allclose(medians[:, [0, 2]], paths[100:][:, [0, 2]], atol=1e-4)
    np.testing.assert_allclose(medians[:, 1], base[100:], atol=1e-4)


def test_each_lead_is_judged_once_a_horizon() -> None:
    """The lead of k frames after the start of a path is judged in its k-th frame, and the next path starts then."""
    values = walk(3 * HORIZON + 1)
    weights = np.stack(
        [
            one.state[CALIBRATOR._weight, 0]
            for one in run(values, np.zeros((len(values), HORIZON - 1, 1), np.float32))
        ]
    )
    changed = np.diff(weights, axis=0) > 0.0
    for k in range(HORIZON - 1):
        assert (np.flatnonzero(changed[:, k]) + 1).tolist() == [k + 2 + HORIZON * turn for turn in range(3)]


def test_what_was_not_observed_judges_nothing() -> None:
    """Imputed values leave all errors as they are."""
    values = walk(30)
    paths = np.zeros((30, HORIZON - 1, 1), np.float32)
    results = run(values, paths, np.zeros(values.shape, np.bool_))
    assert not results[-1].state[CALIBRATOR._weight].any()


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
    """Whatever is finite gives what is finite, and a lane the bits that it gets alone."""
    values, paths, observed = history
    together = run(values, paths, observed)
    for k in range(values.shape[1]):
        one = slice(k, k + 1)
        alone = run(values[:, one], paths[:, :, one], observed[:, one])
        for both, single in zip(together, alone, strict=True):
            assert np.isfinite(both.state).all()
            assert np.isfinite(both.medians).all()
            assert both.medians[:, one].tobytes() == single.medians.tobytes()
            assert both.state[:, one].tobytes() == single.state.tobytes()
