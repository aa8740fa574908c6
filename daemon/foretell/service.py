"""What systemd is told of the service, and how often it wants to hear (sd_notify(3), sd_watchdog_enabled(3)).

Where nobody listens ($NOTIFY_SOCKET is not set) nothing is said.
"""

from __future__ import annotations

import contextlib
import os
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class ServiceManager:
    """The other end of $NOTIFY_SOCKET. Never waits and never fails: a message that cannot be sent now is dropped."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._address = _address(environ.get("NOTIFY_SOCKET", ""))
        self.watchdog_interval_s = _watchdog_interval_s(environ)
        """How often to call `notify_alive`: half of the time that systemd allows, None where it does not ask."""

    def notify_ready(self, status: str) -> None:
        """The service is up: `systemctl start` returns."""
        self._send(f"READY=1\nSTATUS={_one_line(status)}")

    def notify_stopping(self, status: str) -> None:
        """The service has begun to stop."""
        self._send(f"STOPPING=1\nSTATUS={_one_line(status)}")

    def notify_status(self, status: str) -> None:
        """One line for `systemctl status`."""
        self._send(f"STATUS={_one_line(status)}")

    def notify_alive(self) -> None:
        """Feed the watchdog; from the loop itself, or it would watch the wrong thing."""
        self._send("WATCHDOG=1")

    def _send(self, message: str) -> None:
        if self._address is None:
            return
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.setblocking(False)
            notify.sendto(message.encode(), self._address)


def _address(path: str) -> str | None:
    if path.startswith("@"):
        return "\0" + path[1:]  # of the abstract namespace, which has no files
    return path if path.startswith("/") else None


def _watchdog_interval_s(environ: Mapping[str, str]) -> float | None:
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None  # meant for another process, which started this one
    allowed_us = environ.get("WATCHDOG_USEC", "")
    return int(allowed_us) / 2e6 if allowed_us.isdecimal() and int(allowed_us) else None


def _one_line(text: str) -> str:
    return " ".join(text.split())
