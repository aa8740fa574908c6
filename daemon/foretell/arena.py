"""The state arena: every row's LSTM state, normaliser, calibrator and guess, reserved once and never grown.

A row is one LSTM state. With an `independent` model every channel of a stream has a row of its own, with a `joint` one
a stream has one row. Which rows belong to whom is decided in `foretell.admit`; here rows are only numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from foretell.calibrate import Calibrator
from foretell.model import Channels
from foretell.normalize import Normalizer

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from foretell.model import Model

ALIGNMENT_BYTES: Final = 64
"""A row of states begins at a multiple of this: a cache line, and the widest vector of any processor."""

_UNITS: Final = ALIGNMENT_BYTES // 4


class Arena:
    """The state of every row, reserved once; pages never touched cost no memory.

    state: float32 [rows, layers * 2 * units], of each layer h and then c, units being the hidden size rounded up to a
    multiple of 16. h, c: per layer a view of it, float32 [rows, hidden]. normalizer, calibrator: float32 [rows,
    channels * state size] or None. guess: float32 [rows, channels], what stands in for a missing value. address,
    normalizer_address, calibrator_address, guess_address: where these begin in memory, 0 for none.
    """

    def __init__(self, model: Model, num_rows: int) -> None:
        spec = model.spec
        units = pad_units(spec.hidden_size)
        self.state = aligned_zeros(num_rows, 2 * spec.num_layers * units)
        self.address: int = self.state.ctypes.data
        halves = [self.state[:, at : at + spec.hidden_size] for at in range(0, self.state.shape[1], units)]
        self.h, self.c = halves[0::2], halves[1::2]
        self.guess = np.zeros((num_rows, spec.input_channels), np.float32)
        self.guess_address: int = self.guess.ctypes.data
        self.normalizer: NDArray[np.float32] | None = None
        self.calibrator: NDArray[np.float32] | None = None
        self.normalizer_address = self.calibrator_address = 0
        self._parts = [self.state, self.guess]
        if spec.normalizer is not None:
            size = Normalizer(spec.normalizer).state_size
            self.normalizer, self.normalizer_address = self._reserve(num_rows, spec.input_channels * size)
        if spec.calibrator is not None:
            size = Calibrator(spec.calibrator, spec.quantiles).state_size
            self.calibrator, self.calibrator_address = self._reserve(num_rows, spec.input_channels * size)

    def copy(self, other: Arena, rows: NDArray[np.int64]) -> None:
        """Make the first rows what `rows` of another arena of the model are, but for their guess."""
        for part, others in zip(self._parts, other._parts, strict=True):
            if part is not self.guess:
                part[: rows.size] = others[rows]

    def restart(self, rows: NDArray[np.int64]) -> None:
        """Let the states of `rows` begin anew: zeros are a row that has seen nothing, in every part."""
        for part in self._parts:
            part[rows] = 0.0

    def _reserve(self, num_rows: int, size: int) -> tuple[NDArray[np.float32], int]:
        """Room for a part of every row; and where it lies."""
        part = np.zeros((num_rows, size), np.float32)
        self._parts.append(part)
        return part, part.ctypes.data


def bytes_per_row(model: Model) -> int:
    """Bytes of state that one row of the arena takes."""
    spec = model.spec
    per_channel = 1 if spec.normalizer is None else 1 + Normalizer(spec.normalizer).state_size
    if spec.calibrator is not None:
        per_channel += Calibrator(spec.calibrator, spec.quantiles).state_size
    return 4 * (2 * spec.num_layers * pad_units(spec.hidden_size) + spec.input_channels * per_channel)


def rows_per_stream(model: Model, num_channels: int) -> int:
    """Rows that a stream of `num_channels` channels takes."""
    return num_channels if model.spec.channels is Channels.INDEPENDENT else 1


def pad_units(hidden_size: int) -> int:
    """Hidden units that a row has room for: whole cache lines of them."""
    return -(-hidden_size // _UNITS) * _UNITS


def aligned_zeros(*shape: int) -> NDArray[np.float32]:
    """Zeros float32 that begin at a multiple of 64 bytes; pages never touched cost no memory."""
    size = int(np.prod(shape))
    room = np.zeros(size + _UNITS, np.float32)
    start = -room.ctypes.data % ALIGNMENT_BYTES // 4
    return room[start : start + size].reshape(shape)
