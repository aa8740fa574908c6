"""An environment for what is only measured or drawn with: ONNX Runtime, Bytewax, River, matplotlib.

It lies in build/bench/venv, is made on first use, and sees the packages of the environment that runs the benchmark:
torch, numpy and pyzmq are the very same for all contenders.
"""

from __future__ import annotations

import functools
import hashlib
import json
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Final

_HERE: Final = Path(__file__).parent
_REQUIREMENTS: Final = _HERE / "requirements.txt"
_CONSTRAINTS: Final = _HERE.parent / "constraints.txt"

_PRINT_VERSIONS: Final = (
    "import importlib.metadata as m, json; "
    "print(json.dumps({d.name.lower(): d.version for d in m.distributions()}))"
)


class MissingError(Exception):
    """Something to be measured cannot be had here; the words say why."""


def interpreter(folder: Path) -> Path:
    """Where the environment's Python is, made or not."""
    return folder / "venv" / "bin" / "python"


def peer_python(folder: Path, say: Callable[[str], None], *libraries: str) -> Path:
    """The interpreter of the environment in `folder`/venv, with `libraries` in it, made where it is not there.

    Raises MissingError where it cannot be made or lacks one of them.
    """
    if reason := _need(folder, say):
        raise MissingError(reason)
    python = interpreter(folder)
    for library in libraries:
        if reason := _cannot_import(python, library):
            raise MissingError(f"{library} cannot be used here: {reason}")
    return python


_tried: dict[Path, str] = {}


def _need(folder: Path, say: Callable[[str], None]) -> str:
    """Make the environment where it is not there as it should be, tried once; the reason where it cannot be made."""
    if folder in _tried:
        return _tried[folder]
    stamp = folder / "venv" / ".installed"
    wanted = hashlib.sha256(_REQUIREMENTS.read_bytes() + _CONSTRAINTS.read_bytes() + sys.version.encode())
    _tried[folder] = ""
    if not stamp.is_file() or stamp.read_text() != wanted.hexdigest():
        say("making build/bench/venv for what is only measured, once")
        try:
            _make(folder / "venv", interpreter(folder))
            stamp.write_text(wanted.hexdigest())
        except MissingError as error:
            _tried[folder] = str(error)
    return _tried[folder]


def versions(python: Path, *names: str) -> dict[str, str]:
    """The versions of these distributions as `python` sees them; those that it lacks are left out."""
    seen = _all_versions(python)
    return {name: seen[name] for name in names if name in seen}


@functools.cache
def _all_versions(python: Path) -> dict[str, str]:
    done = subprocess.run([python, "-c", _PRINT_VERSIONS], capture_output=True, text=True, check=True)
    found: dict[str, str] = json.loads(done.stdout)
    return found


def _make(venv: Path, python: Path) -> None:
    _call([sys.executable, "-m", "venv", "--clear", str(venv)])
    site = _call([str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]).strip()
    Path(site, "foretell-bench.pth").write_text(sysconfig.get_path("purelib") + "\n")
    install = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--quiet"]
    install += ["--only-binary", ":all:", "--retries", "1", "-c", str(_CONSTRAINTS)]
    try:
        _call([*install, "-r", str(_REQUIREMENTS)])
    except MissingError:
        # Perhaps one of them alone has no wheel for this Python: what can be had is installed.
        wanted = [
            line for line in _REQUIREMENTS.read_text().splitlines() if line and not line.startswith("#")
        ]
        if all(
            subprocess.run([*install, name], check=False, capture_output=True).returncode for name in wanted
        ):
            raise


def _call(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines() or ["it gave no reason"]
        raise MissingError(f"'{' '.join(command[1:4])}' failed: {said[-1]}")
    return done.stdout


@functools.cache
def _cannot_import(python: Path, library: str) -> str:
    done = subprocess.run(
        [python, "-W", "ignore", "-c", f"import {library}"], capture_output=True, text=True, check=False
    )
    return "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["no reason given"])[-1]
