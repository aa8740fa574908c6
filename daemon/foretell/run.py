"""`foretell run`: from settings to a running loop and back, in order, with an honest exit.

HTTP comes first, so that readiness can say what is still missing; then the model, warmed up; the sockets last, so that
no frame is taken before it can be stepped.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import psutil
import torch

from foretell.admit import Admitter
from foretell.arena import bytes_per_row, rows_per_stream
from foretell.calibrate import CalibratorSpec
from foretell.choices import Device, Precision
from foretell.device import CPU, choose_device, describe_device, find_state_bytes, why_no_gpu
from foretell.device_engine import DeviceEngine
from foretell.device_step import device_bytes_per_row
from foretell.errors import ConfigError, ForetellError
from foretell.lead_arena import lead_bytes_per_row
from foretell.log import open_log
from foretell.loop import Loop
from foretell.model import Channels, Model, load_model
from foretell.observe import ModelFacts, Observer
from foretell.process import tuned
from foretell.seating import Streams
from foretell.serve import serve
from foretell.service import ServiceManager
from foretell.sockets import open_context
from foretell.step import Engine

if TYPE_CHECKING:
    from foretell.config import Config, ForecastConfig
    from foretell.stop import StopSignals

_THREADED_HIDDEN_SIZE = 128
"""From this hidden size on a step is large enough to gain from a second thread."""

_FAULT_OF_OUR_OWN = 70


def run(config: Config, stop: StopSignals) -> int:
    """Be the daemon until `stop` is set; the exit status.

    Raises ConfigError and EndpointError for what keeps it from starting. Any other exception is a fault of our own: it
    is logged with its traceback, and the status is 70.
    """
    observer = Observer(
        open_log(config.log, sys.stderr), capacity=config.streams.capacity, watched=config.metrics.streams
    )
    try:
        _run(config, stop, observer)
    except ForetellError:
        raise
    except Exception as error:  # noqa: BLE001 - the last resort of a process that nobody watches
        observer.failed(error)
        return _FAULT_OF_OUR_OWN
    return 0


def _run(config: Config, stop: StopSignals, observer: Observer) -> None:
    manager = ServiceManager()
    observer.starting()
    with serve(config.metrics.endpoint, observer.registry, observer.status, observer.log) as server:
        if server.endpoint:
            observer.log.info("serving", endpoint=server.endpoint)
        device = choose_device(config.model.device)
        if config.model.device is Device.AUTO:
            reason = "there is a GPU" if device.type == "cuda" else why_no_gpu()
            observer.log.info("device_chosen", device=describe_device(device), reason=reason)
        model = as_set(load_model(config.model.path), config.forecast)
        check_together(config, model, device)
        num_rows = count_rows(config, model, device)
        engine = open_engine(config, model, num_rows, device)
        if not stop.is_set:
            engine.warm_up()
            observer.log.info("warmed_up", **engine.timing)
        observer.model_loaded(
            describe_model(config, model, engine, device),
            model.spec.quantiles,
            is_calibrated=model.spec.calibrator is not None,
        )
        if stop.is_set:
            return
        with open_context() as context:
            admitter = Admitter(config.streams, describe_streams(model, num_rows))
            loop = Loop(config, model, context, engine=engine, admitter=admitter, observer=observer)
            try:
                _turn(loop, stop, observer, manager)
            finally:
                loop.close()
        observer.stopped()


def _turn(loop: Loop, stop: StopSignals, observer: Observer, manager: ServiceManager) -> None:
    """Let the loop turn, and tell the service manager and the log how it goes."""
    observer.ready(loop.receiver.endpoints, loop.publisher.endpoint)
    manager.notify_ready(f"forecasting to {loop.publisher.endpoint}")
    due_s = 0.0

    def feed_watchdog() -> None:
        nonlocal due_s
        if manager.watchdog_interval_s is not None and time.monotonic() >= due_s:
            due_s = time.monotonic() + manager.watchdog_interval_s
            manager.notify_alive()

    with tuned():
        loop.run(stop, feed_watchdog)
    observer.stopping(stop.name)
    manager.notify_stopping(f"stopping: {stop.name}")


def open_engine(config: Config, model: Model, num_rows: int, device: torch.device) -> Engine | DeviceEngine:
    """The engine for the device, its memory reserved. Raises ConfigError where a GPU's does not suffice."""
    horizon = config.forecast.horizon
    if device.type == "cuda":
        return DeviceEngine(model, num_rows, horizon, device)
    num_threads = choose_num_threads(config, model)
    torch.set_num_threads(num_threads)
    return Engine(model, num_rows, horizon, precision=config.model.precision, num_threads=num_threads)


def as_set(model: Model, config: ForecastConfig) -> Model:
    """The model with its calibration as the settings have it."""
    calibrator = model.spec.calibrator
    if calibrator is None:
        return model
    if not config.calibrate:
        calibrator = None
    else:
        calibrator = CalibratorSpec(
            habit_half_life=config.habit_half_life_frames or calibrator.habit_half_life,
            trust_half_life=config.trust_half_life_frames or calibrator.trust_half_life,
        )
    return replace(model, spec=msgspec.structs.replace(model.spec, calibrator=calibrator))


def describe_model(
    config: Config, model: Model, engine: Engine | DeviceEngine, device: torch.device
) -> ModelFacts:
    """What log and metrics say of the model."""
    spec = model.spec
    return ModelFacts(
        source=config.model.path,
        fingerprint=f"{model.fingerprint:016x}",
        channels=spec.channels,
        layers=str(spec.num_layers),
        hidden_size=str(spec.hidden_size),
        quantiles=",".join(f"{level:g}" for level in spec.quantiles),
        kernel=engine.kernel,
        reason=engine.reason,
        precision=config.model.precision,
        device=describe_device(device),
    )


def choose_num_threads(config: Config, model: Model) -> int:
    """Threads that step the model: as set, or one for small models, which only lose by more."""
    if config.model.threads:
        return config.model.threads
    return (os.cpu_count() or 1) if model.spec.hidden_size >= _THREADED_HIDDEN_SIZE else 1


def count_rows(config: Config, model: Model, device: torch.device = CPU) -> int:
    """Rows of state to reserve: for as many and as wide streams as are allowed, within `streams.max_state_bytes`.

    On a GPU also within a share of its free memory, for there what is reserved is taken. Raises ConfigError where not
    even one frame of the model fits.
    """
    streams = config.streams
    if device.type == "cuda":
        free, a_row = find_state_bytes(device), device_bytes_per_row(model)
        limit = min(streams.max_state_bytes or free, free)
    else:
        limit, a_row = streams.max_state_bytes or find_memory_bytes() // 2, bytes_per_row(model)
    a_row += lead_bytes_per_row(model.spec, config.forecast.horizon)
    wanted = streams.capacity * rows_per_stream(model, streams.max_channels)
    affordable = limit // a_row
    if affordable < 1:
        raise ConfigError(
            f"streams.max_state_bytes = {streams.max_state_bytes}: one state of this model takes "
            f"{a_row} bytes; allowed is that or more, or 0 for half of the memory"
        )
    return min(wanted, affordable)


def find_memory_bytes(
    cgroup_file: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")
) -> int:
    """Bytes of memory that this process may use: the machine's, or fewer where its control group has fewer."""
    limits = [psutil.virtual_memory().total]
    with contextlib.suppress(OSError):
        unified = next(
            (line[3:] for line in cgroup_file.read_text().splitlines() if line.startswith("0::")), "/"
        )
        group = root / unified.lstrip("/")
        for folder in (group, *group.parents):
            if not folder.is_relative_to(root):
                break
            with contextlib.suppress(OSError, ValueError):  # "max" is no number and no limit
                limits.append(int((folder / "memory.max").read_text()))
    return min(limits)


def check_together(config: Config, model: Model, device: torch.device = CPU) -> None:
    """Raise ConfigError for settings that do not go with the model or the device."""
    spec = model.spec
    if device.type == "cuda" and config.model.precision is not Precision.FLOAT32:
        raise ConfigError(
            f'model.precision = "{config.model.precision}": a GPU steps in float32; allowed there is "float32"'
        )
    if config.forecast.horizon > 1 and not spec.outputs_are_inputs:
        raise ConfigError(
            f"forecast.horizon = {config.forecast.horizon}: the model has {spec.input_channels} inputs and "
            f"{spec.output_channels} outputs, so it cannot go on from its own forecast; allowed is 1"
        )
    if spec.channels is Channels.JOINT and spec.input_channels > config.streams.max_channels:
        raise ConfigError(
            f"streams.max_channels = {config.streams.max_channels}: the model takes frames of "
            f"{spec.input_channels} channels; allowed is that or more"
        )


def describe_streams(model: Model, num_rows: int) -> Streams:
    """What admission needs to know of a model."""
    spec = model.spec
    is_independent = spec.channels is Channels.INDEPENDENT
    return Streams(
        num_channels=None if is_independent else spec.input_channels,
        rows_a_channel=is_independent,
        can_fill=spec.outputs_are_inputs,
        warm_up=spec.warm_up,
        num_rows=num_rows,
    )
