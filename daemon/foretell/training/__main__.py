"""Fit a model to synthetic signals, or evaluate one on recordings. The command behind `scripts/train-builtin`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from foretell.errors import ForetellError
from foretell.model import BUILTIN, BUILTIN_SMALL, load_model
from foretell.training.evaluate import Portion, score_recording, summary
from foretell.training.exact import exact_signals, ratios, row_of
from foretell.training.fit import Recipe
from foretell.training.run import train


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(options.threads)
    try:
        if options.exact:
            _show_exact(options)
        elif options.evaluate:
            _evaluate(options)
        else:
            recipe = Recipe(seed=options.seed, num_blocks=options.blocks, hidden_size=options.hidden_size)
            output = options.output or options.work / "model.safetensors"
            train(recipe, options.work, output, Console(stderr=True))
            print(output)
    except ForetellError as error:
        print(f"train-builtin: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130  # the last checkpoint stays, and the same command goes on from there
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="train-builtin", description=__doc__)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of the network (default 1)")
    training = parser.add_argument_group("training")
    training.add_argument(
        "--work",
        type=Path,
        default=Path("build/training"),
        help="folder of the checkpoint, from which the same command continues (default build/training)",
    )
    blocks = Recipe().num_blocks
    training.add_argument(
        "--blocks",
        type=int,
        default=blocks,
        help=f"length of the run (default {blocks})",
    )
    training.add_argument(
        "--hidden-size",
        type=int,
        default=Recipe().hidden_size,
        metavar="N",
        help=f"units of a layer: 64 for {BUILTIN} (default), 32 for {BUILTIN_SMALL}",
    )
    training.add_argument("--seed", type=int, default=Recipe().seed, help="of signals and weights")
    training.add_argument("--output", type=Path, help="the model file (default: model.safetensors in --work)")
    evaluation = parser.add_argument_group("evaluation")
    evaluation.add_argument(
        "--evaluate",
        type=Path,
        nargs="+",
        metavar="CSV",
        help="score a model's network alone, before calibration, on recordings instead of training one",
    )
    evaluation.add_argument(
        "--exact",
        action="store_true",
        help="score a model, as it is published, on signals of which it is known what can be told",
    )
    evaluation.add_argument(
        "--model", default=BUILTIN, help=f'a model file, "{BUILTIN}" (default) or "{BUILTIN_SMALL}"'
    )
    evaluation.add_argument(
        "--first", type=int, default=Portion().first, help="first row to score (default 500)"
    )
    evaluation.add_argument(
        "--until", type=int, metavar="ROW", help="row before which scoring ends (default: all)"
    )
    evaluation.add_argument(
        "--scale-rows", type=int, metavar="N", help="give errors in standard deviations of the first N rows"
    )
    return parser


def _show_exact(options: argparse.Namespace) -> None:
    model = load_model(options.model)
    table = Table("signals", "number", "error against persistence, median", "worst")
    for signals in exact_signals():
        table.add_row(*row_of(signals.kind, ratios(model, signals).tolist()))
    Console().print(table)


def _evaluate(options: argparse.Namespace) -> None:
    model = load_model(options.model)
    portion = Portion(options.first, options.until, options.scale_rows)
    scores = {
        name: one for path in options.evaluate for name, one in score_recording(model, path, portion).items()
    }
    table = Table("series", "MAE", "persistence", "ratio", "90 % band held")
    for name, one in scores.items():
        figures = (
            f"{one.error:.4g}",
            f"{one.persistence_error:.4g}",
            f"{one.ratio:.3f}",
            f"{one.coverage:.3f}",
        )
        table.add_row(name, *figures)
    error = np.nanmean([one.error for one in scores.values()])
    persistence = np.nanmean([one.persistence_error for one in scores.values()])
    console = Console()
    console.print(table)
    console.print(summary(list(scores.values())), soft_wrap=True)
    console.print(f"mean over series: MAE {error:.4g}, persistence {persistence:.4g}")


if __name__ == "__main__":
    sys.exit(main())
