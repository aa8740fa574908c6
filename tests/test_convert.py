"""Bringing in a model of the plain template."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from foretell.convert import convert
from foretell.errors import ModelError
from foretell.model import load_model


class Template(torch.nn.Module):
    """The plain single-step template."""

    def __init__(self, inputs: int, hidden: int, outputs: int, **lstm: bool | int) -> None:
        super().__init__()
        self.lstm = torch.nn.LSTM(inputs, hidden, **lstm)
        self.linear = torch.nn.Linear(hidden, outputs, bias=bool(lstm.get("bias", True)))


@pytest.mark.parametrize(
    "options", [{}, {"batch_first": True}, {"num_layers": 3, "dropout": 0}, {"bias": False}]
)
def test_a_state_dict_becomes_a_joint_point_model(tmp_path: Path, options: dict[str, bool | int]) -> None:
    """Sizes are read off the weights, and the weights are the same."""
    torch.manual_seed(0)
    template = Template(5, 7, 2, **options)
    torch.save(template.state_dict(), tmp_path / "template.pt")
    spec = convert(tmp_path / "template.pt", tmp_path / "model")
    model = load_model(str(tmp_path / "model"))
    assert model.spec == spec
    assert (spec.input_channels, spec.output_channels, spec.hidden_size) == (5, 2, 7)
    assert spec.num_layers == options.get("num_layers", 1)
    assert spec.quantiles == (0.5,)
    for name, tensor in template.state_dict().items():
        assert torch.equal(model.weights[name], tensor)


def test_double_weights_become_single(tmp_path: Path) -> None:
    """A float64 model is rounded to float32."""
    template = Template(1, 4, 1).double()
    torch.save(template.state_dict(), tmp_path / "template.pt")
    convert(tmp_path / "template.pt", tmp_path / "model")
    assert load_model(str(tmp_path / "model")).weights["linear.weight"].dtype == torch.float32


@pytest.mark.parametrize(
    ("contents", "reason"),
    [
        (Template(1, 4, 1, bidirectional=True).state_dict(), "bidirectional"),
        (Template(1, 4, 1, proj_size=2).state_dict(), "projections"),
        ({"model": Template(1, 4, 1).state_dict()}, "not a checkpoint"),
        ({"gru.weight": torch.zeros(1)}, "unexpected tensor gru.weight"),
        ({"linear.weight": torch.zeros(1, 4)}, "plain template"),
        ([torch.zeros(1)], "holds a list"),
        (Template(1, 4, 1), "state dict"),
    ],
    ids=["bidirectional", "projected", "checkpoint", "other module", "no lstm", "list", "pickled module"],
)
def test_what_is_no_template_is_refused(tmp_path: Path, contents: object, reason: str) -> None:
    """Other models, checkpoints and pickled objects are refused with the reason."""
    torch.save(contents, tmp_path / "other.pt")
    with pytest.raises(ModelError, match=reason):
        convert(tmp_path / "other.pt", tmp_path / "model")
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("contents", [b"", b"no pickle", None])
def test_what_is_no_torch_file_is_refused(tmp_path: Path, contents: bytes | None) -> None:
    """A file of other bytes, or none, is refused without a traceback."""
    path = tmp_path / "other.pt"
    if contents is not None:
        path.write_bytes(contents)
    with pytest.raises(ModelError, match=r"other\.pt"):
        convert(path, tmp_path / "model")
