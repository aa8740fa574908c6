"""Ctrl-C and its kin as an event, for commands that end in order when asked to."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """Within the block SIGINT, SIGTERM and SIGHUP set the event and do nothing else. In the main thread only."""
    stopping = threading.Event()
    before = {number: signal.signal(number, lambda _number, _frame: stopping.set()) for number in _SIGNALS}
    try:
        yield stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
