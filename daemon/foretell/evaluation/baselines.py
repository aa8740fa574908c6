"""What anybody could forecast without a model of ours: the yardsticks of evaluation.

Each function takes one series, float64 [T], missing values filled by the last one seen, and gives forecasts [T, H]: the
element t, h is of frame t + h + 1, made of frames 0 to t alone.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

MOST_LAGS: Final = 48
ROWS_A_LAG: Final = 4  # a coefficient is fitted to so many rows at least
ROWS_A_CALL: Final = 65_536  # bounds the memory
LEAST_CORRELATION: Final = 0.2  # with less at its best lag, a series has no season
NEARLY: Final = 0.9  # of the highest correlation: as high as any


def carried_forward(values: NDArray[np.float32]) -> Floats:
    """A series whose missing values are the last one seen, and before the first one that; all NaN stays so."""
    is_known = ~np.isnan(values)
    last = np.maximum.accumulate(np.where(is_known, np.arange(values.size), 0))
    return values[np.maximum(last, is_known.argmax())].astype(np.float64)


def persistence(values: Floats, horizon: int) -> Floats:
    """The last value."""
    return np.repeat(values[:, None], horizon, axis=1)


def linear(values: Floats, horizon: int) -> Floats:
    """The last value and its last change, again and again."""
    change = np.diff(values, prepend=values[0])
    return values[:, None] + change[:, None] * np.arange(1, horizon + 1)


def seasonal(values: Floats, horizon: int, period: int) -> Floats:
    """The value one period before; the last value where there is none yet."""
    ahead = np.arange(1, horizon + 1)
    back = ahead - period * -(-ahead // period)
    source = np.arange(values.size)[:, None] + back
    return np.where(source >= 0, values[np.maximum(source, 0)], values[:, None])


def find_period(values: Floats) -> int | None:
    """The season of a series, in frames: where it, or its changes, are most like themselves again.

    None where they nowhere are. Two periods at least must be there to be seen.
    """

    def error(period: int) -> float:
        return float(np.square(values[period:] - values[:-period]).mean())

    # Slow wandering hides a season in the values, and noise hides one in the changes.
    lags = [lag for lag in (_likeness(values), _likeness(np.diff(values))) if lag is not None]
    # A top is flat where cycles are long: of the lags beside it, the one that forecasts best.
    beside = [k for lag in lags for k in range(lag - lag // 8, min(lag + lag // 8 + 2, values.size // 2 + 1))]
    return min(beside, key=error, default=None)


def _likeness(values: Floats) -> int | None:
    """The lag at which the autocorrelation is highest once it has fallen to nothing; None for too low everywhere."""
    size = values.size
    if size < 6:
        return None
    power = np.abs(np.fft.rfft(values - values.mean(), 2 * size)) ** 2
    covariance = np.fft.irfft(power)[: size // 2]
    fallen = np.flatnonzero(covariance <= 0.0)
    if covariance[0] <= 0.0 or not fallen.size:
        return None
    # Two seasons are about as alike as one: the first top that is nearly as high as any. Long lags count less, since
    # they have fewer products.
    risen = covariance[fallen[0] :] / covariance[0]
    lag = int(fallen[0]) + int((risen >= NEARLY * risen.max()).argmax())
    return lag if lag >= 2 and risen.max() >= LEAST_CORRELATION else None


class Autoregression:
    """An AR with a constant, fitted by least squares to the first rows of a series.

    order: lags, `MOST_LAGS` or fewer where there are few rows. is_known: bool [T]; what was not observed is not fitted.
    """

    def __init__(self, values: Floats, is_known: Mask, fit_rows: int) -> None:
        fitted, known = values[:fit_rows], is_known[:fit_rows]
        self.order = max(1, min(MOST_LAGS, int(known.sum()) // ROWS_A_LAG))
        self._center = float(fitted[known].mean()) if known.any() else 0.0
        self._scale = max(float(fitted[known].std()), 1e-300) if known.any() else 1.0
        lags, target = self._lags(fitted)[:-1], (fitted[1:] - self._center) / self._scale
        seen = self._lags(known.astype(np.float64), plain=True)[:-1].all(axis=1) & known[1:]
        seen[: self.order - 1] = False  # lags before the first row
        design = np.column_stack([lags, np.ones(len(lags))])[seen]
        self._weights = np.asarray(np.linalg.lstsq(design, target[seen], rcond=None)[0], np.float64)

    def forecast(self, values: Floats, horizon: int) -> Floats:
        """Forecasts [T, H], further ones from nearer ones."""
        all_lags = self._lags(values)
        out = np.empty((values.size, horizon))
        for start in range(0, values.size, ROWS_A_CALL):
            part = slice(start, start + ROWS_A_CALL)
            lags = all_lags[part]
            for lead in range(horizon):
                with np.errstate(
                    over="ignore", invalid="ignore"
                ):  # what explodes far ahead is not ours to mend
                    following = lags @ self._weights[:-1] + self._weights[-1]
                out[part, lead] = following
                lags = np.column_stack([following, lags[:, :-1]])
        return out * self._scale + self._center

    def _lags(self, values: Floats, *, plain: bool = False) -> Floats:
        """The last `order` values up to each frame, [T, order], the newest first; those before the first repeat it."""
        if not plain:
            values = (values - self._center) / self._scale
        padded = np.concatenate([np.repeat(values[:1], self.order - 1), values])
        return np.lib.stride_tricks.sliding_window_view(padded, self.order)[:, ::-1]
