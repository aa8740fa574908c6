"""What is measured in the suite `step`: each steps a block of rows of an arena, its states gathered and scattered.

All have the same plain model and advance the same rows by the same values. What a call could have had before it is not
in its time: batches are made, and turned into what a contender takes, beforehand.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.models import Size
from benchmarks.step_process import Stepper
from benchmarks.weights import as_daemons, seeded_model

Call = Callable[[], Any]
"""Makes a step of one batch and gives its forecasts [n, 1, 1, channels] or [n, channels]."""

Prepare = Callable[[NDArray[np.int64], NDArray[np.float32]], Call]
"""From distinct rows i64 [n] and values float32 [n, channels] to the call that steps them."""


@dataclass(frozen=True)
class Contender:
    """One who steps, on how many threads, and where there is a choice with which code."""

    prepare: Prepare
    num_threads: int = 1
    kernel: str = ""


def make(who: Stepper, size: Size, num_rows: int, num_threads: int) -> Contender:
    """A contender with an arena of `num_rows` rows. Raises ImportError where its library is absent."""
    if who is Stepper.ENGINE or who is Stepper.ENGINE_BFLOAT16:
        return _engine(size, num_rows, num_threads, is_bfloat16=who is Stepper.ENGINE_BFLOAT16)
    if who is Stepper.ONNX:
        return Contender(_onnx(size, num_rows, num_threads), num_threads)
    return Contender(
        {Stepper.LSTM: _lstm, Stepper.CELL: _cell, Stepper.PRODUCTS: _products}[who](size, num_rows)
    )


def _engine(size: Size, num_rows: int, num_threads: int, *, is_bfloat16: bool) -> Contender:
    from foretell.choices import Precision
    from foretell.rounds import Steps
    from foretell.step import Engine

    precision = Precision.BFLOAT16 if is_bfloat16 else Precision.FLOAT32
    engine = Engine(as_daemons(*seeded_model(size)), num_rows, precision=precision, num_threads=num_threads)
    engine.warm_up()

    def prepare(rows: NDArray[np.int64], values: NDArray[np.float32]) -> Call:
        steps = Steps(rows[:, None], values, round_ends=[rows.size], num_frames=rows.size)
        return lambda: engine.step(steps).forecast

    return Contender(prepare, engine.timing["threads"], engine.kernel)


def _onnx(size: Size, num_rows: int, num_threads: int) -> Prepare:
    from benchmarks.peers.onnx_graph import OnnxStep

    step = OnnxStep(*seeded_model(size), num_rows, num_threads)

    def prepare(rows: NDArray[np.int64], values: NDArray[np.float32]) -> Call:
        one_step = values[None]
        return lambda: step(rows, one_step)[0]

    return prepare


def _lstm(size: Size, num_rows: int) -> Prepare:
    lstm, linear = seeded_model(size)
    h_all, c_all = torch.zeros(2, size.num_layers, num_rows, size.hidden_size)

    @torch.inference_mode()
    def step(rows: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        out, (h, c) = lstm(x, (h_all.index_select(1, rows), c_all.index_select(1, rows)))
        h_all.index_copy_(1, rows, h)
        c_all.index_copy_(1, rows, c)
        y: torch.Tensor = linear(out[0])
        return y

    return lambda rows, values: partial(step, torch.from_numpy(rows), torch.from_numpy(values[None]))


def _cell(size: Size, num_rows: int) -> Prepare:
    lstm, linear = seeded_model(size)
    cells = []
    for layer in range(size.num_layers):
        cell = torch.nn.LSTMCell(lstm.input_size if layer == 0 else size.hidden_size, size.hidden_size)
        named = dict(cell.named_parameters())
        for name, weights in named.items():
            weights.data = getattr(lstm, f"{name}_l{layer}").data
        states = torch.zeros(2, num_rows, size.hidden_size)
        cells.append((cell.requires_grad_(requires_grad=False), *states))

    @torch.inference_mode()
    def step(rows: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        for cell, h_all, c_all in cells:
            x, c = cell(x, (h_all.index_select(0, rows), c_all.index_select(0, rows)))
            h_all.index_copy_(0, rows, x)
            c_all.index_copy_(0, rows, c)
        y: torch.Tensor = linear(x)
        return y

    return lambda rows, values: partial(step, torch.from_numpy(rows), torch.from_numpy(values))


_PACKED_FOR: Final = 256
"""Rows that oneDNN lays weights out for."""


# One product for x and h side by side would take 4 to 14 % less from 256 rows on, but wants both copied together first.
def _products(size: Size, num_rows: int) -> Prepare:  # noqa: ARG001, it has no states
    lstm, linear = seeded_model(size)
    layers = [
        [
            torch.ops.mkldnn._reorder_linear_weight(getattr(lstm, f"{name}_l{layer}"), _PACKED_FOR)
            for name in ("weight_ih", "weight_hh")
        ]
        for layer in range(size.num_layers)
    ]
    output = torch.ops.mkldnn._reorder_linear_weight(linear.weight, _PACKED_FOR)
    multiply = torch.ops.mkldnn._linear_pointwise.default

    @torch.inference_mode()
    def step(x: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        for weight_ih, weight_hh in layers:
            multiply(x, weight_ih, None, "none", [], "")
            multiply(h, weight_hh, None, "none", [], "")
            x = h
        y: torch.Tensor = multiply(x, output, None, "none", [], "")
        return y

    return lambda rows, values: partial(
        step, torch.from_numpy(values), torch.zeros(rows.size, size.hidden_size)
    )
