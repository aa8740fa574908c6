"""Forecasts further ahead, each lead by its own realised errors: shrunk towards persistence, and with bands that hold.

To judge every forecast of every lead would take a number of pending forecasts that grows with the square of the
horizon. So one path at a time is in flight: what was forecast after one frame, of all leads, is compared with the
frames that follow, and when the last has come another path begins. That is one comparison a frame and O(horizon)
numbers a lane and level. Between two paths pass some frames, now more, now fewer: if each began right after the other,
a cycle whose period the horizon divides would have each lead judged in some of its phases alone.

The model says nothing of how wide the further leads' bands are. So a quantile's distance from the median is what it is
for normal errors as large as this lead's were, in units of the lane's recent change from frame to frame, times two
factors that move as in `foretell.bands`: one of its own, and one that the leads share, since errors of all of them are
seldom normal in the same way, and each is judged so seldom.

As in `foretell.normalize`, only operations whose bits IEEE 754 fixes are used, and no lane sees another.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Final

import numpy as np

from foretell.bands import LARGEST_FACTOR, LEAST_FACTOR, ROOT_ERROR, Side
from foretell.normalize import LARGEST, OUTLIER, Floats

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

LEAST_JUDGED: Final = 32
"""Comparisons until a lead's quantiles are meant: of so many, the mean error is off by a quarter once in twenty."""

_MEMORY: Final = 64  # comparisons until one counts half
_FAST, _SLOW = 24, 256  # likewise frames, for the means of the changes of which the unit is made
_LEAST_CHANGES: Final = 8  # until there is a unit, and paths begin
_NUM_VOICES: Final = 8  # the most leads of a path that each move what they share by a full step
_POWER: Final = 5  # squarings: path and persistence are weighed by the 32nd power of their errors
_LEAST_RATIO: Final = np.float32(0.1)
_BIG_ERROR: Final = np.float32(64.0)  # errors, or roots, so many times their mean count as so many
_LEAST: Final = np.float32(1e-35)
_LARGEST_FLOAT: Final = np.float32(np.finfo(np.float32).max)


@dataclass(frozen=True, slots=True)
class Led:
    """state: float32 [S, n], the next. levels: float32 [horizon - 1, Q, n], quantiles of the leads beyond the first.

    They ascend. All but the median are NaN until the lead was judged `LEAST_JUDGED` times.
    """

    state: Floats
    levels: Floats


class LeadCalibrator:
    """For `horizon` leads, two or more, and quantile levels that ascend, the median among them.

    The first lead is calibrated elsewhere. state_size: float32 a lane; the state of lanes that have seen nothing is all
    zeros.
    """

    def __init__(self, horizon: int, quantiles: Sequence[float]) -> None:
        self._num_leads, self._num_levels = horizon - 1, len(quantiles)
        self._num_pauses = 2 + horizon // 4
        self._rate = np.float32(1.0 - 0.5 ** (1.0 / _MEMORY))
        self._change_rate = np.array([[1.0 - 0.5 ** (1.0 / age)] for age in (_FAST, _SLOW)], np.float32)
        # Sums of weights, in the middle between one too few and enough.
        self._enough = np.float32(1.0 - 0.5 ** ((LEAST_JUDGED - 0.5) / _MEMORY))
        self._enough_changes = np.float32(1.0 - 0.5 ** ((_LEAST_CHANGES + 0.5) / _SLOW))
        self._median = quantiles.index(0.5)
        self._lay_out_edges(quantiles)
        self._lay_out()

    def _lay_out(self) -> None:
        """Rows of the state: some of the lane, then those of each lead."""
        # The frame number within the path (0: one may begin; below: in so many frames), the last random number; the
        # last value, fast and slow means of the changes and the sums of their weights; where the path began, in which
        # unit; and the factors that the leads share, 0 before they have moved.
        self._age, self._random, self._last, self._origin, self._unit = 0, 1, 2, 7, 8
        self._change, self._change_weight = slice(3, 5), slice(5, 7)
        self._shared = slice(9, 9 + self._num_levels)
        # The path; the mean absolute errors of persistence and of the path, and the sum of their weights; the mean
        # square root of the errors of what was issued, in units; the quantiles issued; and their own factors, 0 before
        # the lead was judged.
        sizes = [1, 1, 1, 1, 1, self._num_levels, self._num_levels]
        ends = self._shared.stop + self._num_leads * np.cumsum([0, *sizes])
        rows = [slice(start, end) for start, end in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True)]
        self._path, self._rest, self._moving, self._weight, self._root, self._issued, self._factors = rows
        self.state_size = int(ends[-1])

    def _lay_out_edges(self, quantiles: Sequence[float]) -> None:
        """Of every quantile, how far from the median if errors are normal, and how its factors move."""
        below, above = range(self._median - 1, -1, -1), range(self._median + 1, self._num_levels)
        steps_in, steps_out = np.ones((2, self._num_levels))  # the median stays where it is
        for at, tails in (
            (below, [quantiles[k] for k in below]),
            (above, [1.0 - quantiles[k] for k in above]),
        ):
            if at:
                side = Side(at, tails, self._num_levels)
                steps_in[at], steps_out[at] = side.step_in[:-1], side.step_out[:-1]
        part = min(1.0, _NUM_VOICES / self._num_leads)
        self._steps, self._shared_steps = (
            tuple((steps**power).astype(np.float32) for steps in (steps_in, steps_out))
            for power in (1.0, part)
        )
        normal = [NormalDist().inv_cdf(level) / ROOT_ERROR for level in quantiles]
        self._reach: Floats = np.array(normal, np.float32)[:, None]

    def initial_state(self, num_lanes: int) -> Floats:
        """The state [S, n] of lanes that have seen nothing."""
        return np.zeros((self.state_size, num_lanes), np.float32)

    def advance(
        self, state: Floats, values: Floats, paths: Floats, observed: NDArray[np.bool_] | None = None
    ) -> Led:
        """Take in one value of every lane, finite float32 [n], and say what is forecast after it.

        paths: float32 [horizon - 1, n], the medians of the leads beyond the first, in the values' own units; where one
        is NaN, so are its quantiles. observed: bool [n], None for all.
        """
        new = state.copy()
        observed = np.ones(values.shape, np.bool_) if observed is None else observed
        with np.errstate(over="ignore", under="ignore"):
            self._judge(new, values, observed)
            unit = self._measure(new, values, observed)
            levels = self._issue(new, self._shrink(new, values, paths), unit)
        waits = new[self._age] == 0.0
        begins = (
            waits & (new[self._change_weight][1] >= self._enough_changes) & np.isfinite(paths).all(axis=0)
        )
        lanes = np.flatnonzero(begins)
        new[self._origin, lanes], new[self._unit, lanes] = values[lanes], unit[lanes]
        new[self._path, lanes] = paths[:, lanes]
        self._by_lead(new, self._issued)[..., lanes] = levels[..., lanes]
        # The frame to come is lead 1, of which nothing is judged here; lead k + 2 of the path comes at age k + 2.
        new[self._age] += ~waits | begins
        is_vague = ~self._is_meant(new[self._weight])[:, None]
        for edges in (levels[:, : self._median], levels[:, self._median + 1 :]):
            np.copyto(edges, np.float32(np.nan), where=is_vague)
        return Led(new, levels)

    def _measure(self, new: Floats, values: Floats, observed: NDArray[np.bool_]) -> Floats:
        """The unit [n], between a fast and a slow mean of the changes from frame to frame, as in the normaliser."""
        change, weight = new[self._change], new[self._change_weight]
        size = np.minimum(np.abs(values - new[self._last]), LARGEST)
        largest = np.maximum(change[0], change[1])
        size = np.where(largest > _LEAST, np.minimum(size, OUTLIER * largest), size)
        rate = observed * self._change_rate
        # Values are counted from the first on, changes from the second on.
        share = rate / np.maximum(weight, self._change_rate)
        change += np.where(weight > 0.0, share * (size - change), np.float32(0.0))
        weight += rate * (np.float32(1.0) - weight)
        new[self._last] = values
        unit: Floats = np.maximum(np.sqrt(change[0]) * np.sqrt(change[1]), _LEAST)
        return unit

    def _judge(self, new: Floats, values: Floats, observed: NDArray[np.bool_]) -> None:
        """Compare `values` with the lead of the path that forecast them; the path ends with its last."""
        age = new[self._age].astype(np.int64)
        lanes = np.flatnonzero((age >= 2) & observed)
        leads = age[lanes] - 2
        at, value = (leads, lanes), values[lanes]
        rest, moving, weight, root = (
            new[rows] for rows in (self._rest, self._moving, self._weight, self._root)
        )
        issued = self._by_lead(new, self._issued)[leads, :, lanes]
        self._move_factors(new, at, value, issued)
        still = np.minimum(np.abs(value - new[self._origin][lanes]), LARGEST)
        missed = np.minimum(np.abs(value - new[self._path][at]), LARGEST)
        grown = weight[at] + self._rate * (np.float32(1.0) - weight[at])
        share = self._rate / grown
        # Where nothing but rest was seen so far, nothing is too big.
        largest = np.where(rest[at] > _LEAST, np.minimum(_BIG_ERROR * rest[at], LARGEST), LARGEST)
        for mean, error in ((rest, still), (moving, missed)):
            mean[at] = mean[at] + share * (np.minimum(error, largest) - mean[at])
        off = np.minimum(np.abs(value - issued[:, self._median]) / new[self._unit][lanes], LARGEST)
        off = np.minimum(np.sqrt(off), _BIG_ERROR * np.maximum(root[at], np.float32(1.0)))
        root[at] = root[at] + share * (off - root[at])
        weight[at] = grown
        self._end(new, np.flatnonzero(age > self._num_leads))

    def _end(self, new: Floats, lanes: NDArray[np.int64]) -> None:
        """The path of these lanes has ended; the next begins after a random number of frames."""
        drawn = (new[self._random, lanes].astype(np.int64) * 75 + 74) % 65537  # exact in float32
        new[self._random, lanes] = drawn
        new[self._age, lanes] = -(drawn % self._num_pauses)

    def _move_factors(
        self, new: Floats, at: tuple[NDArray[np.int64], NDArray[np.int64]], value: Floats, issued: Floats
    ) -> None:
        """Wider where the value fell beyond an issued quantile, narrower where not; value [m], issued [m, Q]."""
        factors, shared = self._by_lead(new, self._factors), new[self._shared]
        value, median = value[:, None], issued[:, self._median, None]
        is_beyond = np.where(issued > median, value > issued, value < issued)
        is_meant = self._is_meant(new[self._weight][at])[:, None]
        counts = is_meant & (
            issued != median
        )  # what had no width, because all errors were 0, teaches nothing
        old = np.where(is_meant, factors[at[0], :, at[1]], np.float32(1.0))
        factors[at[0], :, at[1]] = _moved(old, self._steps, is_beyond, counts)
        shared[:, at[1]] = _moved(_begun(shared[:, at[1]].T), self._shared_steps, is_beyond, counts).T

    def _shrink(self, new: Floats, values: Floats, paths: Floats) -> Floats:
        """Between persistence and the path, by their errors; what was never judged is left as it is."""
        rest, moving = new[self._rest] + _LEAST, new[self._moving] + _LEAST
        least = np.minimum(rest, moving)
        still, moved = (_powered(np.maximum(least / error, _LEAST_RATIO)) for error in (rest, moving))
        trust: Floats = np.where(new[self._weight] > 0.0, moved / (still + moved), np.float32(1.0))
        step = _limit(paths - values, LARGEST)
        shrunk: Floats = values + trust * step
        return _limit(shrunk, _LARGEST_FLOAT)

    def _issue(self, new: Floats, medians: Floats, unit: Floats) -> Floats:
        """The quantiles around the medians [horizon - 1, n], in order."""
        root = new[self._root]
        levels = self._by_lead(new, self._factors) * (_begun(new[self._shared]) * self._reach)
        levels *= np.minimum(root * root * unit, LARGEST)[:, None]
        _limit(levels, LARGEST)
        levels += medians[:, None]
        _limit(levels, _LARGEST_FLOAT)
        for k in range(self._median + 1, self._num_levels):
            np.maximum(levels[:, k], levels[:, k - 1], out=levels[:, k])
        for k in range(self._median - 1, -1, -1):
            np.minimum(levels[:, k], levels[:, k + 1], out=levels[:, k])
        return levels

    def _is_meant(self, weight: Floats) -> NDArray[np.bool_]:
        return np.asarray(weight >= self._enough)

    def _by_lead(self, state: Floats, rows: slice) -> Floats:
        """A view of what a state holds by lead and level, [horizon - 1, levels, n]."""
        num_rows = rows.stop - rows.start
        return state[rows].reshape(self._num_leads, num_rows // self._num_leads, state.shape[1])


def _begun(factors: Floats) -> Floats:
    """Factors that have not moved are 1."""
    begun: Floats = np.where(factors > 0.0, factors, np.float32(1.0))
    return begun


def _moved(
    factors: Floats, steps: tuple[Floats, ...], is_beyond: NDArray[np.bool_], counts: NDArray[np.bool_]
) -> Floats:
    """Factors [m, Q] after values within or beyond, by `steps` [Q] for each, where it counts."""
    within, beyond = steps
    moved = factors * np.where(is_beyond, beyond, within)
    moved = np.minimum(np.maximum(moved, LEAST_FACTOR), LARGEST_FACTOR)
    chosen: Floats = np.where(counts, moved, factors)
    return chosen


def _powered(x: Floats) -> Floats:
    for _ in range(_POWER):
        x = x * x
    return x


def _limit(x: Floats, largest: np.float32) -> Floats:
    """In place."""
    np.maximum(x, -largest, out=x)
    return np.minimum(x, largest, out=x)
