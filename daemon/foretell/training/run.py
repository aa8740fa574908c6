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
from foretell.calibrate import CalibratorSpec
from foretell.errors import ConfigError
from foretell.model import ModelSpec, save_model
from foretell.training.curve import append_point, draw_curve, point_of, read_curve
from foretell.training.evaluate import Portion, Score, score, summary
from foretell.training.examples import make_examples
from foretell.training.fit import VALIDATION, Recipe, Trainer, spec_of
from foretell.training.signals import make_series

WARM_UP: Final = 32  # frames after which a stream's forecasts no longer count as warming up
VALIDATION_SIGNALS: Final = 512
CHECKPOINT_EVERY: Final = 10  # blocks


def train(recipe: Recipe, folder: Path, output: Path, console: Console) -> None:
    """Fit `recipe` and write the model to `output`, and beside it its learning curve as a picture.

    A run that `folder` has a checkpoint of is continued. Raises ConfigError where the checkpoint there is of another
    recipe or version, and ModelError where `output` cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint, curve = folder / "checkpoint.pt", folder / "curve.jsonl"
    trainer = Trainer.load(checkpoint) if checkpoint.exists() else Trainer(recipe)
    if trainer.recipe != recipe:
        raise ConfigError(f"{checkpoint} is of another recipe; choose another folder by --work, or remove it")
    validation = make_series((VALIDATION, recipe.seed), VALIDATION_SIGNALS, recipe.length)
    portion = Portion(first=min(Portion().first, recipe.length // 2))

    def validate() -> list[Score]:
        examples = make_examples(trainer.fill_in(validation), recipe.normalizer)
        return score(trainer.averaged, examples, recipe.quantiles, portion)

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    losses: list[float] = []
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("training", total=recipe.num_blocks, completed=trainer.num_done)
        while trainer.num_done < recipe.num_blocks:
            losses.append(trainer.run_block())
            progress.update(task, completed=trainer.num_done, description=f"loss {losses[-1]:.4f}")
            if trainer.num_done % CHECKPOINT_EVERY == 0 or trainer.num_done == recipe.num_blocks:
                scores = validate()
                append_point(curve, point_of(trainer.num_done, losses, scores))
                trainer.save(checkpoint)
                console.print(
                    f"block {trainer.num_done}: loss {losses[-1]:.4f}; {summary(scores)}", soft_wrap=True
                )
                losses.clear()

    save_model(output, describe(recipe, validate(), portion), trainer.averaged.state_dict())
    title = f"Error against persistence on {VALIDATION_SIGNALS} signals not trained on: median and quartiles"
    picture = output.with_name(f"{output.stem}-curve.svg")
    picture.write_text(draw_curve(read_curve(curve), title), encoding="utf-8")


def describe(recipe: Recipe, scores: Sequence[Score], portion: Portion) -> ModelSpec:
    """The specification of a model fitted by `recipe`, with where it comes from and how it scored on validation."""
    return msgspec.structs.replace(
        spec_of(recipe),
        calibrator=CalibratorSpec(),
        warm_up=WARM_UP,
        provenance={
            "made_by": "scripts/train-builtin",
            "trained_on": "synthetic signals alone",
            "recipe": msgspec.json.encode(recipe).decode(),
            "foretell": __version__,
            "torch": str(torch.__version__),
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        evaluation={
            "data": f"{len(scores)} synthetic signals not trained on, from frame {portion.first} on, uncalibrated",
            "error_against_persistence_median": round(float(np.nanmedian([one.ratio for one in scores])), 4),
            "coverage_of_90_percent_band_mean": round(float(np.nanmean([one.coverage for one in scores])), 4),
        },
    )
