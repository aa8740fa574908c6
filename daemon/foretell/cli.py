"""The `foretell` command. Each subcommand imports what it needs and nothing else: torch alone costs a second.

Exit status: 0; 2 for a command line that cannot be understood; the `exit_code` of the ForetellError that stopped it
(78 settings or model, 69 endpoint, 65 recording); 70 for a fault of our own, with its traceback.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from foretell import __version__
from foretell.arguments import Commands, add_command, index, positive
from foretell.cli_models import add_convert, add_evaluate, add_train
from foretell.errors import ForetellError

_FAULT_OF_OUR_OWN = 70
_INPUT = "tcp://127.0.0.1:5555"
_OUTPUT = "tcp://127.0.0.1:5556"
_SENSOR_RATE = 10.0
_RECORDING_RATE = 50.0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and give the exit status. A user's mistake is one line on stderr, never a traceback."""
    arguments = build_parser().parse_args(argv)
    try:
        status: int = arguments.command(arguments)
        sys.stdout.flush()
    except ForetellError as error:
        print(f"foretell: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 0  # Ctrl-C before the command could take it in order
    except BrokenPipeError:
        # The reader of our output has gone (`| head`): nothing is left to say, and nowhere to flush it to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception:  # noqa: BLE001 - the last resort
        traceback.print_exc()
        return _FAULT_OF_OUR_OWN
    return status


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="foretell",
        description="Forecast sensor streams in real time: frames in over ZeroMQ, forecasts out.",
    )
    parser.add_argument("--version", action="version", version=f"foretell {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_run(commands)
    _add_check_config(commands)
    _add_demo(commands)
    _add_watch(commands)
    _add_replay(commands)
    add_train(commands)
    add_evaluate(commands)
    add_convert(commands)
    return parser


def _add_set(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set",
        dest="overrides",
        metavar="SECTION.KEY=VALUE",
        action="append",
        default=[],
        help="override one setting; may be repeated",
    )


def _add_svg(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--svg", type=Path, metavar="FILE", help="at the end, write the view as a picture")


def _add_run(commands: Commands) -> None:
    parser = add_command(
        commands,
        "run",
        "run the daemon",
        "foretell run",
        "foretell run --config foretell.toml",
        "foretell run --set streams.capacity=100000 --set output.batch=true --set output.format=packed",
    )
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="settings in TOML; without it the defaults"
    )
    _add_set(parser)
    parser.set_defaults(command=_run)


def _run(arguments: argparse.Namespace) -> int:
    from foretell.config import load_config
    from foretell.stop import StopSignals

    config = load_config(arguments.config, arguments.overrides, os.environ)
    with StopSignals() as stop:  # before the second that torch takes
        from foretell.run import run

        return run(config, stop)


def _add_check_config(commands: Commands) -> None:
    parser = add_command(
        commands,
        "check-config",
        "check settings as `run` would read them: exit 0, or 78 and one line saying what is wrong",
        "foretell check-config foretell.toml",
        "foretell check-config --set forecast.horizon=12",
    )
    parser.add_argument(
        "file", type=Path, nargs="?", metavar="FILE", help="settings in TOML; without it the defaults"
    )
    _add_set(parser)
    parser.set_defaults(command=_check_config)


def _check_config(arguments: argparse.Namespace) -> int:
    from foretell.config import load_config

    load_config(arguments.file, arguments.overrides, os.environ)
    print(f"{arguments.file or 'defaults'}: ok")
    return 0


def _add_demo(commands: Commands) -> None:
    parser = add_command(
        commands,
        "demo",
        "forecast this machine's own sensors, or recordings, and show it live",
        "foretell demo",
        "foretell demo --seconds 30",
        "foretell demo --csv pump.csv valve.csv --rate 200",
    )
    parser.add_argument(
        "--seconds", type=positive, metavar="N", help="end after so long; without it at Ctrl-C"
    )
    parser.add_argument(
        "--csv",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="recordings to forecast (CSV or Parquet), a stream a file",
    )
    _add_pace(parser, f"{_SENSOR_RATE:g} for sensors, {_RECORDING_RATE:g} for recordings")
    _add_svg(parser)
    _add_set(parser)
    parser.set_defaults(command=lambda arguments: _demo(parser, arguments))


def _demo(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> int:
    if arguments.csv is None and arguments.speed is not None:
        parser.error("--speed is for recordings: it needs --csv")
    from foretell.config import load_config

    load_config(None, arguments.overrides, {})  # a mistake in a setting shows here and not in the child's log
    from foretell.demo import demo_recordings, demo_sensors
    from foretell.replay import FixedRate, RecordedSpacing

    ending = {"seconds": arguments.seconds, "settings": arguments.overrides, "svg_path": arguments.svg}
    if arguments.csv is None:
        return demo_sensors(arguments.rate or _SENSOR_RATE, **ending)
    rate = arguments.rate or _RECORDING_RATE
    pace = FixedRate(rate) if arguments.speed is None else RecordedSpacing(arguments.speed)
    return demo_recordings(arguments.csv, pace, **ending)


def _add_watch(commands: Commands) -> None:
    parser = add_command(
        commands,
        "watch",
        "show any daemon's forecasts live, from its output alone; plain lines where there is no terminal",
        "foretell watch",
        "foretell watch --endpoint tcp://10.0.0.7:5556 --stream pump-1",
        "foretell watch --seconds 10 --svg forecasts.svg",
    )
    parser.add_argument("--endpoint", default=_OUTPUT, help="where the daemon publishes (%(default)s)")
    parser.add_argument("--stream", metavar="NAME", help="follow this stream only")
    parser.add_argument("--channel", type=index, default=0, metavar="N", help="channel to plot (%(default)s)")
    parser.add_argument(
        "--seconds", type=positive, metavar="N", help="end after so long; without it at Ctrl-C"
    )
    _add_svg(parser)
    parser.set_defaults(command=_watch)


def _watch(arguments: argparse.Namespace) -> int:
    from foretell.watch import watch

    return watch(
        arguments.endpoint,
        stream=arguments.stream,
        channel=arguments.channel,
        seconds=arguments.seconds,
        svg_path=arguments.svg,
    )


def _add_replay(commands: Commands) -> None:
    parser = add_command(
        commands,
        "replay",
        "send recordings (CSV or Parquet with a time column) to a daemon, a stream a file",
        "foretell replay pump.csv",
        "foretell replay pump.csv valve.csv --to tcp://10.0.0.7:5555 --rate 100",
        "foretell replay plant.csv --by-column --speed 60",
    )
    parser.add_argument(
        "files",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="CSV or Parquet; every numeric column is a channel",
    )
    parser.add_argument(
        "--to", default=_INPUT, metavar="ENDPOINT", help="where the daemon listens (%(default)s)"
    )
    _add_pace(parser, f"{_SENSOR_RATE:g}")
    parser.add_argument("--by-column", action="store_true", help="a stream a column, named FILE/COLUMN")
    parser.add_argument(
        "--keep-time", action="store_true", help="send the recorded times instead of the present"
    )
    parser.set_defaults(command=_replay)


def _replay(arguments: argparse.Namespace) -> int:
    from foretell.replay import FixedRate, RecordedSpacing, replay

    rate = arguments.rate or _SENSOR_RATE
    pace = FixedRate(rate) if arguments.speed is None else RecordedSpacing(arguments.speed)
    return replay(
        arguments.files, arguments.to, pace, by_column=arguments.by_column, keep_time=arguments.keep_time
    )


def _add_pace(parser: argparse.ArgumentParser, default: str) -> None:
    pace = parser.add_mutually_exclusive_group()
    rate_help = f"frames a second of each stream ({default}); inf: as fast as they can be sent"
    pace.add_argument("--rate", type=positive, metavar="X", help=rate_help)
    pace.add_argument("--speed", type=positive, metavar="X", help="the recorded spacing divided by X")
