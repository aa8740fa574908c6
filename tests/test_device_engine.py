"""The engine for a GPU: what the engine for the CPU gives, to float32 rounding. Without a GPU it runs on the CPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from device_pipeline import CONFIG, DEVICES, DevicePipeline, engine_of
from foretell.choices import OnGap, WhenFull
from foretell.config import StreamsConfig
from foretell.device_engine import DeviceEngine
from foretell.device_lanes import Lanes
from foretell.device_step import DeviceArena, DeviceStep, Results, device_bytes_per_row
from foretell.model import Model
from foretell.rounds import Steps
from foretell.step import Engine
from pipeline import Pipeline, frames_of
from small_models import calibrated_specs, engine_specs, joint_spec, model_of

SPECS = engine_specs()
ALL_SPECS = SPECS | calibrated_specs()
MODELS = {name: model_of(spec) for name, spec in ALL_SPECS.items()}
CLOSE = 2e-4
"""Relative, and absolute of values of size 1 to 100: outputs come back multiplied with the size of a change."""

Fed = list[tuple[bytes, int, NDArray[np.float32]]]


@pytest.fixture(scope="module", params=DEVICES)
def device(request: pytest.FixtureRequest) -> torch.device:
    """The CPU, and a GPU where there is one, which steps by CUDA graphs."""
    return torch.device(str(request.param))


def assert_close(got: Fed, expected: Fed) -> None:
    """The same frames in the same order, forecasts equal to rounding, NaN where NaN is expected."""
    assert [fed[:2] for fed in got] == [fed[:2] for fed in expected]
    for (_, _, forecast), (_, _, wanted) in zip(got, expected, strict=True):
        np.testing.assert_allclose(forecast, wanted, rtol=CLOSE, atol=CLOSE)


def recording(seed: int, num_frames: int, num_channels: int, missing: float = 0.0) -> NDArray[np.float32]:
    """A random walk with some values missing, float32 [frames, channels]."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(num_frames, num_channels)).cumsum(axis=0).astype(np.float32)
    values[rng.random(values.shape) < missing] = np.nan
    return values


@pytest.mark.parametrize("spec", SPECS)
@settings(max_examples=30)
@given(data=st.data())
def test_it_gives_what_the_engine_for_the_cpu_gives(
    spec: str, device: torch.device, data: st.DataObject
) -> None:
    """Frames in any order through any batches: gaps that are filled, missing values, several frames of a stream."""
    horizon = data.draw(st.sampled_from([1, 1, 3])) if SPECS[spec].outputs_are_inputs else 1
    plain = Pipeline(MODELS[spec], CONFIG, horizon)
    subject = DevicePipeline(MODELS[spec], device, horizon=horizon)
    num_streams, next_number = data.draw(st.integers(1, 9)), dict.fromkeys(range(9), 0)
    values = recording(data.draw(st.integers(0, 5)), 120, 3, missing=data.draw(st.sampled_from([0.0, 0.2])))
    at = 0
    for size in data.draw(st.lists(st.integers(1, 30), min_size=1, max_size=4)):
        streams = data.draw(st.lists(st.integers(0, num_streams - 1), min_size=size, max_size=size))
        numbers = []
        for stream in streams:
            numbers.append(next_number[stream])
            next_number[stream] += data.draw(st.sampled_from([1, 1, 1, 2, 4, 9]))
        batch = frames_of([b"%d" % stream for stream in streams], numbers, values[at : at + size])
        assert_close(subject.feed(batch), plain.feed(batch))
        at += size


@pytest.mark.parametrize("spec", ALL_SPECS)
@pytest.mark.parametrize("batch_size", [7, 8, 9, 100])
def test_padding_touches_no_stream(spec: str, batch_size: int, device: torch.device) -> None:
    """Streams that share padded batches have the forecasts that each has alone."""
    config = StreamsConfig(capacity=batch_size, max_channels=3)
    model = MODELS[spec]
    num_rows = 3 * batch_size
    values = recording(7, 4 * batch_size, 3).reshape(4, batch_size, 3)
    names = [b"%d" % stream for stream in range(batch_size)]
    together = Pipeline(model, config, num_rows=num_rows)
    together.step = DeviceEngine(model, num_rows, 1, device).step
    fed = [together.feed(frames_of(names, [step] * batch_size, values[step])) for step in range(4)]
    for stream in (0, batch_size // 2, batch_size - 1):
        alone = DevicePipeline(model, device, StreamsConfig(capacity=1, max_channels=3))
        for step in range(4):
            batch = frames_of([names[stream]], [step], values[step, stream : stream + 1])
            assert_close([fed[step][stream]], alone.feed(batch))


def test_a_batch_beyond_the_largest_size_is_cut(device: torch.device) -> None:
    """A round of more rows than the largest batch, and rounds of more than one transfer, are stepped all the same."""
    model = MODELS["joint, one layer"]
    small = DeviceEngine(model, 200, 1, device)
    small._buckets, small._num_lanes = [8, 16], 40
    values = recording(3, 300, 3)
    names = [b"%d" % (i % 35) for i in range(300)]
    batch = frames_of(names, [i // 35 for i in range(300)], values)
    subject = Pipeline(model, CONFIG)
    subject.step = small.step
    assert_close(subject.feed(batch), Pipeline(model, CONFIG).feed(batch))


def test_thousands_of_frames_of_one_stream(device: torch.device) -> None:
    """Every frame of a stream alone is a round of its own."""
    model = MODELS["independent, two layers"]
    batch = frames_of([b"a"] * 1000, range(1000), recording(11, 1000, 2))
    assert_close(DevicePipeline(model, device).feed(batch), Pipeline(model, CONFIG).feed(batch))


def test_a_reused_slot_begins_from_nothing(device: torch.device) -> None:
    """A stream in the slot of an evicted one is forecast as in a fresh engine."""
    config = StreamsConfig(capacity=1, max_channels=3, when_full=WhenFull.EVICT)
    model, values = MODELS["independent, two layers"], recording(1, 6, 3)
    subject = DevicePipeline(model, device, config)
    subject.feed(frames_of([b"old"] * 6, range(6), recording(2, 6, 3) * 1000))
    after = subject.feed(frames_of([b"new"] * 6, range(6), values))
    assert_close(after, Pipeline(model, config).feed(frames_of([b"new"] * 6, range(6), values)))


def test_a_filled_gap_is_stepped_with_the_streams_own_forecasts(device: torch.device) -> None:
    """Two missed frames are stepped as if the stream had sent its forecasts."""
    config = StreamsConfig(capacity=4, max_channels=3, on_gap=OnGap.FILL, max_fill=2)
    model, values = MODELS["joint, one layer"], recording(3, 5, 3)
    filled = DevicePipeline(model, device, config)
    filled.feed(frames_of([b"a"] * 4, range(4), values[:4]))
    (_, _, after_gap), = filled.feed(frames_of([b"a"], [6], values[4:]))  # fmt: skip
    told = DevicePipeline(model, device, config)
    (*_, (_, _, forecast)) = told.feed(frames_of([b"a"] * 4, range(4), values[:4]))
    for number in (4, 5):
        ((_, _, forecast),) = told.feed(frames_of([b"a"], [number], forecast[0]))
    ((_, _, expected),) = told.feed(frames_of([b"a"], [6], values[4:]))
    np.testing.assert_allclose(after_gap, expected, rtol=CLOSE, atol=CLOSE)


def steps_of(*rounds: list[int]) -> Steps:
    """Steps of two channels, all ones, of these rows in these rounds."""
    rows = np.concatenate([np.array(part, np.int64) for part in rounds])[:, None]
    ends = np.cumsum([len(part) for part in rounds]).tolist()
    return Steps(rows, np.ones((len(rows), 2), np.float32), ends, len(rows))


def poisoned(model: Model, device: torch.device, row: int) -> DeviceEngine:
    """An engine of which one row's state was stepped once and is not finite."""
    engine = engine_of(model, device)
    engine.step(steps_of([0, 1, 2]))
    with torch.inference_mode():
        engine.arena.state[row, :4] = torch.nan
    return engine


def test_a_state_that_is_not_finite_begins_anew() -> None:
    """A poisoned state is thrown away, its frames are stepped from nothing, and the forecast says where."""
    model, device = model_of(joint_spec(2, hidden=4)), torch.device("cpu")
    fresh = engine_of(model, device).step(steps_of([0], [0])).forecast.copy()
    stepped = poisoned(model, device, row=1).step(steps_of([0, 1, 2], [0, 1]))
    assert stepped.restarted is not None
    assert stepped.restarted.tolist() == [False, True, False, False, False]
    np.testing.assert_allclose(stepped.forecast[[1, 4]], fresh, rtol=CLOSE, atol=CLOSE)


def test_other_rows_do_not_notice_a_state_that_is_not_finite(device: torch.device) -> None:
    """Rows that share rounds with a poisoned one have the bits that they have without it."""
    model = model_of(joint_spec(2, hidden=4))
    engine = engine_of(model, device)
    engine.step(steps_of([0, 1, 2]))
    expected = engine.step(steps_of([0, 1, 2], [0, 1])).forecast[[0, 2, 3]]
    stepped = poisoned(model, device, row=1).step(steps_of([0, 1, 2], [0, 1]))
    assert stepped.forecast[[0, 2, 3]].tobytes() == expected.tobytes()


def test_a_frame_that_cannot_be_stepped_has_no_forecast(device: torch.device) -> None:
    """Where even a fresh state gives no finite output, the forecasts are NaN and the state is empty."""
    model = model_of(joint_spec(2, hidden=4))
    model.weights["linear.weight"][:] = 3e38
    model.weights["linear.bias"][:] = 3e38
    engine = DeviceEngine(model, 3, 1, device)
    stepped = engine.step(steps_of([0, 1], [0, 1], [0]))
    assert stepped.restarted is not None
    assert stepped.restarted.all()
    assert np.isnan(stepped.forecast).all()
    assert not engine.arena.state[:3].any()


@pytest.mark.filterwarnings("ignore:One of rtol or atol is not valid")  # of outputs that overflow, at start
def test_states_that_overflow_again_and_again_begin_anew_where_the_cpus_do(device: torch.device) -> None:
    """Frames of one batch, some of which overflow from the state before them, and some from an empty one too."""
    model = model_of(joint_spec(2, hidden=4), scale=5.0)
    model.weights["linear.weight"][:] = 3e38
    values = np.random.default_rng(5).normal(size=(60, 2)).astype(np.float32)
    begins = np.isin(np.arange(60), [9, 20, 40])
    steps = Steps(np.zeros((60, 1), np.int64), values, list(range(1, 61)), 60, begins)
    got, expected = (engine.step(steps) for engine in (DeviceEngine(model, 3, 1, device), Engine(model, 3)))
    assert got.restarted is not None
    assert expected.restarted is not None
    assert got.restarted.tolist() == expected.restarted.tolist()
    assert np.isnan(expected.forecast).any()
    assert not np.isnan(expected.forecast[expected.restarted]).all()
    np.testing.assert_allclose(
        got.forecast.astype(np.float64), expected.forecast.astype(np.float64), rtol=1e-3, atol=1e34
    )


@pytest.mark.parametrize("spec", ALL_SPECS)
def test_extreme_values_leave_every_state_finite(spec: str, device: torch.device) -> None:
    """Neither huge, tiny nor missing values make a state non-finite."""
    hostile = np.array([3e38, -3e38, 1e-45, -0.0, np.nan, 1e30, -1e-30, 0.0], np.float32)
    subject = DevicePipeline(MODELS[spec], device)
    rng = np.random.default_rng(0)
    for step in range(20):
        subject.feed(frames_of([b"bad"], [step], rng.choice(hostile, (1, 3))))
    assert subject.device_engine.arena.state.isfinite().all()


@pytest.mark.parametrize("spec", ALL_SPECS)
def test_a_step_looks_at_no_value(spec: str) -> None:
    """It runs on tensors that hold no values, so a CUDA graph can hold it; what it gives has the shape that is said."""
    model, device = MODELS[spec], torch.device("meta")
    horizon = 3 if ALL_SPECS[spec].outputs_are_inputs else 1
    with torch.inference_mode():
        step = DeviceStep(model, DeviceArena(model, 9, device), horizon)
        rows, begins = torch.arange(4, device=device), torch.zeros(4, 1, dtype=torch.bool, device=device)
        results = step(rows, begins, torch.zeros(4, model.spec.input_channels, device=device))
    assert results.shape == (4, Results(model.spec, horizon).num_columns)


def test_bytes_per_row_are_those_of_the_arena() -> None:
    """The bytes that a row is said to take are what it takes, and a multiple of 16."""
    for spec in ALL_SPECS.values():
        engine = DeviceEngine(model_of(spec), 9, 1, torch.device("cpu"))
        state = engine.arena.state
        assert state.nbytes == (9 + 1) * device_bytes_per_row(model_of(spec))
        assert state.shape[1] % 4 == 0


def test_only_a_state_that_can_be_thrown_away_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A frame is stepped a second time where the first began from a state, not where it began from nothing."""
    model = model_of(joint_spec(2, hidden=4))
    engine = poisoned(model, torch.device("cpu"), row=2)
    run, rows_run = engine._run, []

    def recorded(lanes: Lanes) -> NDArray[np.float32]:
        rows_run.append(lanes.rows.tolist())
        return run(lanes)

    monkeypatch.setattr(engine, "_run", recorded)
    engine.step(steps_of([1, 2]))
    assert rows_run == [[1, 2], [2]]
    model.weights["linear.weight"][:] = torch.inf
    engine = DeviceEngine(model, 9, 1, torch.device("cpu"))
    run, rows_run = engine._run, []
    monkeypatch.setattr(engine, "_run", recorded)
    engine.step(steps_of([1, 2]))
    assert rows_run == [[1, 2]]
