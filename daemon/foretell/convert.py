"""Bring in a user's own model: the plain single-step template, `nn.LSTM` named `lstm` and `nn.Linear` named `linear`.

`batch_first` and dropout leave no trace in a state dict and change nothing for one frame at a time.
"""

from __future__ import annotations

import pickle
import re
from typing import TYPE_CHECKING

import torch

from foretell import __version__
from foretell.errors import ModelError
from foretell.model import Channels, ModelSpec, save_model

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_WEIGHT = re.compile(r"lstm\.(weight|bias)_(ih|hh)_l(\d+)|linear\.(weight|bias)")


def convert(state_dict_path: Path, output_path: Path) -> ModelSpec:
    """Turn a state dict saved by `torch.save` into a model file and return its specification.

    The result is a joint point model without normaliser: what it says is published as it is. Weights of other floating
    types become float32; a missing bias (`bias=False`) becomes zeros. Raises ModelError, naming file and reason, for
    anything else, bidirectional and projected LSTMs among it. The file is read with `weights_only=True`: no code of
    its own runs.
    """
    weights = _read_state_dict(state_dict_path)
    _check_names(weights, state_dict_path)
    try:
        spec = _infer_spec(weights, state_dict_path)
        complete = _complete(weights, spec)
    except (KeyError, IndexError, ValueError) as error:
        raise ModelError(f"{state_dict_path}: not the plain template `lstm` + `linear`: {error}") from error
    save_model(output_path, spec, complete)
    return spec


def _read_state_dict(path: Path) -> dict[str, torch.Tensor]:
    try:
        contents = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(f"{path}: not a state dict of tensors saved by torch.save: {reason}") from error
    if not isinstance(contents, dict) or not contents:
        raise ModelError(
            f"{path}: holds a {type(contents).__name__}; allowed is a state dict (torch.save(model.state_dict()))"
        )
    for name, tensor in contents.items():
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
            raise ModelError(
                f"{path}: {name!r} is no tensor; allowed is the state dict alone, not a checkpoint around it"
            )
    return contents


def _check_names(weights: Mapping[str, torch.Tensor], path: Path) -> None:
    for name in weights:
        if name.endswith("_reverse"):
            raise ModelError(f"{path}: a bidirectional LSTM needs the future; a stream has only its past")
        if "weight_hr" in name:
            raise ModelError(f"{path}: an LSTM with projections (proj_size) is not supported")
        if not _WEIGHT.fullmatch(name):
            raise ModelError(
                f"{path}: unexpected tensor {name}; allowed are lstm.* and linear.* of the plain template"
            )


def _infer_spec(weights: Mapping[str, torch.Tensor], path: Path) -> ModelSpec:
    input_weight, output_weight = weights["lstm.weight_ih_l0"], weights["linear.weight"]
    if input_weight.ndim != 2 or output_weight.ndim != 2 or input_weight.shape[0] % 4:
        raise ValueError("its weights are not of an LSTM and a linear layer")
    layers = {int(match[3]) for name in weights if (match := _WEIGHT.fullmatch(name)) and match[3]}
    return ModelSpec(
        channels=Channels.JOINT,
        input_channels=input_weight.shape[1],
        output_channels=output_weight.shape[0],
        input_size=input_weight.shape[1],
        hidden_size=input_weight.shape[0] // 4,
        num_layers=max(layers) + 1,
        provenance={"source": f"converted from the state dict {path.name}", "foretell": __version__},
    )


def _complete(weights: Mapping[str, torch.Tensor], spec: ModelSpec) -> dict[str, torch.Tensor]:
    complete = {name: tensor.to(torch.float32).contiguous() for name, tensor in weights.items()}
    for name, shape in spec.tensor_shapes().items():
        if "bias" in name:
            complete.setdefault(name, torch.zeros(shape))
    return complete
