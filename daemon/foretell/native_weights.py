"""A model's weights in the order in which the kernel reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from foretell.arena import aligned_zeros
from foretell.choices import Precision

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from foretell.kernel_layout import Layout, Target

_HALVED: Final = (0, 1, 3)
"""Gates of a sigmoid, of which the kernel wants half the sum; a power of two changes no bit of a product."""


def pack_weights(
    layout: Layout, target: Target, weights: Mapping[str, NDArray[np.float32]]
) -> NDArray[np.float32]:
    """The model's weights in the order that `Layout` says, [weights_cells]."""
    units, lanes, hidden = layout.units, target.lanes, layout.hidden_size
    packed = aligned_zeros(layout.weights_cells)
    for layer in range(layout.num_layers):
        input_weights = weights[f"lstm.weight_ih_l{layer}"]
        parts = [
            _gates_last(input_weights, layout.units if layer else layout.input_size, units),
            _gates_last(weights[f"lstm.weight_hh_l{layer}"], units, units),
        ]
        biases = np.zeros((4, units), np.float32)
        biases[:, :hidden] = (weights[f"lstm.bias_ih_l{layer}"] + weights[f"lstm.bias_hh_l{layer}"]).reshape(
            4, -1
        )
        for array in (*parts, biases[None]):
            array[:, _HALVED] *= np.float32(0.5)
        cells = np.concatenate([_cells(part, layout.precision) for part in parts])
        by_unit = cells.reshape(len(cells), 4, units // lanes, lanes).transpose(2, 0, 1, 3)
        _put(packed, layout.weights_at(layer), by_unit)
        _put(packed, layout.biases_at(layer), biases.reshape(4, units // lanes, lanes).transpose(1, 0, 2))
    output = np.zeros((units, layout.outputs), np.float32)
    output[:hidden, : layout.num_outputs] = weights["linear.weight"].T
    cells = _cells(output[:, None], layout.precision)
    by_output = cells.reshape(len(cells), layout.outputs // lanes, lanes).transpose(1, 0, 2)
    _put(packed, layout.output_weights_at, by_output)
    _put(packed, layout.output_biases_at, weights["linear.bias"])
    return packed


def _gates_last(weights: NDArray[np.float32], num_inputs: int, units: int) -> NDArray[np.float32]:
    """Weights [4 * hidden, inputs] as [inputs, 4, units], with padding."""
    gates = weights.reshape(4, -1, weights.shape[1])
    padded = np.zeros((num_inputs, 4, units), np.float32)
    padded[: gates.shape[2], :, : gates.shape[1]] = gates.transpose(2, 0, 1)
    return padded


def _cells(weights: NDArray[np.float32], precision: Precision) -> NDArray[np.float32]:
    """Weights [inputs, ...] as cells: themselves, or bfloat16 pairs [inputs / 2, ...], the first in the lower half."""
    if precision is Precision.FLOAT32:
        return weights
    if len(weights) % 2:
        weights = np.concatenate([weights, np.zeros_like(weights[:1])])
    bits = weights.view(np.uint32).astype(np.uint64)
    rounded = ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint32)  # to the nearest, ties to even
    pairs: NDArray[np.float32] = (rounded[0::2] | rounded[1::2] << 16).view(np.float32)
    return pairs


def _put(packed: NDArray[np.float32], at: int, part: NDArray[np.float32]) -> None:
    # As integers: bits of two bfloat16 that look like a signalling NaN stay as they are.
    packed.view(np.uint32)[at : at + part.size] = np.ascontiguousarray(part).reshape(-1).view(np.uint32)
