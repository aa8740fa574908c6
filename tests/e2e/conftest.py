"""What the end-to-end tests share: models that load at once, and daemons."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from daemon_process import DaemonProcess
from foretell.model import save_model
from small_models import independent_spec, joint_spec, random_weights

StartDaemon = Callable[..., DaemonProcess]


@pytest.fixture(scope="session")
def any_width(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model of independent channels with random weights: it takes frames of any width."""
    path = tmp_path_factory.mktemp("models") / "any-width.safetensors"
    spec = independent_spec()
    save_model(path, spec, random_weights(spec))
    return path


@pytest.fixture(scope="session")
def three_channels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small joint model of three channels with random weights."""
    path = tmp_path_factory.mktemp("models") / "three-channels.safetensors"
    spec = joint_spec(inputs=3, layers=2)
    save_model(path, spec, random_weights(spec))
    return path


@pytest.fixture
def start_daemon(tmp_path: Path) -> Iterator[StartDaemon]:
    """Starts daemons with the settings it is given; they end with the test."""
    with ExitStack() as daemons:

        def start(*settings: str, **options: object) -> DaemonProcess:
            folder = tmp_path / f"daemon-{len(started)}"
            started.append(folder)
            return daemons.enter_context(DaemonProcess(folder, *settings, **options))  # type: ignore[arg-type]

        started: list[Path] = []
        yield start
