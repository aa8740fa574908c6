"""Fitting a model to synthetic signals: truncated back-propagation through time on the pinball loss.

Signals come in blocks. A block is cut into groups of lanes and those into chunks of frames; the LSTM's state is carried
from chunk to chunk, detached. A block depends on nothing but the seed and its number, so that a run continues from a
checkpoint as if it had never stopped.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import torch
from torch import nn

from foretell.normalize import NUM_FEATURES, NormalizerSpec
from foretell.training.examples import Examples, make_examples
from foretell.training.network import Network, State
from foretell.training.signals import make_series

TRAINING: Final = 0  # first word of a recording's seed: what is it for
VALIDATION: Final = 1


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """All that a training run depends on; lengths are in frames."""

    seed: int = 1
    num_blocks: int = 190
    signals_per_block: int = 512
    length: int = 1537
    lanes: int = 128
    chunk: int = 256
    hidden_size: int = 64
    num_layers: int = 2
    quantiles: tuple[float, ...] = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
    normalizer: NormalizerSpec = NormalizerSpec()
    learning_rate: float = 4e-3
    warm_up_blocks: int = 3  # over which the learning rate rises; it then falls along a cosine to 0
    largest_gradient: float = 1.0

    def learning_rate_at(self, block: float) -> float:
        """The learning rate when `block` blocks, or a fraction of one more, are done."""
        rise = min(1.0, (block + 0.1) / self.warm_up_blocks)
        return self.learning_rate * rise * 0.5 * (1.0 + math.cos(math.pi * min(1.0, block / self.num_blocks)))


@dataclass(frozen=True, slots=True)
class _Chunk:
    """What one training step sees: whether its lanes are new, features [t, n, K], targets and weights [t, n]."""

    is_new: bool
    features: torch.Tensor
    target: torch.Tensor
    weight: torch.Tensor


class Trainer:
    """A network on its way: `run_block` by `run_block` until `num_done` is the recipe's `num_blocks`."""

    def __init__(self, recipe: Recipe) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe = recipe
        self.network = Network(NUM_FEATURES, recipe.hidden_size, recipe.num_layers, recipe.quantiles)
        self.num_done = 0
        self._optimizer = torch.optim.Adam(self.network.parameters(), recipe.learning_rate, betas=(0.9, 0.99))
        self._levels = torch.tensor(recipe.quantiles)

    def run_block(self) -> float:
        """Fit the next block; returns its mean loss."""
        recipe = self.recipe
        seed = (TRAINING, recipe.seed, self.num_done)
        examples = make_examples(
            make_series(seed, recipe.signals_per_block, recipe.length), recipe.normalizer
        )
        num_steps = math.ceil(recipe.signals_per_block / recipe.lanes) * math.ceil(
            (recipe.length - 1) / recipe.chunk
        )
        losses = []
        state: State | None = None
        # Gradients fade on their way back through time; as subnormal numbers they would cost a hundred times as much.
        torch.set_flush_denormal(True)
        try:
            for number, chunk in enumerate(_chunks(examples, recipe)):
                for group in self._optimizer.param_groups:
                    group["lr"] = recipe.learning_rate_at(self.num_done + number / num_steps)
                loss, state = self._step(chunk, None if chunk.is_new else state)
                losses.append(loss)
        finally:
            torch.set_flush_denormal(False)
        self.num_done += 1
        return float(np.mean(losses))

    def _step(self, chunk: _Chunk, state: State | None) -> tuple[float, State]:
        """One step of the optimizer; returns the loss before it and the state after the chunk, detached."""
        outputs, (h, c) = self.network(chunk.features, state)
        loss = pinball_loss(outputs, chunk.target, chunk.weight, self._levels)
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch's own
        nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.largest_gradient)
        self._optimizer.step()
        return loss.item(), (h.detach(), c.detach())

    def save(self, path: Path) -> None:
        """Write a checkpoint, replacing `path` in one step."""
        temporary = path.with_name(path.name + ".partial")
        checkpoint = {
            "recipe": msgspec.json.encode(self.recipe).decode(),
            "num_done": self.num_done,
            "network": self.network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
        }
        torch.save(checkpoint, temporary)
        temporary.replace(path)

    @classmethod
    def load(cls, path: Path) -> Trainer:
        """Continue from a checkpoint that `save` wrote."""
        checkpoint = torch.load(path, weights_only=True)
        trainer = cls(msgspec.json.decode(checkpoint["recipe"], type=Recipe))
        trainer.num_done = checkpoint["num_done"]
        trainer.network.load_state_dict(checkpoint["network"])
        trainer._optimizer.load_state_dict(checkpoint["optimizer"])
        return trainer


def pinball_loss(
    outputs: torch.Tensor, target: torch.Tensor, weight: torch.Tensor, levels: torch.Tensor
) -> torch.Tensor:
    """Weighted mean pinball loss of quantiles [t, n, Q] (R. Koenker and G. Bassett, Econometrica 46, 1978)."""
    error = target.unsqueeze(-1) - outputs
    pinball = torch.maximum(levels * error, (levels - 1.0) * error).mean(dim=-1)
    return (weight * pinball).sum() / weight.sum().clamp(min=1.0)


def _chunks(examples: Examples, recipe: Recipe) -> Iterator[_Chunk]:
    """The training steps of a block, in order."""
    target, weight = examples.target, examples.weight
    num_frames, num_lanes = target.shape
    for lane in range(0, num_lanes, recipe.lanes):
        for frame in range(0, num_frames, recipe.chunk):
            part = slice(frame, frame + recipe.chunk), slice(lane, lane + recipe.lanes)
            tensors = (
                torch.from_numpy(np.ascontiguousarray(a[part])) for a in (examples.features, target, weight)
            )
            yield _Chunk(frame == 0, *tensors)
