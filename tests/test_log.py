"""One event a line: for people on a terminal, as JSON elsewhere."""

from __future__ import annotations

import io
import json

import pytest

from foretell.choices import LogFormat, LogLevel
from foretell.config import LogConfig
from foretell.log import open_log


class Terminal(io.StringIO):
    """Text that takes itself for a terminal."""

    def isatty(self) -> bool:
        """It does."""
        return True


class Gone(io.StringIO):
    """A pipe whose reader has gone."""

    def write(self, text: str) -> int:
        """Fails as such a pipe does."""
        raise BrokenPipeError


def write_line(stream: io.StringIO, config: LogConfig, environ: dict[str, str]) -> str:
    """One event, as it is written."""
    open_log(config, stream, environ).warning("frames_refused", reason="late", num=3)
    return stream.getvalue()


def test_elsewhere_a_line_is_a_json_object() -> None:
    """Not on a terminal, `auto` writes objects that begin with time, level and event."""
    line = json.loads(write_line(io.StringIO(), LogConfig(), {}))
    assert list(line) == ["timestamp", "level", "event", "reason", "num"]
    assert (line["level"], line["event"], line["reason"], line["num"]) == (
        "warning",
        "frames_refused",
        "late",
        3,
    )
    assert line["timestamp"].endswith("Z")


def test_a_terminal_gets_colours() -> None:
    """On a terminal `auto` writes for people, in colours."""
    line = write_line(Terminal(), LogConfig(), {})
    assert "frames_refused" in line
    assert "\x1b[" in line
    assert not line.startswith("{")


@pytest.mark.parametrize(
    ("stream", "environ"),
    [(Terminal(), {"NO_COLOR": "1"}), (io.StringIO(), {})],
    ids=["NO_COLOR", "no terminal"],
)
def test_lines_for_people_have_no_colours_where_nobody_wants_them(
    stream: io.StringIO, environ: dict[str, str]
) -> None:
    """NO_COLOR is respected, and a file gets no escape sequences."""
    line = write_line(stream, LogConfig(format=LogFormat.CONSOLE), environ)
    assert "frames_refused" in line
    assert "\x1b" not in line


def test_json_can_be_had_on_a_terminal() -> None:
    """`json` is JSON everywhere."""
    assert json.loads(write_line(Terminal(), LogConfig(format=LogFormat.JSON), {}))["num"] == 3


@pytest.mark.parametrize("level", LogLevel)
def test_only_what_is_severe_enough_is_written(level: LogLevel) -> None:
    """The level of the settings and above, nothing below."""
    stream = io.StringIO()
    log = open_log(LogConfig(level=level), stream, {})
    for each in LogLevel:
        getattr(log, each.value)("said")
    written = [json.loads(line)["level"] for line in stream.getvalue().splitlines()]
    levels = list(LogLevel)
    assert written == levels[levels.index(level) :]


@pytest.mark.parametrize("format_", [LogFormat.CONSOLE, LogFormat.JSON])
def test_an_exception_is_written_with_its_traceback(format_: LogFormat) -> None:
    """In both forms the lines of the traceback are there."""
    stream = io.StringIO()
    try:
        raise ZeroDivisionError("on purpose")
    except ZeroDivisionError as error:
        open_log(LogConfig(format=format_), stream, {}).error("failed", exc_info=error)
    text = stream.getvalue()
    assert "Traceback (most recent call last)" in text
    assert "ZeroDivisionError: on purpose" in text


def test_a_reader_that_has_gone_harms_nobody() -> None:
    """Where a line cannot be written any more (`2>&1 | head`), the log is silent and the daemon goes on."""
    open_log(LogConfig(), Gone(), {}).error("failed")


def test_a_stream_that_is_closed_harms_nobody() -> None:
    """The same where stderr is closed under the log."""
    stream = io.StringIO()
    log = open_log(LogConfig(), stream, {})
    stream.close()
    log.error("failed")
