"""Bands and surprise on tensors of any device: what `foretell.bands` and `foretell.surprise` do.

Operation by operation, and nothing here looks at a value, so that a CUDA graph can hold it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from foretell.bands import LARGEST_FACTOR, LEAST_FACTOR, LEAST_WIDTH
from foretell.normalize import LARGEST, SMALLEST
from foretell.surprise import LEAST_PROBABILITY, LOG10_2, MIDDLE, MOST, SERIES, TWO_LOG10_E

if TYPE_CHECKING:
    from foretell.bands import Bands, Side

_LARGEST, _SMALLEST, _LEAST_WIDTH = float(LARGEST), float(SMALLEST), float(LEAST_WIDTH)
_LARGEST_FLOAT: Final = float(np.finfo(np.float32).max)


class TorchBands:
    """The edges of both sides of `bands`, on `device`; see `foretell.bands.Bands`."""

    def __init__(self, bands: Bands, device: torch.device) -> None:
        self._bands, self._median = bands, bands.median
        self._tails = [_find_tails(side, device) for side in bands.sides]
        if bands.sides:
            at = [row for side in bands.sides for row in side.at]
            self._at = torch.tensor(at, device=device)
            self._reach, self._step_in, self._step_out = (
                torch.from_numpy(np.concatenate([getattr(side, name) for side in bands.sides]))[:, None].to(
                    device
                )
                for name in ("reach", "step_in", "step_out")
            )

    def width(self, outputs: torch.Tensor) -> torch.Tensor:
        """Half the model's own band [n], in units; outputs: the model's quantiles [Q, n]."""
        if not self._bands.sides:
            return torch.ones_like(outputs[0])
        low, high = self._bands.reference
        return (0.5 * (outputs[high] - outputs[low])).clamp(min=_LEAST_WIDTH)

    def issue(
        self, center: torch.Tensor, outputs: torch.Tensor, scale: torch.Tensor, factors: torch.Tensor
    ) -> torch.Tensor:
        """The quantiles around `center` [n] in order, and then the last edges, [num_issued, n]."""
        median = outputs[self._median]
        if not self._bands.sides:
            return center + (outputs - median)
        distance = self._reach * (outputs.index_select(0, self._at) - median).abs()
        reach = factors * scale * distance.clamp(min=_LEAST_WIDTH)
        lower, upper = self._bands.sides
        # What is below the median is mirrored.
        below = -_edges(-center, reach[: len(lower.at)], float(lower.gap))
        above = _edges(center, reach[len(lower.at) :], float(upper.gap))
        return torch.cat([below[:-1].flip(0), center[None], above[:-1], below[-1:], above[-1:]])

    def judge(
        self, values: torch.Tensor, published: torch.Tensor, counts: torch.Tensor, factors: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The factors moved on where `counts`, bool [n], and the surprise [n]; see `foretell.bands.Bands.judge`."""
        if not self._bands.sides:
            return factors, torch.full_like(values, torch.nan)
        median, end = self._median, self._bands.num_levels
        below = torch.cat([published[:median].flip(0), published[end : end + 1]])
        above = torch.cat([published[median + 1 : end], published[end + 1 :]])
        is_beyond = torch.cat([values < below, values > above])
        moved = factors * torch.where(is_beyond, self._step_out, self._step_in)
        moved = torch.where(counts, moved, factors).clamp(float(LEAST_FACTOR), float(LARGEST_FACTOR))
        center = published[median : median + 1]
        left, beyond = _find_left(-values, -torch.cat([center, below]), self._tails[0])
        left_above, beyond_above = _find_left(values, torch.cat([center, above]), self._tails[1])
        left = torch.minimum(left, left_above)
        probability = (left + left).clamp(min=float(LEAST_PROBABILITY))
        told = (beyond_above + beyond) * float(LOG10_2) - _log10(probability)
        return moved, told.clamp(0.0, float(MOST))


def publish(base: torch.Tensor, unit: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
    """Levels in units as finite values, as they are published."""
    return (base + unit * levels).clamp(-_LARGEST_FLOAT, _LARGEST_FLOAT)


def _find_tails(side: Side, device: torch.device) -> torch.Tensor:
    """The probabilities between one edge and the next, but for the last, [edges - 1, 1]."""
    return torch.from_numpy(side.beyond[:-1] - side.beyond[1:])[:, None].to(device)


def _edges(center: torch.Tensor, reach: torch.Tensor, gap: float) -> torch.Tensor:
    """The edges of the side above, outwards and in order, [edges, n]."""
    first, *others = center + reach
    edges = [first]
    for edge in others:
        edges.append(torch.maximum(edge, edges[-1]))
    edges[-1] = torch.maximum(edges[-1], edges[-2] + gap * (edges[-2] - center))
    return torch.stack(edges)


def _find_left(
    values: torch.Tensor, edges: torch.Tensor, tails: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """What probability is left above, [n], and how far beyond the last but one of the edges outwards, in gaps."""
    gap = (edges[1:] - edges[:-1]).clamp(_SMALLEST, _LARGEST)
    *within, beyond = (values - edges[:-1]).clamp(0.0, _LARGEST) / gap
    left = torch.full_like(values, 0.5)
    for tail, distance in zip(tails, within, strict=True):
        left = left - tail * distance.clamp(max=1.0)
    return left, beyond


def _log10(p: torch.Tensor) -> torch.Tensor:
    """See `foretell.surprise.log10`."""
    doublings = torch.zeros_like(p)
    for power in (8, 4, 2, 1):
        is_small = p < 2.0**-power
        p = torch.where(is_small, p * 2.0**power, p)
        doublings = doublings + is_small * float(power)
    t = (p - float(MIDDLE)) / (p + float(MIDDLE))
    t2 = t * t
    series = torch.full_like(t, float(SERIES[0]))
    for coefficient in SERIES[1:]:
        series = series * t2 + float(coefficient)
    return t * series * float(TWO_LOG10_E) - (doublings + 0.5) * float(LOG10_2)
