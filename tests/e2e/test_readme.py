"""The README keeps its word: its programs run as printed."""

from __future__ import annotations

import re
import selectors
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from daemon_process import own_environ
from e2e.conftest import StartDaemon
from e2e.link import DEADLINE_S, Link, frame
from foretell.cli import build_parser

_ROOT: Final = Path(__file__).parents[2]
_README: Final = (_ROOT / "README.md").read_text(encoding="utf-8")
_INPUT: Final = "tcp://127.0.0.1:5555"
_OUTPUT: Final = "tcp://127.0.0.1:5556"


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", _README, re.MULTILINE | re.DOTALL)


def test_it_is_short() -> None:
    """The README has at most 150 lines."""
    assert len(_README.splitlines()) <= 150


def test_c_program_is_the_one_that_is_tested() -> None:
    """The C program in the README is `producer.c`, to the letter, in twenty lines."""
    (program,) = _blocks("c")
    assert program == Path(__file__).with_name("producer.c").read_text(encoding="utf-8")
    assert len(program.splitlines()) <= 20


@pytest.mark.parametrize("program", _blocks("python"), ids=["produce", "subscribe"])
def test_python_programs_have_five_lines(program: str) -> None:
    """Producing and subscribing in Python takes five lines each, blank ones not counted."""
    assert len([line for line in program.splitlines() if line]) <= 5


def test_python_programs_run_as_printed(start_daemon: StartDaemon) -> None:
    """But for the ports, the two Python programs are run as printed: what the one sends, the other prints."""
    daemon = start_daemon('input.endpoints=["tcp://127.0.0.1:0"]', "output.endpoint=tcp://127.0.0.1:0")
    produce, subscribe = (
        program.replace(_INPUT, daemon.input_endpoint).replace(_OUTPUT, daemon.output_endpoint)
        for program in _blocks("python")
    )
    subscriber = subprocess.Popen(
        [sys.executable, "-u", "-c", subscribe], stdout=subprocess.PIPE, text=True, env=own_environ()
    )
    try:
        assert subscriber.stdout is not None
        with Link(daemon.input_endpoint, daemon.output_endpoint) as link:
            _send_until_printed(link, subscriber)
        subprocess.run([sys.executable, "-c", produce], check=True, timeout=DEADLINE_S, env=own_environ())
        printed = [subscriber.stdout.readline().split() for _ in range(3)]
    finally:
        subscriber.kill()
        subscriber.communicate()
    assert [words[:2] for words in printed] == [["pump-1", str(number)] for number in range(3)]


def _send_until_printed(link: Link, subscriber: subprocess.Popen[str]) -> None:
    """Send frames until the daemon knows of the subscriber, and read what it prints of them."""
    assert subscriber.stdout is not None
    with selectors.DefaultSelector() as printed:
        printed.register(subscriber.stdout, selectors.EVENT_READ)
        number = 0
        while not printed.select(0.05):
            link.send(frame(b"pump-1", number, 1.0, 2.0))
            number += 1
            assert subscriber.poll() is None
    while int(subscriber.stdout.readline().split()[1]) < number - 1:
        pass


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)#]+)\)", _README))))
def test_links_lead_somewhere(target: str) -> None:
    """Every link of the README is a file or a folder of the project."""
    assert (_ROOT / target).exists()


@pytest.mark.parametrize(
    "command", sorted(set(re.findall(r"(?:`|^    )foretell ([a-z-]+)", _README, re.MULTILINE)))
)
def test_commands_that_are_named_are_there(command: str) -> None:
    """Every command that the README names has a help."""
    with pytest.raises(SystemExit) as ending:
        build_parser().parse_args([command, "--help"])
    assert ending.value.code == 0


@pytest.mark.parametrize("script", sorted(set(re.findall(r"scripts/[a-z-]+", _README))))
def test_scripts_that_are_named_are_there(script: str) -> None:
    """Every script that the README names can be run."""
    assert (_ROOT / script).stat().st_mode & 0o111
