"""One time step of many rows on a device: gather, normalise, LSTM, forecast, scatter, without a look at any value.

Everything is a fixed sequence of operations on tensors that stay where they are, so that a CUDA graph can replay it.
For the same reason numbers are arguments of operations (`masked_fill`, not `where`), and never copied to the device.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
import torch

from foretell.normalize import Normalizer
from foretell.normalize_torch import TorchNormalizer

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from foretell.model import Model, ModelSpec

States = list[torch.Tensor]

FINE, BAD, BAD_FROM_THE_START = 0.0, 1.0, 2.0
"""What became of a step: outputs are finite; are not; are not although the state was empty."""

_ALIGNMENT: Final = 4
"""Rows are whole multiples of so many float32: 16 bytes, which cuBLAS reads at once."""

_FLOAT32_MAX: Final = float(np.finfo(np.float32).max)


class DeviceArena:
    """The states of all rows as one tensor float32 [rows + 1, width], so that a batch is one gather and one scatter.

    A row holds of each layer h and c; the normaliser's state of each channel; what stands in for a missing value; and
    whether it was stepped since it began: 1 or 0. The last row is nobody's: padding of a batch is stepped there.
    """

    def __init__(self, model: Model, num_rows: int, device: torch.device) -> None:
        spec = model.spec
        num_channels = spec.input_channels
        per_channel = 0 if spec.normalizer is None else Normalizer.state_size
        sizes = [*[spec.hidden_size] * (2 * spec.num_layers), num_channels * per_channel, num_channels, 1]
        sizes.append(-sum(sizes) % _ALIGNMENT)
        self.sizes, self.num_rows = sizes, num_rows
        self.state = torch.zeros(num_rows + 1, sum(sizes), device=device)
        self.is_stepped = torch.ones(1, 1, device=device)
        self.padding = torch.zeros(1, sizes[-1], device=device)

    @torch.inference_mode()
    def restart(self, rows: NDArray[np.int64]) -> None:
        """Let the states of `rows` begin anew."""
        self.state[torch.from_numpy(rows).to(self.state.device)] = 0.0


def device_bytes_per_row(model: Model) -> int:
    """Bytes that one row takes on a device."""
    return 4 * sum(DeviceArena(model, 0, torch.device("meta")).sizes)


class _Scale(NamedTuple):
    """What turns outputs into forecasts: base and unit [rows, channels], and the normaliser's state [S, lanes]."""

    base: torch.Tensor
    unit: torch.Tensor
    state: torch.Tensor


class DeviceStep:
    """The step of one model on one device."""

    def __init__(self, model: Model, arena: DeviceArena, horizon: int) -> None:
        spec, device = model.spec, arena.state.device
        weights = {name: tensor.to(device) for name, tensor in model.weights.items()}
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        self._layers = [
            tuple(weights[f"lstm.{name}_l{layer}"] for name in names) for layer in range(spec.num_layers)
        ]
        self._linear = weights["linear.weight"], weights["linear.bias"]
        self._spec, self._arena, self._horizon = spec, arena, horizon
        self._normalizer = None if spec.normalizer is None else TorchNormalizer(spec.normalizer, device)
        self._median = spec.median_index

    def __call__(self, rows: torch.Tensor, begins: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """Step distinct `rows`, i64 [n], by `values`, float32 [n, channels], NaN where missing.

        begins: bool [n, 1], where the state begins anew before. Gives float32 [n, 1 + Q C + (horizon - 1) C]: what
        became of the step, all quantiles of the first lead, and the median of each further one; NaN where it is bad. A
        row of which an output is not finite is left empty.
        """
        arena, num_layers = self._arena, self._spec.num_layers
        state = arena.state.index_select(0, rows).masked_fill(begins, 0.0)
        *layers, lanes, guess, is_stepped, _ = torch.split_with_sizes(state, arena.sizes, dim=1)
        is_missing = values.isnan()
        entered = torch.where(is_missing, guess, values)
        x, scale = self._enter(lanes, entered, ~is_missing)
        y, h, c = self._advance(x, layers[0::2], layers[1::2])
        is_bad = ~y.isfinite().all(dim=1, keepdim=True)
        forecast = self._denormalize(y, scale)
        guess = forecast[:, self._median] if self._spec.outputs_are_inputs else entered
        if scale is not None:
            lanes = scale.state.T.reshape(len(rows), -1)
        interleaved = [part for layer in range(num_layers) for part in (h[layer], c[layer])]
        ones, padding = arena.is_stepped.expand(len(rows), 1), arena.padding.expand(len(rows), -1)
        new = torch.cat([*interleaved, lanes, guess, ones, padding], dim=1)
        arena.state.index_copy_(0, rows, new.masked_fill(is_bad, 0.0))

        leads = [forecast.flatten(1), *self._roll(forecast, scale, h, c)]
        verdict = is_bad * (BAD_FROM_THE_START - is_stepped)  # BAD where it was stepped before
        return torch.cat([verdict, torch.cat(leads, dim=1).masked_fill(is_bad, torch.nan)], dim=1)

    def _advance(self, x: torch.Tensor, h: States, c: States) -> tuple[torch.Tensor, States, States]:
        """Input [n, input_size] to outputs [n, Q C], by the layers of the LSTM and the output layer."""
        h_next, c_next = [], []
        for weights, h_l, c_l in zip(self._layers, h, c, strict=True):
            # Two matrix products and, on a GPU, one kernel for all that is elementwise.
            x, c_new = torch.lstm_cell(x, (h_l, c_l), *weights)
            h_next.append(x)
            c_next.append(c_new)
        weight, bias = self._linear
        return torch.addmm(bias, x, weight.T), h_next, c_next

    def _enter(
        self, lanes: torch.Tensor, values: torch.Tensor, observed: torch.Tensor
    ) -> tuple[torch.Tensor, _Scale | None]:
        """The LSTM's input [n, input_size]: values [n, channels] as they are, or as the normaliser sees them."""
        if self._normalizer is None:
            return values, None
        state = lanes.reshape(values.numel(), -1).T.contiguous()
        return self._normalize(self._normalizer, state, values, observed)

    def _normalize(
        self, normalizer: TorchNormalizer, state: torch.Tensor, values: torch.Tensor, observed: torch.Tensor
    ) -> tuple[torch.Tensor, _Scale]:
        advanced = normalizer.advance(state, values.reshape(-1), observed.reshape(-1))
        x = advanced.features.T.reshape(len(values), -1)
        return x, _Scale(advanced.base.view_as(values), advanced.unit.view_as(values), advanced.state)

    def _denormalize(self, y: torch.Tensor, scale: _Scale | None) -> torch.Tensor:
        """Outputs [n, Q C] to forecasts [n, Q, C], see `foretell.step.Engine`."""
        levels = y.view(len(y), len(self._spec.quantiles), -1)
        if scale is None:
            return levels
        rising, falling = [levels[:, self._median]], [levels[:, self._median]]
        for above in range(self._median + 1, levels.shape[1]):
            rising.append(torch.maximum(levels[:, above], rising[-1]))
        for below in range(self._median - 1, -1, -1):
            falling.append(torch.minimum(levels[:, below], falling[-1]))
        ordered = torch.stack([*falling[:0:-1], *rising], dim=1)
        forecast = ordered * scale.unit[:, None] + scale.base[:, None]
        return forecast.clamp(-_FLOAT32_MAX, _FLOAT32_MAX)

    def _roll(self, forecast: torch.Tensor, scale: _Scale | None, h: States, c: States) -> States:
        """The medians [n, C] of the leads beyond the first."""
        medians = []
        for _ in range(1, self._horizon):
            x = forecast[:, self._median]
            if self._normalizer is not None and scale is not None:
                unseen = torch.zeros_like(x, dtype=torch.bool)
                x, scale = self._normalize(self._normalizer, scale.state, x, unseen)
            y, h, c = self._advance(x, h, c)
            forecast = self._denormalize(y, scale)
            medians.append(forecast[:, self._median])
        return medians


def num_results(spec: ModelSpec, horizon: int) -> int:
    """Columns of what a step gives."""
    return 1 + spec.output_channels * (len(spec.quantiles) + horizon - 1)
