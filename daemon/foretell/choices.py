"""What the settings that are a choice can be; each word as it stands in the file."""

from __future__ import annotations

import enum


class Mode(enum.StrEnum):
    """Which end of a connection waits for the other."""

    BIND = "bind"
    CONNECT = "connect"


class WhenFull(enum.StrEnum):
    """What becomes of a new stream when every slot is taken."""

    REFUSE = "refuse"
    EVICT = "evict"


class OnGap(enum.StrEnum):
    """What becomes of a stream's state when frames are missing."""

    FILL = "fill"
    CARRY = "carry"
    RESET = "reset"


class OnLongGap(enum.StrEnum):
    """What becomes of a stream's state when more frames are missing than are filled."""

    CARRY = "carry"
    RESET = "reset"


class OnEpoch(enum.StrEnum):
    """What becomes of a stream's state when its producer starts again."""

    CARRY = "carry"
    RESET = "reset"


class Precision(enum.StrEnum):
    """Numbers of the model's weights, and of what they are multiplied with; sums and states are float32 always."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


class Device(enum.StrEnum):
    """What steps the model."""

    CPU = "cpu"
    CUDA = "cuda"
    AUTO = "auto"


class OnMissing(enum.StrEnum):
    """What becomes of a frame with missing values."""

    IMPUTE = "impute"
    REFUSE = "refuse"


class OutputFormat(enum.StrEnum):
    """The form in which forecasts are published."""

    ARRAY = "array-1.0"
    PACKED = "packed"


class LogLevel(enum.StrEnum):
    """The least severe event that is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(enum.StrEnum):
    """How an event is written to stderr."""

    AUTO = "auto"
    CONSOLE = "console"
    JSON = "json"
