"""The engine for a GPU calibrates as the engine for the CPU does, to float32 rounding.

Recordings are fixed here: a value that lies on a quantile to the last bit falls beyond it on one device alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from device_pipeline import CONFIG, DEVICES, DevicePipeline
from pipeline import Pipeline, frames_of
from small_models import calibrated_specs, model_of

if TYPE_CHECKING:
    from foretell.model import Model, ModelSpec
    from foretell.stepped import Stepped
    from foretell.wire import FrameBatch

CLOSE = 1e-3
"""Relative, and absolute of values of size 1 to 100."""


def model_with_bands(spec: ModelSpec) -> Model:
    """Its quantiles lie apart: what is made of a band that is none depends on the last bits."""
    model = model_of(spec)
    levels = torch.tensor(spec.quantiles)[:, None].expand(-1, spec.output_channels)
    model.weights["linear.bias"][:] = 10.0 * (levels - 0.5).flatten()
    return model


MODELS = {name: model_with_bands(spec) for name, spec in calibrated_specs().items()}


@pytest.fixture(scope="module", params=DEVICES)
def device(request: pytest.FixtureRequest) -> torch.device:
    """The CPU, and a GPU where there is one, which steps by CUDA graphs."""
    return torch.device(str(request.param))


def recorded(seed: int, num_batches: int = 8) -> list[FrameBatch]:
    """Random walks of five streams, with gaps that are filled, missing values and several frames in a batch."""
    rng, number, batches = np.random.default_rng(seed), [0] * 5, []
    walks = rng.normal(size=(num_batches, 20, 3)).cumsum(axis=0).astype(np.float32)
    walks[rng.random(walks.shape) < 0.1] = np.nan
    for values in walks:
        streams, numbers = rng.integers(0, 5, 20).tolist(), []
        for stream in streams:
            numbers.append(number[stream])
            number[stream] += int(rng.choice([1, 1, 1, 2, 4, 9]))
        batches.append(frames_of([b"%d" % stream for stream in streams], numbers, values))
    return batches


def check_same(got: Stepped, expected: Stepped) -> None:
    """Forecasts, surprise, restarts and, where there were none, errors, to rounding."""
    np.testing.assert_allclose(got.forecast, expected.forecast, rtol=CLOSE, atol=CLOSE)
    assert got.surprise is not None
    assert expected.surprise is not None
    np.testing.assert_allclose(got.surprise, expected.surprise, rtol=CLOSE, atol=CLOSE)
    assert (got.restarted is None) == (expected.restarted is None)
    if got.restarted is not None and expected.restarted is not None:
        assert got.restarted.tolist() == expected.restarted.tolist()
        return
    assert got.errors is not None
    assert expected.errors is not None
    assert got.errors.forecast == pytest.approx(expected.errors.forecast, rel=CLOSE)
    assert got.errors.persistence == pytest.approx(expected.errors.persistence, rel=CLOSE)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("horizon", [1, 3])
def test_it_gives_what_the_engine_for_the_cpu_gives(name: str, horizon: int, device: torch.device) -> None:
    """Forecasts, surprise and errors through batches with gaps, missing values and several frames of a stream."""
    for seed in range(3):
        plain = Pipeline(MODELS[name], CONFIG, horizon)
        subject = DevicePipeline(MODELS[name], device, horizon=horizon)
        for batch in recorded(seed):
            for (_, got), (_, expected) in zip(subject.step_all(batch), plain.step_all(batch), strict=True):
                check_same(got, expected)


def test_further_leads_get_their_quantiles(device: torch.device) -> None:
    """Of a stream that runs for long all leads have all quantiles, those that the engine for the CPU gives."""
    model = MODELS["independent, calibrated"]
    values = np.random.default_rng(3).normal(size=(250, 1)).cumsum(axis=0).astype(np.float32)
    batch = frames_of([b"a"] * 250, range(250), values)
    (_, got), = DevicePipeline(model, device, horizon=3).step_all(batch)  # fmt: skip
    (_, expected), = Pipeline(model, CONFIG, 3).step_all(batch)  # fmt: skip
    assert np.isfinite(got.forecast[-1]).all()
    check_same(got, expected)


@pytest.mark.parametrize("name", MODELS)
def test_a_state_that_is_not_finite_takes_its_calibration_along(name: str, device: torch.device) -> None:
    """What was learnt of a poisoned row is forgotten with its state, as in the engine for the CPU."""
    plain = Pipeline(MODELS[name], CONFIG, 3)
    subject = DevicePipeline(MODELS[name], device, horizon=3)
    values = np.random.default_rng(4).normal(size=(240, 3)).cumsum(axis=0).astype(np.float32)
    for first, is_poisoned in ((0, False), (200, True)):
        if is_poisoned:
            plain.engine.arena.state[1, :4] = np.nan
            with torch.inference_mode():
                subject.device_engine.arena.state[1, :4] = torch.nan
        part = slice(first, first + (200 if first == 0 else 40))
        batch = frames_of([b"a", b"b"] * ((part.stop - first) // 2), _twice(part), values[part])
        for (_, got), (_, expected) in zip(subject.step_all(batch), plain.step_all(batch), strict=True):
            check_same(got, expected)
            assert (got.restarted is not None) == is_poisoned


def _twice(part: slice) -> list[int]:
    """The numbers of two streams' frames."""
    return [number // 2 for number in range(part.start, part.stop)]
