"""The packed records of the wire format, and the frames of the load made of them.

Written from the format's description, not taken from the daemon: a benchmark that shared the daemon's code would not
notice what that code costs, nor what it does wrong.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

NUM_CHANNELS: Final = 8

FRAME: Final = np.dtype(
    {
        "names": [
            "magic",
            "channels",
            "flags",
            "frame",
            "timestamp_ns",
            "epoch",
            "reserved",
            "source",
            "values",
        ],
        "formats": ["S4", "<u2", "<u2", "<u8", "<i8", "<u4", "<u4", "S64", ("<f4", NUM_CHANNELS)],
        "offsets": [0, 4, 6, 8, 16, 24, 28, 32, 96],
        "itemsize": 96 + 4 * NUM_CHANNELS,
    }
)
"""A frame of 8 channels. Every byte belongs to a field: numpy copies no others."""


def forecast_dtype(num_quantiles: int) -> np.dtype[np.void]:
    """The record of a forecast one frame ahead, horizon 1: `num_quantiles` levels, 8 channels."""
    head = "magic S4, channels <u2, flags <u2, frame <u8, timestamp_ns <i8, epoch <u4, horizon <u2"
    head += ", num_quantiles <u2, source S64, model <u8, latency_ns <i8, count <u8"
    return np.dtype(
        [
            *((name, form) for name, form in (field.split(" ") for field in head.split(", "))),
            ("quantiles", "<f4", (num_quantiles,)),
            ("surprise", "<f4", (NUM_CHANNELS,)),
            ("values", "<f4", (NUM_CHANNELS,)),
            ("forecast", "<f4", (num_quantiles * NUM_CHANNELS,)),
        ]
    )


FORECAST: Final = forecast_dtype(1)
"""The forecast of a point model: the one level 0.5."""

RECORDS_PER_PART: Final = 256
"""Frames in a message of the `packed` load: 32 KiB, what a gateway collects in a few milliseconds."""

BYSTANDER_NS: Final = 1
"""The timestamp of frames that are not of the load: their forecasts are not measured."""


class Frames:
    """The endless sequence of a load's frames: one of every stream in turn, each stream numbered from 0."""

    _MIN_TEMPLATE: Final = 8192

    def __init__(self, num_streams: int, records_per_part: int) -> None:
        self._num_streams = num_streams
        self._records_per_part = records_per_part
        self._num_made = 0
        # The values come round after this many records; the number of a record's stream then comes round too.
        length = num_streams * -(-self._MIN_TEMPLATE // num_streams)
        index = np.arange(length)
        self._template: NDArray[np.void] = np.zeros(length, FRAME)
        self._template["magic"] = b"FTL1"
        self._template["channels"] = NUM_CHANNELS
        self._template["source"] = [
            f"stream-{stream:06d}".encode() for stream in (index % num_streams).tolist()
        ]
        phase = (
            (index % num_streams)[:, None]
            + np.arange(NUM_CHANNELS) * 0.7
            + 0.05 * (index // num_streams)[:, None]
        )
        self._template["values"] = np.sin(phase)

    def take(self, num_parts: int, due_ns: int | NDArray[np.int64]) -> list[bytes]:
        """The next parts of the sequence, their timestamps `due_ns`: of all, or [num_parts]."""
        num_records = num_parts * self._records_per_part
        index = np.arange(self._num_made, self._num_made + num_records)
        self._num_made += num_records
        records = self._template[index % len(self._template)]
        records["frame"] = index // self._num_streams
        records["timestamp_ns"] = (
            due_ns if isinstance(due_ns, int) else np.repeat(due_ns, self._records_per_part)
        )
        parts: list[bytes] = records.view(f"V{FRAME.itemsize * self._records_per_part}").tolist()
        return parts


def probe(number: int) -> bytes:
    """Frame `number` of a stream beside the load's, sent until its forecast says that both directions are open."""
    record = np.zeros(1, FRAME)
    record["magic"], record["channels"], record["source"], record["frame"] = (
        b"FTL1",
        NUM_CHANNELS,
        b"probe",
        number,
    )
    return record.tobytes()
