"""Calibrating recordings: what would have been published, and how well it held."""

from __future__ import annotations

import numpy as np

from foretell.calibrate import Calibrator, CalibratorSpec
from foretell.normalize import NormalizerSpec
from foretell.training.calibrated import Published, calibrate, shares_within
from foretell.training.examples import Examples, make_examples
from foretell.training.signals import Series, make_series

LEVELS = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
NORMAL = np.array([-2.326, -1.645, -0.674, 0.0, 0.674, 1.645, 2.326], np.float32)


def streamed(series: Series) -> tuple[Examples, Published]:
    """What a model that knows nothing but persistence would have published."""
    examples = make_examples(series, NormalizerSpec())
    outputs = np.broadcast_to(NORMAL, (*examples.base.shape, len(LEVELS)))
    return examples, calibrate(Calibrator(CalibratorSpec(), LEVELS), examples, outputs)


def test_lanes_side_by_side_are_those_alone() -> None:
    """A recording among others gives what it gives alone, with values that are missing."""
    series = make_series((3,), 12, 60)
    assert not series.observed.all()
    _, together = streamed(series)
    for k in range(12):
        _, alone = streamed(Series(series.values[:, k : k + 1], series.observed[:, k : k + 1]))
        assert alone.levels[:, 0].tobytes() == together.levels[:, k].tobytes()
        assert alone.surprise[:, 0].tobytes() == together.surprise[:, k].tobytes()


def test_shares_are_those_said() -> None:
    """Of synthetic signals of all kinds the bands mostly hold as many values as they say, within 2 points."""
    examples, published = streamed(make_series((4,), 48, 2000))
    shares = shares_within(published, examples, LEVELS)
    assert list(shares) == [0.98, 0.9, 0.5]
    for nominal, share in shares.items():
        assert abs(np.median(share) - nominal) <= 0.02


def test_one_frame_in_a_hundred_is_surprising_where_frames_are_alike() -> None:
    """Of exchangeable data 1 % of the frames, give or take 0.3, have a surprise above 2."""
    noise = np.random.default_rng(4).normal(size=(2000, 48)).astype(np.float32)
    _, published = streamed(Series(noise, np.ones(noise.shape, np.bool_)))
    assert abs((published.surprise[500:] > 2.0).mean() - 0.01) <= 0.003


def test_it_is_the_value_after_the_frame_that_is_forecast() -> None:
    """The forecast of a frame is compared with the value that follows it."""
    values = np.linspace(0.0, 300.0, 600, dtype=np.float32)[:, None]
    examples, published = streamed(Series(values, np.ones(values.shape, np.bool_)))
    np.testing.assert_allclose(published.levels[100:, 0, 3], examples.actual[100:, 0], rtol=1e-3)
