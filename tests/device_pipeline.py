"""The engine for a GPU behind the stages before it; without a GPU it runs on the CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import pytest
import torch

from foretell.config import StreamsConfig
from foretell.device_engine import DeviceEngine
from pipeline import Pipeline

if TYPE_CHECKING:
    from foretell.model import Model

CONFIG: Final = StreamsConfig(capacity=40, max_channels=8)

DEVICES: Final = [
    "cpu",
    pytest.param(
        "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that torch can use")
    ),
]
"""Names of devices, as parameters of a test."""


class DevicePipeline(Pipeline):
    """Admission and the engine for a device."""

    def __init__(
        self, model: Model, device: torch.device, config: StreamsConfig = CONFIG, horizon: int = 1
    ) -> None:
        super().__init__(model, config, horizon)
        self.device_engine = engine_of(model, device, horizon)
        self.step = self.device_engine.step


_ENGINES: dict[tuple[int, str, int], tuple[Model, DeviceEngine]] = {}


def engine_of(model: Model, device: torch.device, horizon: int = 1, num_rows: int = 200) -> DeviceEngine:
    """An engine whose states are empty; graphs are captured once for all tests."""
    key = (id(model), device.type, horizon)
    if key not in _ENGINES:
        _ENGINES[key] = model, DeviceEngine(model, num_rows, horizon, device)
        _ENGINES[key][1].warm_up()
    engine = _ENGINES[key][1]
    engine.arena.restart(np.arange(num_rows))
    if engine._leads is not None:
        engine._leads.restart(np.arange(num_rows))
    return engine
