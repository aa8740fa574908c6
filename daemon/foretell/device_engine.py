"""The engine on a GPU: the states stay there, a batch goes in and its forecasts come out in one transfer each.

It has the interface of `foretell.step.Engine` and gives the same, to float32 rounding. On a CPU it runs too, without
graphs; tests use that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from foretell.device import describe_device, naming_what_takes_memory
from foretell.device_lanes import Lanes, Transfer, cut, from_first, lanes_of, select
from foretell.device_step import (
    BAD,
    BAD_FROM_THE_START,
    FINE,
    DeviceArena,
    DeviceStep,
    Results,
    device_bytes_per_row,
)
from foretell.lead_arena import LeadArena
from foretell.stepped import Errors, in_frame_order

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from foretell.model import Model
    from foretell.rounds import Steps
    from foretell.stepped import Stepped

KERNEL: Final = "cuda_graphs"
"""What `foretell_model_info` says of how a GPU steps."""

_BUCKETS: Final = sorted({8, *(m << k for m in (2, 3) for k in range(3, 12)), 8192})
"""Batch sizes that are ever run, at most a half apart: for each a graph is captured, some 50 ms and a few MiB each."""

_WORK_BYTES: Final = 1 << 29
"""What the gates of the largest batch may take."""

_TRANSFER_BYTES: Final = 1 << 24
"""What goes to or from the device at once; the pinned memory of each direction is reserved for this."""

_ROW, _BEGINS, _NUM_MARKS = 0, 1, 2
"""Columns before the values in what goes in, as int32."""


class DeviceEngine:
    """Advances states on `device` by frames; see `foretell.step.Engine` for what it promises.

    Raises ConfigError where the device's memory does not suffice.
    """

    def __init__(self, model: Model, num_rows: int, horizon: int, device: torch.device) -> None:
        spec = model.spec
        self.horizon = horizon
        self.kernel, self.reason = KERNEL, f"states and weights are on {describe_device(device)}"
        self._spec, self._device, self._is_cuda = spec, device, device.type == "cuda"
        if self._is_cuda:
            torch.set_float32_matmul_precision("highest")  # no TF32: it has 10 bits where float32 has 23
        # Of a row: four gates from the input, from the state, and the cell's own.
        gate_bytes = 3 * 4 * 4 * spec.hidden_size
        self._buckets = [size for size in _BUCKETS if size * gate_bytes <= _WORK_BYTES] or _BUCKETS[:1]
        self._results = Results(spec, horizon)
        num_in, num_out = _NUM_MARKS + spec.input_channels, self._results.num_columns
        self._num_lanes = max(self._buckets[-1], _TRANSFER_BYTES // (4 * max(num_in, num_out)))
        self._bytes_per_row = device_bytes_per_row(model)
        with torch.inference_mode(), naming_what_takes_memory(num_rows, self._bytes_per_row):
            self.arena = DeviceArena(model, num_rows, device)
            self._step = DeviceStep(model, self.arena, horizon)
            self._outside_in = torch.zeros(self._num_lanes, num_in, pin_memory=self._is_cuda)
            self._outside_out = torch.zeros(self._num_lanes, num_out, pin_memory=self._is_cuda)
            self._in = torch.zeros(self._num_lanes, num_in, device=device)
            self._out = torch.zeros(self._num_lanes, num_out, device=device)
            # Where in the transfer the next call begins.
            self._at = torch.zeros((), dtype=torch.int64, device=device)
            self._count = torch.arange(self._buckets[-1], device=device)
        self._graphs: dict[int, torch.cuda.CUDAGraph] = {}
        self._leads: LeadArena | None = None
        if horizon > 1 and spec.calibrator is not None:
            self._leads = LeadArena(spec, num_rows, horizon)

    @torch.inference_mode()
    def warm_up(self) -> None:
        """Capture a graph of every batch size, so that the first frames do not wait."""
        self._pad(slice(0, self._num_lanes))
        self._in.copy_(self._outside_in)
        with naming_what_takes_memory(self.arena.num_rows, self._bytes_per_row):
            if self._is_cuda:
                self._capture()
            else:
                for bucket in self._buckets:
                    self._at.zero_()
                    self._call(bucket)

    @property
    def timing(self) -> dict[str, int]:
        """What warming up made ready."""
        return {"graphs": len(self._graphs)}

    def step(self, steps: Steps) -> Stepped:
        """Step the rounds of a batch in order; the forecasts are in the order of the accepted frames."""
        lanes, at = lanes_of(steps, self._spec.input_channels), self._results
        results = self._run(lanes)
        restarted = results[:, at.verdict] != FINE
        while (again := results[:, at.verdict] == BAD).any():
            # Such a frame is stepped anew from an empty state, which its row now has, and all after it too.
            anew, is_first = from_first(lanes, again)
            results[anew] = self._run(select(lanes, anew, is_first))
            restarted[anew] = (results[anew, at.verdict] != FINE) | is_first
        forecast = self._forecast(lanes, results, restarted)
        by_step = forecast.reshape(*steps.rows.shape, *forecast.shape[1:])
        anywhere = restarted if restarted.any() else None
        if self._spec.calibrator is None:
            return in_frame_order(steps, by_step, anywhere)
        surprise = results[:, at.surprise].reshape(*steps.rows.shape, -1)
        errors = Errors(*results[:, at.errors].sum(axis=0, dtype=np.float64).tolist())
        return in_frame_order(steps, by_step, anywhere, surprise, errors)

    def _forecast(
        self, lanes: Lanes, results: NDArray[np.float32], restarted: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """The forecasts [n, horizon, quantiles, channels] among the results; the further leads are calibrated here."""
        spec, at, num_lanes = self._spec, self._results, lanes.rows.size
        shape = num_lanes, self.horizon, len(spec.quantiles), spec.output_channels
        forecast = np.full(shape, np.nan, np.float32)
        forecast[:, 0] = results[:, at.first].reshape(forecast[:, 0].shape)
        paths = results[:, at.medians].reshape(num_lanes, self.horizon - 1, spec.output_channels)
        forecast[:, 1:, spec.median_index] = paths
        if self._leads is None:
            return forecast
        begins, observed = lanes.begins | restarted, ~np.isnan(lanes.values)
        is_fine, values = results[:, at.verdict] != BAD_FROM_THE_START, results[:, at.values]
        for end, size in zip(np.cumsum(lanes.sizes).tolist(), lanes.sizes.tolist(), strict=True):
            part = np.arange(end - size, end)
            self._leads.restart(lanes.rows[part[begins[part]]])
            part = part[is_fine[part]]
            forecast[part, 1:] = self._leads.advance(
                lanes.rows[part], values[part], paths[part], observed[part]
            )
        return forecast

    @torch.inference_mode()
    def _run(self, lanes: Lanes) -> NDArray[np.float32]:
        """The results of each step, float32 [n, columns]."""
        results = np.empty((lanes.rows.size, self._results.num_columns), np.float32)
        for transfer in cut(lanes.sizes, self._buckets, self._num_lanes):
            end = sum(transfer.buckets)
            self._fill_in(transfer, lanes, end)
            self._in[:end].copy_(self._outside_in[:end], non_blocking=True)
            self._at.zero_()
            for bucket in transfer.buckets:
                graph = self._graphs.get(bucket)
                if graph is None:
                    self._call(bucket)
                else:
                    graph.replay()
            self._outside_out[:end].copy_(self._out[:end], non_blocking=True)
            if self._is_cuda:
                torch.cuda.current_stream(self._device).synchronize()
            results[transfer.part] = self._outside_out.numpy()[transfer.places]
        return results

    def _fill_in(self, transfer: Transfer, lanes: Lanes, end: int) -> None:
        """Write a transfer's lanes, and padding up to `end` where there are none, into what goes in."""
        part, places = transfer.part, transfer.places
        self._pad(slice(places.stop if isinstance(places, slice) else 0, end))
        values = self._outside_in.numpy()
        marks = values.view(np.int32)
        marks[places, _ROW], marks[places, _BEGINS] = lanes.rows[part], lanes.begins[part]
        values[places, _NUM_MARKS:] = lanes.values[part]

    def _pad(self, places: slice) -> None:
        """Write padding into what goes in, which is stepped in nobody's row."""
        padding = self._outside_in.numpy()[places]
        padding.view(np.int32)[:, :_NUM_MARKS] = self.arena.num_rows, 1
        padding[:, _NUM_MARKS:] = 0.0

    def _call(self, bucket: int) -> None:
        """Step the next `bucket` lanes of the transfer."""
        places = self._at + self._count[:bucket]
        lanes = self._in.index_select(0, places)
        marks = lanes.view(torch.int32)
        rows, begins = marks[:, _ROW].long(), marks[:, _BEGINS, None] != 0
        self._out.index_copy_(0, places, self._step(rows, begins, lanes[:, _NUM_MARKS:]))
        self._at += bucket

    def _capture(self) -> None:
        """A graph of every batch size, the largest first, for the others do with its memory."""
        stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(self._device))
        pool = torch.cuda.graph_pool_handle()
        for bucket in reversed(self._buckets):
            with torch.cuda.stream(stream):
                self._at.zero_()
                self._call(
                    bucket
                )  # as PyTorch asks: what libraries do the first time is no part of the graph
                self._at.zero_()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=pool, stream=stream):
                self._call(bucket)
            self._graphs[bucket] = graph
        torch.cuda.current_stream(self._device).wait_stream(stream)
