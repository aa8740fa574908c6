"""The echo: a loop that forecasts that the next frame is this one. What sockets and records alone take."""

from __future__ import annotations

import time

import numpy as np

from benchmarks.contender import BATCH_TOPIC, Publish, serve
from benchmarks.records import FORECAST, FRAME, NUM_CHANNELS


class EchoLoop:
    """A turn of the loop: every frame is its own forecast."""

    def __init__(self, *, is_packed: bool) -> None:
        self._is_packed = is_packed

    def turn(self, parts: list[bytes], publish: Publish) -> None:
        """From the parts of a batch to its forecasts, published in order of arrival."""
        received_ns = time.monotonic_ns()
        frames = np.frombuffer(b"".join(parts), FRAME)
        out = np.zeros(len(frames), FORECAST)
        out["magic"], out["channels"] = b"FTC1", NUM_CHANNELS
        out["horizon"], out["num_quantiles"], out["quantiles"] = 1, 1, 0.5
        out["surprise"] = np.nan
        for field in ("frame", "timestamp_ns", "epoch", "source", "values"):
            out[field] = frames[field]
        out["forecast"] = frames["values"]
        out["latency_ns"] = time.monotonic_ns() - received_ns
        if self._is_packed:
            publish(BATCH_TOPIC, out.data.cast("B"))
        else:
            for name, body in zip(
                frames["source"].tolist(), out.view(f"V{FORECAST.itemsize}").tolist(), strict=True
            ):
                publish(name, body)


if __name__ == "__main__":
    serve(lambda task: EchoLoop(is_packed=task.is_packed).turn, __doc__)
