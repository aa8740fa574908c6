"""The log: one event a line on stderr, for people on a terminal and as JSON elsewhere."""

from __future__ import annotations

import contextlib
import logging
import os
from typing import TYPE_CHECKING, TextIO, cast

import structlog

from foretell.choices import LogFormat
from foretell.config import LogConfig

if TYPE_CHECKING:
    from collections.abc import Mapping

    from structlog.typing import EventDict, FilteringBoundLogger, Processor


class _Lines:
    """Writes lines. A reader that has gone (`2>&1 | head`), or a full disk, stops the log and not the daemon."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def msg(self, line: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # ValueError: the stream is closed
            self._stream.write(line + "\n")
            self._stream.flush()

    debug = info = warning = error = critical = exception = msg


def open_log(
    config: LogConfig, stream: TextIO, environ: Mapping[str, str] = os.environ
) -> FilteringBoundLogger:
    """The log of this process, which writes to `stream` (stderr).

    Nothing global is set up: whoever logs is given the log. Colours are used on a terminal, unless NO_COLOR is set.
    """
    is_terminal = stream.isatty()
    is_console = config.format is LogFormat.CONSOLE or (config.format is LogFormat.AUTO and is_terminal)
    processors: list[Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.StackInfoRenderer(),
    ]
    if is_console:
        processors += [
            structlog.processors.TimeStamper(fmt="%H:%M:%S.%f", utc=False),
            structlog.dev.ConsoleRenderer(
                colors=is_terminal and not environ.get("NO_COLOR"),
                exception_formatter=structlog.dev.plain_traceback,
            ),
        ]
    else:
        processors += [
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _put_head_first,
            structlog.processors.JSONRenderer(),
        ]
    level = logging.getLevelNamesMapping()[config.level.upper()]
    bound = structlog.wrap_logger(
        _Lines(stream), processors=processors, wrapper_class=structlog.make_filtering_bound_logger(level)
    )
    return cast("FilteringBoundLogger", bound.bind())


def _put_head_first(_logger: object, _method: str, line: EventDict) -> EventDict:
    return {key: line.pop(key) for key in ("timestamp", "level", "event")} | dict(line)
