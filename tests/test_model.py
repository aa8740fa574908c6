"""The model file: what is written is read, and what is wrong is refused with its reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import safetensors.torch
import torch

from foretell.errors import ModelError
from foretell.model import BUILTIN, BUILTIN_SMALL, FORMAT_VERSION, ModelSpec, load_model, save_model
from small_models import independent_spec, joint_spec, random_weights

if TYPE_CHECKING:
    from collections.abc import Callable


def write_raw(path: Path, spec: ModelSpec, weights: dict[str, torch.Tensor], **changed: Any) -> str:
    """A file whose metadata or weights need not be right."""
    metadata = {"format_version": FORMAT_VERSION, **msgspec.to_builtins(spec), **changed}
    safetensors.torch.save_file(weights, path, metadata={"foretell": json.dumps(metadata)})
    return str(path)


@pytest.mark.parametrize("spec", [joint_spec(), joint_spec(4, 2, layers=3), independent_spec()])
def test_a_saved_model_is_loaded_as_it_was(tmp_path: Path, spec: ModelSpec) -> None:
    """Specification and weights survive the file."""
    weights = random_weights(spec)
    save_model(tmp_path / "m.safetensors", spec, weights)
    model = load_model(str(tmp_path / "m.safetensors"))
    assert model.spec == spec
    assert all(torch.equal(model.weights[name], tensor) for name, tensor in weights.items())


def test_the_fingerprint_is_of_the_contents(tmp_path: Path) -> None:
    """Equal files have equal fingerprints, and one changed weight changes it."""
    spec = joint_spec()
    fingerprints = []
    for seed in (1, 1, 2):
        save_model(tmp_path / "m", spec, random_weights(spec, seed))
        fingerprints.append(load_model(str(tmp_path / "m")).fingerprint)
    assert fingerprints[0] == fingerprints[1] != fingerprints[2]
    assert all(0 <= fingerprint < 2**64 for fingerprint in fingerprints)


@pytest.mark.parametrize("name", [BUILTIN, BUILTIN_SMALL])
def test_the_builtin_models_load(name: str) -> None:
    """A model shipped in the package is an independent one with its median among the levels, to be calibrated."""
    spec = load_model(name).spec
    assert spec.calibrator is not None
    assert spec.channels == "independent"
    assert spec.quantiles[spec.median_index] == 0.5


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: path / "missing", "does not exist"),
        (lambda path: path, "is a folder"),
        (lambda path: _write(path / "x", b""), "not a safetensors file"),
        (lambda path: _write(path / "x", b"\xff" * 100), "not a safetensors file"),
        (lambda path: _write(path / "x", (5).to_bytes(8, "little") + b"{bad}"), "not a safetensors file"),
        (lambda path: _write(path / "x", (2).to_bytes(8, "little") + b"{}"), "not a foretell model"),
    ],
    ids=["missing", "folder", "empty", "other bytes", "bad header", "no metadata"],
)
def test_what_is_no_model_file_is_refused(tmp_path: Path, make: Callable[[Path], Path], reason: str) -> None:
    """Anything that is no safetensors file of ours is refused, naming the file and the reason."""
    path = make(tmp_path)
    with pytest.raises(ModelError, match=reason) as error:
        load_model(str(path))
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"format_version": 2}, "format version 2"),
        ({"hidden_size": 0}, "hidden_size"),
        ({"channels": "mixed"}, "channels"),
        ({"unheard_of": 1}, "unheard_of"),
        ({"quantiles": [0.5, 0.1]}, "ascending"),
        ({"quantiles": [0.1, 0.9]}, "0.5 among them"),
        ({"input_size": 4}, "input_size is 4"),
        ({"channels": "independent"}, "independent model has 1 input"),
        ({"hidden_size": 8}, "has the shape"),
        ({"num_layers": 2}, "without the tensor"),
    ],
)
def test_wrong_metadata_is_refused(tmp_path: Path, changed: dict[str, Any], reason: str) -> None:
    """Metadata that is wrong in itself or for the weights is refused with what is wrong."""
    path = write_raw(tmp_path / "m", joint_spec(), random_weights(joint_spec()), **changed)
    with pytest.raises(ModelError, match=reason):
        load_model(path)


@pytest.mark.parametrize(
    ("name", "tensor", "reason"),
    [
        ("linear.bias", torch.zeros(4), "shape"),
        ("linear.bias", torch.zeros(3, dtype=torch.float64), "float64"),
        ("linear.bias", torch.full((3,), torch.nan), "not finite"),
        ("linear.extra", torch.zeros(1), "does not know"),
    ],
    ids=["shape", "dtype", "NaN", "unknown name"],
)
def test_wrong_weights_are_refused(tmp_path: Path, name: str, tensor: torch.Tensor, reason: str) -> None:
    """A tensor of another shape, type or name, or with a NaN, is refused by its name."""
    weights = {**random_weights(joint_spec()), name: tensor}
    path = write_raw(tmp_path / "m", joint_spec(), weights)
    with pytest.raises(ModelError, match=reason) as error:
        load_model(path)
    assert name in str(error.value)


def test_a_file_cut_short_is_refused(tmp_path: Path) -> None:
    """Every shorter piece of a model file is refused."""
    path = tmp_path / "m"
    save_model(path, joint_spec(1, hidden=2), random_weights(joint_spec(1, hidden=2)))
    contents = path.read_bytes()
    for length in range(0, len(contents), 7):
        path.write_bytes(contents[:length])
        with pytest.raises(ModelError):
            load_model(str(path))


def test_saving_refuses_what_loading_would(tmp_path: Path) -> None:
    """A model that does not fit its specification is never written."""
    with pytest.raises(ModelError, match="without the tensor"):
        save_model(tmp_path / "m", joint_spec(layers=2), random_weights(joint_spec(layers=1)))
    assert not (tmp_path / "m").exists()


def _write(path: Path, contents: bytes) -> Path:
    path.write_bytes(contents)
    return path
