"""From surprise to anomalies: where a stream is more unexpected for a while than it used to be.

The anomaly likelihood of A. Lavin and S. Ahmad ("Evaluating real-time anomaly detection algorithms: the Numenta anomaly
benchmark", IEEE ICMLA 2015), with exponential instead of rolling windows, and of a gamma instead of a normal
distribution. Where forecasts are calibrated, surprise times ln 10 is exponential with mean 1, so that its mean over
some frames is a gamma; that is the distribution assumed in the beginning, and which the stream's own past then moves.
Its tail is taken by the cube root, which is nearly normal (E. Wilson and M. Hilferty, PNAS 17, 1931). All is causal.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

_USUAL: Final = 1.0 / math.log(10.0)  # mean and deviation of the surprise of calibrated forecasts
_MOST: Final = 30.0


@dataclass(frozen=True, slots=True)
class Detection:
    """How anomalies are told.

    smoothing, memory: half-lives in frames of the mean that is judged, and of what is usual. threshold: of the score,
    which is -log10 of a probability. refractory: frames below the threshold that end an anomaly.
    """

    smoothing: float = 6.0
    memory: float = 2000.0
    threshold: float = 5.0
    refractory: int = 48


def anomaly_score(surprise: NDArray[np.float32], detection: Detection = Detection()) -> NDArray[np.float64]:
    """Of surprise [T] the score [T], from 0: how improbable is so much surprise lately. NaN stands for no news."""
    fast, slow = (1.0 - 0.5 ** (1.0 / frames) for frames in (detection.smoothing, detection.memory))
    share = fast / (2.0 - fast)  # of the variance, which the mean keeps
    recent = mean = _USUAL
    variance = least = _USUAL**2 * share
    scores = np.zeros(surprise.size)
    for t, number in enumerate(surprise.tolist()):
        if not math.isnan(number):
            recent += fast * (number - recent)
            scores[t] = _improbability(recent, mean, variance)
            distance = recent - mean
            mean += slow * distance
            variance = max(least, variance + slow * (distance * distance - variance))
        elif t:
            scores[t] = scores[t - 1]
    return scores


def _improbability(number: float, mean: float, variance: float) -> float:
    """-log10 of the probability that a gamma with this mean and variance exceeds `number`."""
    ninth = variance / (9.0 * mean * mean)
    z = ((max(number, 0.0) / mean) ** (1.0 / 3.0) - (1.0 - ninth)) / math.sqrt(ninth)
    if z > 11.0:
        return _MOST  # beyond, the probability is below 1e-28
    return -math.log10(0.5 * math.erfc(z / math.sqrt(2.0)))


def find_anomalies(scores: NDArray[np.float64], detection: Detection = Detection()) -> list[int]:
    """Frames in which an anomaly begins: the threshold is reached, and was not for the refractory time."""
    is_above = np.flatnonzero(scores >= detection.threshold)
    begins = np.diff(is_above, prepend=-detection.refractory - 1) > detection.refractory
    found: list[int] = is_above[begins].tolist()
    return found


@dataclass(frozen=True, slots=True)
class Detected:
    """What the anomalies of a series are against the windows in which there are any.

    num_windows: windows of which scored frames are part; num_hits: those with an anomaly in them; num_false_alarms:
    anomalies in no window; delays: of the hits, frames from the window's first to the anomaly.
    """

    num_windows: int
    num_hits: int
    num_false_alarms: int
    delays: list[int]


def compare(
    anomalies: Sequence[int], windows: Sequence[tuple[int, int]], timestamp_ns: NDArray[np.int64], first: int
) -> Detected:
    """Hold frames of anomalies against windows [from, to] of epoch nanoseconds; frames before `first` do not count."""
    spans = list(_spans(windows, timestamp_ns, first))
    delays = []
    for start, end in spans:
        within = [frame for frame in anomalies if start <= frame < end]
        delays += [within[0] - start] if within else []
    outside = [frame for frame in anomalies if not any(start <= frame < end for start, end in spans)]
    return Detected(len(spans), len(delays), len(outside), delays)


def _spans(
    windows: Sequence[tuple[int, int]], timestamp_ns: NDArray[np.int64], first: int
) -> Iterator[tuple[int, int]]:
    """Windows as frames, from and to before; those that hold no scored frame are left out."""
    for since_ns, until_ns in windows:
        within = np.flatnonzero((timestamp_ns >= since_ns) & (timestamp_ns <= until_ns))
        if within.size and within[-1] >= first:
            yield int(within[0]), int(within[-1]) + 1
