"""The command line: what each command takes, says and exits with."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import foretell
from foretell import cli
from foretell.errors import EndpointError, RecordingError

_COMMANDS = ["run", "check-config", "demo", "watch", "replay", "train", "evaluate", "convert"]


def _foretell(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own, without the settings of whoever runs the tests."""
    environ = {key: value for key, value in os.environ.items() if not key.startswith("FORETELL_")}
    environ["PYTHONPATH"] = str(Path(foretell.__file__).parents[1])
    return subprocess.run(
        [sys.executable, "-m", "foretell", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=environ,
    )


@pytest.mark.parametrize("command", [["--version"], ["check-config"]], ids=" ".join)
def test_light_commands_import_nothing_heavy(command: list[str]) -> None:
    """Asking for the version or checking settings loads neither torch nor zmq nor rich."""
    program = (
        "import sys\nfrom foretell.cli import main\n"
        f"try: main({command!r})\nexcept SystemExit: pass\n"
        "print(sorted({'torch', 'zmq', 'rich', 'psutil', 'prometheus_client'} & sys.modules.keys()))"
    )
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(foretell.__file__).parents[1])}
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environ
    )
    assert result.stdout.splitlines()[-1] == "[]"


def test_version_is_the_package_version(capsys: pytest.CaptureFixture[str]) -> None:
    """`--version` says the name and the version."""
    with pytest.raises(SystemExit) as ending:
        cli.main(["--version"])
    assert ending.value.code == 0
    assert capsys.readouterr().out == f"foretell {foretell.__version__}\n"


@pytest.mark.parametrize("command", _COMMANDS)
def test_help_has_examples_that_parse(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Every command's help has examples, and each of them is a command line that is understood."""
    with pytest.raises(SystemExit) as ending:
        cli.main([command, "--help"])
    assert ending.value.code == 0
    examples = capsys.readouterr().out.split("examples:\n")[1].splitlines()
    assert examples
    for example in examples:
        program, *arguments = example.split()
        assert program == "foretell"
        assert arguments[0] == command
        cli.build_parser().parse_args(arguments)


def test_check_config_accepts_the_defaults() -> None:
    """Without a file the defaults are checked: exit 0, nothing on stderr."""
    result = _foretell("check-config")
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[streams]\ncapacitty = 3\n", "capacitty"),
        ("[forecast]\nhorizon = 65\n", "65"),
        ("[input\n", "settings.toml"),
    ],
)
def test_check_config_says_in_one_line_what_is_wrong(tmp_path: Path, text: str, said: str) -> None:
    """A setting that cannot be used is exit 78 and one line on stderr that names file and fault."""
    path = tmp_path / "settings.toml"
    path.write_text(text)
    result = _foretell("check-config", str(path))
    assert result.returncode == 78
    (line,) = result.stderr.splitlines()
    assert str(path) in line
    assert said in line


def test_check_config_is_quick() -> None:
    """Checking settings takes at most 300 ms, the best of five, Python's own start included."""
    durations_s = []
    for _ in range(5):
        start_s = time.perf_counter()
        assert _foretell("check-config").returncode == 0
        durations_s.append(time.perf_counter() - start_s)
    assert min(durations_s) < 0.3


def test_run_refuses_bad_settings_before_anything_else() -> None:
    """`run` with a setting that cannot be used ends as `check-config` does."""
    result = _foretell("run", "--set", "forecast.horizon=none")
    assert result.returncode == 78
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["predict"],
        ["replay"],
        ["replay", "a.csv", "--rate", "0"],
        ["replay", "a.csv", "--rate", "nan"],
        ["replay", "a.csv", "--rate", "1", "--speed", "2"],
        ["demo", "--seconds", "-1"],
        ["demo", "--speed", "2"],
        ["watch", "--channel", "-1"],
        ["convert", "a.pt"],
        ["train", "a.csv"],
        ["train", "-o", "m.safetensors"],
        ["train", "a.csv", "--example", "sine", "-o", "m.safetensors"],
        ["train", "a.csv", "--svg", "a.svg", "-o", "m.safetensors"],
        ["train", "a.csv", "--validation", "1", "-o", "m.safetensors"],
        ["train", "a.csv", "--layers", "0", "-o", "m.safetensors"],
        ["evaluate"],
        ["evaluate", "a.csv", "--horizon", "0"],
        ["evaluate", "a.csv", "--horizon", "65"],
        ["evaluate", "a.csv", "--first", "0"],
    ],
    ids=" ".join,
)
def test_command_lines_that_mean_nothing_are_refused(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """A command line that cannot be understood is exit 2, with the usage."""
    with pytest.raises(SystemExit) as ending:
        cli.main(arguments)
    assert ending.value.code == 2
    assert "usage: foretell" in capsys.readouterr().err


@pytest.mark.parametrize(
    "error", [EndpointError("tcp://x: no"), RecordingError("a.csv, line 2: no")], ids=str
)
def test_errors_on_purpose_are_one_line_and_their_exit_code(
    error: EndpointError | RecordingError, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An error for the user is its text on stderr, and the exit status is its own."""

    def fail(*_args: object, **_kwargs: object) -> int:
        raise error

    monkeypatch.setattr(cli, "_check_config", fail)
    assert cli.main(["check-config"]) == error.exit_code
    assert capsys.readouterr().err == f"foretell: {error}\n"


def test_faults_of_our_own_exit_70_with_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An error that nobody foresaw is exit 70, and its traceback is shown."""

    def fail(*_args: object) -> int:
        return 1 // 0

    monkeypatch.setattr(cli, "_check_config", fail)
    assert cli.main(["check-config"]) == 70
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_recordings_that_cannot_be_read_stop_a_replay(tmp_path: Path) -> None:
    """`replay` of a file that is not there is exit 65 and one line, and nothing is sent."""
    result = _foretell("replay", str(tmp_path / "absent.csv"), "--to", f"ipc://{tmp_path}/in")
    assert result.returncode == 65
    (line,) = result.stderr.splitlines()
    assert "absent.csv" in line
