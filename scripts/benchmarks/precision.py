"""The suite `precision`: what weights of bfloat16 cost in exactness, for the built-in model."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from benchmarks.report import markdown
from benchmarks.run import Setup
from benchmarks.suites import Line, Say, Write

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from foretell.choices import Precision

_FIRST: Final = 200
"""Frames that are not scored, while the model warms up."""

_LENGTH: Final = 1_000
_NUM_SIGNALS: Final = 256
_SEED: Final = (2, 20261124)  # of no signal that was trained on


def add_options(parser: argparse.ArgumentParser) -> None:
    """See `Suite`."""
    group = parser.add_argument_group("precision")
    group.add_argument(
        "--precision-csv", type=Path, nargs="+", default=[], metavar="FILE", help="recordings to forecast too"
    )


def run_suite(args: argparse.Namespace, setup: Setup, write: Write, say: Say) -> str:  # noqa: ARG001 - of a suite
    """See `Suite`. No time is measured, so the quick run is the full one."""
    from foretell.recording import read_recording
    from foretell.training.evaluate import as_series
    from foretell.training.signals import make_series

    series = {f"{_NUM_SIGNALS} synthetic signals": make_series(_SEED, _NUM_SIGNALS, _LENGTH)}
    for path in args.precision_csv:
        series[path.stem] = as_series(read_recording(path).values)
    lines: list[Line] = []
    for name, one in series.items():
        say(name)
        lines.append({"series": name, **compare(one.values, one.observed)})
        write(lines[-1])
    return tables(lines)


def compare(values: NDArray[np.float32], observed: NDArray[np.bool_]) -> dict[str, float]:
    """The errors of both precisions over channels [frames, channels], and how far their forecasts are apart.

    Errors are medians over the channels of the mean absolute error against persistence; the distance is the median
    over the channels of the mean absolute difference, in mean absolute errors of float32.
    """
    from foretell.choices import Precision

    exact, rounded = (forecast(values, precision) for precision in Precision)
    actual, is_known = values[_FIRST:], observed[_FIRST:]
    persistence = _mean(np.abs(actual - values[_FIRST - 1 : -1]), is_known)
    errors = [_mean(np.abs(actual - medians[_FIRST - 1 : -1]), is_known) for medians in (exact, rounded)]
    distance = _mean(np.abs(exact - rounded)[_FIRST - 1 : -1], is_known)
    moves = persistence > 0
    return {
        "channels": int(moves.sum()),
        "float32": float(np.median(errors[0][moves] / persistence[moves])),
        "bfloat16": float(np.median(errors[1][moves] / persistence[moves])),
        "distance": float(np.median(distance[moves] / errors[0][moves])),
        "distance_most": float(np.max(distance[moves] / errors[0][moves])),
    }


def forecast(values: NDArray[np.float32], precision: Precision) -> NDArray[np.float64]:
    """What the engine says follows each frame: medians [frames, channels]."""
    from foretell.model import BUILTIN, load_model
    from foretell.rounds import Steps
    from foretell.step import Engine

    model = load_model(BUILTIN)
    num_channels = values.shape[1]
    engine = Engine(model, num_channels, precision=precision)
    rows, medians = np.arange(num_channels)[:, None], np.empty(values.shape, np.float64)
    for frame, of_frame in enumerate(values):
        steps = Steps(rows, np.ascontiguousarray(of_frame[:, None]), [num_channels], num_channels)
        medians[frame] = engine.step(steps).forecast[:, 0, model.spec.median_index, 0]
    return medians


def tables(lines: list[Line]) -> str:
    """In Markdown."""
    head = ["series", "channels", "float32", "bfloat16", "difference (most)"]
    rows = [
        [
            line["series"],
            str(line["channels"]),
            f"{line['float32']:.4f}",
            f"{line['bfloat16']:.4f}",
            f"{line['distance']:.2%} ({line['distance_most']:.2%})",
        ]
        for line in lines
    ]
    about = (
        "Mean absolute error of the built-in model against persistence, by the numbers of its weights, and how far the "
        f"forecasts are apart in mean absolute errors; medians over channels that change, from frame {_FIRST} on."
    )
    return "\n".join([about, "", *markdown([head, *rows])])


def _mean(errors: NDArray[np.floating], is_known: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Mean of each channel over the frames that were observed."""
    total = np.where(is_known, errors.astype(np.float64), 0.0).sum(axis=0)
    mean: NDArray[np.float64] = total / np.maximum(is_known.sum(axis=0), 1)
    return mean
