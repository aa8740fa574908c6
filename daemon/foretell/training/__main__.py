"""The command behind `scripts/train-builtin`: fit a model to synthetic signals, or evaluate one on recordings."""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from foretell import __version__
from foretell.errors import ForetellError
from foretell.model import BUILTIN, Channels, ModelSpec, load_model, save_model
from foretell.normalize import NUM_FEATURES, NormalizerSpec
from foretell.recording import read_recording
from foretell.training.evaluate import Score, from_recording, score
from foretell.training.fit import VALIDATION, Recipe, Trainer
from foretell.training.network import Network
from foretell.training.signals import make_series

WARM_UP: Final = 32  # frames that a new stream's forecasts are marked as warming up
SETTLED: Final = 500  # frames before the first that is scored
VALIDATION_SIGNALS: Final = 512
CHECKPOINT_EVERY: Final = 10  # blocks


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(options.threads)
    # Gradients that fade on their way back through time end as subnormal numbers, which are a hundred times as slow.
    torch.set_flush_denormal(True)
    try:
        if options.evaluate:
            _evaluate(options)
        else:
            _train(options)
    except ForetellError as error:
        print(f"foretell: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="train-builtin", description=__doc__)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of the network (default 1)")
    training = parser.add_argument_group("training")
    training.add_argument(
        "--work",
        type=Path,
        default=Path("build/training"),
        help="folder of the checkpoint; a run there continues",
    )
    training.add_argument(
        "--blocks", type=int, default=Recipe().num_blocks, help="length of the run (6 s each)"
    )
    training.add_argument("--seed", type=int, default=Recipe().seed)
    training.add_argument("--output", type=Path, help="the model file (default: in the work folder)")
    evaluation = parser.add_argument_group("evaluation")
    evaluation.add_argument(
        "--evaluate", type=Path, nargs="+", metavar="CSV", help="evaluate instead of training"
    )
    evaluation.add_argument("--model", default=BUILTIN, help='a model file, or "builtin" (default)')
    evaluation.add_argument(
        "--first", type=int, default=SETTLED, help=f"first row to score (default {SETTLED})"
    )
    evaluation.add_argument(
        "--scale-rows", type=int, metavar="N", help="give errors in standard deviations of the first N rows"
    )
    return parser


def _train(options: argparse.Namespace) -> None:
    recipe = Recipe(seed=options.seed, num_blocks=options.blocks)
    options.work.mkdir(parents=True, exist_ok=True)
    checkpoint = options.work / "checkpoint.pt"
    trainer = Trainer.load(checkpoint) if checkpoint.exists() else Trainer(recipe)
    if trainer.recipe != recipe:
        raise ForetellError(
            f"{checkpoint} belongs to another recipe; choose another --work folder or remove it"
        )
    validation = make_series((VALIDATION, recipe.seed), VALIDATION_SIGNALS, recipe.length)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("training", total=recipe.num_blocks, completed=trainer.num_done)
        while trainer.num_done < recipe.num_blocks:
            loss = trainer.run_block()
            progress.update(task, completed=trainer.num_done, description=f"loss {loss:.4f}")
            if trainer.num_done % CHECKPOINT_EVERY == 0:
                trainer.save(checkpoint)
                scores = score(trainer.network, validation, recipe.normalizer, recipe.quantiles, SETTLED)
                progress.console.print(f"block {trainer.num_done}: loss {loss:.4f}; {_summary(scores)}")
    output = options.output or options.work / "model.safetensors"
    scores = score(trainer.network, validation, recipe.normalizer, recipe.quantiles, SETTLED)
    save_model(output, _spec(recipe, scores), trainer.network.state_dict())
    print(f"{output}: {_summary(scores)}")


def _spec(recipe: Recipe, scores: list[Score]) -> ModelSpec:
    ratios = np.array([one.ratio for one in scores])
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
            "data": f"{len(scores)} synthetic signals not trained on, from frame {SETTLED} on",
            "error_against_persistence_median": round(float(np.nanmedian(ratios)), 4),
            "coverage_of_90_percent_band_mean": round(float(np.mean([one.coverage for one in scores])), 4),
        },
    )


def _evaluate(options: argparse.Namespace) -> None:
    model = load_model(options.model)
    spec = model.spec
    if (
        spec.channels is not Channels.INDEPENDENT
        or spec.normalizer is None
        or not {0.05, 0.95} <= set(spec.quantiles)
    ):
        raise ForetellError(
            f"{options.model}: only independent models with a normaliser and a 90 % band are evaluated"
        )
    network = Network(spec.input_size, spec.hidden_size, spec.num_layers, spec.quantiles)
    network.load_state_dict(dict(model.weights))
    table = Table("series", "rows", "MAE", "persistence", "ratio", "90 % band held")
    everything: list[Score] = []
    for path in options.evaluate:
        scores = _scores_of(path, network, spec.normalizer, spec.quantiles, options)
        for name, (rows, one) in scores.items():
            figures = (
                f"{one.error:.4g}",
                f"{one.persistence_error:.4g}",
                f"{one.ratio:.3f}",
                f"{one.coverage:.3f}",
            )
            table.add_row(name, str(rows), *figures)
            everything.append(one)
    console = Console()
    console.print(table)
    console.print(_summary(everything))
    mean, persistence = (
        np.mean([getattr(one, kind) for one in everything]) for kind in ("error", "persistence_error")
    )
    console.print(f"mean over series: MAE {mean:.4g}, persistence {persistence:.4g}")


def _scores_of(
    path: Path,
    network: Network,
    normalizer: NormalizerSpec,
    quantiles: tuple[float, ...],
    options: argparse.Namespace,
) -> dict[str, tuple[int, Score]]:
    recording = read_recording(path)
    length = len(recording.values)
    if not 1 <= options.first < length:
        raise ForetellError(f"{path}: has {length} rows; --first {options.first} is not among them")
    scores = score(network, from_recording(recording.values), normalizer, quantiles, options.first)
    if options.scale_rows is not None:
        scales = np.nanstd(recording.values[: options.scale_rows].astype(np.float64), axis=0)
        scores = [
            Score(one.error / scale, one.persistence_error / scale, one.coverage)
            for one, scale in zip(scores, scales, strict=True)
        ]
    names = [f"{path.stem}/{channel}" for channel in recording.channels]
    return {name: (length - options.first, one) for name, one in zip(names, scores, strict=True)}


def _summary(scores: list[Score]) -> str:
    ratios = np.array([one.ratio for one in scores])
    better = int((ratios < 1.0).sum())
    low, median, high = np.nanquantile(ratios, [0.25, 0.5, 0.75])
    held = np.quantile([one.coverage for one in scores], [0.25, 0.5, 0.75])
    return (
        f"MAE against persistence {median:.3f} (quartiles {low:.3f} to {high:.3f}), "
        f"better on {better} of {len(scores)}; 90 % band held {held[1]:.3f} ({held[0]:.3f} to {held[2]:.3f})"
    )


if __name__ == "__main__":
    sys.exit(main())
