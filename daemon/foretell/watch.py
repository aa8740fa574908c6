"""`foretell watch`: a live view of any daemon, from its forecasts alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from foretell.client import Subscriber
from foretell.interrupt import stop_on_signals
from foretell.tally import Tally
from foretell.view import Scene, View, plain_line, save_svg
from foretell.wire import ForecastBatch

_TURN_S = 0.02

Latencies = NDArray[np.int64]


def watch(
    endpoint: str,
    *,
    stream: str | None = None,
    channel: int = 0,
    seconds: float | None = None,
    svg_path: Path | None = None,
) -> int:
    """Show forecasts until Ctrl-C or for so many seconds, then sum them up in a line.

    stream: follow this one only. svg_path: a picture of the view is written there at the end. Raises EndpointError,
    and ConfigError where the picture cannot be written.
    """
    tally = Tally()
    scene = Scene(f"foretell watch {endpoint}", channel=channel)
    end_s = None if seconds is None else time.monotonic() + seconds
    with (
        stop_on_signals() as stopping,
        Subscriber(endpoint, streams=() if stream is None else (stream,)) as subscriber,
        View(scene, Console()) as view,
    ):

        def is_over() -> bool:
            return stopping.is_set() or (end_s is not None and time.monotonic() >= end_s)

        follow(subscriber, tally, view, is_over)
    print(plain_line(tally, None))
    if svg_path is not None:
        save_svg(svg_path, tally, scene)
    return 0


def follow(subscriber: Subscriber, tally: Tally, view: View, is_over: Callable[[], bool]) -> None:
    """Take forecasts in and draw them until `is_over()`, which is asked at every turn, about 50 times a second.

    A turn takes all that has arrived at once: an onlooker must not take from the daemon the CPU that it looks at.
    """
    while not is_over():
        end_s = time.monotonic() + _TURN_S
        for batch, latency_ns in merge(subscriber.receive(timeout_s=_TURN_S)):
            tally.add(batch, latency_ns)
        view.refresh(tally)
        time.sleep(max(0.0, end_s - time.monotonic()))


def merge(received: Iterable[tuple[ForecastBatch, Latencies]]) -> list[tuple[ForecastBatch, Latencies]]:
    """The same forecasts in as few batches as there are shapes and models, each stream's in order."""
    alike: dict[Hashable, list[tuple[ForecastBatch, Latencies]]] = {}
    for batch, latency_ns in received:
        shape = (batch.forecast.shape[1:], batch.quantiles.tobytes(), batch.model)
        alike.setdefault(shape, []).append((batch, latency_ns))
    return [_concatenate(parts) if len(parts) > 1 else parts[0] for parts in alike.values()]


def _concatenate(parts: Sequence[tuple[ForecastBatch, Latencies]]) -> tuple[ForecastBatch, Latencies]:
    batches = [batch for batch, _ in parts]
    merged = ForecastBatch(
        names=[name for batch in batches for name in batch.names],
        frame=np.concatenate([batch.frame for batch in batches]),
        timestamp_ns=np.concatenate([batch.timestamp_ns for batch in batches]),
        epoch=np.concatenate([batch.epoch for batch in batches]),
        flags=np.concatenate([batch.flags for batch in batches]),
        count=np.concatenate([batch.count for batch in batches]),
        values=np.concatenate([batch.values for batch in batches]),
        surprise=np.concatenate([batch.surprise for batch in batches]),
        forecast=np.concatenate([batch.forecast for batch in batches]),
        quantiles=batches[0].quantiles,
        model=batches[0].model,
    )
    return merged, np.concatenate([latency_ns for _, latency_ns in parts])
