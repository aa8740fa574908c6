"""Fitting: begins as persistence, learns, and continues from a checkpoint as if it had never stopped."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import torch

from foretell.errors import ConfigError
from foretell.training.examples import make_examples
from foretell.training.fit import VALIDATION, Recipe, Trainer, pinball_loss
from foretell.training.network import Network, ordered
from foretell.training.signals import make_series

TINY = Recipe(
    num_blocks=4, signals_per_block=16, length=65, lanes=8, chunk=32, hidden_size=8, warm_up_blocks=1
)


def test_an_untrained_network_is_persistence() -> None:
    """Before training the median change is nought whatever the features are."""
    network = Network(3, 8, 2, (0.1, 0.5, 0.9))
    outputs, _ = network(torch.randn(20, 4, 3))
    assert (outputs[..., 1] == 0.0).all()
    assert (outputs[..., 0] < 0.0).all()
    assert (outputs[..., 2] > 0.0).all()


def test_the_network_has_the_names_of_the_model_file() -> None:
    """Its weights bear the names that a model file has."""
    names = set(Network(3, 8, 1, (0.5,)).state_dict())
    lstm = {f"lstm.{kind}_{gate}_l0" for kind in ("weight", "bias") for gate in ("ih", "hh")}
    assert names == lstm | {"linear.weight", "linear.bias"}


def test_a_rounded_network_is_nearly_itself() -> None:
    """In bfloat16 outputs are float32 still, and those in float32 but for rounding."""
    network = Network(3, 8, 2, (0.1, 0.5, 0.9))
    torch.nn.init.normal_(network.linear.weight)
    features = torch.randn(20, 4, 3)
    outputs, _ = network(features)
    rounded, (h, c) = network(features, is_rounded=True)
    assert outputs.dtype == rounded.dtype == h.dtype == c.dtype == torch.float32
    assert not torch.equal(outputs, rounded)
    assert torch.allclose(outputs, rounded, atol=0.05)


def test_ordered_takes_running_extremes_from_the_median() -> None:
    """Where quantiles cross, the one nearer to the median stands."""
    crossed = torch.tensor([3.0, -5.0, 0.0, 2.0, 1.0])
    assert ordered(crossed, 2).tolist() == [-5.0, -5.0, 0.0, 2.0, 2.0]


def test_pinball_loss_is_least_at_the_quantile() -> None:
    """Among constants the level's own quantile of the targets has the least loss."""
    target = torch.arange(101.0)[:, None]
    levels = torch.tensor([0.9])
    losses = [
        pinball_loss(torch.full((101, 1, 1), x), target, torch.ones(101, 1), levels, torch.ones(1))
        for x in range(101)
    ]
    assert int(torch.stack(losses).argmin()) == 90


def test_frames_of_no_weight_do_not_count() -> None:
    """A frame of no weight does not change the loss."""
    target, weight = torch.tensor([[1.0], [1e6]]), torch.tensor([[1.0], [0.0]])
    loss = pinball_loss(torch.zeros(2, 1, 1), target, weight, torch.tensor([0.5]), torch.ones(1))
    assert loss == pytest.approx(0.5)


def test_a_quantile_counts_by_its_importance() -> None:
    """A quantile of three times the importance of the other counts three quarters."""
    outputs = torch.tensor([[[0.0, 2.0]]])
    levels, importance = torch.tensor([0.5, 0.9]), torch.tensor([3.0, 1.0])
    loss = pinball_loss(outputs, torch.tensor([[1.0]]), torch.ones(1, 1), levels, importance)
    assert loss == pytest.approx(0.75 * 0.5 * 1.0 + 0.25 * 0.1 * 1.0)


def test_continues_from_a_checkpoint_as_if_never_stopped(tmp_path: Path) -> None:
    """Two blocks, a checkpoint, and two more give the bits of four blocks in one go."""
    whole, first = Trainer(TINY), Trainer(TINY)
    for _ in range(4):
        whole.run_block()
    for _ in range(2):
        first.run_block()
    first.save(tmp_path / "checkpoint.pt")
    second = Trainer.load(tmp_path / "checkpoint.pt")
    for _ in range(2):
        second.run_block()
    for weights, continued in (
        (whole.network.state_dict(), second.network.state_dict()),
        (whole.averaged.state_dict(), second.averaged.state_dict()),
    ):
        assert all(torch.equal(weights[name], continued[name]) for name in weights)


def test_refuses_a_checkpoint_of_another_version(tmp_path: Path) -> None:
    """A checkpoint that does not say this version is refused, by name."""
    path = tmp_path / "checkpoint.pt"
    torch.save({"recipe": "{}", "num_done": 1}, path)
    with pytest.raises(ConfigError, match=r"checkpoint\.pt is of another version"):
        Trainer.load(path)


def test_the_average_follows_the_weights() -> None:
    """The averaged weights are the weights' own running average, begun at the first step."""
    trainer = Trainer(msgspec.structs.replace(TINY, averaging=0.75, lanes=16, chunk=64))
    seen = []
    for _ in range(2):  # a block is one step
        trainer.run_block()
        seen.append(trainer.network.linear.bias.detach().clone())
    expected = 0.75 * seen[0] + 0.25 * seen[1]
    assert torch.allclose(trainer.averaged.linear.bias, expected, atol=1e-7)


def test_learning_lowers_the_loss_on_other_signals() -> None:
    """A short training run lowers the loss on signals that it was not trained on."""
    recipe = msgspec.structs.replace(TINY, num_blocks=40, lanes=16, chunk=16, learning_rate=0.02)
    examples = make_examples(make_series((VALIDATION, 1), 100, 129), recipe.normalizer)
    features, target, weight = map(torch.from_numpy, (examples.features, examples.target, examples.weight))
    trainer = Trainer(recipe)

    def loss() -> float:
        outputs, _ = trainer.network(features)
        levels = torch.tensor(recipe.quantiles)
        return pinball_loss(outputs, target, weight, levels, torch.ones(levels.numel())).item()

    before = loss()
    for _ in range(recipe.num_blocks):
        trainer.run_block()
    assert loss() < 0.97 * before


def test_the_learning_rate_rises_and_falls_to_nothing() -> None:
    """The learning rate begins small, peaks, and ends at 0."""
    recipe = Recipe(num_blocks=100)
    assert recipe.learning_rate_at(0) < 0.1 * recipe.learning_rate
    assert recipe.learning_rate_at(5) > 0.9 * recipe.learning_rate
    assert recipe.learning_rate_at(100) == pytest.approx(0.0)
