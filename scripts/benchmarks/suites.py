"""What a suite of the benchmark is: a module with these two functions, named in `benchmarks.__main__`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, Protocol

from benchmarks.run import Setup

Line = dict[str, Any]
"""A measurement: a flat JSON object. Suite, host, versions and date are added where it is written."""

Write = Callable[[Line], None]
Say = Callable[[str], None]


class Suite(Protocol):
    """A module of measurements that belong together."""

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Add the suite's own options; names that others could want too begin with the suite's."""
        ...

    def run_suite(self, args: argparse.Namespace, setup: Setup, write: Write, say: Say) -> str:
        """Measure, give each measurement to `write` at once, and return the tables in Markdown.

        `args.quick` asks for the shortest run that shows every figure; `args.runs` is how many are to be made, None
        where the suite is to choose. `say` tells how far it is.
        """
        ...
