"""The first exercise from end to end: learn a sine, then the daemon forecasts it frame by frame."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Final

from daemon_process import own_environ

_TIMEOUT_S: Final = 120.0


def _foretell(*arguments: str) -> str:
    result = subprocess.run(
        [sys.executable, "-m", "foretell", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=own_environ(),
        timeout=_TIMEOUT_S,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_what_training_says_to_run_next_runs_and_forecasts(tmp_path: Path) -> None:
    """The command that `train --example sine` ends with is run as printed: nothing is lost, and little is wrong."""
    model = tmp_path / "sine.safetensors"
    said = _foretell("train", "--example", "sine", "-o", str(model), "--epochs", "12")
    (command,) = re.findall(r"^  foretell (demo .*)$", said, re.MULTILINE)
    output = _foretell(*shlex.split(command), "--rate", "1000")
    assert "2,000 arrived, 0 lost on the way" in output
    ratio = re.search(r"sine +×(\d\.\d+)", output)
    assert ratio is not None
    assert float(ratio[1]) < 0.1
