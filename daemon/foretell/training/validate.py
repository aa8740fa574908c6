"""How a network does on the later part of recordings, which it is not fitted to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch

from foretell.training.network import Network
from foretell.training.plan import Plan
from foretell.training.sequences import pieces, run_packed, zero_state
from foretell.training.tracks import Track

CHUNK: Final = 2048  # frames in one call: bounds the memory
RUN_UP: Final = 4096  # frames before the later part, in which a state becomes what it would be


@dataclass(frozen=True, slots=True)
class Validation:
    """Mean over the channels, on the rows that were not fitted to, in standard deviations of those that were.

    loss: pinball, mean over the quantiles. error, persistence_error: mean absolute errors.
    """

    loss: float
    error: float
    persistence_error: float

    @property
    def ratio(self) -> float:
        """The error against that of persistence; not a number where nothing changes."""
        return self.error / self.persistence_error if self.persistence_error > 0.0 else math.nan


def by_channel(outputs: torch.Tensor, plan: Plan) -> torch.Tensor:
    """Outputs [t, n, Q * C], ordered [quantile, channel], as [t, n, C, Q]."""
    return outputs.view(*outputs.shape[:2], len(plan.quantiles), plan.num_channels).transpose(-1, -2)


@torch.no_grad()
def validate(network: Network, plan: Plan, tracks: Sequence[Track]) -> Validation:
    """Judge the forecasts of the frames that are not fitted to, the states running from long before on."""
    groups = [tracks[at : at + plan.lanes] for at in range(0, len(tracks), plan.lanes)]
    sums = torch.cat([_sums(network, plan, group) for group in groups], dim=1)
    means = sums[:3] / sums[3].clamp(min=1.0)
    return Validation(*means.mean(dim=(1, 2)).tolist())


def _sums(network: Network, plan: Plan, tracks: Sequence[Track]) -> torch.Tensor:
    """By track and channel [4, n, C]: pinball losses, absolute errors, those of persistence, and how many they are."""
    starts = [max(0, track.num_fitted - RUN_UP) for track in tracks]
    columns = [
        [track.features[start:], track.target[start:], track.cost[start:]]
        for track, start in zip(tracks, starts, strict=True)
    ]
    begins = torch.tensor([track.num_fitted - start for track, start in zip(tracks, starts, strict=True)])
    sums = torch.zeros(4, len(tracks), plan.num_channels, dtype=torch.float64)
    levels, median = torch.tensor(plan.quantiles), plan.quantiles.index(0.5)
    h, c = zero_state(network, len(tracks))
    for piece in pieces(columns, CHUNK):
        features, target, cost = piece.columns
        here = piece.places
        outputs, (h[:, here], c[:, here]) = run_packed(
            network, features, piece.lengths, (h[:, here], c[:, here])
        )
        frame = piece.start + torch.arange(len(features))
        cost = cost * (frame[:, None] >= begins[here])[..., None]
        error = target[..., None] - by_channel(outputs, plan)
        pinball = torch.maximum(levels * error, (levels - 1.0) * error).mean(dim=-1)
        for k, part in enumerate((pinball, error[..., median].abs(), target.abs())):
            sums[k, here] += (cost * part).sum(dim=0)
        sums[3, here] += (cost > 0.0).sum(dim=0)
    return sums
