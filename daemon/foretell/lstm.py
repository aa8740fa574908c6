"""The stacked LSTM and its output layer, a few time steps of many rows, at the speed of the hardware.

`nn.LSTM` lays its weights out anew on every call. Here oneDNN's layout is made once and its LSTM primitive is called
directly; both ops are private to PyTorch, so they are checked against `nn.LSTM` at start, bit for bit, and without
them (or where they disagree) `nn.LSTM` itself steps.

The result of a row never depends on the other rows of its batch, nor on whether its steps are made one by one or
several in a call. oneDNN's LSTM and linear layer give that from two rows on. One row alone does not: several steps in a
call have other bits in the layers above the first. So there is no batch of one.
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
    sorted({*range(2, 17), *(m << k for m in range(8, 16) for k in range(1, 9)), MAX_ROWS})
)
"""Batch sizes that are ever run, at most 1/8 apart. oneDNN builds a primitive for each size (0.3 ms the first time),
so all are run once before the daemon is ready, and other sizes are padded up to the next."""

STEPS: Final = (256, 64, 16, 4, 1)
"""Numbers of time steps that are ever made in one call; powers of two, so that steps times bucket is a bucket."""

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
            self.layers.append(
                (*packed, weights[f"lstm.bias_ih_l{layer}"], weights[f"lstm.bias_hh_l{layer}"])
            )
        self.linear_weight = torch.ops.mkldnn._reorder_linear_weight(weights["linear.weight"], 256)
        self.linear_bias = weights["linear.bias"]

    def __call__(self, x: torch.Tensor, h: States, c: States) -> tuple[torch.Tensor, States, States]:
        step, hidden = torch.ops.aten.mkldnn_rnn_layer, self.hidden_size
        out, h_next, c_next = x, [], []
        for (w_ih, w_hh, b_ih, b_hh), h_l, c_l in zip(self.layers, h, c, strict=True):
            # reverse, batch sizes, mode 2 = LSTM, hidden size, layers, biases, bidirectional, batch first, train
            out, h_l, c_l, _ = step(  # noqa: PLW2901 - the layer's state becomes its next state
                out, w_ih, w_hh, b_ih, b_hh, h_l, c_l, False, [], 2, hidden, 1, True, False, False, False
            )
            h_next.append(h_l)
            c_next.append(c_l)
        last = out.view(-1, hidden)
        y = torch.ops.mkldnn._linear_pointwise(last, self.linear_weight, self.linear_bias, "none", [], "")
        return y, h_next, c_next


class _TorchLayers:
    """The public `nn.LSTM`, and the output layer as products and sums."""

    def __init__(self, model: Model) -> None:
        self.lstm = plain_lstm(model)
        self.weight, self.bias = model.weights["linear.weight"], model.weights["linear.bias"]

    def __call__(self, x: torch.Tensor, h: States, c: States) -> tuple[torch.Tensor, States, States]:
        out, (hs, cs) = self.lstm(x, (torch.stack(h), torch.stack(c)))
        # Not F.linear: with few rows or one output it takes other code, which rounds otherwise.
        y = (out.view(-1, 1, out.shape[2]) * self.weight).sum(dim=2) + self.bias
        return y, list(hs), list(cs)


def plain_lstm(model: Model) -> torch.nn.LSTM:
    """The model's LSTM as PyTorch's own module, time-major: the reference that every kernel is held against."""
    spec = model.spec
    lstm = torch.nn.LSTM(spec.input_size, spec.hidden_size, spec.num_layers)
    lstm.load_state_dict(_without_prefix(model.weights, "lstm."))
    return lstm.eval().requires_grad_(requires_grad=False)


class Lstm:
    """Steps up to `MAX_ROWS` rows; knows neither streams nor slots.

    Public attributes: `kernel`, and `reason`, the words why it was chosen.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self.kernel, self.reason, self._layers = _choose_layers(model)

    @torch.inference_mode()
    def step(self, x: torch.Tensor, h: States, c: States) -> tuple[torch.Tensor, States, States]:
        """Make `steps` time steps, a number in `STEPS`, of `rows` rows, one of `BUCKETS`.

        Takes x float32 [steps, rows, input_size] and per layer h, c float32 [rows, hidden_size]; gives y float32
        [steps * rows, outputs] and the next h and c, all new tensors. `steps * rows` is at most `MAX_ROWS`.
        """
        return self._layers(x, h, c)

    def warm_up(self) -> None:
        """Run every size once, so that no frame waits for oneDNN to build a primitive."""
        for steps in STEPS:
            for rows in BUCKETS:
                if steps * rows <= MAX_ROWS:
                    self.step(*zero_inputs(self._model, rows, steps))


def bucket_of(num_rows: int) -> int:
    """The smallest bucket that holds `num_rows` rows (1 to `MAX_ROWS`)."""
    return _BUCKET_OF[num_rows]


_BUCKET_OF: Final[list[int]] = [
    next(bucket for bucket in BUCKETS if bucket >= rows) for rows in range(MAX_ROWS + 1)
]


def zero_inputs(model: Model, rows: int, steps: int = 1) -> tuple[torch.Tensor, States, States]:
    """Inputs of the right shapes, all zero."""
    spec = model.spec
    h = [torch.zeros(rows, spec.hidden_size) for _ in range(spec.num_layers)]
    return torch.zeros(steps, rows, spec.input_size), h, [layer.clone() for layer in h]


def _choose_layers(model: Model) -> tuple[Kernel, str, _Layers]:
    plain = _TorchLayers(model)
    try:
        packed = _PackedLayers(model)
        if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
            return Kernel.TORCH, "this build of torch is without oneDNN", plain
        if not _agrees(model, packed, plain):
            return Kernel.TORCH, "oneDNN's packed LSTM does not give the bits of nn.LSTM here", plain
    except (AttributeError, RuntimeError, TypeError) as error:
        reason = str(error).splitlines()[0]
        return Kernel.TORCH, f"oneDNN's packed LSTM cannot be used here: {reason}", plain
    return Kernel.ONEDNN_PACKED, "agrees with nn.LSTM bit for bit", packed


@torch.inference_mode()
def _agrees(model: Model, packed: _PackedLayers, plain: _TorchLayers) -> bool:
    """Whether the packed kernel has the states of nn.LSTM to the bit, whatever the batch and the steps a call."""
    generator = torch.Generator().manual_seed(1)
    spec, steps, rows = model.spec, STEPS[-2], 33
    x = torch.randn(steps, rows, spec.input_size, generator=generator)
    h = [torch.randn(rows, spec.hidden_size, generator=generator).tanh() for _ in range(spec.num_layers)]
    c = [torch.randn(rows, spec.hidden_size, generator=generator) for _ in range(spec.num_layers)]
    y, h_next, c_next = packed(x, h, c)
    y_plain, h_plain, c_plain = plain(x, h, c)
    if not all(map(torch.equal, [*h_next, *c_next], [*h_plain, *c_plain])):
        return False
    if not torch.allclose(y, y_plain, rtol=1e-4, atol=1e-4 * float(y_plain.abs().max())):
        return False
    for part in (slice(0, 2), slice(7, 10), slice(30, 33)):
        h_part, c_part = ([layer[part].contiguous() for layer in state] for state in (h, c))
        for step in range(steps):
            y_part, h_part, c_part = packed(x[step : step + 1, part].contiguous(), h_part, c_part)
            if not torch.equal(y_part, y.view(steps, rows, -1)[step, part]):
                return False
        if not torch.equal(h_part[-1], h_next[-1][part]):
            return False
    return True


def _without_prefix(weights: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}
