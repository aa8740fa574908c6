"""The normaliser on tensors of any device: what `foretell.normalize` computes, operation by operation.

Nothing here looks at a value, so that a CUDA graph can hold it. Every operation but one has numpy's bits: PyTorch takes
the square root on a CPU from MKL, which rounds one in six otherwise (torch 2.13). So the last bits may differ.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from foretell.normalize import (
    CHANGE,
    DEVIATION,
    LARGEST,
    LAST,
    MEAN,
    OUTLIER,
    RESOLUTION,
    SATURATION,
    SMALLEST,
    WEIGHT,
    Normalizer,
    NormalizerSpec,
)

_LARGEST, _SMALLEST, _SATURATION = float(LARGEST), float(SMALLEST), float(SATURATION)
_RESOLUTION, _OUTLIER = float(RESOLUTION), float(OUTLIER)


class AdvancedTensors(NamedTuple):
    """What a frame gave, see `foretell.normalize.Advanced`: state [S, n], features [K, n], base and unit [n]."""

    state: torch.Tensor
    features: torch.Tensor
    base: torch.Tensor
    unit: torch.Tensor


class TorchNormalizer:
    """Scales lanes by their own past, on `device`."""

    def __init__(self, spec: NormalizerSpec, device: torch.device) -> None:
        self._rate = torch.from_numpy(Normalizer(spec).rate).to(device)

    def advance(self, state: torch.Tensor, values: torch.Tensor, observed: torch.Tensor) -> AdvancedTensors:
        """Take in one value of every lane: state float32 [S, n], values finite float32 [n], observed bool [n]."""
        old_weight = state[WEIGHT]
        is_first = old_weight[1] <= 0.0
        rate = observed * self._rate
        weight = old_weight + rate * (1.0 - old_weight)
        value_share = rate / torch.maximum(weight, self._rate)
        change_share = rate / torch.maximum(old_weight, self._rate)

        step = (values - state[LAST]).clamp(-_LARGEST, _LARGEST).masked_fill(is_first, 0.0)
        smaller = torch.minimum(values.abs(), state[LAST].abs())
        resolution = (smaller * _RESOLUTION).clamp(min=_SMALLEST)
        size = torch.minimum(step.abs(), _outlier_limit(state[CHANGE].amax(dim=0), resolution))
        change = (state[CHANGE] + change_share * (size - state[CHANGE])).clamp(min=_SMALLEST)

        to_fast, to_slow = (values - state[MEAN]).clamp(-_LARGEST, _LARGEST)
        largest = _outlier_limit(torch.maximum(state[DEVIATION], state[CHANGE][1]), resolution)
        to_slow = torch.minimum(torch.maximum(to_slow, -largest), largest)
        mean = state[MEAN] + value_share * torch.stack([to_fast, to_slow])
        mean = mean.masked_fill(mean.abs() < _SMALLEST, 0.0)
        deviation = state[DEVIATION] + change_share[1] * (
            to_slow.abs().masked_fill(is_first, 0.0) - state[DEVIATION]
        )
        deviation = deviation.clamp(min=_SMALLEST)

        unit = torch.maximum(torch.sqrt(change[0]) * torch.sqrt(change[1]), resolution)
        spread = torch.maximum(deviation, resolution)
        scaled = torch.stack([step, values - mean[0], values - mean[1]]) / torch.stack([unit, unit, spread])
        scaled = scaled.clamp(-_SATURATION, _SATURATION)
        scaled = scaled / torch.sqrt(1.0 + scaled.abs())
        a, b = torch.stack([change[0], unit]), torch.stack([change[1], spread])
        features = torch.cat([scaled, (a - b) / (a + b), weight[1:]]) * (weight[1] > 0.0)
        # In the order of the state's rows.
        new = torch.cat([values[None], mean, change, weight, deviation[None]])
        return AdvancedTensors(new, features, values, unit)


def _outlier_limit(scale: torch.Tensor, resolution: torch.Tensor) -> torch.Tensor:
    return (_OUTLIER * scale).masked_fill(scale <= resolution, _LARGEST)
