"""`foretell run` as a process for tests: its own endpoints, its log as events, its metrics as numbers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from prometheus_client.parser import text_string_to_metric_families

import foretell

START_S = 60.0
"""Guards a start. Importing torch takes seconds on a busy machine, and nothing here measures it."""

STOP_S = 2.0
"""What the daemon promises: the time from the signal to the exit."""

Event = dict[str, Any]


class Metrics:
    """One scrape."""

    def __init__(self, text: str) -> None:
        self._samples: dict[str, dict[frozenset[tuple[str, str]], float]] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                self._samples.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value

    def value(self, name: str, **labels: str) -> float:
        """The sample of exactly these labels; `name` without the common prefix."""
        return self._samples[f"foretell_{name}"][frozenset(labels.items())]

    def by_label(self, name: str, label: str) -> dict[str, float]:
        """The samples of a metric by the value of one label, those that are 0 left out."""
        samples = self._samples[f"foretell_{name}"]
        return {dict(labels)[label]: value for labels, value in samples.items() if value}

    def total(self, name: str) -> float:
        """The sum over all labels."""
        return sum(self._samples[f"foretell_{name}"].values())

    def assert_identities(self) -> None:
        """Check that received = accepted + refused, and accepted = published + pending."""
        accepted = self.value("frames_accepted_total")
        assert self.value("frames_received_total") == accepted + self.total("frames_refused_total")
        assert accepted == self.value("forecasts_published_total") + self.value("frames_pending")


class DaemonProcess:
    """A daemon, started at once and killed on leaving if it still runs.

    Unless `settings` say otherwise its sockets lie in `folder` and its metrics are at a free port. Whoever runs the
    tests has no say in its settings.
    """

    def __init__(
        self,
        folder: Path,
        *settings: str,
        environ: Mapping[str, str] | None = None,
        program: tuple[str, ...] = ("-m", "foretell"),
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        defaults = {
            "input.endpoints": f'["ipc://{folder}/in"]',
            "output.endpoint": f"ipc://{folder}/out",
            "metrics.endpoint": "http://127.0.0.1:0",
            "log.format": "json",
        }
        given = dict(setting.split("=", 1) for setting in settings)
        overrides = [
            argument
            for key, value in {**defaults, **given}.items()
            for argument in ("--set", f"{key}={value}")
        ]
        self.events: list[Event] = []
        self.log = ""
        self._news = threading.Condition()
        self._has_ended = False
        self.process = subprocess.Popen(
            [sys.executable, *program, "run", *overrides],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=own_environ() | dict(environ or {}),
        )
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10 * STOP_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._reader.join()

    def wait_event(self, name: str, timeout_s: float = START_S) -> Event:
        """The first log event of that name, as soon as it is there."""
        return self.wait_line(lambda event: event["event"] == name, f"event {name}", timeout_s)

    def wait_line(self, is_it: Callable[[Event], bool], what: str, timeout_s: float = START_S) -> Event:
        """The first log event that is the one looked for."""

        def found() -> Event | None:
            return next((event for event in self.events if is_it(event)), None)

        with self._news:
            self._news.wait_for(lambda: found() is not None or self._has_ended, timeout_s)
            event = found()
        assert event is not None, f"no {what} in the log:\n{self.log}"
        return event

    def wait_ready(self) -> Event:
        """The event that says what is open, once all is."""
        return self.wait_event("ready")

    @property
    def input_endpoints(self) -> list[str]:
        """Where frames arrive, with the ports that were found."""
        endpoints: list[str] = self.wait_ready()["inputs"]
        return endpoints

    @property
    def input_endpoint(self) -> str:
        """The only one of them."""
        (endpoint,) = self.input_endpoints
        return endpoint

    @property
    def output_endpoint(self) -> str:
        """Where forecasts are published."""
        return str(self.wait_ready()["output"])

    @property
    def url(self) -> str:
        """Where metrics and health are."""
        return str(self.wait_event("serving")["endpoint"])

    def metrics(self) -> Metrics:
        """Scrape once."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=START_S) as response:
            return Metrics(response.read().decode())

    def stop(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, float]:
        """Send a signal and wait for the end: the exit status, and how many seconds it took."""
        start_s = time.monotonic()
        self.process.send_signal(number)
        return self.wait(), time.monotonic() - start_s

    def wait(self) -> int:
        """Wait for the end; the exit status. All of the log is read then."""
        try:
            status = self.process.wait(START_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the daemon did not end; its log:\n{self.log}") from None
        self._reader.join()
        return status

    def _read_log(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as lines:
            for line in lines:
                with self._news:
                    self.log += line
                    if line.startswith("{"):
                        self.events.append(json.loads(line))
                    self._news.notify_all()
        with self._news:
            self._has_ended = True
            self._news.notify_all()


def own_environ() -> dict[str, str]:
    """The environment without settings of foretell and without a service manager, and with this source tree."""
    environ = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("FORETELL_", "NOTIFY_", "WATCHDOG_"))
    }
    environ["PYTHONPATH"] = str(Path(foretell.__file__).parents[1])
    return environ
