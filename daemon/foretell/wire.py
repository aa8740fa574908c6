"""The wire format: bytes to frames and forecasts to bytes, both directions, both forms."""

from __future__ import annotations

from foretell.wire_types import (
    ARRAY_START,
    BATCH_TOPIC,
    PACKED_FORECAST,
    PACKED_FRAME,
    TOPIC_MAX_BYTES,
    Array,
    Decoded,
    Flag,
    ForecastBatch,
    FrameBatch,
    Refusal,
    is_valid_name,
)

__all__ = [
    "ARRAY_START",
    "BATCH_TOPIC",
    "PACKED_FORECAST",
    "PACKED_FRAME",
    "TOPIC_MAX_BYTES",
    "Array",
    "Decoded",
    "Flag",
    "ForecastBatch",
    "FrameBatch",
    "Refusal",
    "is_valid_name",
]
