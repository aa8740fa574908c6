"""The kernel of `foretell.kernel`, compiled for this processor and run on numpy's memory."""

from __future__ import annotations

import ctypes
import functools
import platform
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import numpy as np
from llvmlite import binding as llvm

from foretell.arena import aligned_zeros
from foretell.choices import Precision
from foretell.kernel import STEP, write_step
from foretell.kernel_layout import Layout, Scratch, Target
from foretell.machine_code import compile_module
from foretell.native_weights import pack_weights
from foretell.normalize import Normalizer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from foretell.arena import Arena
    from foretell.model import ModelSpec

_SHORT_NS: Final = 100_000
"""A call shorter than this keeps the GIL: to take it back from a thread that computes can cost 5 ms."""

_SPLIT_NS: Final = 250_000
"""What a thread must have to do at least, for handing it over takes some 50 us."""

_NUM_TRIALS: Final = 5

_USUAL_VALUES: Final = 1 << 16
"""Values of a call for whose marks there is room from the start."""

_ARGUMENTS: Final = [*[ctypes.c_void_p] * 12, *[ctypes.c_int64] * 4]


class NotNativeError(Exception):
    """The kernel cannot be compiled for this processor; the message says why."""


def find_target() -> Target:
    """What this processor offers. Raises NotNativeError where products are not fused in hardware."""
    features = llvm.get_host_cpu_features()
    if platform.machine() in {"aarch64", "arm64"}:
        return Target(lanes=4, tile_rows=6)
    if features.get("avx512f"):
        return Target(lanes=16, tile_rows=6, has_bfloat16=bool(features.get("avx512bf16")))
    if features.get("avx2") and features.get("fma"):
        return Target(lanes=8, tile_rows=3)
    raise NotNativeError(f"a {platform.machine()} processor without AVX2 and FMA")


class Code:
    """Machine code of the kernel for a layout; holds the memory that it lies in."""

    def __init__(self, layout: Layout, target: Target) -> None:
        self._engine = compile_module(write_step(layout, target), is_tuned=True)
        address = self._engine.get_function_address(STEP)
        self.call_alone = ctypes.PYFUNCTYPE(ctypes.c_int64, *_ARGUMENTS)(address)  # keeps the GIL
        self.call = ctypes.CFUNCTYPE(ctypes.c_int64, *_ARGUMENTS)(address)


@functools.lru_cache(maxsize=16)
def compile_code(layout: Layout, target: Target) -> Code:
    """The machine code for a layout, compiled once in a process: it does not depend on the weights."""
    return Code(layout, target)


def layout_of(spec: ModelSpec, precision: Precision) -> Layout:
    """The kernel's sizes for a model."""
    rates = None
    if spec.normalizer is not None:
        fast, slow = Normalizer(spec.normalizer).rate.reshape(-1).tolist()
        rates = fast, slow
    return Layout(
        num_channels=spec.input_channels,
        input_size=spec.input_size,
        hidden_size=spec.hidden_size,
        num_layers=spec.num_layers,
        num_outputs=len(spec.quantiles) * spec.output_channels,
        quantiles=spec.quantiles,
        rates=rates,
        calibration=spec.calibrator,
        precision=precision,
    )


class _Lone:
    """Memory for what enters and leaves a call of one row and step, and where it and the rest is."""

    def __init__(self, layout: Layout, weights_at: int, room_at: int) -> None:
        self.rows, self.bad = np.zeros(1, np.int64), np.zeros(1, np.uint8)
        self.values, self.forecast, self.surprise = (
            np.zeros(size, np.float32)
            for size in (layout.num_channels, layout.num_outputs, layout.num_channels)
        )
        self.observed = np.ones(layout.num_channels, np.uint8)
        arrays = (self.rows, self.values, self.observed, self.forecast, self.surprise, self.bad)
        self.places = (*(array.ctypes.data for array in arrays), weights_at, room_at)


class NativeKernel:
    """Steps rows of arenas of one model, on up to `num_threads` threads. Raises NotNativeError.

    weights: float32 arrays by PyTorch's names.
    """

    def __init__(
        self,
        spec: ModelSpec,
        weights: Mapping[str, NDArray[np.float32]],
        precision: Precision = Precision.FLOAT32,
        num_threads: int = 1,
    ) -> None:
        target = find_target()
        self.layout = layout_of(spec, precision)
        self._code = compile_code(self.layout, target)
        self._weights = pack_weights(self.layout, target, weights)
        self._scratch = [aligned_zeros(self.layout.scratch_cells) for _ in range(num_threads)]
        self._rooms = [scratch.ctypes.data for scratch in self._scratch]
        at = Scratch(self.layout).errors
        self._errors = [scratch[at : at + 2] for scratch in self._scratch]
        self.errors = 0.0, 0.0
        self._weights_at = self._weights.ctypes.data
        self._reserve(_USUAL_VALUES)
        self._others = ThreadPoolExecutor(num_threads - 1, "step") if num_threads > 1 else None
        self._lone = _Lone(self.layout, self._weights_at, self._rooms[0])
        self.num_threads = num_threads
        self.row_ns = _SHORT_NS  # of one time step; measured by `warm_up`

    def warm_up(self, arena: Arena) -> None:
        """See `lstm.Stepper`; finds out how long a row takes."""
        layout, times_ns = self.layout, []
        rows = np.arange(min(layout.chunk_rows, len(arena.state)))
        values = np.zeros((1, rows.size, layout.num_channels), np.float32)
        forecast, surprise = np.empty((1, rows.size, layout.num_outputs), np.float32), np.empty_like(values)
        for _ in range(_NUM_TRIALS):
            start_ns = time.perf_counter_ns()
            self.advance(arena, rows, values, None, forecast, surprise)
            times_ns.append(time.perf_counter_ns() - start_ns)
        arena.restart(rows)
        self.errors = 0.0, 0.0
        self.row_ns = max(1, min(times_ns) // rows.size)

    def advance(
        self,
        arena: Arena,
        rows: NDArray[np.int64],
        values: NDArray[np.float32],
        observed: NDArray[np.bool_] | None,
        forecast: NDArray[np.float32],
        surprise: NDArray[np.float32] | None = None,
    ) -> NDArray[np.bool_] | None:
        """See `lstm.Stepper`."""
        num_steps, num_rows = values.shape[:2]
        if num_rows == 1 and num_steps == 1 and observed is None:
            return self._advance_lone(arena, rows, values, forecast, surprise)
        if values.size > self._all.size:
            self._reserve(values.size)
        places = (
            arena.address,
            arena.normalizer_address,
            arena.calibrator_address,
            arena.guess_address,
            rows.ctypes.data,
            values.ctypes.data,
            self._all_at if observed is None else observed.ctypes.data,
            forecast.ctypes.data,
            0 if surprise is None else surprise.ctypes.data,
            self._bad_at,
            self._weights_at,
        )
        cost_ns = num_rows * num_steps * self.row_ns
        num_parts = 1
        if cost_ns < _SHORT_NS:
            num_bad: int = self._code.call_alone(*places, self._rooms[0], num_rows, 0, num_rows, num_steps)
        else:
            num_bad, num_parts = self._split(places, num_rows, num_steps, cost_ns)
        if num_bad:  # what is stepped anew would count twice
            return self._bad[:num_rows].astype(np.bool_)
        self._take_errors(num_parts)
        return None

    def _advance_lone(
        self,
        arena: Arena,
        rows: NDArray[np.int64],
        values: NDArray[np.float32],
        forecast: NDArray[np.float32],
        surprise: NDArray[np.float32] | None,
    ) -> NDArray[np.bool_] | None:
        """One step of one row, through memory of which the addresses are known: to ask for them costs 1 us each."""
        lone = self._lone
        lone.rows[:] = rows
        lone.values[:] = values.reshape(-1)
        num_bad = self._code.call_alone(
            arena.address,
            arena.normalizer_address,
            arena.calibrator_address,
            arena.guess_address,
            *lone.places,
            1,
            0,
            1,
            1,
        )
        forecast.reshape(-1)[:] = lone.forecast
        if surprise is not None:
            surprise.reshape(-1)[:] = lone.surprise
        if num_bad:
            return np.ones(1, np.bool_)
        self._take_errors(1)
        return None

    def _take_errors(self, num_rooms: int) -> None:
        """Add up what the calls in the first rooms found out about the forecasts before."""
        if self.layout.calibration is None:
            return
        forecast, persistence = self.errors
        for errors in self._errors[:num_rooms]:
            more, more_persistence = errors.tolist()
            forecast, persistence = forecast + more, persistence + more_persistence
        self.errors = forecast, persistence

    def _reserve(self, num_values: int) -> None:
        """Have room for the marks of so many values; that all of them were observed is said by ones."""
        self._all, self._bad = np.ones(num_values, np.uint8), np.zeros(num_values, np.uint8)
        self._all_at, self._bad_at = self._all.ctypes.data, self._bad.ctypes.data

    def _split(self, places: tuple[int, ...], num_rows: int, num_steps: int, cost_ns: int) -> tuple[int, int]:
        """The same rows, parts of them on other threads where that pays; how many are bad, and how many parts."""
        num_parts = min(len(self._rooms), cost_ns // _SPLIT_NS, num_rows)
        if self._others is None or num_parts < 2:
            alone: int = self._code.call(*places, self._rooms[0], num_rows, 0, num_rows, num_steps)
            return alone, 1
        bounds = [num_rows * part // num_parts for part in range(num_parts + 1)]
        calls = [
            (*places, room, num_rows, first, last, num_steps)
            for room, (first, last) in zip(self._rooms, pairwise(bounds), strict=False)
        ]
        waiting = [self._others.submit(self._code.call, *call) for call in calls[1:]]
        num_bad: int = self._code.call(*calls[0])
        for future in waiting:
            num_bad += future.result()
        return num_bad, num_parts
