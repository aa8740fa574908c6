"""The calibrator on tensors: what numpy's computes."""

from __future__ import annotations

from typing import Final

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from foretell.calibrate import Calibrated, Calibrator, CalibratorSpec
from foretell.calibrate_torch import CalibratedTensors, TorchCalibrator
from foretell.normalize import Normalizer, NormalizerSpec

LEVELS: Final = {
    "seven": (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99),
    "more above": (0.1, 0.5, 0.9, 0.99),
    "none below": (0.5, 0.9),
    "points": (0.5,),
}
CPU: Final = torch.device("cpu")
LANES: Final = 16

Values = NDArray[np.float32]
Flags = NDArray[np.bool_]


def sqrt_rounded_to_nearest(x: torch.Tensor) -> torch.Tensor:
    """The square root as IEEE 754 fixes it, which numpy has and MKL has not."""
    return torch.from_numpy(np.sqrt(x.numpy()))


def run(
    levels: tuple[float, ...], values: Values, observed: Flags, outputs: Values, device: torch.device = CPU
) -> list[tuple[Calibrated, CalibratedTensors]]:
    """Feed both [frames, lanes], outputs [frames, Q, lanes]; what they gave frame by frame."""
    calibrator = Calibrator(CalibratorSpec(), levels)
    subject = TorchCalibrator(CalibratorSpec(), levels, device)
    normalizer, lanes = Normalizer(NormalizerSpec()), values.shape[1]
    scaling, state, results = normalizer.initial_state(lanes), calibrator.initial_state(lanes), []
    tensor = torch.zeros(subject.state_size, lanes, device=device)
    for t, frame in enumerate(values):
        advanced = normalizer.advance(scaling, frame, observed[t])
        taken = frame, scaling[0], advanced.unit, outputs[t]
        expected = calibrator.advance(state, *taken, observed[t])
        tensors = [torch.from_numpy(one.copy()).to(device) for one in (*taken, observed[t])]
        got = subject.advance(tensor, *tensors)
        scaling, state, tensor = advanced.state, expected.state, got.state
        results.append((expected, got))
    return results


def check_same_numbers(levels: tuple[float, ...], values: Values, observed: Flags, outputs: Values) -> None:
    """All that both give is equal, but for the square root."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "sqrt", sqrt_rounded_to_nearest)
        for expected, got in run(levels, values, observed, outputs):
            for array, tensor in zip(
                (expected.state, expected.levels, expected.surprise, expected.errors), got, strict=True
            ):
                assert np.array_equal(array, tensor.numpy(), equal_nan=True)


def ordinary(levels: tuple[float, ...], num_frames: int) -> tuple[Values, Flags, Values]:
    """Walks, noises and cycles of every scale, some values missing, and what a model may say of them."""
    rng = np.random.default_rng(1)
    values = np.concatenate(
        [
            rng.standard_t(3, (num_frames, 6)).cumsum(axis=0) * 10.0 ** rng.uniform(-20, 20, 6),
            rng.normal(size=(num_frames, 6)),
            np.sin(np.arange(num_frames)[:, None] / [1.0, 4.0, 9.0, 30.0]),
        ],
        axis=1,
    )
    outputs = np.sort(rng.normal(size=(num_frames, len(levels), LANES)), axis=1)
    return values.astype(np.float32), rng.random(values.shape) > 0.05, outputs.astype(np.float32)


@pytest.mark.parametrize("name", LEVELS)
def test_the_bits_of_numpy_on_ordinary_series(name: str) -> None:
    """On walks, noises and cycles of every scale both give the same numbers frame by frame."""
    check_same_numbers(LEVELS[name], *ordinary(LEVELS[name], 300))


@settings(max_examples=40, deadline=None)
@given(
    arrays(np.float32, (6, LANES), elements=st.floats(width=32, allow_nan=False, allow_infinity=False)),
    arrays(np.bool_, (6, LANES)),
    arrays(np.float32, (6, 7, LANES), elements=st.floats(-1e3, 1e3, width=32)),
)
def test_the_bits_of_numpy_on_any_values(values: Values, observed: Flags, outputs: Values) -> None:
    """Whatever finite values come and whatever the model says, both give the same numbers."""
    check_same_numbers(LEVELS["seven"], values, observed, np.sort(outputs, axis=1))


DEVICES = [
    "cpu",
    pytest.param(
        "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that torch can use")
    ),
]


@pytest.mark.parametrize("device", DEVICES)
def test_a_device_agrees_to_rounding(device: str) -> None:
    """Without the same square root, levels and surprise are those of numpy to float32 rounding."""
    for expected, got in run(LEVELS["seven"], *ordinary(LEVELS["seven"], 200), torch.device(device)):
        np.testing.assert_allclose(got.levels.cpu().numpy(), expected.levels, rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(got.surprise.cpu().numpy(), expected.surprise, rtol=1e-3, atol=1e-3)
