"""How the LSTM is stepped: as nn.LSTM, whatever the batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from foretell import lstm, native_weights
from foretell.arena import Arena
from foretell.choices import Precision
from foretell.lstm import Kernel, Stepper, choose_stepper
from foretell.model import Model, ModelSpec
from foretell.torch_step import BUCKETS, MAX_ROWS, TorchStepper, bucket_of, plain_lstm
from small_models import calibrated_specs, independent_spec, joint_spec, model_of, normalized_joint_spec

if TYPE_CHECKING:
    from numpy.typing import NDArray

SPECS = [
    joint_spec(3, hidden=64, layers=2),
    joint_spec(8, hidden=64),
    joint_spec(1, 2, hidden=5, layers=3),
    joint_spec(2, 1, hidden=32),
    joint_spec(2, 16, hidden=16),
    joint_spec(3, 37, hidden=20),
]
CALIBRATED = list(calibrated_specs().values())
ALL_SPECS = [*SPECS, independent_spec(), normalized_joint_spec(3), *CALIBRATED[:2]]


@pytest.fixture(params=list(Kernel))
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    """Both kernels, the fallback by taking the other away."""
    if request.param is Kernel.TORCH:
        monkeypatch.setattr(lstm, "_find_disagreement", lambda *_: "taken away by a test")
    return Kernel(request.param)


def stepper_of(model: Model, kernel: Kernel) -> Stepper:
    """The stepper, which must be the one asked for."""
    stepper, chosen, _ = choose_stepper(model)
    assert chosen is kernel
    return stepper


def random_arena(model: Model, num_rows: int) -> Arena:
    """States that are not zero."""
    arena, rng = Arena(model, num_rows), np.random.default_rng(num_rows)
    for part in (*arena.h, *arena.c):
        part[:] = np.tanh(rng.normal(size=part.shape))
    return arena


def inputs(spec: ModelSpec, steps: int, rows: int) -> NDArray[np.float32]:
    """Standard normal values [steps, rows, channels]."""
    rng = np.random.default_rng(steps)
    return rng.normal(size=(steps, rows, spec.input_channels)).astype(np.float32)


def advance(
    stepper: Stepper, arena: Arena, rows: NDArray[np.int64], x: NDArray[np.float32], spec: ModelSpec
) -> NDArray[np.float32]:
    """Step rows that must all be good; the forecasts [steps, rows, quantiles * channels], and surprise beside them."""
    y = np.empty((len(x), rows.size, len(spec.quantiles) * spec.output_channels), np.float32)
    shape = (*y.shape[:2], len(spec.quantiles), spec.output_channels)
    surprise = np.empty_like(x)
    assert stepper.advance(arena, rows, np.ascontiguousarray(x), None, y.reshape(shape), surprise) is None
    return y if spec.calibrator is None else np.concatenate([y, surprise], axis=2)


@pytest.mark.parametrize("spec", SPECS)
def test_steps_are_those_of_torch(kernel: Kernel, spec: ModelSpec) -> None:
    """States and outputs agree with nn.LSTM and a linear layer to float32 rounding."""
    model = model_of(spec)
    stepper, arena = stepper_of(model, kernel), random_arena(model, 16)
    rows, x = np.random.default_rng(0).permutation(16), inputs(spec, 3, 16)
    h, c = (torch.from_numpy(np.stack([part[rows] for part in parts])) for parts in (arena.h, arena.c))
    y = advance(stepper, arena, rows, x, spec)
    with torch.inference_mode():
        out, (h, c) = plain_lstm(model)(torch.from_numpy(x), (h, c))
        expected = torch.nn.functional.linear(
            out, model.weights["linear.weight"], model.weights["linear.bias"]
        )
    np.testing.assert_allclose(y, expected.numpy(), rtol=0, atol=3e-6)
    for layer in range(spec.num_layers):
        np.testing.assert_allclose(arena.h[layer][rows], h[layer].numpy(), rtol=0, atol=1e-6)
        np.testing.assert_allclose(arena.c[layer][rows], c[layer].numpy(), rtol=0, atol=2e-6)


@pytest.mark.parametrize("spec", ALL_SPECS)
@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 640])
def test_a_row_does_not_depend_on_its_batch(kernel: Kernel, spec: ModelSpec, size: int) -> None:
    """Rows of a large batch have the bits that they have in a smaller one."""
    model = model_of(spec)
    stepper, together, apart = stepper_of(model, kernel), random_arena(model, 700), random_arena(model, 700)
    rows, x = np.random.default_rng(0).permutation(700), inputs(spec, 1, 700)
    large = advance(stepper, together, rows, x, spec)
    small = advance(stepper, apart, rows[-size:], x[:, -size:], spec)
    assert np.array_equal(small, large[:, -size:], equal_nan=True)
    assert np.array_equal(apart.state[rows[-size:]], together.state[rows[-size:]])


@pytest.mark.parametrize("spec", ALL_SPECS)
@pytest.mark.parametrize(("size", "steps"), [(1, 16), (2, 16), (3, 21), (64, 64), (1, 256), (16, 256)])
def test_several_steps_in_one_call_are_those_made_one_by_one(
    kernel: Kernel, spec: ModelSpec, size: int, steps: int
) -> None:
    """Outputs and states have the same bits however many time steps a call makes."""
    model = model_of(spec)
    stepper, together, apart = stepper_of(model, kernel), random_arena(model, size), random_arena(model, size)
    rows, x = np.arange(size), inputs(spec, steps, size)
    y = advance(stepper, together, rows, x, spec)
    for step in range(steps):
        one = advance(stepper, apart, rows, x[step : step + 1], spec)
        assert np.array_equal(one[0], y[step], equal_nan=True)
    assert np.array_equal(apart.state, together.state)


@pytest.mark.parametrize("spec", [independent_spec(quantiles=(0.1, 0.5)), normalized_joint_spec(3)])
@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_the_kernel_normalises_as_numpy_does(spec: ModelSpec, data: st.DataObject) -> None:
    """Whatever the values and which of them were observed, the normaliser's states have the same bits in both.

    The forecasts agree to the rounding of the network's outputs.
    """
    model = model_of(spec)
    native, kernel, _ = choose_stepper(model)
    if kernel is not Kernel.NATIVE:
        pytest.skip("there is no kernel for this processor")
    plain, num_rows, steps = TorchStepper(model), data.draw(st.integers(1, 20)), data.draw(st.integers(1, 6))
    shape = (steps, num_rows, spec.input_channels)
    numbers = st.one_of(
        st.floats(width=32, allow_nan=False, allow_infinity=False),
        st.sampled_from([0.0, -0.0, 1.0, 3.4e38, -3.4e38, 1e-45]),
        st.floats(-1, 1, width=32),
    )
    values = data.draw(arrays(np.float32, shape, elements=numbers))
    observed = data.draw(st.none() | arrays(np.bool_, shape))
    rows, arenas = np.arange(num_rows)[::-1].copy(), [Arena(model, num_rows) for _ in range(2)]
    ours, theirs = (np.empty((*shape[:2], len(spec.quantiles), shape[2]), np.float32) for _ in range(2))
    assert native.advance(arenas[0], rows, values, observed, ours) is None
    assert plain.advance(arenas[1], rows, values, observed, theirs) is None
    first, second = arenas[0].normalizer, arenas[1].normalizer
    assert first is not None
    assert second is not None
    assert first.tobytes() == second.tobytes()
    limit = 1e-4 * np.abs(values.astype(np.float64)).max() + 1e-30
    assert np.abs(ours.astype(np.float64) - theirs).max() <= limit


@pytest.mark.parametrize("spec", CALIBRATED)
@settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_the_kernel_calibrates_as_numpy_does(spec: ModelSpec, data: st.DataObject) -> None:
    """Of a network whose outputs are the same whatever it sees, forecasts, surprise and states are the same in both."""
    model = model_of(spec)
    model.weights["linear.weight"][:] = 0.0
    native, kernel, _ = choose_stepper(model)
    if kernel is not Kernel.NATIVE:
        pytest.skip("there is no kernel for this processor")
    plain, num_rows, steps = TorchStepper(model), data.draw(st.integers(1, 20)), data.draw(st.integers(1, 20))
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    shape = (steps, num_rows, spec.input_channels)
    scale = np.float32(10.0) ** rng.uniform(-30, 30, shape[1:])
    values = (rng.standard_t(2, shape).cumsum(axis=0) * scale).astype(np.float32)
    observed = rng.random(shape) < data.draw(st.sampled_from([1.0, 0.8]))
    rows, arenas = np.arange(num_rows)[::-1].copy(), [Arena(model, num_rows) for _ in range(2)]
    told, errors = [], []
    for stepper, arena in zip((native, plain), arenas, strict=True):
        forecast = np.empty((*shape[:2], len(spec.quantiles), shape[2]), np.float32)
        surprise = np.empty(shape, np.float32)
        before = np.array(stepper.errors)
        assert stepper.advance(arena, rows, values, observed, forecast, surprise) is None
        assert arena.calibrator is not None
        told.append((forecast, surprise, arena.calibrator, arena.guess))
        errors.append(stepper.errors - before)
    for ours, theirs in zip(*told, strict=True):
        assert np.array_equal(ours, theirs, equal_nan=True)
    np.testing.assert_allclose(errors[0], errors[1], rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("steps", [1, 4])
def test_the_state_of_a_bad_row_is_left_as_it_was(kernel: Kernel, steps: int) -> None:
    """A row of which an output is not finite is said, its state untouched, and the other rows are stepped."""
    model = model_of(joint_spec(3, hidden=20, layers=2))
    stepper, arena, whole = stepper_of(model, kernel), random_arena(model, 9), random_arena(model, 9)
    rows, x = np.arange(9), inputs(model.spec, steps, 9)
    arena.c[0][[2, 7]] = np.nan
    before = arena.state.copy()
    y = np.empty((steps, 9, 1, 3), np.float32)
    bad = stepper.advance(arena, rows, x, None, y)
    assert bad is not None
    assert np.flatnonzero(bad).tolist() == [2, 7]
    assert np.array_equal(arena.state[bad], before[bad], equal_nan=True)
    expected = advance(stepper, whole, rows, x, model.spec)
    assert np.array_equal(y[:, ~bad, 0], expected[:, ~bad])
    assert np.array_equal(arena.state[~bad], whole.state[~bad])


def test_warming_up_leaves_the_arena_empty(kernel: Kernel) -> None:
    """What is run before the first frame shows in no state."""
    model = model_of(joint_spec(3, hidden=8))
    arena = Arena(model, 50)
    stepper_of(model, kernel).warm_up(arena)
    assert not arena.state.any()


def test_bfloat16_weights_change_a_forecast_a_little(kernel: Kernel) -> None:
    """With bfloat16 weights outputs differ from float32's, by less than its three digits allow."""
    model = model_of(joint_spec(8, hidden=64, layers=2))
    rows, x = np.arange(30), inputs(model.spec, 5, 30)
    exact = advance(stepper_of(model, kernel), random_arena(model, 30), rows, x, model.spec)
    stepper, chosen, _ = choose_stepper(model, Precision.BFLOAT16)
    assert chosen is kernel
    rounded = advance(stepper, random_arena(model, 30), rows, x, model.spec)
    difference = np.abs(rounded - exact).max()
    assert 0 < difference < 0.1 * np.abs(exact).max()


def test_a_disagreement_leads_to_torch_and_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel whose sums are wrong is found out at start."""
    from foretell import native

    packed = native_weights.pack_weights

    def spoilt(*args: object) -> NDArray[np.float32]:
        weights = packed(*args)  # type: ignore[arg-type]
        weights[0] += 0.1
        return weights

    monkeypatch.setattr(native, "pack_weights", spoilt)
    _, chosen, reason = choose_stepper(model_of(joint_spec(3, hidden=8)))
    assert chosen is Kernel.TORCH
    assert "nn.LSTM" in reason


def test_without_the_compiler_torch_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where llvmlite is missing nn.LSTM steps, and the reason says so."""
    import sys

    monkeypatch.setitem(sys.modules, "foretell.native", None)
    _, chosen, reason = choose_stepper(model_of(joint_spec(3, hidden=8)))
    assert chosen is Kernel.TORCH
    assert "llvmlite" in reason


def test_every_number_of_rows_has_a_bucket() -> None:
    """The bucket of any size is the smallest one that holds it, and there are few."""
    for rows in range(1, MAX_ROWS + 1):
        bucket = bucket_of(rows)
        assert bucket in BUCKETS
        assert rows <= bucket <= max(4, rows * 2)
    assert len(BUCKETS) < 50


def test_errors_of_a_call_that_is_made_anew_do_not_count(kernel: Kernel) -> None:
    """Where a row is bad nothing is said of how far off forecasts were; the call after it is counted again."""
    model = model_of(CALIBRATED[0])
    stepper, arena, rows = stepper_of(model, kernel), Arena(model, 3), np.arange(3)
    for value in (1.0, 2.0, 4.0):
        advance(stepper, arena, rows, np.full((1, 3, 1), value, np.float32), model.spec)
    before = stepper.errors
    state = arena.state.copy()
    arena.state[1] = np.nan
    forecast, surprise = np.empty((1, 3, 3, 1), np.float32), np.empty((1, 3, 1), np.float32)
    values = np.full((1, 3, 1), 3.0, np.float32)
    assert stepper.advance(arena, rows, values, None, forecast, surprise) is not None
    assert stepper.errors == before
    arena.state[:] = state
    advance(stepper, arena, rows, values, model.spec)
    assert stepper.errors[1] > before[1]
