"""Anomalies: rare where surprise is as it should be, found where there is more of it, and held against windows."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from foretell.evaluation.anomalies import Detection, anomaly_score, compare, find_anomalies

SECOND = 10**9


def _usual(num_frames: int, seed: int = 1) -> NDArray[np.float32]:
    """Surprise of calibrated forecasts: -log10 of uniform probabilities."""
    return (-np.log10(np.random.default_rng(seed).random(num_frames))).astype(np.float32)


def test_what_is_usual_is_hardly_ever_an_anomaly() -> None:
    """Of 20,000 frames as unexpected as they should be, at most two begin an anomaly."""
    assert len(find_anomalies(anomaly_score(_usual(20_000)))) <= 2


def test_a_run_of_unexpected_frames_is_one_anomaly() -> None:
    """Twenty frames of surprise 4 are found within them, once."""
    surprise = _usual(3000)
    surprise[2000:2020] = 4.0
    (found,) = find_anomalies(anomaly_score(surprise))
    assert 2000 <= found < 2010


def test_a_single_unexpected_frame_is_no_anomaly() -> None:
    """One frame of a thousandth probability happens every thousand frames."""
    surprise = np.full(1000, 0.43, np.float32)
    surprise[500] = 3.0
    assert find_anomalies(anomaly_score(surprise)) == []


def test_a_stream_that_is_always_more_surprising_is_judged_by_its_own_past() -> None:
    """Where surprise has been twice the usual for long, that is no anomaly any more."""
    surprise = 2.0 * _usual(30_000)
    late = [frame for frame in find_anomalies(anomaly_score(surprise)) if frame > 10_000]
    assert len(late) <= 5


def test_missing_surprise_changes_nothing() -> None:
    """Frames without surprise keep the score, and those after them are judged as if they had followed at once."""
    surprise = _usual(200)
    with_holes = np.insert(surprise, 100, [np.nan] * 10).astype(np.float32)
    scores = anomaly_score(with_holes)
    np.testing.assert_array_equal(np.delete(scores, np.arange(100, 110)), anomaly_score(surprise))
    np.testing.assert_array_equal(scores[100:110], scores[99])


def test_the_score_is_causal() -> None:
    """What comes later changes no earlier score."""
    surprise = _usual(500)
    np.testing.assert_array_equal(anomaly_score(surprise[:300]), anomaly_score(surprise)[:300])


@pytest.mark.parametrize(("refractory", "expected"), [(1, [3, 6, 10]), (2, [3, 10]), (4, [3])])
def test_an_anomaly_ends_after_the_refractory_time(refractory: int, expected: list[int]) -> None:
    """Frames above the threshold belong to one anomaly while the frames below between them are few."""
    scores = np.zeros(12)
    scores[[3, 4, 6, 10]] = 9.0
    assert find_anomalies(scores, Detection(refractory=refractory)) == expected


def test_windows_by_hand() -> None:
    """One window hit with its delay, one missed, one false alarm; a window before the scored rows does not count."""
    time = np.arange(100) * SECOND
    windows = [(5 * SECOND, 9 * SECOND), (30 * SECOND, 39 * SECOND), (60 * SECOND, 69 * SECOND)]
    detected = compare([33, 36, 80], windows, time, first=20)
    assert (detected.num_windows, detected.num_hits, detected.num_false_alarms) == (2, 1, 1)
    assert detected.delays == [3]
