"""The stacked LSTM and its output layer, one time step of many rows, at the speed of the hardware.

`nn.LSTM` lays its weights out anew on every call. Here oneDNN's layout is made once and its LSTM primitive is called
directly; both ops are private to PyTorch, so they are checked against `nn.LSTM` at start, bit for bit, and without
them (or where they disagree) `nn.LSTM` itself steps.

The result of a row never depends on the other rows of its batch. oneDNN's LSTM and its linear layer give that; plain
`F.linear` does not at a batch of one, so the fallback never runs fewer than two rows.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final, Protocol

import torch

from foretell.model import Model

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_ROWS: Final = 4096
"""Rows of the largest batch stepped in one call; beyond about 6,000 the working set falls out of the cache."""

BUCKETS: Final = tuple(
    sorted({*range(1, 17), *(m << k for m in range(8, 16) for k in range(1, 9)), MAX_ROWS})
)
"""Batch sizes that are ever run, at most 1/8 apart. oneDNN builds a primitive for each size (0.3 ms the first time), so
all are run once before the daemon is ready, and other sizes are padded up to the next."""

States = list[torch.Tensor]


class Kernel(enum.StrEnum):
    """Which code steps the LSTM; a label of `foretell_model_info`."""

    ONEDNN_PACKED = "onednn_packed"
    TORCH = "torch"


class _Layers(Protocol):
    def __call__(self, x: torch.Tensor, h: States, c: States) -> tuple[torch.Tensor, States, States]: ...


class _PackedLayers:
    """oneDNN's LSTM with weights packed once."""

    def __init__(self, model: Model) -> None:
        spec, weights = model.spec, model.weights
        self.hidden_size = spec.hidden_size
        self.layers = []
        for layer in range(spec.num_layers):
            w_ih, w_hh = weights[f"lstm.weight_ih_l{layer}"], weights[f"lstm.weight_hh_l{layer}"]
            packed = torch.ops.mkldnn._reorder_mkldnn_rnn_layer_weight(
                w_ih, w_hh, spec.hidden_size, False, True, False, [1, 1, w_ih.shape[1]]
            )
            self.layers.append((*packed, weights[f"lstm.bias_ih_l{layer}"], weights[f"lstm.bias_hh_l{layer}"]))
        self.linear_weight = torch.ops.mkldnn._reorder_linear_weight(weights["linear.weight"], 256)
        self.linear_bias = weights["linear.bias"]

    def __call__(self, x: torch.Tensor, h: States, c: States) -> tuple[torch.Tensor, States, States]:
        step, hidden = torch.ops.aten.mkldnn_rnn_layer, self.hidden_size
        out, h_next, c_next = x.unsqueeze(0), [], []
        for (w_ih, w_hh, b_ih, b_hh), h_l, c_l in zip(self.layers, h, c, strict=True):
            # reverse, batch sizes, mode 2 = LSTM, hidden size, layers, biases, bidirectional, batch first, train
            out, h_l, c_l, _ = step(  # noqa: PLW2901 - the layer's state becomes its next state
                out, w_ih, w_hh, b_ih, b_hh, h_l, c_l, False, [], 2, hidden, 1, True, False, False, False
            )
            h_next.append(h_l)
            c_next.append(c_l)
        y = torch.ops.mkldnn._linear_pointwise(h_next[-1], self.linear_weight, self.linear_bias, "none", [], "")
        return y, h_next, c_next


class _TorchLayers:
    """The public `nn.LSTM` and `F.linear`, at least two rows at a time."""

    def __init__(self, model: Model) -> None:
        self.lstm = plain_lstm(model)
        self.weight, self.bias = model.weights["linear.weight"], model.weights["linear.bias"]

    def __call__(self, x: torch.Tensor, h: States, c: States) -> tuple[torch.Tensor, States, States]:
        num_rows = x.shape[0]
        hs, cs = torch.stack(h), torch.stack(c)
        if num_rows == 1:
            x, hs, cs = x.expand(2, -1), hs.expand(-1, 2, -1).contiguous(), cs.expand(-1, 2, -1).contiguous()
        _, (hs, cs) = self.lstm(x.unsqueeze(0), (hs, cs))
        y = torch.nn.functional.linear(hs[-1], self.weight, self.bias)
        return y[:num_rows], list(hs[:, :num_rows]), list(cs[:, :num_rows])


def plain_lstm(model: Model) -> torch.nn.LSTM:
    """The model's LSTM as PyTorch's own module, time-major: the reference that every kernel is held against."""
    spec = model.spec
    lstm = torch.nn.LSTM(spec.input_size, spec.hidden_size, spec.num_layers)
    lstm.load_state_dict(_without_prefix(model.weights, "lstm."))
    return lstm.eval().requires_grad_(requires_grad=False)


class Lstm:
    """Steps up to `MAX_ROWS` rows by one time step; knows neither streams nor slots.

    Public attributes: `kernel`, and `reason`, the words why it was chosen.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self.kernel, self.reason, self._layers = _choose_layers(model)

    @torch.inference_mode()
    def step(self, x: torch.Tensor, h: States, c: States) -> tuple[torch.Tensor, States, States]:
        """One time step.

        Takes x float32 [rows, input_size] and per layer h, c float32 [rows, hidden_size], where `rows` is one of
        `BUCKETS`; gives y float32 [rows, outputs] and the next h and c, all new tensors.
        """
        return self._layers(x, h, c)

    def warm_up(self) -> None:
        """Run every bucket once, so that no frame waits for oneDNN to build a primitive."""
        for rows in BUCKETS:
            self.step(*zero_inputs(self._model, rows))


def bucket_of(num_rows: int) -> int:
    """The smallest bucket that holds `num_rows` rows (1 to `MAX_ROWS`)."""
    return _BUCKET_OF[num_rows]


_BUCKET_OF: Final = [next(bucket for bucket in BUCKETS if bucket >= rows) for rows in range(MAX_ROWS + 1)]


def zero_inputs(model: Model, rows: int) -> tuple[torch.Tensor, States, States]:
    """Inputs of the right shapes, all zero."""
    spec = model.spec
    h = [torch.zeros(rows, spec.hidden_size) for _ in range(spec.num_layers)]
    return torch.zeros(rows, spec.input_size), h, [layer.clone() for layer in h]


def _choose_layers(model: Model) -> tuple[Kernel, str, _Layers]:
    plain = _TorchLayers(model)
    try:
        packed = _PackedLayers(model)
        if not torch.backends.mkldnn.is_available():
            return Kernel.TORCH, "this build of torch is without oneDNN", plain
        if not _agrees(model, packed, plain):
            return Kernel.TORCH, "oneDNN's packed LSTM does not give the bits of nn.LSTM here", plain
    except (AttributeError, RuntimeError, TypeError) as error:
        reason = str(error).splitlines()[0]
        return Kernel.TORCH, f"oneDNN's packed LSTM cannot be used here: {reason}", plain
    return Kernel.ONEDNN_PACKED, "agrees with nn.LSTM bit for bit", packed


@torch.inference_mode()
def _agrees(model: Model, packed: _PackedLayers, plain: _TorchLayers) -> bool:
    """Whether the packed kernel has the states of nn.LSTM to the bit and does not depend on the batch."""
    generator = torch.Generator().manual_seed(1)
    spec, rows = model.spec, 33
    x = torch.randn(rows, spec.input_size, generator=generator)
    h = [torch.randn(rows, spec.hidden_size, generator=generator).tanh() for _ in range(spec.num_layers)]
    c = [torch.randn(rows, spec.hidden_size, generator=generator) for _ in range(spec.num_layers)]
    y, h_next, c_next = packed(x, h, c)
    y_plain, h_plain, c_plain = plain(x, h, c)
    if not all(map(torch.equal, [*h_next, *c_next], [*h_plain, *c_plain])) or not torch.allclose(y, y_plain, atol=1e-5):
        return False
    for first, last in ((0, 1), (7, 9), (30, 33)):
        part = [[layer[first:last].contiguous() for layer in state] for state in (h, c)]
        y_part, h_part, _ = packed(x[first:last].contiguous(), *part)
        if not torch.equal(y_part, y[first:last]) or not torch.equal(h_part[-1], h_next[-1][first:last]):
            return False
    return True


def _without_prefix(weights: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}
