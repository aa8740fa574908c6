"""The subcommands that make and judge models: train, evaluate, convert."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from foretell.arguments import Commands, add_command, count, horizon, index, positive, share

_INTERRUPTED = 130
_FIRST_SCORED = 500


def add_train(commands: Commands) -> None:
    """`foretell train`."""
    parser = add_command(
        commands,
        "train",
        "fit a model to recordings, from the built-in model or from scratch",
        "foretell train --example sine -o sine.safetensors",
        "foretell train --example sine -o sine.safetensors --svg sine.svg",
        "foretell train pump.csv -o pump.safetensors",
        "foretell train january.parquet february.parquet --channels joint -o plant.safetensors",
        "foretell train pump.csv --from scratch --hidden-size 32 --layers 1 -o pump.safetensors",
    )
    parser.add_argument(
        "files",
        type=Path,
        nargs="*",
        metavar="RECORDING",
        help="CSV or Parquet, of any lengths; the last part of each tells when to stop",
    )
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="MODEL.safetensors", help="file to write"
    )
    parser.add_argument(
        "--example", choices=["sine"], help="make a recording, write it beside the model and learn it"
    )
    parser.add_argument(
        "--svg", type=Path, metavar="FILE", help="draw the forecasts of the example frame by frame"
    )
    parser.add_argument(
        "--channels",
        choices=["independent", "joint"],
        default="independent",
        help="independent: one model for every channel (default); joint: all channels of a recording enter together",
    )
    parser.add_argument(
        "--from",
        dest="begins_from",
        metavar="MODEL",
        help='weights to begin with: "builtin" (default where the sizes fit), "scratch", or a model file',
    )
    parser.add_argument(
        "--hidden-size", type=count, metavar="N", help="of each layer, from scratch (64; example 32)"
    )
    parser.add_argument("--layers", type=count, metavar="N", help="of the LSTM, from scratch (2; example 1)")
    parser.add_argument("--until", type=count, metavar="ROW", help="use the rows before this one alone")
    parser.add_argument(
        "--validation",
        type=share,
        default=0.25,
        metavar="X",
        help="share of each recording, its end, that tells when to stop (%(default)s)",
    )
    parser.add_argument("--epochs", type=count, metavar="N", help="at most (100; example 60)")
    parser.add_argument(
        "--learning-rate",
        type=positive,
        metavar="X",
        help="0.0005 from a model, 0.004 from scratch, example 0.01",
    )
    parser.add_argument(
        "--seed", type=index, default=1, metavar="N", help="of all that is random (%(default)s)"
    )
    parser.add_argument("--threads", type=count, default=1, metavar="N", help="CPU threads (%(default)s)")
    parser.set_defaults(command=lambda arguments: _train(parser, arguments))


def _train(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> int:
    if bool(arguments.files) == (arguments.example is not None):
        parser.error("either recordings or --example is needed")
    if arguments.svg is not None and arguments.example is None:
        parser.error("--svg is for --example; of recordings `foretell evaluate --report` draws")
    import torch
    from rich.console import Console

    from foretell.evaluation.command import check_drawable
    from foretell.model import Channels
    from foretell.training.example import draw_sine, train_on_sine
    from foretell.training.recorded import train_on
    from foretell.training.wish import Wish

    torch.set_num_threads(arguments.threads)
    console = Console(stderr=True)
    if arguments.svg is not None:
        check_drawable(arguments.svg)
    wish = Wish(
        channels=Channels(arguments.channels),
        begins_from=arguments.begins_from,
        hidden_size=arguments.hidden_size,
        num_layers=arguments.layers,
        until=arguments.until,
        validation=arguments.validation,
        seed=arguments.seed,
        learning_rate=arguments.learning_rate,
        num_epochs=arguments.epochs,
    )
    try:
        if arguments.example is not None:
            spec, path = train_on_sine(wish, arguments.output, console)
        else:
            spec, path = train_on(arguments.files, wish, arguments.output, console), arguments.files[0]
    except KeyboardInterrupt:
        print("foretell: interrupted; the same command goes on from the last epoch", file=sys.stderr)
        return _INTERRUPTED
    if arguments.svg is not None:
        draw_sine(arguments.svg, arguments.output, path)
    for name, figure in spec.evaluation.items():
        print(f"{name.replace('_', ' ')}: {figure}")
    layers = "a layer" if spec.num_layers == 1 else f"{spec.num_layers} layers"
    print(f"{arguments.output}: {spec.channels}, {layers} of {spec.hidden_size}. To see it forecast:")
    setting = shlex.quote(f"model.path={arguments.output}")
    print(f"  foretell demo --csv {shlex.quote(str(path))} --set {setting}")
    print(f"or serve it: foretell run --set {setting}")
    return 0


def add_evaluate(commands: Commands) -> None:
    """`foretell evaluate`."""
    parser = add_command(
        commands,
        "evaluate",
        "stream recordings through the daemon's own stages and report how good the forecasts are",
        "foretell evaluate pump.csv valve.parquet",
        "foretell evaluate pump.csv --model pump.safetensors --horizon 12 --report pump.html",
        "foretell evaluate ETTh1.csv --first 11520 --until 14400 --scale-rows 8640 --json figures.json",
        "foretell evaluate nyc_taxi.csv --label-windows combined_windows.json",
    )
    parser.add_argument(
        "files", type=Path, nargs="+", metavar="RECORDING", help="CSV or Parquet, a stream a file"
    )
    parser.add_argument("--model", default="builtin", help='a model file, or "builtin" (default)')
    parser.add_argument("--horizon", type=horizon, default=1, metavar="H", help="frames ahead (%(default)s)")
    rows = parser.add_argument_group("rows")
    rows.add_argument(
        "--first", type=count, default=_FIRST_SCORED, metavar="ROW", help="first row to score (%(default)s)"
    )
    rows.add_argument(
        "--until", type=count, metavar="ROW", help="row before which scoring ends; without it all"
    )
    rows.add_argument(
        "--scale-rows", type=count, metavar="N", help="give errors in standard deviations of the first N rows"
    )
    rows.add_argument(
        "--fit-rows",
        type=count,
        metavar="N",
        help="fit AR and season to the first N rows (those of the scale, or all before the first scored)",
    )
    rows.add_argument(
        "--period", type=count, metavar="N", help="the season; without it found in the fitted rows"
    )
    anomalies = parser.add_argument_group("anomalies")
    anomalies.add_argument(
        "--label-windows",
        type=Path,
        metavar="FILE",
        help="JSON of windows in which something was wrong, by file name, as NAB's combined_windows.json",
    )
    anomalies.add_argument(
        "--threshold",
        type=positive,
        default=5.0,
        metavar="X",
        help="of -log10 of the probability (%(default)s)",
    )
    anomalies.add_argument(
        "--refractory",
        type=index,
        default=48,
        metavar="N",
        help="rows below it that end an anomaly (%(default)s)",
    )
    outputs = parser.add_argument_group("outputs, beside the tables")
    outputs.add_argument("--json", type=Path, metavar="FILE", help="write all figures")
    outputs.add_argument(
        "--report", type=Path, metavar="FILE", help="write plots: .html, which stands alone, or .png"
    )
    parser.set_defaults(command=_evaluate)


def _evaluate(arguments: argparse.Namespace) -> int:
    from foretell.evaluation.anomalies import Detection
    from foretell.evaluation.command import Outputs, Question, evaluate
    from foretell.evaluation.judge import Portion

    question = Question(
        model=arguments.model,
        horizon=arguments.horizon,
        portion=Portion(
            first=arguments.first,
            until=arguments.until,
            fit_rows=arguments.fit_rows or arguments.scale_rows,
            scale_rows=arguments.scale_rows,
            period=arguments.period,
        ),
        detection=Detection(threshold=arguments.threshold, refractory=arguments.refractory),
        label_windows=arguments.label_windows,
    )
    return evaluate(arguments.files, question, Outputs(arguments.json, arguments.report))


def add_convert(commands: Commands) -> None:
    """`foretell convert`."""
    parser = add_command(
        commands,
        "convert",
        "make a model file from the state dict of a torch.nn.LSTM named `lstm` and a torch.nn.Linear named `linear`",
        "foretell convert model.pt -o model.safetensors",
    )
    parser.add_argument(
        "state_dict", type=Path, metavar="STATE_DICT.pt", help="what torch.save(model.state_dict()) wrote"
    )
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="MODEL.safetensors", help="file to write"
    )
    parser.set_defaults(command=_convert)


def _convert(arguments: argparse.Namespace) -> int:
    from foretell.convert import convert

    spec = convert(arguments.state_dict, arguments.output)
    print(
        f"{arguments.output}: a joint point model of {spec.input_channels} channels in and {spec.output_channels} out, "
        f"{spec.num_layers} layers of {spec.hidden_size}"
    )
    return 0
