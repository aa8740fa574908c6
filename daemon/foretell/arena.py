"""The state arena: every row's LSTM state, normaliser and guess, reserved once and never grown.

A row is one LSTM state. With an `independent` model every channel of a stream has a row of its own, with a `joint` one
a stream has one row. Which rows belong to whom is decided in `foretell.admit`; here rows are only numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from foretell.model import Channels
from foretell.normalize import Normalizer

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from foretell.model import Model


class Arena:
    """The state of every row, reserved once; pages never touched cost no memory.

    h, c: per layer float32 [rows, hidden]; normalizer: float32 [rows, channels * state size] or None;
    guess: float32 [rows, channels], what stands in for a missing value.
    """

    def __init__(self, model: Model, num_rows: int) -> None:
        spec = model.spec
        self.h = [np.zeros((num_rows, spec.hidden_size), np.float32) for _ in range(spec.num_layers)]
        self.c = [np.zeros((num_rows, spec.hidden_size), np.float32) for _ in range(spec.num_layers)]
        self.guess = np.zeros((num_rows, spec.input_channels), np.float32)
        self.normalizer = None
        self._initial: NDArray[np.float32] | None = None
        if spec.normalizer is not None:
            initial = Normalizer(spec.normalizer).initial_state(spec.input_channels)
            self._initial = np.ascontiguousarray(initial.T).reshape(-1)
            self.normalizer = np.zeros((num_rows, self._initial.size), np.float32)

    def restart(self, rows: NDArray[np.int64]) -> None:
        """Let the states of `rows` begin anew."""
        for state in (*self.h, *self.c, self.guess):
            state[rows] = 0.0
        if self.normalizer is not None:
            self.normalizer[rows] = self._initial


def bytes_per_row(model: Model) -> int:
    """Bytes of state that one row of the arena takes."""
    spec = model.spec
    per_channel = 1 if spec.normalizer is None else 1 + Normalizer(spec.normalizer).state_size
    return 4 * (2 * spec.num_layers * spec.hidden_size + spec.input_channels * per_channel)


def rows_per_stream(model: Model, num_channels: int) -> int:
    """Rows that a stream of `num_channels` channels takes."""
    return num_channels if model.spec.channels is Channels.INDEPENDENT else 1
