"""SIGTERM and SIGINT as a request that the loop can wait for.

A signal does not wake a ZeroMQ poller, so Python's wake-up descriptor is one of the things that the loop polls. The
handlers are set before anything heavy is imported: a daemon told to stop while it starts ends in order as well.
"""

from __future__ import annotations

import signal
import socket
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import FrameType, TracebackType

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopSignals:
    """Within its block, SIGTERM and SIGINT set `is_set` and make `wakeup` readable, and do nothing else.

    In the main thread only. Asking twice is asking once.
    """

    def __init__(self) -> None:
        self.is_set = False
        self.name = ""
        self.wakeup, self._writer = socket.socketpair()
        self.wakeup.setblocking(False)
        self._writer.setblocking(False)

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._note) for number in _SIGNALS}
        self._wakeup_before = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.set_wakeup_fd(self._wakeup_before)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self.wakeup.close()
        self._writer.close()

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.is_set = True
        self.name = signal.Signals(number).name
