"""What can be set: one frozen struct a stage, each key with its default, its range, its unit and its description.

This file is the one place that says so: `configs/default.toml` and the table in `configs/README.md` are made from it
(`scripts/configs`), and a test keeps them equal. How settings are read and reported stands in `settings.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct

from foretell.choices import (
    Device,
    LogFormat,
    LogLevel,
    Mode,
    OnEpoch,
    OnGap,
    OnLongGap,
    OnMissing,
    OutputFormat,
    Precision,
    WhenFull,
)
from foretell.endpoints import HTTP_ALLOWED, ZMQ_ALLOWED, is_http_endpoint, is_zmq_endpoint
from foretell.settings import Conflict, Key, build_struct, conflict_error, keys_of, read_settings

_NAMES_ALLOWED = (
    "up to 100 names, each once: 1 to 64 bytes of UTF-8 without control characters, "
    "not beginning with {, FTL1, FTC1 or *"
)
_PACKED_HEADER_BYTES = 96  # of a packed record, before its values
_FLOAT32_BYTES = 4
_LEAST_HALF_LIFE = 16.0


def _range(low: int, high: int, unit: str) -> Meta:
    return Meta(ge=low, le=high, extra={"unit": unit})


# What values may be. A key is one of these and what it is for.
Streams = Annotated[int, _range(1, 10_000_000, "streams")]
Channels = Annotated[int, _range(1, 4096, "channels")]
Frames = Annotated[int, _range(1, 65_536, "frames")]
Fill = Annotated[int, _range(1, 1024, "frames")]
Horizon = Annotated[int, _range(1, 64, "frames")]
Messages = Annotated[int, _range(1, 100_000_000, "messages")]
PartBytes = Annotated[int, _range(4096, 2**30, "bytes")]
StateBytes = Annotated[int, _range(0, 2**50, "bytes")]
Threads = Annotated[int, _range(0, 1024, "threads")]
Interval = Annotated[int, _range(1, 3_600_000, "ms")]
IntervalOrNone = Annotated[int, _range(0, 3_600_000, "ms")]
Linger = Annotated[int, _range(0, 60_000, "ms")]
Spin = Annotated[int, _range(0, 1_000_000, "us")]
HalfLife = Annotated[float, Meta(ge=0, le=1_000_000, extra={"unit": "frames"})]
Timeout = Annotated[float, _range(0, 1_000_000_000, "s")]
Endpoint = Annotated[str, Meta(extra={"allowed": ZMQ_ALLOWED})]
HttpEndpoint = Annotated[str, Meta(extra={"allowed": HTTP_ALLOWED})]
Endpoints = Annotated[
    tuple[str, ...], Meta(min_length=1, max_length=64, extra={"allowed": f"1 to 64 times {ZMQ_ALLOWED}"})
]
Prefixes = Annotated[
    tuple[str, ...], Meta(min_length=1, max_length=1000, extra={"allowed": "1 to 1000 prefixes"})
]
StreamNames = Annotated[tuple[str, ...], Meta(max_length=100, extra={"allowed": _NAMES_ALLOWED})]
ModelPath = Annotated[
    str,
    Meta(
        pattern=r"^[^\x00]+$",
        extra={"allowed": '"builtin", "builtin-small" or the path of a .safetensors file'},
    ),
]


class InputConfig(Struct, frozen=True, kw_only=True):
    """Where frames come from."""

    endpoints: Annotated[Endpoints, "Where frames arrive."] = ("tcp://127.0.0.1:5555",)
    mode: Annotated[Mode, "Whether foretell waits for its producers or goes to them."] = Mode.BIND
    subscribe: Annotated[Prefixes, 'Prefixes of the topics wanted; "" is every topic.'] = ("",)
    high_water_mark: Annotated[
        Messages, "What libzmq holds for each producer while the loop is busy; beyond, frames are lost."
    ] = 100_000
    max_message_bytes: Annotated[
        PartBytes, "The largest part of a message; a producer that sends a larger one is disconnected."
    ] = 1_048_576
    heartbeat_interval_ms: Annotated[
        IntervalOrNone, "How often a connection is asked whether it lives; 0 is never."
    ] = 5_000
    heartbeat_timeout_ms: Annotated[Interval, "A connection that gives no answer for so long is closed."] = (
        15_000
    )
    handshake_interval_ms: Annotated[
        Interval, "A connection that has not introduced itself within this time is closed."
    ] = 10_000
    reconnect_interval_ms: Annotated[
        Interval, "The first wait before connecting again; it doubles with every attempt."
    ] = 100
    reconnect_interval_max_ms: Annotated[Interval, "The longest wait before connecting again."] = 5_000


class StreamsConfig(Struct, frozen=True, kw_only=True):
    """How many streams there may be, and what becomes of their states."""

    capacity: Annotated[Streams, "The most streams at a time."] = 4096
    max_channels: Annotated[Channels, "The most channels of a frame."] = 64
    max_state_bytes: Annotated[
        StateBytes, "The most memory for states; 0 is half of the machine's, or 3/4 of what a GPU has free."
    ] = 0
    when_full: Annotated[
        WhenFull, "A new stream while all slots are taken is refused, or evicts the longest idle one."
    ] = WhenFull.REFUSE
    idle_timeout_s: Annotated[Timeout, "A stream without frames for so long is evicted; 0 is never."] = 0.0
    on_gap: Annotated[
        OnGap, "Missed frames are filled in by the stream's own forecasts, passed over, or reset the state."
    ] = OnGap.FILL
    max_fill: Annotated[Fill, "The longest gap that is filled."] = 4
    on_long_gap: Annotated[OnLongGap, "A longer gap is passed over, or resets the state."] = OnLongGap.CARRY
    on_epoch: Annotated[OnEpoch, "A producer's new start is passed over, or resets the state."] = (
        OnEpoch.CARRY
    )
    on_missing: Annotated[
        OnMissing, "A missing value is imputed by the stream's own forecast, or the frame is refused."
    ] = OnMissing.IMPUTE
    restart_after: Annotated[
        Frames, "So many late frames in a row, each the last one's number plus one, begin a new epoch."
    ] = 16


class BatchConfig(Struct, frozen=True, kw_only=True):
    """What one turn of the loop carries."""

    max_frames: Annotated[Frames, "The most frames that one turn of the loop carries."] = 4096
    spin_us: Annotated[
        Spin,
        "How long the loop looks for frames without sleeping once none is there; trades CPU for latency.",
    ] = 0


class ModelConfig(Struct, frozen=True, kw_only=True):
    """Which model makes the forecasts."""

    path: Annotated[ModelPath, "The model."] = "builtin"
    device: Annotated[
        Device, "What steps the model and holds the states; auto is cuda where a GPU can be used, else cpu."
    ] = Device.CPU
    threads: Annotated[Threads, "Threads that step the model; 0 lets foretell choose."] = 0
    precision: Annotated[
        Precision, "Numbers of the weights; bfloat16 is faster for large models and less exact."
    ] = Precision.FLOAT32


class ForecastConfig(Struct, frozen=True, kw_only=True):
    """How far ahead, and what a stream's own past corrects."""

    horizon: Annotated[Horizon, "How many frames ahead each forecast reaches."] = 1
    calibrate: Annotated[
        bool,
        "Whether forecasts are corrected by what each stream really does, where the model's file says so.",
    ] = True
    habit_half_life_frames: Annotated[
        HalfLife, "When what was seen of a stream's habits counts half; 0 is as the model's file says."
    ] = 0.0
    trust_half_life_frames: Annotated[
        HalfLife, "The same of what each way to forecast was worth, and of the errors."
    ] = 0.0


class OutputConfig(Struct, frozen=True, kw_only=True):
    """Where forecasts go."""

    endpoint: Annotated[Endpoint, "Where forecasts are published."] = "tcp://127.0.0.1:5556"
    mode: Annotated[Mode, "Whether foretell waits for its subscribers or goes to them."] = Mode.BIND
    format: Annotated[OutputFormat, "A JSON header and an array, or packed records."] = OutputFormat.ARRAY
    batch: Annotated[
        bool, 'One message for all forecasts of a batch, under the topic "*"; with format packed only.'
    ] = False
    topic: Annotated[
        bool, "Whether the stream's name comes first; readers of array-1.0 such as mflow want it not."
    ] = True
    high_water_mark: Annotated[
        Messages, "What libzmq holds for each subscriber; beyond, a slow one loses forecasts."
    ] = 100_000
    linger_ms: Annotated[Linger, "How long the exit waits for forecasts that are still being sent."] = 1_000


class MetricsConfig(Struct, frozen=True, kw_only=True):
    """Where metrics and health are served, and of which streams singly."""

    endpoint: Annotated[HttpEndpoint, "Where metrics, health and readiness are served."] = (
        "http://127.0.0.1:9797"
    )
    streams: Annotated[
        StreamNames, "Streams whose values, forecasts, bands and surprise are metrics; 5,000 series at most."
    ] = ()


class LogConfig(Struct, frozen=True, kw_only=True):
    """What is written to stderr."""

    level: Annotated[LogLevel, "The least severe event that is logged."] = LogLevel.INFO
    format: Annotated[
        LogFormat, "Lines for people, or one JSON object a line; auto is the former on a terminal."
    ] = LogFormat.AUTO


class Config(Struct, frozen=True, kw_only=True):
    """All settings of a daemon; each stage is given its own part only."""

    input: InputConfig = InputConfig()
    streams: StreamsConfig = StreamsConfig()
    batch: BatchConfig = BatchConfig()
    model: ModelConfig = ModelConfig()
    forecast: ForecastConfig = ForecastConfig()
    output: OutputConfig = OutputConfig()
    metrics: MetricsConfig = MetricsConfig()
    log: LogConfig = LogConfig()


KEYS: Mapping[str, Key] = keys_of(Config)


def load_config(path: Path | None, overrides: Sequence[str], environ: Mapping[str, str]) -> Config:
    """Settings by precedence: `overrides` (section.key=value), `environ` (FORETELL_SECTION__KEY), file, default.

    Nothing is opened but the file. Raises `ConfigError` for the first fault (an unknown key, a value out of its
    range, values that do not go together, a file that is not TOML); its text is one line that names where, the key,
    the value and what is allowed.
    """
    settings = read_settings(KEYS, path, overrides, environ)
    config = build_struct(Config, settings)
    for conflict in _find_conflicts(config):
        raise conflict_error(KEYS, settings, conflict)
    return config


def _are_names(names: Sequence[str]) -> bool:
    from foretell.wire import is_valid_name  # with numpy, which only those wait for who name streams

    return len(set(names)) == len(names) and all(is_valid_name(name.encode()) for name in names)


def _find_conflicts(config: Config) -> Iterator[Conflict]:
    source, output = config.input, config.output
    yield from _find_too_short(config.forecast)
    if not all(is_zmq_endpoint(endpoint, binds=source.mode is Mode.BIND) for endpoint in source.endpoints):
        yield Conflict(("input.endpoints", "input.mode"), ZMQ_ALLOWED)
    if len(set(source.endpoints)) < len(source.endpoints):
        yield Conflict(("input.endpoints",), "each endpoint once")
    if not is_zmq_endpoint(output.endpoint, binds=output.mode is Mode.BIND):
        yield Conflict(("output.endpoint", "output.mode"), ZMQ_ALLOWED)
    if config.metrics.endpoint and not is_http_endpoint(config.metrics.endpoint):
        yield Conflict(("metrics.endpoint",), HTTP_ALLOWED)
    if config.metrics.streams and not _are_names(config.metrics.streams):
        yield Conflict(("metrics.streams",), _NAMES_ALLOWED)
    if source.heartbeat_timeout_ms < source.heartbeat_interval_ms:
        yield Conflict(
            ("input.heartbeat_timeout_ms", "input.heartbeat_interval_ms"), "a timeout not below the interval"
        )
    if source.reconnect_interval_max_ms < source.reconnect_interval_ms:
        keys = ("input.reconnect_interval_max_ms", "input.reconnect_interval_ms")
        yield Conflict(keys, "a longest wait not below the first")
    frame_bytes = _PACKED_HEADER_BYTES + _FLOAT32_BYTES * config.streams.max_channels
    if source.max_message_bytes < frame_bytes:
        keys = ("input.max_message_bytes", "streams.max_channels")
        yield Conflict(keys, f"room for one frame of all channels, {frame_bytes} bytes")
    if output.batch and output.format is not OutputFormat.PACKED:
        yield Conflict(
            ("output.batch", "output.format"), f'batch = true with format = "{OutputFormat.PACKED}" only'
        )


def _find_too_short(forecast: ForecastConfig) -> Iterator[Conflict]:
    for name in ("habit_half_life_frames", "trust_half_life_frames"):
        if 0.0 < getattr(forecast, name) < _LEAST_HALF_LIFE:
            yield Conflict((f"forecast.{name}",), f"0, or {_LEAST_HALF_LIFE:g} and more")
