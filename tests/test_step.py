"""The engine: batched equals alone, to the bit; equal to plain PyTorch, to rounding."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from foretell.admission import Accepted
from foretell.choices import OnGap, OnLongGap, WhenFull
from foretell.config import StreamsConfig
from foretell.model import ModelSpec
from foretell.stepped import Stepped
from foretell.torch_step import plain_lstm
from foretell.wire import Flag
from pipeline import Forecasts, Pipeline, frames_of
from small_models import calibrated_specs, engine_specs, joint_spec, model_of

CONFIG = StreamsConfig(capacity=40, max_channels=8)
SPECS = engine_specs() | calibrated_specs()
MODELS = {name: model_of(spec) for name, spec in SPECS.items()}


def recording(seed: int, num_frames: int, num_channels: int, missing: float = 0.0) -> np.ndarray:
    """A random walk with some values missing, float32 [frames, channels]."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(num_frames, num_channels)).cumsum(axis=0).astype(np.float32)
    values[rng.random(values.shape) < missing] = np.nan
    return values


def alone(
    spec: str, recordings: dict[bytes, np.ndarray], numbers: dict[bytes, list[int]], horizon: int
) -> Forecasts:
    """One stream after the other, frame by frame: no batch holds more than one frame."""
    pipeline = Pipeline(MODELS[spec], CONFIG, horizon)
    forecasts: Forecasts = {}
    for name, values in recordings.items():
        batches = [frames_of([name], [numbers[name][i]], values[i : i + 1]) for i in range(len(values))]
        forecasts |= pipeline.forecasts(batches)
    return forecasts


@pytest.mark.parametrize("spec", SPECS)
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_batched_equals_alone(spec: str, data: st.DataObject) -> None:
    """Whatever shares its batches, and however the frames are cut and interleaved, a stream's forecasts are the same.

    Seven models times sixty examples: layers, calibration, both channel modes, gaps that are filled, missing values,
    several frames of a stream in one batch, slots in any order.
    """
    num_streams = data.draw(st.integers(1, 9))
    horizon = data.draw(st.sampled_from([1, 1, 3])) if SPECS[spec].outputs_are_inputs else 1
    recordings, numbers = {}, {}
    for stream in range(num_streams):
        name = b"%d" % stream
        length = data.draw(st.integers(1, 12))
        recordings[name] = recording(stream, length, 3, missing=data.draw(st.sampled_from([0.0, 0.2])))
        gaps = data.draw(st.lists(st.sampled_from([1, 1, 1, 2, 4, 9]), min_size=length, max_size=length))
        numbers[name] = np.cumsum(gaps).tolist()
    queue = data.draw(st.permutations([name for name in recordings for _ in recordings[name]]))
    taken = dict.fromkeys(recordings, 0)
    frames = []
    for name in queue:
        frames.append((name, taken[name]))
        taken[name] += 1
    pipeline = Pipeline(MODELS[spec], CONFIG, horizon)
    together: Forecasts = {}
    start = 0
    while start < len(frames):
        end = start + data.draw(st.integers(1, 30))
        part = frames[start:end]
        values = np.stack([recordings[name][i] for name, i in part])
        together |= pipeline.forecasts(
            [frames_of([n for n, _ in part], [numbers[n][i] for n, i in part], values)]
        )
        start = end
    assert together == alone(spec, recordings, numbers, horizon)


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("batch_size", [2, 17, 100, 1000])
def test_large_batches_equal_alone(spec: str, batch_size: int) -> None:
    """Hundreds of streams in one batch have the bits that each has alone."""
    config = StreamsConfig(capacity=batch_size, max_channels=3)
    values = recording(7, 4 * batch_size, 3).reshape(4, batch_size, 3)
    names = [b"%d" % stream for stream in range(batch_size)]
    pipeline = Pipeline(MODELS[spec], config, num_rows=3 * batch_size)
    together = pipeline.forecasts([frames_of(names, [step] * batch_size, values[step]) for step in range(4)])
    for stream in (0, 1, batch_size // 2, batch_size - 1):
        single = Pipeline(MODELS[spec], config)
        batches = [frames_of([names[stream]], [step], values[step, stream : stream + 1]) for step in range(4)]
        for key, forecast in single.forecasts(batches).items():
            assert together[key] == forecast


def test_further_leads_get_their_bands_once_they_were_judged() -> None:
    """Of a calibrated model the quantiles of further leads are NaN at first, and then ascend and hold."""
    pipeline = Pipeline(MODELS["joint, calibrated"], CONFIG, horizon=3)
    values = recording(5, 600, 3)
    frames = [frames_of([b"s"], [t], values[t : t + 1]) for t in range(len(values))]
    forecasts = np.stack([row for frame in frames for _, _, row in pipeline.feed(frame)])
    assert np.isnan(forecasts[:30, 1:, [0, 2]]).all()
    assert np.isfinite(forecasts[:, :, 1]).all()
    bands = forecasts[300:]
    assert np.isfinite(bands).all()
    assert (np.diff(bands, axis=2) >= 0).all()
    for lead in (1, 2):  # that after frame t of frame t + 1 + lead
        lower, upper = (bands[: -1 - lead, lead, level] for level in (0, 2))
        actual = values[301 + lead :]
        assert 0.6 < np.mean((actual >= lower) & (actual <= upper)) < 0.97


def test_a_reused_slot_begins_from_nothing() -> None:
    """A stream in the slot of an evicted one is forecast as in a fresh engine."""
    config = StreamsConfig(capacity=1, max_channels=3, when_full=WhenFull.EVICT)
    pipeline, values = Pipeline(MODELS["independent, two layers"], config), recording(1, 6, 3)
    pipeline.feed(frames_of([b"old"] * 6, range(6), recording(2, 6, 3) * 1000))
    after = pipeline.forecasts([frames_of([b"new"] * 6, range(6), values)])
    fresh = Pipeline(MODELS["independent, two layers"], config)
    assert after == fresh.forecasts([frames_of([b"new"] * 6, range(6), values)])


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_frame_by_frame_equals_torch_over_packed_recordings(layers: int) -> None:
    """Stepping each frame gives what nn.LSTM gives over the padded and packed recordings, to float32 rounding."""
    spec = joint_spec(3, hidden=32, layers=layers)
    model = model_of(spec)
    lengths = [5, 30, 1, 17]
    recordings = [recording(seed, length, 3) for seed, length in enumerate(lengths)]
    padded = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(values) for values in recordings])
    packed = torch.nn.utils.rnn.pack_padded_sequence(padded, torch.tensor(lengths), enforce_sorted=False)
    states = torch.zeros(layers, len(lengths), spec.hidden_size)
    out, true_lengths = torch.nn.utils.rnn.pad_packed_sequence(plain_lstm(model)(packed, (states, states))[0])
    expected = out @ model.weights["linear.weight"].T + model.weights["linear.bias"]
    pipeline = Pipeline(model, CONFIG)
    for stream, values in enumerate(recordings):
        frames = frames_of([b"%d" % stream] * len(values), range(len(values)), values)
        for _, step, forecast in pipeline.feed(frames):
            np.testing.assert_allclose(forecast[0, 0], expected[step, stream].numpy(), atol=2e-6)
    assert true_lengths.tolist() == lengths


def test_a_filled_gap_is_stepped_with_the_streams_own_forecasts() -> None:
    """Two missed frames are stepped as if the stream had sent its forecasts."""
    config = StreamsConfig(capacity=4, max_channels=3, on_gap=OnGap.FILL, max_fill=2)
    values = recording(3, 5, 3)
    filled = Pipeline(MODELS["joint, one layer"], config)
    filled.feed(frames_of([b"a"] * 4, range(4), values[:4]))
    (_, _, after_gap), = filled.feed(frames_of([b"a"], [6], values[4:]))  # fmt: skip
    told = Pipeline(MODELS["joint, one layer"], config)
    (*_, (_, _, forecast)) = told.feed(frames_of([b"a"] * 4, range(4), values[:4]))
    for number in (4, 5):
        ((_, _, forecast),) = told.feed(frames_of([b"a"], [number], forecast[0]))
    ((_, _, expected),) = told.feed(frames_of([b"a"], [6], values[4:]))
    assert after_gap.tobytes() == expected.tobytes()


def test_a_missing_value_is_the_streams_own_forecast() -> None:
    """A NaN enters the model as what was forecast for it."""
    pipeline, told = (Pipeline(MODELS["joint, one layer"], CONFIG) for _ in range(2))
    values = recording(4, 3, 3)
    (*_, (_, _, forecast)) = told.feed(frames_of([b"a"] * 2, range(2), values[:2]))
    pipeline.feed(frames_of([b"a"] * 2, range(2), values[:2]))
    gap = values[2:].copy()
    gap[0, 1] = np.nan
    completed = np.where(np.isnan(gap), forecast[0], gap)
    (missing,), (whole,) = (
        pipeline.feed(frames_of([b"a"], [2], gap)),
        told.feed(frames_of([b"a"], [2], completed)),
    )
    assert missing[2].tobytes() == whole[2].tobytes()


def test_without_forecasts_of_its_inputs_a_missing_value_repeats_the_last() -> None:
    """Where outputs are not inputs, a NaN enters the model as the channel's last value."""
    pipeline, told = (Pipeline(MODELS["joint, other outputs"], CONFIG) for _ in range(2))
    values = recording(4, 3, 3)
    gap = values.copy()
    gap[1, 1] = gap[2, 1] = np.nan
    completed = values.copy()
    completed[1:, 1] = values[0, 1]
    missing = pipeline.forecasts([frames_of([b"a"] * 3, range(3), gap)])
    assert missing == told.forecasts([frames_of([b"a"] * 3, range(3), completed)])


@pytest.mark.parametrize("spec", ["joint, one layer", "independent, two layers"])
def test_a_longer_horizon_changes_nothing_but_adds_leads(spec: str) -> None:
    """The first lead and all that follow are the same with and without rolling."""
    values = recording(5, 20, 3)
    frames = frames_of([b"a"] * 20, range(20), values)
    one = Pipeline(MODELS[spec], CONFIG, horizon=1).feed(frames)
    four = Pipeline(MODELS[spec], CONFIG, horizon=4).feed(frames)
    for (_, _, short), (_, _, long) in zip(one, four, strict=True):
        assert long.shape[0] == 4
        assert short[0].tobytes() == long[0].tobytes()


def test_later_leads_are_the_model_fed_with_its_own_median() -> None:
    """Lead k of a point model is what it forecasts once it was given leads 1 to k-1 as frames."""
    values = recording(6, 8, 3)
    frames = frames_of([b"a"] * 8, range(8), values)
    (*_, (_, _, forecast)) = Pipeline(MODELS["joint, one layer"], CONFIG, horizon=3).feed(frames)
    told = Pipeline(MODELS["joint, one layer"], CONFIG)
    told.feed(frames)
    for lead in (0, 1):
        ((_, _, following),) = told.feed(frames_of([b"a"], [8 + lead], forecast[lead]))
        assert following[0].tobytes() == forecast[lead + 1].tobytes()


def test_beyond_the_first_lead_only_the_median_is_given() -> None:
    """Quantiles of later leads are not calibrated, so they are NaN."""
    frames = frames_of([b"a"] * 8, range(8), recording(6, 8, 2))
    for _, _, forecast in Pipeline(MODELS["independent, two layers"], CONFIG, horizon=3).feed(frames):
        assert np.isfinite(forecast[0]).all()
        assert np.isfinite(forecast[1:, 1]).all()
        assert np.isnan(forecast[1:, [0, 2]]).all()


def test_quantiles_never_cross() -> None:
    """The levels of a forecast ascend in every channel."""
    frames = frames_of([b"a"] * 50, range(50), recording(8, 50, 4))
    for _, _, forecast in Pipeline(MODELS["independent, two layers"], CONFIG).feed(frames):
        assert (np.diff(forecast[0], axis=0) >= 0).all()


@pytest.mark.parametrize("spec", SPECS)
def test_extreme_values_leave_the_state_finite_and_the_others_alone(spec: str) -> None:
    """Neither huge, tiny nor missing values make a state non-finite, and another stream does not notice."""
    hostile = np.array([3e38, -3e38, 1e-45, -0.0, np.nan, 1e30, -1e-30, 0.0], np.float32)
    values = recording(9, 40, 3)
    pipeline, quiet = Pipeline(MODELS[spec], CONFIG), Pipeline(MODELS[spec], CONFIG)
    rng = np.random.default_rng(0)
    for step in range(40):
        both = np.stack([values[step], rng.choice(hostile, 3)])
        good, _ = pipeline.feed(frames_of([b"good", b"bad"], [step, step], both))
        (expected,) = quiet.feed(frames_of([b"good"], [step], values[step : step + 1]))
        assert good[2].tobytes() == expected[2].tobytes()
    arena = pipeline.engine.arena
    assert all(np.isfinite(state).all() for state in (*arena.h, *arena.c, arena.guess))
    assert arena.normalizer is None or np.isfinite(arena.normalizer).all()


def step_one(pipeline: Pipeline, name: bytes, number: int) -> tuple[Stepped, Accepted]:
    """Step one frame of two channels and give what the stages said of it."""
    batch = frames_of([name], [number], np.ones((1, 2), np.float32))
    (admission,) = pipeline.admitter.admit(batch, 10**9)
    assert admission.accepted is not None
    return pipeline.engine.step(admission.accepted.steps), admission.accepted


def test_a_state_that_is_not_finite_begins_anew() -> None:
    """A poisoned state is thrown away, its frame is stepped from nothing, and the forecast says so."""
    model = model_of(joint_spec(2, hidden=4))
    pipeline, fresh = Pipeline(model, CONFIG), Pipeline(model, CONFIG)
    step_one(pipeline, b"a", 0)
    pipeline.engine.arena.c[0][:] = np.nan
    stepped, accepted = step_one(pipeline, b"a", 1)
    assert stepped.restarted is not None
    assert pipeline.admitter.began_anew(accepted, stepped.restarted).flags[0] & Flag.RESET
    assert stepped.forecast.tobytes() == step_one(fresh, b"x", 0)[0].forecast.tobytes()
    assert step_one(pipeline, b"a", 2)[0].forecast.tobytes() == step_one(fresh, b"x", 1)[0].forecast.tobytes()


def test_a_frame_that_cannot_be_stepped_has_no_forecast() -> None:
    """Where even a fresh state gives no finite output, the forecast is NaN and the state is empty."""
    model = model_of(joint_spec(2, hidden=4))
    model.weights["linear.weight"][:] = 3e38
    model.weights["linear.bias"][:] = 3e38
    pipeline = Pipeline(model, CONFIG)
    stepped, _ = step_one(pipeline, b"a", 0)
    assert stepped.restarted is not None
    assert np.isnan(stepped.forecast).all()
    assert not pipeline.engine.arena.h[0].any()


def test_long_gaps_may_reset() -> None:
    """With on_long_gap = reset a gap longer than max_fill begins the state anew."""
    config = StreamsConfig(capacity=4, max_channels=3, max_fill=2, on_long_gap=OnLongGap.RESET)
    values = recording(3, 5, 3)
    pipeline = Pipeline(MODELS["joint, one layer"], config)
    pipeline.feed(frames_of([b"a"] * 4, range(4), values[:4]))
    ((_, _, after),) = pipeline.feed(frames_of([b"a"], [99], values[4:]))
    ((_, _, fresh),) = Pipeline(MODELS["joint, one layer"], config).feed(frames_of([b"a"], [0], values[4:]))
    assert after.tobytes() == fresh.tobytes()


def test_specs_cover_what_they_say() -> None:
    """The models of these tests are both channel modes, one to three layers, and outputs unlike inputs."""
    assert {spec.channels for spec in SPECS.values()} == {"joint", "independent"}
    assert {spec.num_layers for spec in SPECS.values()} == {1, 2, 3}
    assert not all(map(_outputs_are_inputs, SPECS.values()))


def _outputs_are_inputs(spec: ModelSpec) -> bool:
    return spec.outputs_are_inputs
