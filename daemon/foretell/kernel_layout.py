"""Sizes and places of a model as the kernel sees them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

from foretell.arena import pad_units
from foretell.calibrate import Calibrator, CalibratorSpec
from foretell.choices import Precision
from foretell.normalize import NUM_FEATURES, STATE_SIZE

GATES: Final = 4
"""Input, forget, cell and output, in PyTorch's order."""

_MOST_LANES: Final = 16


@dataclass(frozen=True, slots=True)
class Target:
    """What the processor offers: float32 lanes of a vector, rows of a tile, and products of bfloat16 pairs."""

    lanes: int
    tile_rows: int
    has_bfloat16: bool = False


@dataclass(frozen=True)
class Layout:
    """Sizes of a model as the kernel sees them. Places and strides are in cells of 4 bytes.

    rates: weights of a new observation in the normaliser's fast and slow averages, None without a normaliser.
    calibration: that of its forecasts, None without; quantiles: their levels.
    """

    num_channels: int
    input_size: int
    hidden_size: int
    num_layers: int
    num_outputs: int
    quantiles: tuple[float, ...] = (0.5,)
    rates: tuple[float, float] | None = None
    calibration: CalibratorSpec | None = None
    precision: Precision = Precision.FLOAT32

    @cached_property
    def num_quantiles(self) -> int:
        """Numbers that are forecast of a channel."""
        return len(self.quantiles)

    @cached_property
    def median(self) -> int:
        """Where the median stands among them."""
        return self.quantiles.index(0.5)

    @cached_property
    def calibrator(self) -> Calibrator | None:
        """What corrects the forecasts, with the places of its state."""
        return None if self.calibration is None else Calibrator(self.calibration, self.quantiles)

    @cached_property
    def outputs_are_inputs(self) -> bool:
        """Whether a forecast is of the channels that are observed."""
        return self.num_outputs == self.num_quantiles * self.num_channels

    @cached_property
    def units(self) -> int:
        """Hidden units with padding, which has no weights and stays 0."""
        return pad_units(self.hidden_size)

    @cached_property
    def outputs(self) -> int:
        """Outputs with padding."""
        return pad_units(self.num_outputs)

    @cached_property
    def row_cells(self) -> int:
        """One row of the arena: h and c of the first layer, of the second, ..."""
        return 2 * self.num_layers * self.units

    @cached_property
    def chunk_rows(self) -> int:
        """Rows that are stepped together before the next."""
        return 96 if self.units <= 256 else 48

    def operand_cells(self, size: int) -> int:
        """Cells of `size` numbers that are multiplied with weights: bfloat16 go in pairs."""
        return size if self.precision is Precision.FLOAT32 else -(-size // 2)

    def input_cells(self, layer: int) -> int:
        """Cells of a row that enters a layer from below."""
        return self.operand_cells(self.units if layer else self.input_size)

    def weights_at(self, layer: int) -> int:
        """Where a layer's weights begin: [units / lanes, cells of input and hidden, 4 gates, lanes]."""
        before = sum(self.input_cells(below) + self.operand_cells(self.units) + 1 for below in range(layer))
        return GATES * self.units * before

    def biases_at(self, layer: int) -> int:
        """Where a layer's biases begin: [units / lanes, 4 gates, lanes]."""
        return self.weights_at(layer + 1) - GATES * self.units

    @cached_property
    def output_weights_at(self) -> int:
        """Where the output layer's weights begin: [outputs / lanes, cells of hidden, lanes]; its biases follow."""
        return self.weights_at(self.num_layers)

    @cached_property
    def output_biases_at(self) -> int:
        """Where the output layer's biases begin: [outputs]."""
        return self.output_weights_at + self.outputs * self.operand_cells(self.units)

    @cached_property
    def weights_cells(self) -> int:
        """All weights and biases."""
        return self.output_biases_at + self.outputs

    @cached_property
    def scratch_cells(self) -> int:
        """What one thread needs to work in."""
        return Scratch(self).end


class Scratch:
    """Where a chunk's rows lie while they are stepped: offsets of arrays of [chunk_rows, ...]."""

    def __init__(self, layout: Layout) -> None:
        self.end = 0
        rows, units = layout.chunk_rows, layout.units
        layers = range(layout.num_layers)
        # Each step reads the h of one array and writes that of the other, for all units read all of the old.
        self.operands = [[self._take(rows * layout.operand_cells(units)) for _ in range(2)] for _ in layers]
        self.h = [self._take(rows * units) for _ in layers]
        self.c = [self._take(rows * units) for _ in layers]
        self.narrow_input = self._take(pad_units(rows * layout.input_cells(0)))
        self.outputs = self._take(rows * layout.outputs)
        lanes = pad_units(rows * layout.num_channels)
        self.normalizer, self.base, self.unit = (self._take(lanes * size) for size in (STATE_SIZE, 1, 1))
        self.frame, self.features = (self._take(_MOST_LANES * size) for size in (2, NUM_FEATURES))
        self.input = self._take(pad_units(rows * layout.input_size))
        self.errors = self._take(2)  # of the forecasts and of persistence, summed over a call
        if layout.calibrator is not None:
            self.end = pad_units(self.end)
            self.calibrator = self._take(lanes * layout.calibrator.state_size)
            self.before, self.observed = self._take(lanes), self._take(lanes)
            self.totals = self._take(_MOST_LANES * 2)
            self.said, self.levels = (self._take(_MOST_LANES * layout.num_quantiles) for _ in range(2))
            self.surprise = self._take(_MOST_LANES)

    def _take(self, cells: int) -> int:
        start, self.end = self.end, self.end + cells
        return start
