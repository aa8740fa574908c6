"""The normaliser on tensors: what numpy's computes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from foretell.normalize import Normalizer, NormalizerSpec
from foretell.normalize_torch import TorchNormalizer

SPEC = NormalizerSpec(fast_half_life=3.0, slow_half_life=50.0)


@st.composite
def histories(draw: st.DrawFn) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Values [frames, lanes] of any finite size, and which of them were observed."""
    shape = draw(st.tuples(st.integers(1, 12), st.integers(1, 40)))
    ordinary = st.floats(-1e3, 1e3, width=32)
    extreme = st.floats(width=32, allow_nan=False, allow_infinity=False)
    values = draw(arrays(np.float32, shape, elements=ordinary | extreme))
    return values, draw(arrays(np.bool_, shape))


def sqrt_rounded_to_nearest(x: torch.Tensor) -> torch.Tensor:
    """The square root as IEEE 754 fixes it, which numpy has and MKL has not."""
    return torch.from_numpy(np.sqrt(x.numpy()))


@given(histories())
def test_all_but_the_square_root_has_the_bits_of_numpy(
    history: tuple[NDArray[np.float32], NDArray[np.bool_]],
) -> None:
    """State, features, base and unit agree in every bit, whatever comes and whatever is missing."""
    arrays_, tensors = Normalizer(SPEC), TorchNormalizer(SPEC, torch.device("cpu"))
    state = arrays_.initial_state(history[0].shape[1])
    state_tensor = torch.from_numpy(state.copy())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "sqrt", sqrt_rounded_to_nearest)
        for values, observed in zip(*history, strict=True):
            expected = arrays_.advance(state, values, observed)
            got = tensors.advance(state_tensor, torch.from_numpy(values), torch.from_numpy(observed))
            for array, tensor in zip(
                (expected.state, expected.features, expected.base, expected.unit), got, strict=True
            ):
                assert (array == tensor.numpy()).all()
            state, state_tensor = expected.state, got.state


DEVICES = [
    "cpu",
    pytest.param(
        "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that torch can use")
    ),
]


@pytest.mark.parametrize("device", DEVICES)
def test_a_device_agrees_to_rounding(device: str) -> None:
    """Over a random walk the features are those of numpy, to float32 rounding."""
    values = np.random.default_rng(0).normal(size=(200, 1000)).cumsum(axis=0).astype(np.float32)
    arrays_, tensors = Normalizer(SPEC), TorchNormalizer(SPEC, torch.device(device))
    state = arrays_.initial_state(1000)
    state_tensor = torch.from_numpy(state).to(device)
    observed = torch.ones(1000, dtype=torch.bool, device=device)
    for frame in values:
        expected = arrays_.advance(state, frame)
        got = tensors.advance(state_tensor, torch.from_numpy(frame).to(device), observed)
        state, state_tensor = expected.state, got.state
        np.testing.assert_allclose(got.features.cpu().numpy(), expected.features, rtol=1e-4, atol=1e-5)
