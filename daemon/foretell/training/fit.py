"""Fitting a model to synthetic signals: truncated back-propagation through time on the pinball loss.

Signals come in blocks. Before each block what is missing in it is filled in by the network as it then is, through the
engine that serves. A block is cut into groups of lanes and those into chunks of frames; the LSTM's state is carried
from chunk to chunk, detached. The model is the running average of the weights, which is better than the last of them
(B. Polyak and A. Juditsky, "Acceleration of stochastic approximation by averaging", SIAM J. Control Optim. 30, 1992). A
block depends on nothing but the recipe, its number and the weights before it, so that a run continues from a checkpoint
as if it had never stopped.
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
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from foretell.errors import ConfigError
from foretell.model import MEDIAN, Channels, Model, ModelSpec
from foretell.normalize import NUM_FEATURES, NormalizerSpec
from foretell.training.examples import Examples, make_examples
from foretell.training.fill import fill_in
from foretell.training.network import Network, State
from foretell.training.signals import Series, make_series

TRAINING: Final = 0  # first word of a recording's seed: what is it for
VALIDATION: Final = 1
CHECKPOINT_VERSION: Final = 2


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """All that a training run depends on; lengths are in frames."""

    seed: int = 1
    num_blocks: int = 320
    signals_per_block: int = 512
    length: int = 1537
    lanes: int = 64
    chunk: int = 256
    hidden_size: int = 64
    num_layers: int = 2
    quantiles: tuple[float, ...] = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
    normalizer: NormalizerSpec = NormalizerSpec()
    median_weight: float = 3.0  # of the median in the loss, against 1 of each other quantile
    rounded: float = 0.8  # the share of the blocks, the first ones, whose LSTM computes in bfloat16
    averaging: float = 0.998  # how much of the average of the weights stays at each step
    learning_rate: float = 3e-3
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
    """A network on its way: `run_block` by `run_block` until `num_done` is the recipe's `num_blocks`.

    network: what is being fitted. averaged: the average of its weights, which is what becomes the model.
    """

    def __init__(self, recipe: Recipe) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe = recipe
        self.network = Network(NUM_FEATURES, recipe.hidden_size, recipe.num_layers, recipe.quantiles)
        self.num_done = 0
        self._optimizer = torch.optim.Adam(self.network.parameters(), recipe.learning_rate, betas=(0.9, 0.99))
        average = get_ema_multi_avg_fn(recipe.averaging)  # type: ignore[no-untyped-call]  # torch's own
        self._average = AveragedModel(self.network, multi_avg_fn=average)
        self._levels = torch.tensor(recipe.quantiles)
        self._importance = torch.where(self._levels == MEDIAN, recipe.median_weight, 1.0)

    @property
    def averaged(self) -> Network:
        """The network with the average of the weights so far."""
        network = self._average.module
        assert isinstance(network, Network)
        return network

    def fill_in(self, series: Series) -> Series:
        """`series` with what the averaged network, without calibration, would put in for missing values."""
        weights = {name: tensor.detach() for name, tensor in self.averaged.state_dict().items()}
        return fill_in(series, Model(spec_of(self.recipe), weights, fingerprint=0))

    def run_block(self) -> float:
        """Fit the next block; returns its mean loss."""
        recipe = self.recipe
        seed = (TRAINING, recipe.seed, self.num_done)
        series = make_series(seed, recipe.signals_per_block, recipe.length)
        examples = make_examples(self.fill_in(series), recipe.normalizer)
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
        # Half as long, and as good until the weights settle (P. Micikevicius et al., "Mixed precision training", 2018).
        is_rounded = self.num_done < self.recipe.rounded * self.recipe.num_blocks
        outputs, (h, c) = self.network(chunk.features, state, is_rounded=is_rounded)
        loss = pinball_loss(outputs, chunk.target, chunk.weight, self._levels, self._importance)
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch's own
        nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.largest_gradient)
        self._optimizer.step()
        self._average.update_parameters(self.network)
        return loss.item(), (h.detach(), c.detach())

    def save(self, path: Path) -> None:
        """Write a checkpoint, replacing `path` in one step."""
        temporary = path.with_name(path.name + ".partial")
        checkpoint = {
            "version": CHECKPOINT_VERSION,
            "recipe": msgspec.json.encode(self.recipe).decode(),
            "num_done": self.num_done,
            "network": self.network.state_dict(),
            "average": self._average.state_dict(),
            "optimizer": self._optimizer.state_dict(),
        }
        torch.save(checkpoint, temporary)
        temporary.replace(path)

    @classmethod
    def load(cls, path: Path) -> Trainer:
        """Continue from a checkpoint that `save` wrote; raises ConfigError for one of another version of foretell."""
        checkpoint = torch.load(path, weights_only=True)
        if checkpoint.get("version") != CHECKPOINT_VERSION:
            raise ConfigError(
                f"{path} is of another version of foretell; choose another folder by --work, or remove it"
            )
        trainer = cls(msgspec.json.decode(checkpoint["recipe"], type=Recipe))
        trainer.num_done = checkpoint["num_done"]
        trainer.network.load_state_dict(checkpoint["network"])
        trainer._average.load_state_dict(checkpoint["average"])
        trainer._optimizer.load_state_dict(checkpoint["optimizer"])
        return trainer


def spec_of(recipe: Recipe) -> ModelSpec:
    """What a model fitted by `recipe` takes and gives."""
    return ModelSpec(
        channels=Channels.INDEPENDENT,
        input_channels=1,
        output_channels=1,
        input_size=NUM_FEATURES,
        hidden_size=recipe.hidden_size,
        num_layers=recipe.num_layers,
        quantiles=recipe.quantiles,
        normalizer=recipe.normalizer,
    )


def pinball_loss(
    outputs: torch.Tensor,
    target: torch.Tensor,
    weight: torch.Tensor,
    levels: torch.Tensor,
    importance: torch.Tensor | None = None,
) -> torch.Tensor:
    """Weighted mean pinball loss of quantiles [t, n, Q] (R. Koenker and G. Bassett, Econometrica 46, 1978).

    weight: of each frame of each lane, [t, n]. importance: of each quantile level, [Q]; None for all alike.
    """
    importance = torch.ones_like(levels) if importance is None else importance
    error = target.unsqueeze(-1) - outputs
    pinball = torch.maximum(levels * error, (levels - 1.0) * error) @ (importance / importance.sum())
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
