"""What a model is: its specification, its weights, and the file that holds both.

A model file is safetensors: the weights of a stacked `torch.nn.LSTM` and one `torch.nn.Linear` under PyTorch's own
names, and one metadata entry `foretell` with the specification as JSON. Never pickle, so that a file from a stranger
can do no more than be refused.
"""

from __future__ import annotations

import enum
import hashlib
import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
import safetensors
import safetensors.torch
import torch

from foretell.calibrate import CalibratorSpec
from foretell.errors import ModelError
from foretell.normalize import Normalizer, NormalizerSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

FORMAT_VERSION: Final = 1
BUILTIN: Final = "builtin"
BUILTIN_SMALL: Final = "builtin-small"
MEDIAN: Final = 0.5
MAX_FILE_BYTES: Final = 1 << 30

_Size = Annotated[int, msgspec.Meta(ge=1, le=4096)]
_Level = Annotated[float, msgspec.Meta(gt=0.0, lt=1.0)]


class Channels(enum.StrEnum):
    """How a frame's channels enter the LSTM."""

    INDEPENDENT = (
        "independent"  # every channel is a row of its own with shared weights: any number of channels
    )
    JOINT = "joint"  # the channels enter together, one row a stream: a fixed number of channels


class ModelSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a model takes and gives, beside its weights.

    `input_size` is the width of the LSTM's input: `input_channels` raw values, or with a normaliser
    `input_channels * Normalizer.num_features` features. The linear layer gives one number for each quantile level and
    output channel, ordered [quantile, channel]. With a calibrator forecasts are corrected by what each stream really
    does; without one they are published as they are. `warm_up` is in frames.
    """

    channels: Channels
    input_channels: _Size
    output_channels: _Size
    input_size: _Size
    hidden_size: _Size
    num_layers: Annotated[int, msgspec.Meta(ge=1, le=16)]
    quantiles: tuple[_Level, ...] = (MEDIAN,)
    normalizer: NormalizerSpec | None = None
    calibrator: CalibratorSpec | None = None
    warm_up: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 0
    provenance: dict[str, str] = {}
    evaluation: dict[str, float | str] = {}

    @property
    def outputs_are_inputs(self) -> bool:
        """Whether a forecast can stand in for the frame that it forecasts: filling and longer horizons need this."""
        return self.input_channels == self.output_channels

    @property
    def median_index(self) -> int:
        """Where the median stands among the quantile levels."""
        return self.quantiles.index(MEDIAN)

    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of every weight that the model needs, in PyTorch's names."""
        hidden = self.hidden_size
        shapes: dict[str, tuple[int, ...]] = {}
        for layer in range(self.num_layers):
            shapes[f"lstm.weight_ih_l{layer}"] = (4 * hidden, self.input_size if layer == 0 else hidden)
            shapes[f"lstm.weight_hh_l{layer}"] = (4 * hidden, hidden)
            shapes[f"lstm.bias_ih_l{layer}"] = (4 * hidden,)
            shapes[f"lstm.bias_hh_l{layer}"] = (4 * hidden,)
        num_outputs = len(self.quantiles) * self.output_channels
        shapes["linear.weight"] = (num_outputs, hidden)
        shapes["linear.bias"] = (num_outputs,)
        return shapes


@dataclass(frozen=True)
class Model:
    """A checked model: every weight is float32, finite, contiguous and of the shape that `spec` says.

    `fingerprint` is the 64-bit BLAKE2b hash of the file (RFC 7693): another file, another fingerprint.
    """

    spec: ModelSpec
    weights: Mapping[str, torch.Tensor]
    fingerprint: int


def save_model(path: Path, spec: ModelSpec, weights: Mapping[str, torch.Tensor]) -> None:
    """Write a model file that `load_model` accepts, replacing `path` in one step.

    Raises ModelError where specification and weights disagree or the file cannot be written.
    """
    _check_spec(spec, str(path))
    _check_weights(spec, weights, str(path))
    metadata = {"format_version": FORMAT_VERSION, **msgspec.to_builtins(spec)}
    contents = safetensors.torch.save(
        {name: tensor.detach().contiguous() for name, tensor in weights.items()},
        metadata={"foretell": json.dumps(metadata)},
    )
    temporary = path.with_name(path.name + ".partial")
    try:
        temporary.write_bytes(contents)
        temporary.replace(path)
    except OSError as error:
        raise ModelError(f"{path}: cannot be written: {error.strerror}") from error


def load_model(path: str) -> Model:
    """Read and check a model file; `"builtin"` and `"builtin-small"` are those shipped in the package.

    Raises ModelError, naming the file and what is wrong with it, for a file that is missing, is no model, is of another
    format version, or whose weights are not what its specification says.
    """
    contents = _read_file(path)
    spec = _read_spec(contents, path)
    try:
        weights = safetensors.torch.load(contents)
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise ModelError(f"{path}: its weights cannot be read: {error}") from error
    _check_weights(spec, weights, path)
    fingerprint = int.from_bytes(hashlib.blake2b(contents, digest_size=8).digest(), "little")
    return Model(spec, weights, fingerprint)


def _read_file(path: str) -> bytes:
    try:
        if path in (BUILTIN, BUILTIN_SMALL):
            return resources.files("foretell").joinpath("models", f"{path}.safetensors").read_bytes()
        file = Path(path)
        if not file.is_file():
            what = (
                "is a folder"
                if file.is_dir()
                else "does not exist"
                if not file.exists()
                else "is no regular file"
            )
            raise ModelError(
                f'{path}: {what}; model.path is a safetensors file, "{BUILTIN}" or "{BUILTIN_SMALL}"'
            )
        if file.stat().st_size > MAX_FILE_BYTES:
            raise ModelError(
                f"{path}: larger than {MAX_FILE_BYTES} bytes, the most that a model file may have"
            )
        return file.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from error


def _read_spec(contents: bytes, path: str) -> ModelSpec:
    """The specification from the safetensors header: 8 bytes of length, little-endian, then JSON."""
    length = int.from_bytes(contents[:8], "little")
    try:
        if len(contents) < 8 or length > len(contents) - 8:
            raise ValueError("its header is cut short")
        header = json.loads(contents[8 : 8 + length])
        text = header["__metadata__"]["foretell"]
    except (KeyError, TypeError):
        raise ModelError(
            f"{path}: not a foretell model: no metadata `foretell` "
            "(a PyTorch state dict becomes one by `foretell convert`)"
        ) from None
    except ValueError as error:
        hint = "a PyTorch state dict becomes a model by `foretell convert`"
        raise ModelError(f"{path}: not a safetensors file ({error}); {hint}") from error
    try:
        metadata = json.loads(text)
        version = metadata.pop("format_version", None)
        if version != FORMAT_VERSION:
            raise ModelError(
                f"{path}: model format version {version!r}; this version of foretell reads {FORMAT_VERSION}"
            )
        spec = msgspec.convert(metadata, ModelSpec)
    except (ValueError, TypeError, AttributeError, msgspec.ValidationError) as error:
        raise ModelError(f"{path}: its metadata `foretell` is wrong: {error}") from error
    _check_spec(spec, path)
    return spec


def _check_spec(spec: ModelSpec, path: str) -> None:
    levels = spec.quantiles
    if list(levels) != sorted(set(levels)) or MEDIAN not in levels or len(levels) > 99:
        raise ModelError(
            f"{path}: quantiles are {levels}; allowed are 1 to 99 ascending levels with {MEDIAN} among them"
        )
    if spec.channels is Channels.INDEPENDENT and (spec.input_channels, spec.output_channels) != (1, 1):
        raise ModelError(f"{path}: an independent model has 1 input and 1 output channel")
    if spec.normalizer is not None and not spec.outputs_are_inputs:
        raise ModelError(f"{path}: a model with a normaliser has as many output as input channels")
    if spec.calibrator is not None and spec.normalizer is None:
        raise ModelError(f"{path}: a model with a calibrator has a normaliser too: it counts in its units")
    features = 1 if spec.normalizer is None else Normalizer(spec.normalizer).num_features
    if spec.input_size != spec.input_channels * features:
        raise ModelError(
            f"{path}: input_size is {spec.input_size}; {spec.input_channels} channels need {features} each"
        )


def _check_weights(spec: ModelSpec, weights: Mapping[str, torch.Tensor], path: str) -> None:
    shapes = spec.tensor_shapes()
    if missing := sorted(shapes.keys() - weights.keys()):
        raise ModelError(f"{path}: without the tensor {missing[0]}")
    if unknown := sorted(weights.keys() - shapes.keys()):
        raise ModelError(f"{path}: has the tensor {unknown[0]}, which its specification does not know")
    for name, shape in shapes.items():
        tensor = weights[name]
        if tuple(tensor.shape) != shape:
            raise ModelError(
                f"{path}: {name} has the shape {list(tensor.shape)}; its specification says {list(shape)}"
            )
        if tensor.dtype != torch.float32:
            raise ModelError(
                f"{path}: {name} is {str(tensor.dtype).removeprefix('torch.')}; allowed is float32"
            )
        if not bool(torch.isfinite(tensor).all()):
            raise ModelError(f"{path}: {name} has a value that is not finite")
