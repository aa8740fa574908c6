"""A training run writes a model that loads, continues where it stopped, and speaks plainly when it cannot."""

from __future__ import annotations

import io
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from foretell.calibrate import CalibratorSpec
from foretell.errors import ConfigError
from foretell.model import BUILTIN, BUILTIN_SMALL, load_model
from foretell.training.__main__ import main
from foretell.training.curve import read_curve
from foretell.training.fit import Recipe
from foretell.training.run import train

TINY = Recipe(
    num_blocks=2, signals_per_block=16, length=65, lanes=8, chunk=32, hidden_size=8, warm_up_blocks=1
)


def quiet() -> Console:
    """A console that nobody sees."""
    return Console(file=io.StringIO())


def test_a_run_gives_a_model_that_loads(tmp_path: Path) -> None:
    """The file that a run writes is a model, with its recipe and its figures in it."""
    path = tmp_path / "model.safetensors"
    train(TINY, tmp_path / "work", path, quiet())
    spec = load_model(str(path)).spec
    assert msgspec.json.decode(spec.provenance["recipe"], type=Recipe) == TINY
    assert spec.evaluation["error_against_persistence_median"] == pytest.approx(1.0, abs=0.2)


def test_a_run_that_is_done_is_not_run_again(tmp_path: Path) -> None:
    """The same command on a finished run writes the same model, to the byte."""
    first, again = tmp_path / "first.safetensors", tmp_path / "again.safetensors"
    for path in (first, again):
        train(TINY, tmp_path / "work", path, quiet())
    assert first.read_bytes() == again.read_bytes()


def test_a_run_leaves_its_learning_curve(tmp_path: Path) -> None:
    """Every checkpoint has its line in the curve, and beside the model lies the picture."""
    train(TINY, tmp_path / "work", tmp_path / "model.safetensors", quiet())
    assert [point.block for point in read_curve(tmp_path / "work" / "curve.jsonl")] == [TINY.num_blocks]
    assert (tmp_path / "model-curve.svg").read_text(encoding="utf-8").startswith("<svg")


def test_the_model_is_calibrated_where_it_serves(tmp_path: Path) -> None:
    """The file that a run writes asks for calibration."""
    path = tmp_path / "model.safetensors"
    train(TINY, tmp_path / "work", path, quiet())
    assert load_model(str(path)).spec.calibrator == CalibratorSpec()


def test_another_recipe_does_not_continue(tmp_path: Path) -> None:
    """A checkpoint of another recipe is refused, not mixed in."""
    train(TINY, tmp_path, tmp_path / "model.safetensors", quiet())
    other = msgspec.structs.replace(TINY, seed=2)
    with pytest.raises(ConfigError, match="another recipe"):
        train(other, tmp_path, tmp_path / "other.safetensors", quiet())


def test_the_command_evaluates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--evaluate` prints each series with its ratio to persistence."""
    path = tmp_path / "ramp.csv"
    path.write_text("time,level\n" + "".join(f"{t},{t % 50}\n" for t in range(700)))
    assert main(["--evaluate", str(path)]) == 0
    out = capsys.readouterr().out
    assert "ramp/level" in out
    assert "MAE against persistence" in out


def test_the_command_names_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that is not there is one line on stderr and the error's exit status."""
    missing = tmp_path / "missing.csv"
    assert main(["--evaluate", str(missing)]) != 0
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(("name", "hidden_size"), [(BUILTIN, 64), (BUILTIN_SMALL, 32)])
def test_a_shipped_model_says_where_it_comes_from(name: str, hidden_size: int) -> None:
    """A shipped model's recipe is the default one but for its size: the command makes it again."""
    spec = load_model(name).spec
    recipe = msgspec.json.decode(spec.provenance["recipe"], type=Recipe)
    assert recipe == msgspec.structs.replace(Recipe(), hidden_size=hidden_size)
    assert spec.provenance["made_by"] == "scripts/train-builtin"
    assert spec.provenance["trained_on"] == "synthetic signals alone"
