"""A daemon of one's own as a child process on private endpoints: what the demo watches."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from foretell.errors import ForetellError

_HTTP_TIMEOUT_S = 1.0
_DRAIN_S = 5.0
_READY_POLL_S = 0.05


class DaemonDiedError(ForetellError):
    """The child ended by itself. Its text carries the tail of the child's log."""


class DaemonProcess:
    """`foretell run` as a child: started on entering, ended and cleaned up after on leaving.

    Its sockets lie in a temporary folder that nobody else may enter; its metrics are at a free port of 127.0.0.1. It is
    in a process group of its own, so that Ctrl-C on the terminal reaches it only through us.
    """

    def __init__(self, settings: Sequence[str] = ()) -> None:
        self._settings = settings

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="foretell-")  # mode 0700
        folder = Path(self._folder.name)
        self.input_endpoint = f"ipc://{folder}/frames"
        self.output_endpoint = f"ipc://{folder}/forecasts"
        self.metrics_url = f"http://127.0.0.1:{_free_port()}"
        self._log_path = folder / "log"
        settings = (
            'log.format="console"',  # people may get to read its end
            *self._settings,
            f'input.endpoints=["{self.input_endpoint}"]',
            f'output.endpoint="{self.output_endpoint}"',
            f'metrics.endpoint="{self.metrics_url}"',
        )
        overrides = [argument for setting in settings for argument in ("--set", setting)]
        with self._log_path.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - ourselves, without a shell
                [sys.executable, "-m", "foretell", "run", *overrides],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                process_group=0,
                env={key: value for key, value in os.environ.items() if not key.startswith("FORETELL_")},
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._folder.cleanup()

    def stop(self) -> int:
        """Ask the daemon to drain and end, wait for it, and give its exit status."""
        self._process.terminate()
        try:
            return self._process.wait(_DRAIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def check(self) -> None:
        """Raise DaemonDiedError if the daemon has ended by itself."""
        status = self._process.poll()
        if status is not None:
            raise DaemonDiedError(
                f"the daemon ended with status {status}; the end of its log:\n{self.log_tail()}"
            )

    def is_ready(self) -> bool:
        """Whether the model is loaded and the sockets are open."""
        try:
            self._get("/-/ready")
        except OSError:  # urllib's errors are among them
            return False
        return True

    def wait_ready(self, timeout_s: float, stopping: threading.Event) -> bool:
        """Wait until the daemon is ready; False when `stopping` was set first.

        Raises DaemonDiedError, also when it takes too long.
        """
        deadline_s = time.monotonic() + timeout_s
        while not self.is_ready():
            self.check()
            if time.monotonic() > deadline_s:
                raise DaemonDiedError(f"the daemon was not ready within {timeout_s:g} s:\n{self.log_tail()}")
            if stopping.wait(_READY_POLL_S):
                return False
        return True

    def read_metrics(self) -> dict[str, float]:
        """Every metric by its name, summed over its labels. Raises DaemonDiedError where the daemon does not answer."""
        try:
            text = self._get("/metrics")
        except OSError as error:
            self.check()
            raise DaemonDiedError(f"the daemon does not answer ({error}):\n{self.log_tail()}") from error
        totals: defaultdict[str, float] = defaultdict(float)
        for line in text.splitlines():
            if line and not line.startswith("#"):
                series, value = line.rsplit(" ", 1)
                totals[series.partition("{")[0]] += float(value)
        return dict(totals)

    def log_tail(self, num_lines: int = 15) -> str:
        """The last lines of the daemon's log."""
        lines = self._log_path.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(lines[-num_lines:]) or "(empty)"

    def _get(self, path: str) -> str:
        url = self.metrics_url + path
        with urllib.request.urlopen(url, timeout=_HTTP_TIMEOUT_S) as response:  # noqa: S310 - our own, http
            return str(response.read(), "utf-8")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
