"""A network fitted to recordings: truncated back-propagation on the pinball loss, stopped by what comes later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import torch
from torch import nn

from foretell.normalize import Floats
from foretell.training.fit import pinball_loss
from foretell.training.network import Network
from foretell.training.plan import Plan
from foretell.training.sequences import pieces, run_packed, zero_state
from foretell.training.tracks import Track
from foretell.training.validate import Validation, by_channel, validate

GAIN: Final = 1e-4  # relative: what counts as better


class Learner:
    """A run of a plan: `run_epoch` until `is_done`; then `best` are the weights to keep.

    num_epochs: how many are done. best_validation: of `best`. The run depends on nothing but plan, tracks and the
    weights that it begins with, and continues from `save`d state as if it had never stopped.
    """

    def __init__(
        self, plan: Plan, tracks: Sequence[Track], weights: Mapping[str, torch.Tensor] | None
    ) -> None:
        torch.manual_seed(plan.seed)
        self.plan = plan
        self.network = Network(plan.input_size, plan.hidden_size, plan.num_layers, plan.output_levels)
        if weights is not None:
            self.network.load_state_dict(dict(weights))
        self._tracks = tracks
        self._optimizer = torch.optim.Adam(self.network.parameters(), plan.learning_rate, betas=(0.9, 0.99))
        self.num_epochs = 0
        self._num_falls = self._num_idle = 0
        self.best_validation = validate(self.network, self.plan, self._tracks)
        self.best = self._weights()

    @property
    def is_done(self) -> bool:
        """Whether nothing is to be gained any more, or all epochs are done."""
        return self._num_falls > self.plan.num_falls or self.num_epochs >= self.plan.num_epochs

    def run_epoch(self) -> Validation:
        """Fit all tracks once, or an excerpt of each that is long."""
        rng = np.random.default_rng((self.plan.seed, self.num_epochs))
        # Gradients fade on their way back through time; as subnormal numbers they would cost a hundred times as much.
        torch.set_flush_denormal(True)
        try:
            for group in self._groups(rng):
                self._fit(group, rng)
        finally:
            torch.set_flush_denormal(False)
        self.num_epochs += 1
        validation = validate(self.network, self.plan, self._tracks)
        self._keep_or_fall(validation)
        return validation

    def _groups(self, rng: np.random.Generator) -> list[list[Track]]:
        """Tracks of about the same length together, so that little is padded; in another order each epoch."""
        order = sorted(range(len(self._tracks)), key=lambda place: self._tracks[place].num_fitted)
        groups = [order[at : at + self.plan.lanes] for at in range(0, len(order), self.plan.lanes)]
        return [[self._tracks[place] for place in groups[k]] for k in rng.permutation(len(groups))]

    def _fit(self, group: Sequence[Track], rng: np.random.Generator) -> None:
        columns = [_excerpt(track, self.plan.excerpt, rng) for track in group]
        first = int(rng.integers(self.plan.chunk // 2, self.plan.chunk + 1))
        h, c = zero_state(self.network, len(group))
        for piece in pieces(columns, self.plan.chunk, first):
            features, target, weight = piece.columns
            state = h[:, piece.places], c[:, piece.places]
            outputs, after = run_packed(self.network, features, piece.lengths, state)
            loss = pinball_loss(
                by_channel(outputs, self.plan), target, weight, torch.tensor(self.plan.quantiles)
            )
            self._optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch's own
            nn.utils.clip_grad_norm_(self.network.parameters(), self.plan.largest_gradient)
            self._optimizer.step()
            h[:, piece.places], c[:, piece.places] = after[0].detach(), after[1].detach()

    def _keep_or_fall(self, validation: Validation) -> None:
        if validation.loss < self.best_validation.loss * (1.0 - GAIN):
            self.best_validation, self.best, self._num_idle = validation, self._weights(), 0
            return
        self._num_idle += 1
        if self._num_idle >= self.plan.patience:
            self._num_idle, self._num_falls = 0, self._num_falls + 1
            self.network.load_state_dict(self.best)
            for group in self._optimizer.param_groups:
                group["lr"] *= 0.3

    def _weights(self) -> dict[str, torch.Tensor]:
        return {name: tensor.detach().clone() for name, tensor in self.network.state_dict().items()}

    def save(self, path: Path) -> None:
        """Write a checkpoint, replacing `path` in one step."""
        temporary = path.with_name(path.name + ".partial")
        checkpoint = {
            "plan": msgspec.json.encode(self.plan).decode(),
            "counts": [self.num_epochs, self._num_falls, self._num_idle],
            "best_validation": [getattr(self.best_validation, key) for key in Validation.__slots__],
            "network": self.network.state_dict(),
            "best": self.best,
            "optimizer": self._optimizer.state_dict(),
        }
        torch.save(checkpoint, temporary)
        temporary.replace(path)

    def load(self, path: Path) -> bool:
        """Continue from what `save` wrote; False, and nothing done, where that is of another plan."""
        checkpoint = torch.load(path, weights_only=True)
        if checkpoint["plan"] != msgspec.json.encode(self.plan).decode():
            return False
        self.num_epochs, self._num_falls, self._num_idle = checkpoint["counts"]
        self.best_validation = Validation(*checkpoint["best_validation"])
        self.network.load_state_dict(checkpoint["network"])
        self.best = checkpoint["best"]
        self._optimizer.load_state_dict(checkpoint["optimizer"])
        return True


def _excerpt(track: Track, num_frames: int, rng: np.random.Generator) -> list[Floats]:
    """Features, targets and weights of the fitted frames, at most so many that follow one another."""
    start = int(rng.integers(0, max(1, track.num_fitted - num_frames + 1)))
    part = slice(start, min(start + num_frames, track.num_fitted))
    return [track.features[part], track.target[part], track.weight[part]]
