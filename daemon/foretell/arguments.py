"""What the subcommands' arguments are made of."""

from __future__ import annotations

import argparse
import math
from typing import Final, TypeAlias

MOST_AHEAD: Final = 64

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001 - it has no other name


def add_command(commands: Commands, name: str, help_text: str, *examples: str) -> argparse.ArgumentParser:
    """A subcommand with its help and examples of its use."""
    return commands.add_parser(
        name,
        help=help_text,
        description=f"{help_text[0].upper()}{help_text[1:]}.",
        epilog="examples:\n" + "\n".join(f"  {example}" for example in examples),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def positive(text: str) -> float:
    """A number above 0."""
    number = float(text)
    if math.isnan(number) or number <= 0:
        raise argparse.ArgumentTypeError(f"{text!r}; allowed: a number above 0")
    return number


def count(text: str) -> int:
    """A whole number from 1."""
    return _whole(text, 1)


def index(text: str) -> int:
    """A whole number from 0."""
    return _whole(text, 0)


def horizon(text: str) -> int:
    """As many frames ahead as `forecast.horizon` allows."""
    number = int(text)
    if not 1 <= number <= MOST_AHEAD:
        raise argparse.ArgumentTypeError(f"{text!r}; allowed: 1 to {MOST_AHEAD}")
    return number


def share(text: str) -> float:
    """A number between 0 and 1, both excluded."""
    number = float(text)
    if not 0.0 < number < 1.0:
        raise argparse.ArgumentTypeError(f"{text!r}; allowed: a number above 0 and below 1")
    return number


def _whole(text: str, least: int) -> int:
    number = int(text)
    if number < least:
        raise argparse.ArgumentTypeError(f"{text!r}; allowed: {least} and up")
    return number
