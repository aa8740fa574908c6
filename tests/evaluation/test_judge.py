"""A served series judged, against figures by hand."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from foretell.errors import RecordingError
from foretell.evaluation.anomalies import Detection
from foretell.evaluation.judge import MODEL, Judged, Portion, judge
from foretell.evaluation.result import sum_up, sum_up_streams
from foretell.evaluation.served import Series

LEVELS = (0.25, 0.5, 0.75)


def _series(
    values: NDArray[np.float32],
    medians: NDArray[np.float32],
    width: float = 1.0,
    surprise: NDArray[np.float32] | None = None,
    name: str = "pump/a",
) -> Series:
    """A series whose forecasts of what follows frame t are medians[t], [T, H], and so far around."""
    first = medians[:, :1]
    return Series(
        name=name,
        recording="pump",
        timestamp_ns=np.arange(len(values)) * 10**9,
        values=values.astype(np.float32),
        levels=np.concatenate([first - width, first, first + width], axis=1).astype(np.float32),
        medians=medians.astype(np.float32),
        surprise=np.full(len(values), np.nan, np.float32) if surprise is None else surprise,
    )


def _walk(num_rows: int, seed: int = 1) -> NDArray[np.float32]:
    return np.cumsum(np.random.default_rng(seed).normal(size=num_rows)).astype(np.float32)


def _following(values: NDArray[np.float32], error: float, horizon: int = 1) -> NDArray[np.float32]:
    """Forecasts of the next values, all off by so much."""
    leads = [np.append(values[lead:], np.zeros(lead, np.float32)) for lead in range(1, horizon + 1)]
    return np.stack(leads, axis=1) + np.float32(error)


def _judge(series: Series, portion: Portion, windows: list[tuple[int, int]] | None = None) -> Judged:
    return judge(series, LEVELS, portion, Detection(), windows)


def test_a_forecast_is_held_against_the_frame_that_follows() -> None:
    """Forecasts that are all a quarter too high have that as their error, and half of it as the loss of the median."""
    values = _walk(60)
    judged = _judge(_series(values, _following(values, 0.25)), Portion(first=20))
    assert judged.num_scored == 40
    assert judged.forecasters[MODEL].mae == pytest.approx(0.25, rel=1e-4)
    assert judged.forecasters[MODEL].rmse == pytest.approx(0.25, rel=1e-4)
    assert judged.coverage == {"0.5": 1.0}
    assert judged.calibration == {"0.25": 0.0, "0.5": 1.0, "0.75": 1.0}
    steps = np.abs(np.diff(values.astype(np.float64)))[19:]
    assert judged.forecasters["persistence"].mae == pytest.approx(steps.mean())
    assert judged.ratio() == pytest.approx(0.25 / steps.mean(), rel=1e-4)


def test_only_the_portion_is_scored() -> None:
    """Errors before the first and from the last row on add nothing."""
    values = _walk(80)
    medians = _following(values, 0.5)
    medians[:29] += 100.0  # forecasts of rows up to 29
    medians[59:] += 100.0  # and of rows from 60 on
    judged = _judge(_series(values, medians), Portion(first=30, until=60, fit_rows=20))
    assert judged.num_scored == 30
    assert judged.forecasters[MODEL].mae == pytest.approx(0.5, rel=1e-4)


def test_missing_values_are_not_scored() -> None:
    """A value that nobody saw is in no error, and persistence after it says the last one seen."""
    values = np.tile([0.0, 1.0], 20).astype(np.float32)
    values[31] = np.nan
    judged = _judge(_series(values, np.zeros((40, 1), np.float32)), Portion(first=30))
    assert judged.num_scored == 9
    # Of rows 30 and 32 to 39: a change each time but from row 30 over the missing one to row 32, which are alike.
    assert judged.forecasters["persistence"].mae == pytest.approx(8 / 9)


def test_errors_are_in_standard_deviations_where_asked() -> None:
    """With scale rows every error is divided by the deviation of those rows, the ratios stay."""
    values = _walk(100)
    series = _series(values, _following(values, 0.25))
    plain = _judge(series, Portion(first=50))
    scaled = _judge(series, Portion(first=50, scale_rows=40))
    deviation = values[:40].astype(np.float64).std()
    assert scaled.forecasters[MODEL].mae == pytest.approx(0.25 / deviation, rel=1e-4)
    assert scaled.by_lead[MODEL][0] == pytest.approx(0.25 / deviation, rel=1e-4)
    assert scaled.ratio() == pytest.approx(plain.ratio())


def test_every_lead_is_held_against_its_own_frame() -> None:
    """Forecasts right for every lead have no error at any; persistence errs by the distance."""
    values = np.arange(60, dtype=np.float32)
    judged = _judge(_series(values, _following(values, 0.0, horizon=3)), Portion(first=20))
    assert judged.by_lead[MODEL] == [0.0, 0.0, 0.0]
    assert judged.by_lead["persistence"] == [1.0, 2.0, 3.0]
    assert judged.by_lead["linear"] == [0.0, 0.0, 0.0]


def test_the_season_may_be_given() -> None:
    """A period that is given is used; one that is not is found, or there is no seasonal forecast."""
    values = np.tile([0.0, 3.0, 1.0, 7.0, 2.0], 20).astype(np.float32)
    series = _series(values, np.zeros((100, 1), np.float32))
    found, given = _judge(series, Portion(first=50)), _judge(series, Portion(first=50, period=1))
    assert found.period == 5
    assert found.forecasters["seasonal"].mae == 0.0
    assert given.forecasters["seasonal"] == given.forecasters["persistence"]
    ramp = np.arange(100, dtype=np.float32)
    assert (
        "seasonal" not in _judge(_series(ramp, np.zeros((100, 1), np.float32)), Portion(first=50)).forecasters
    )


def test_the_others_have_a_band_from_the_fitted_rows() -> None:
    """Persistence of a walk has quantiles about it, so that its loss is that of the right band and not of a point."""
    values = _walk(4000)
    judged = _judge(_series(values, _following(values, 0.0)), Portion(first=2000))
    steps = np.diff(values.astype(np.float64))
    right = np.quantile(steps, LEVELS)
    error = steps[:, None] - right
    best = np.maximum(np.array(LEVELS) * error, (np.array(LEVELS) - 1.0) * error).mean()
    assert judged.forecasters["persistence"].pinball == pytest.approx(best, rel=0.05)


def test_surprise_is_counted_where_there_is_any() -> None:
    """The share above 2 is of the scored frames that have a surprise; without any it is not said."""
    values, surprise = _walk(60), np.full(60, 1.0, np.float32)
    surprise[[10, 25, 30]], surprise[40:] = 3.0, np.nan
    judged = _judge(_series(values, _following(values, 0.0), surprise=surprise), Portion(first=20))
    assert judged.surprising == pytest.approx(2 / 20)
    assert _judge(_series(values, _following(values, 0.0)), Portion(first=20)).surprising is None


def test_anomalies_are_held_against_windows() -> None:
    """A run of unexpected frames in a window is a hit; without windows nothing is said of them."""
    values, surprise = _walk(400), np.full(400, 0.43, np.float32)
    surprise[300:315] = 5.0
    series = _series(values, _following(values, 0.0), surprise=surprise)
    judged = _judge(series, Portion(first=100), [(295 * 10**9, 320 * 10**9)])
    assert len(judged.anomalies) == 1
    assert judged.detected is not None
    assert (judged.detected.num_hits, judged.detected.num_false_alarms) == (1, 0)
    assert judged.detected.delays == [judged.anomalies[0] - 295]
    assert _judge(series, Portion(first=100)).detected is None


@pytest.mark.parametrize(
    ("portion", "said"),
    [
        (Portion(first=100), "has 60 rows; those to be scored, 100 to 60, are not among them"),
        (Portion(first=20, until=61), "20 to 61, are not among them"),
        (Portion(first=1), "before the horizon 2"),
        (Portion(first=10), "10 rows to fit an AR to; allowed: 16 to 60"),
        (Portion(first=20, fit_rows=61), "61 rows to fit an AR to"),
        (Portion(first=55, until=58), "no value in the rows to be scored"),
    ],
)
def test_rows_that_are_not_there_are_refused(portion: Portion, said: str) -> None:
    """A recording without the rows that are asked for is named with what is allowed."""
    values = _walk(60)
    values[55:58] = np.nan
    with pytest.raises(RecordingError, match=said):
        _judge(_series(values, _following(values, 0.0, horizon=2)), portion)


@given(data=st.data(), horizon=st.integers(1, 8))
@settings(max_examples=60, deadline=None)
def test_any_series_is_judged(data: st.DataObject, horizon: int) -> None:
    """Whatever the values, huge, tiny, at rest, missing, the figures are there; errors are not negative."""
    number = st.floats(width=32, allow_nan=False, allow_infinity=False)
    kind = st.sampled_from([number, st.integers(0, 2).map(float), st.just(3.25), number | st.just(math.nan)])
    numbers = data.draw(kind.flatmap(lambda one: st.lists(one, min_size=41, max_size=60)))
    values = np.array(numbers, np.float32)
    values[0] = values[-1] = 1.0
    known = np.nan_to_num(values)
    judged = _judge(_series(values, np.repeat(known[:, None], horizon, axis=1)), Portion(first=20))
    assert judged.num_scored > 0
    for measures in judged.forecasters.values():
        assert measures.mae >= 0.0
        assert measures.rmse >= measures.mae * (1.0 - 1e-9)
    assert all(len(errors) == horizon for errors in judged.by_lead.values())
    sum_up([judged])


def test_all_together_are_means_over_the_series() -> None:
    """Errors are averaged in each series' own deviations, ratios by their median, coverage over all values."""
    judged = []
    for k, scale in enumerate((1.0, 1000.0, 10.0)):
        values = _walk(100, seed=k) * np.float32(scale)
        error = scale * 0.1 * (k + 1)
        judged.append(
            _judge(_series(values, _following(values, error), 0.15 * scale, name=f"s{k}"), Portion(first=50))
        )
    overall = sum_up(judged)
    expected = [one.forecasters[MODEL].mae / one.deviation for one in judged]
    assert overall.errors[MODEL] == pytest.approx(np.mean(expected))
    assert overall.ratio["persistence"] == pytest.approx(np.median([one.ratio() for one in judged]))
    assert overall.coverage["0.5"] == pytest.approx(1 / 3)
    assert overall.num_better["persistence"] == 3
    assert (overall.num_series, overall.num_scored) == (3, 150)


def test_a_stream_is_its_channels_together() -> None:
    """By recording the figures are those of its own channels alone."""
    channels = [
        msgspec.structs.replace(
            _judge(_series(_walk(100, seed), _following(_walk(100, seed), error)), Portion(first=50)),
            recording=recording,
        )
        for seed, error, recording in ((1, 0.1, "pump"), (2, 0.2, "valve"), (3, 0.3, "pump"))
    ]
    assert sum_up_streams(channels) == {
        "pump": sum_up([channels[0], channels[2]]),
        "valve": sum_up([channels[1]]),
    }


def test_series_at_rest_have_no_ratio_and_spoil_no_mean() -> None:
    """A constant that is forecast exactly leaves the figures of the others as they are."""
    values = _walk(100)
    moving = _judge(_series(values, _following(values, 0.1)), Portion(first=50))
    rest = np.full(100, 3.0, np.float32)
    resting = _judge(_series(rest, rest[:, None]), Portion(first=50))
    assert math.isnan(resting.ratio())
    both, alone = sum_up([moving, resting]), sum_up([moving])
    assert both.errors[MODEL] == alone.errors[MODEL]
    assert both.ratio["persistence"] == alone.ratio["persistence"]
    assert both.num_compared["persistence"] == 1
