"""What stepping a batch gives, whichever engine does it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from foretell.rounds import Steps


@dataclass(frozen=True, slots=True)
class Errors:
    """Sums over the values of a batch that a calibrated forecast was made of before, in units of recent change.

    forecast: absolute errors of the published medians; persistence: of the values before. Each counts up to a limit.
    """

    forecast: float
    persistence: float


@dataclass(frozen=True, slots=True)
class Stepped:
    """What stepping `n` frames gave.

    forecast: float32 [n, horizon, quantiles, channels], what was predicted after each frame. Of leads beyond the
    first the quantiles other than the median are NaN until they are calibrated on their own errors.
    restarted: bool [n] where a state was not finite, so that it began anew with that frame; None where none was. If
    the frame alone cannot be stepped either, its forecast is NaN.
    surprise: float32 [n, channels], how unexpected the frame was, NaN where that cannot be said; None of a model whose
    forecasts are not calibrated. errors: how far off the forecasts before were, None likewise.
    """

    forecast: NDArray[np.float32]
    restarted: NDArray[np.bool_] | None
    surprise: NDArray[np.float32] | None = None
    errors: Errors | None = None


def in_frame_order(
    steps: Steps,
    out: NDArray[np.float32],
    restarted: NDArray[np.bool_] | None,
    surprise: NDArray[np.float32] | None = None,
    errors: Errors | None = None,
) -> Stepped:
    """From [steps, rows, horizon, quantiles, row's channels] to [frames, horizon, quantiles, channels].

    `restarted` is bool [steps * rows], or None for no restarts. surprise: float32 [steps, rows, row's channels].
    """
    is_single = out.shape[1] == 1
    forecast = out[:, 0] if is_single else np.ascontiguousarray(out[..., 0].transpose(0, 2, 3, 1))
    if surprise is not None:
        surprise = surprise.reshape(len(out), -1)
    if restarted is not None:
        restarted = np.asarray(restarted.reshape(out.shape[:2]).any(axis=1))
    if steps.frame is None:
        return Stepped(forecast, restarted, surprise, errors)
    # To take whole forecasts costs a fifth of putting each in its place.
    step_of = np.empty(steps.num_frames, np.int64)
    own = np.arange(len(forecast)) if steps.is_fill is None else np.flatnonzero(~steps.is_fill)
    step_of[steps.frame[own]] = own
    forecast = np.take(forecast, step_of, axis=0)
    if surprise is not None:
        surprise = np.take(surprise, step_of, axis=0)
    if restarted is not None:
        # A fill that restarted its state counts for the frame that it was made for.
        restarted = np.bincount(steps.frame, restarted, steps.num_frames) > 0
    return Stepped(forecast, restarted, surprise, errors)
