"""A run on recordings, from reading them to the model file, with checkpoints on the way."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from foretell.errors import ConfigError, ModelError
from foretell.evaluation.command import read_all
from foretell.model import Model, ModelSpec, save_model
from foretell.training.learner import Learner
from foretell.training.outcome import describe, evaluate_later_rows
from foretell.training.tracks import make_tracks
from foretell.training.validate import Validation
from foretell.training.wish import Wish, make_plan


def train_on(paths: Sequence[Path], wish: Wish, output: Path, console: Console) -> ModelSpec:
    """Fit a model to the files of recordings, write it to `output` and give its specification.

    A run that was interrupted is gone on with: its checkpoint lies beside `output`. Raises RecordingError for
    recordings that cannot be trained on, ConfigError for a wish that cannot be fulfilled or a checkpoint of another
    run, and ModelError where a model cannot be read or written.
    """
    _check_writable(output)
    recordings = [
        replace(one, values=one.values[: wish.until], timestamp_ns=one.timestamp_ns[: wish.until])
        for one in read_all(paths)
    ]
    plan, begins_from = make_plan(recordings, wish)
    tracks = make_tracks(recordings, plan, begins_from)
    learner = Learner(plan, tracks, None if begins_from is None else begins_from.weights)
    checkpoint = output.with_name(output.name + ".checkpoint")
    if checkpoint.exists() and not learner.load(checkpoint):
        raise ConfigError(f"{checkpoint} is of another run: remove it, or choose another file by -o")
    _learn(learner, checkpoint, console)
    spec = describe(plan, recordings, trained_on=", ".join(path.name for path in paths))
    evaluation = evaluate_later_rows(Model(spec, learner.best, fingerprint=0), recordings, plan)
    spec = msgspec.structs.replace(spec, evaluation=evaluation)
    save_model(output, spec, learner.best)
    checkpoint.unlink(missing_ok=True)
    return spec


def _check_writable(output: Path) -> None:
    """Better before the work than after it."""
    if output.is_dir() or not output.absolute().parent.is_dir():
        raise ModelError(f"{output}: cannot be written: it is a folder, or its folder does not exist")


def _learn(learner: Learner, checkpoint: Path, console: Console) -> None:
    plan = learner.plan
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=plan.num_epochs, completed=learner.num_epochs)
        progress.update(task, description=_say(learner.best_validation))
        while not learner.is_done:
            validation = learner.run_epoch()
            learner.save(checkpoint)
            progress.update(task, completed=learner.num_epochs, description=_say(learner.best_validation))
            if not console.is_terminal:
                console.print(f"epoch {learner.num_epochs}: {_say(validation)}", highlight=False)
        progress.update(task, total=learner.num_epochs)
    console.print(
        f"{learner.num_epochs} epochs; {_say(learner.best_validation)} on the later rows, before calibration",
        highlight=False,
        soft_wrap=True,
    )


def _say(validation: Validation) -> str:
    if math.isnan(validation.ratio):
        return "nothing changes"
    return f"error ×{validation.ratio:.3f} of persistence"
