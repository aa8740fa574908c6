"""The device: what is asked for and cannot be had stops the start, and a GPU's memory bounds the rows."""

from __future__ import annotations

import pytest
import torch

from foretell.choices import Device, Precision
from foretell.config import Config, ModelConfig, StreamsConfig
from foretell.device import CPU, STATE_SHARE, choose_device, describe_device, naming_what_takes_memory
from foretell.device_engine import DeviceEngine
from foretell.device_step import device_bytes_per_row
from foretell.errors import ConfigError
from foretell.run import check_together, count_rows, describe_model, open_engine
from foretell.step import Engine
from small_models import joint_spec, model_of

CUDA = torch.device("cuda", 0)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without a GPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that says it has a GPU, with 1 MB free of 2."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (1_000_000, 2_000_000))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Testing 1")


def test_cpu_is_cpu_whatever_there_is(gpu: None) -> None:
    """The default never goes to a GPU."""
    assert choose_device(Config().model.device) == CPU


def test_auto_is_the_gpu_where_there_is_one(gpu: None) -> None:
    """With auto a GPU that can be used is used."""
    assert choose_device(Device.AUTO) == CUDA
    assert describe_device(CUDA) == "cuda: Testing 1"


def test_auto_is_the_cpu_where_there_is_no_gpu(no_gpu: None) -> None:
    """With auto a machine without a GPU is none the worse for it."""
    assert choose_device(Device.AUTO) == CPU


def test_a_gpu_that_cannot_be_had_is_a_mistake(no_gpu: None) -> None:
    """With cuda and no GPU the daemon does not start, and says what is allowed instead."""
    with pytest.raises(ConfigError, match=r'model\.device = "cuda": .*allowed here is "cpu" or "auto"'):
        choose_device(Device.CUDA)


def test_a_share_of_the_free_memory_bounds_the_rows(gpu: None) -> None:
    """On a GPU memory is taken when it is reserved, so no more than a share of what is free is."""
    model = model_of(joint_spec())
    config = Config(streams=StreamsConfig(capacity=1_000_000))
    assert count_rows(config, model, CUDA) == int(STATE_SHARE * 1_000_000) // device_bytes_per_row(model)


def test_a_smaller_limit_of_ones_own_bounds_the_rows(gpu: None) -> None:
    """streams.max_state_bytes holds on a GPU too, as far as there is memory."""
    model = model_of(joint_spec())
    a_row = device_bytes_per_row(model)
    for limit, num_rows in ((5 * a_row, 5), (2**40, int(STATE_SHARE * 1_000_000) // a_row)):
        config = Config(streams=StreamsConfig(capacity=1_000_000, max_state_bytes=limit))
        assert count_rows(config, model, CUDA) == num_rows


def test_a_gpu_steps_in_float32(gpu: None) -> None:
    """bfloat16 weights are for the CPU: with a GPU they stop the start."""
    config = Config(model=ModelConfig(precision=Precision.BFLOAT16))
    check_together(config, model_of(joint_spec()))
    with pytest.raises(ConfigError, match=r'model\.precision = "bfloat16": .*allowed there is "float32"'):
        check_together(config, model_of(joint_spec()), CUDA)


def test_a_gpu_out_of_memory_says_what_to_set() -> None:
    """The error names the states, their size and the settings that they come from."""
    with (
        pytest.raises(ConfigError, match=r"5 states of 64 bytes.*streams\.capacity"),
        naming_what_takes_memory(5, 64),
    ):
        raise torch.OutOfMemoryError("CUDA out of memory")


def test_the_cpu_has_its_own_engine() -> None:
    """Without a GPU the engine is that of the CPU, and the model's facts say so."""
    model = model_of(joint_spec())
    engine = open_engine(Config(), model, 3, CPU)
    assert isinstance(engine, Engine)
    assert describe_model(Config(), model, engine, CPU).device == "cpu"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that torch can use")
def test_a_gpu_has_its_own_engine() -> None:
    """With a GPU the engine is that of the GPU, and the model's facts name it."""
    model = model_of(joint_spec())
    engine = open_engine(Config(), model, 3, CUDA)
    assert isinstance(engine, DeviceEngine)
    assert describe_model(Config(), model, engine, CUDA).device.startswith("cuda: ")
