"""`foretell train`: from recordings to a model that the daemon serves."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

from foretell import cli
from foretell.calibrate import CalibratorSpec
from foretell.evaluation.anomalies import Detection
from foretell.evaluation.judge import Portion, judge
from foretell.evaluation.served import serve
from foretell.model import Channels, load_model
from foretell.recording import read_recording
from foretell.training import learner
from foretell.training.example import write_sine
from foretell.training.plan import QUANTILES, Plan
from made_recordings import noisy_cycle, write_csv

SMALL = ["--hidden-size", "8", "--layers", "1", "--epochs", "3"]


@pytest.fixture
def pump(tmp_path: Path) -> str:
    """A recording of two channels."""
    return str(write_csv(tmp_path / "pump.csv", noisy_cycle(200, 2)))


def test_a_run_gives_a_model_that_loads_and_says_where_it_comes_from(
    tmp_path: Path, pump: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file has normaliser, calibrator and warm-up, names its recordings without their folders, and how it does."""
    valve, output = write_csv(tmp_path / "valve.csv", noisy_cycle(60)), tmp_path / "own.safetensors"
    assert cli.main(["train", pump, str(valve), "-o", str(output), *SMALL, "--seed", "7"]) == 0
    spec = load_model(str(output)).spec
    assert (spec.channels, spec.hidden_size, spec.num_layers) == (Channels.INDEPENDENT, 8, 1)
    assert spec.quantiles == QUANTILES
    assert spec.calibrator == CalibratorSpec()
    assert spec.normalizer is not None
    assert spec.warm_up > 0
    assert spec.provenance["trained_on"] == "pump.csv, valve.csv"
    assert spec.provenance["rows"] == "pump 200, valve 60"
    assert msgspec.json.decode(spec.provenance["plan"], type=Plan).seed == 7
    assert spec.provenance.keys() >= {"foretell", "torch", "numpy", "python"}
    assert str(tmp_path) not in str(spec.provenance)
    assert 0.0 < float(spec.evaluation["error_against_persistence_median"]) < 1.1
    assert 0.0 <= float(spec.evaluation["coverage_of_90_percent_band_mean"]) <= 1.0
    assert f"foretell run --set model.path={output}" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["own.safetensors", "pump.csv", "valve.csv"]


def test_a_joint_model_is_served(tmp_path: Path, pump: str) -> None:
    """With joint channels all enter together, and the engine streams the recording through the model."""
    output = tmp_path / "joint.safetensors"
    assert cli.main(["train", pump, "-o", str(output), *SMALL, "--channels", "joint"]) == 0
    model = load_model(str(output))
    assert (model.spec.channels, model.spec.input_channels) == (Channels.JOINT, 2)
    assert all(np.isfinite(one.levels).all() for one in serve(model, [read_recording(Path(pump))]))


def test_the_same_command_gives_the_same_file(tmp_path: Path, pump: str) -> None:
    """A model file depends on recordings, options and seed alone, to the byte."""
    contents = []
    for name in ("a.safetensors", "b.safetensors"):
        assert cli.main(["train", pump, "-o", str(tmp_path / name), *SMALL]) == 0
        contents.append((tmp_path / name).read_bytes())
    assert contents[0] == contents[1]


def test_an_interrupted_run_is_gone_on_with(
    tmp_path: Path, pump: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C is exit 130 and a word; the same command then ends with the weights of a run never interrupted."""
    whole, cut = tmp_path / "whole.safetensors", tmp_path / "cut.safetensors"
    assert cli.main(["train", pump, "-o", str(whole), *SMALL]) == 0
    run_epoch = learner.Learner.run_epoch

    def run_one(self: learner.Learner) -> object:
        if self.num_epochs == 1:
            raise KeyboardInterrupt
        return run_epoch(self)

    with monkeypatch.context() as patch:
        patch.setattr(learner.Learner, "run_epoch", run_one)
        assert cli.main(["train", pump, "-o", str(cut), *SMALL]) == 130
    assert "the same command goes on" in capsys.readouterr().err
    assert not cut.exists()
    assert cli.main(["train", pump, "-o", str(cut), *SMALL]) == 0
    assert cut.read_bytes() == whole.read_bytes()


def test_a_checkpoint_of_another_run_is_not_mixed_in(
    tmp_path: Path, pump: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is left of another run is named, with what to do about it."""
    output = tmp_path / "own.safetensors"

    save = learner.Learner.save

    def save_and_stop(self: learner.Learner, path: Path) -> None:
        save(self, path)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(learner.Learner, "save", save_and_stop)
        assert cli.main(["train", pump, "-o", str(output), *SMALL]) == 130
    capsys.readouterr()
    assert cli.main(["train", pump, "-o", str(output), *SMALL, "--seed", "2"]) == 78
    assert "own.safetensors.checkpoint is of another run: remove it" in capsys.readouterr().err


def test_until_leaves_out_the_rows_from_there_on(tmp_path: Path, pump: str) -> None:
    """A recording cut beforehand and one cut by the option give the same weights."""
    values = noisy_cycle(200, 2)
    (tmp_path / "short").mkdir()
    short = write_csv(tmp_path / "short" / "pump.csv", values[:100])
    contents = []
    for arguments in ([str(short)], [pump, "--until", "100"]):
        output = tmp_path / "own.safetensors"
        assert cli.main(["train", *arguments, "-o", str(output), *SMALL]) == 0
        contents.append(output.read_bytes())
    assert contents[0] == contents[1]


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["absent.csv"], 65, "absent.csv: No such file"),
        (["pump.csv", "--until", "20"], 65, "pump: too short to train on"),
        (["pump.csv", "--from", "builtin", "--layers", "5"], 78, "builtin: cannot be begun from"),
        (["pump.csv", "--from", "absent.safetensors"], 78, "absent.safetensors: does not exist"),
        (["pump.csv", "-o", "absent/own.safetensors"], 78, "cannot be written"),
        (["pump.csv", "narrow.csv", "--channels", "joint"], 65, "narrow: has 1 channels"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_user_s_mistake_is_one_line(
    tmp_path: Path,
    pump: str,
    arguments: list[str],
    status: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What cannot be done is said in one line, before anything is fitted."""
    monkeypatch.chdir(tmp_path)
    write_csv(tmp_path / "narrow.csv", noisy_cycle(100))
    assert cli.main(["train", "-o", "own.safetensors", *arguments]) == status
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_the_example_is_a_sine_that_evaluation_reads(tmp_path: Path) -> None:
    """The recording that the first exercise makes is a sine of 50 frames a turn."""
    write_sine(tmp_path / "sine.csv")
    recording = read_recording(tmp_path / "sine.csv")
    values = recording.values[:, 0]
    np.testing.assert_allclose(values, np.sin(2 * np.pi * np.arange(values.size) / 50), atol=1e-6)
    assert (np.diff(recording.timestamp_ns) == 10**8).all()


def test_the_example_leaves_another_file_of_its_name_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A recording of the user's own that is called as the example's is not overwritten."""
    own = write_csv(tmp_path / "sine.csv", noisy_cycle(40))
    before = own.read_bytes()
    assert cli.main(["train", "--example", "sine", "-o", str(tmp_path / "sine.safetensors")]) == 78
    assert "is not the example's" in capsys.readouterr().err
    assert own.read_bytes() == before


def test_options_hold_for_the_example_too(tmp_path: Path) -> None:
    """What is asked for goes before what suits the example."""
    output = tmp_path / "sine.safetensors"
    assert cli.main(["train", "--example", "sine", "-o", str(output), *SMALL, "--until", "200"]) == 0
    spec = load_model(str(output)).spec
    assert (spec.hidden_size, spec.num_layers, spec.provenance["rows"]) == (8, 1, "sine 200")


def test_the_example_is_drawn_frame_by_frame(tmp_path: Path) -> None:
    """With --svg there is a picture, the same again from the same model."""
    pytest.importorskip("matplotlib", reason="matplotlib is of the extra [train]")
    contents = []
    for name in ("a.svg", "b.svg"):
        command = ["train", "--example", "sine", "-o", str(tmp_path / "sine.safetensors"), *SMALL]
        assert cli.main([*command, "--epochs", "1", "--svg", str(tmp_path / name)]) == 0
        contents.append((tmp_path / name).read_text())
    assert "<svg" in contents[0]
    assert "forecast, a frame before" in contents[0]
    assert contents[0] == contents[1]


def test_a_picture_that_cannot_be_drawn_is_said_before_anything_is_learnt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without matplotlib --svg is one line that says what to install, and no model is written."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    output = tmp_path / "sine.safetensors"
    assert cli.main(["train", "--example", "sine", "-o", str(output), "--svg", str(tmp_path / "a.svg")]) == 78
    assert 'pip install "foretell[train]"' in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_first_exercise_learns_the_sine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a few epochs the model errs by less than a tenth of persistence, whatever calibration adds."""
    monkeypatch.setattr("foretell.training.example.NUM_EPOCHS", 12)
    output = tmp_path / "sine.safetensors"
    assert cli.main(["train", "--example", "sine", "-o", str(output)]) == 0
    model = load_model(str(output))
    (series,) = serve(model, [read_recording(tmp_path / "sine.csv")])
    judged = judge(series, model.spec.quantiles, Portion(first=500), Detection())
    assert judged.ratio() < 0.1
