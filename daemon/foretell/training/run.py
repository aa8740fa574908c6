"""A training run from the first block to the model file, with checkpoints on the way."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from foretell import __version__
from foretell.errors import ConfigError
from foretell.model import Channels, ModelSpec, save_model
from foretell.normalize import NUM_FEATURES
from foretell.training.evaluate import Portion, Score, score, summary
from foretell.training.examples import make_examples
from foretell.training.fit import VALIDATION, Recipe, Trainer
from foretell.training.signals import make_series

WARM_UP: Final = 32  # frames after which a stream's forecasts no longer count as warming up
VALIDATION_SIGNALS: Final = 512
CHECKPOINT_EVERY: Final = 10  # blocks


def train(recipe: Recipe, folder: Path, output: Path, console: Console) -> None:
    """Fit `recipe` and write the model to `output`; a run that `folder` has a checkpoint of is continued.

    Raises ConfigError where the checkpoint there is of another recipe, and ModelError where `output` cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / "checkpoint.pt"
    trainer = Trainer.load(checkpoint) if checkpoint.exists() else Trainer(recipe)
    if trainer.recipe != recipe:
        raise ConfigError(f"{checkpoint} is of another recipe; choose another folder by --work, or remove it")
    validation = make_examples(
        make_series((VALIDATION, recipe.seed), VALIDATION_SIGNALS, recipe.length), recipe.normalizer
    )
    portion = Portion(first=min(Portion().first, recipe.length // 2))

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("training", total=recipe.num_blocks, completed=trainer.num_done)
        while trainer.num_done < recipe.num_blocks:
            loss = trainer.run_block()
            progress.update(task, completed=trainer.num_done, description=f"loss {loss:.4f}")
            if trainer.num_done % CHECKPOINT_EVERY == 0 or trainer.num_done == recipe.num_blocks:
                trainer.save(checkpoint)
                scores = score(trainer.network, validation, recipe.quantiles, portion)
                console.print(f"block {trainer.num_done}: loss {loss:.4f}; {summary(scores)}", soft_wrap=True)

    scores = score(trainer.network, validation, recipe.quantiles, portion)
    save_model(output, describe(recipe, scores, portion), trainer.network.state_dict())


def describe(recipe: Recipe, scores: Sequence[Score], portion: Portion) -> ModelSpec:
    """The specification of a model fitted by `recipe`, with where it comes from and how it scored on validation."""
    return ModelSpec(
        channels=Channels.INDEPENDENT,
        input_channels=1,
        output_channels=1,
        input_size=NUM_FEATURES,
        hidden_size=recipe.hidden_size,
        num_layers=recipe.num_layers,
        quantiles=recipe.quantiles,
        normalizer=recipe.normalizer,
        warm_up=WARM_UP,
        provenance={
            "trained_on": "synthetic signals alone",
            "recipe": msgspec.json.encode(recipe).decode(),
            "foretell": __version__,
            "torch": str(torch.__version__),
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        evaluation={
            "data": f"{len(scores)} synthetic signals not trained on, from frame {portion.first} on",
            "error_against_persistence_median": round(float(np.nanmedian([one.ratio for one in scores])), 4),
            "coverage_of_90_percent_band_mean": round(float(np.nanmean([one.coverage for one in scores])), 4),
        },
    )
