"""The stages between the sockets, wired for tests: frames in, forecasts out, no clock and no socket."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from foretell.admit import Admitter
from foretell.config import StreamsConfig
from foretell.model import Channels, Model
from foretell.seating import Streams
from foretell.step import Engine
from foretell.wire import FrameBatch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from foretell.admission import Accepted
    from foretell.stepped import Stepped

Forecasts = dict[tuple[bytes, int], bytes]


class Pipeline:
    """Admission and engine for one model; `step` may be another engine's."""

    def __init__(self, model: Model, config: StreamsConfig, horizon: int = 1, num_rows: int = 200) -> None:
        spec = model.spec
        is_independent = spec.channels is Channels.INDEPENDENT
        streams = Streams(
            num_channels=None if is_independent else spec.input_channels,
            rows_a_channel=is_independent,
            can_fill=spec.outputs_are_inputs,
            warm_up=spec.warm_up,
            num_rows=num_rows,
        )
        self.admitter = Admitter(config, streams)
        self.engine = Engine(model, num_rows, horizon)
        self.step = self.engine.step
        self.now_ns = 1

    def step_all(self, batch: FrameBatch) -> Iterator[tuple[Accepted, Stepped]]:
        """What was accepted of a batch, and what stepping it gave."""
        for admission in self.admitter.admit(batch, self.now_ns):
            if admission.accepted is not None:
                yield admission.accepted, self.step(admission.accepted.steps)
        self.now_ns += 10_000

    def feed(self, batch: FrameBatch) -> list[tuple[bytes, int, NDArray[np.float32]]]:
        """Name, number and forecast [horizon, quantiles, channels] of each accepted frame of a batch."""
        return [
            row
            for accepted, stepped in self.step_all(batch)
            for row in zip(accepted.names, accepted.frame.tolist(), stepped.forecast, strict=True)
        ]

    def forecasts(self, batches: Sequence[FrameBatch]) -> Forecasts:
        """The bytes of every forecast, by stream and frame; those of the frame's surprise follow where there is one."""
        forecasts: Forecasts = {}
        for batch in batches:
            for accepted, stepped in self.step_all(batch):
                rows = [row.tobytes() for row in stepped.forecast]
                if stepped.surprise is not None:
                    rows = [row + told.tobytes() for row, told in zip(rows, stepped.surprise, strict=True)]
                forecasts |= zip(zip(accepted.names, accepted.frame.tolist(), strict=True), rows, strict=True)
        return forecasts


def frames_of(names: Sequence[bytes], numbers: Sequence[int], values: NDArray[np.float32]) -> FrameBatch:
    """A batch of frames; values [frames, channels]."""
    n = len(names)
    return FrameBatch(
        names=list(names),
        frame=np.array(numbers, np.uint64),
        timestamp_ns=np.zeros(n, np.int64),
        epoch=np.zeros(n, np.uint32),
        unnumbered=np.zeros(n, np.bool_),
        values=np.ascontiguousarray(values, np.float32),
    )
