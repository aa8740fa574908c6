"""Examples: what a network learns is what the daemon will ask of it."""

from __future__ import annotations

import numpy as np
import pytest

from foretell.normalize import NormalizerSpec
from foretell.training.examples import FARTHEST_TARGET, make_examples
from foretell.training.signals import Series, make_series


def series_of(*values: float) -> Series:
    """One signal, all observed."""
    column = np.array(values, np.float32)[:, None]
    return Series(column, np.ones(column.shape, np.bool_))


def test_the_target_leads_to_the_next_value() -> None:
    """Base plus unit times target is the value that follows, wherever the target was not limited."""
    series = make_series((5,), 100, 300)
    examples = make_examples(series, NormalizerSpec())
    target = examples.target
    followed = examples.base + examples.unit * target
    ordinary = np.abs(target) < FARTHEST_TARGET
    assert ordinary.mean() > 0.95
    scale = np.abs(series.values).max(axis=0) + 1e-6
    assert (
        np.abs(followed - series.values[1:])[ordinary]
        <= (1e-5 * np.broadcast_to(scale, target.shape))[ordinary]
    ).all()


def test_features_know_nothing_of_the_future() -> None:
    """Changing later values leaves all features before them as they were."""
    series = make_series((6,), 20, 200)
    changed = series.values.copy()
    changed[100:] += 5.0
    before = make_examples(series, NormalizerSpec()).features[:100]
    after = make_examples(Series(changed, series.observed), NormalizerSpec()).features[:100]
    assert (before == after).all()


def test_a_first_frame_does_not_count() -> None:
    """Before anything changed there is no unit to forecast in, so that the first frame has no weight."""
    weight = make_examples(series_of(1.0, 2.0, 4.0, 3.0), NormalizerSpec()).weight[:, 0]
    assert weight[0] == 0.0
    assert (weight[1:] > 0.0).all()


def test_an_unobserved_value_does_not_count() -> None:
    """A forecast of a value that nobody saw has no weight."""
    series = Series(np.ones((6, 1), np.float32), np.array([[True]] * 3 + [[False]] + [[True]] * 2))
    assert make_examples(series, NormalizerSpec()).weight[2, 0] == 0.0


def test_targets_are_limited() -> None:
    """A jump after rest is learnt as a far one, not as a million units."""
    target = make_examples(series_of(*[1.0] * 50, 1000.0), NormalizerSpec()).target
    assert target[-1, 0] == pytest.approx(FARTHEST_TARGET)
