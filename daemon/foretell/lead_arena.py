"""The state of the leads beyond the first by row, as `foretell.arena` holds the rest: reserved once, never grown."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from foretell.leads import LeadCalibrator

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from foretell.model import ModelSpec
    from foretell.normalize import Floats


class LeadArena:
    """Calibrates the further leads of every row; pages never touched cost no memory.

    horizon: two or more. state: float32 [rows, channels * state size]; zeros are a row that has seen nothing.
    """

    def __init__(self, spec: ModelSpec, num_rows: int, horizon: int) -> None:
        self._calibrator = LeadCalibrator(horizon, spec.quantiles)
        self.state = np.zeros((num_rows, _state_size(spec, horizon)), np.float32)

    def restart(self, rows: NDArray[np.int64]) -> None:
        """Let the states of `rows` begin anew."""
        self.state[rows] = 0.0

    def advance(
        self,
        rows: NDArray[np.int64],
        values: Floats,
        paths: Floats,
        observed: NDArray[np.bool_] | None = None,
    ) -> Floats:
        """Take in the values of distinct `rows`, and calibrate what is forecast after them.

        values: finite float32 [n, channels], as they entered the model. paths: float32 [n, horizon - 1, channels], the
        medians of the leads beyond the first, NaN where there is none. observed: bool [n, channels], None for all.
        Gives their quantiles, float32 [n, horizon - 1, Q, channels], see `foretell.leads.LeadCalibrator`.
        """
        num_rows, num_channels = values.shape
        state = self.state[rows].reshape(values.size, self.state.shape[1] // num_channels).T
        led = self._calibrator.advance(
            state,
            values.reshape(-1),
            paths.transpose(1, 0, 2).reshape(paths.shape[1], values.size),
            None if observed is None else observed.reshape(-1),
        )
        self.state[rows] = led.state.T.reshape(num_rows, self.state.shape[1])
        by_row: Floats = led.levels.reshape(*led.levels.shape[:2], num_rows, num_channels)
        return by_row.transpose(2, 0, 1, 3)


def lead_bytes_per_row(spec: ModelSpec, horizon: int) -> int:
    """Bytes of a row's state; 0 where there is nothing to calibrate."""
    return 0 if spec.calibrator is None or horizon == 1 else 4 * _state_size(spec, horizon)


def _state_size(spec: ModelSpec, horizon: int) -> int:
    return spec.input_channels * LeadCalibrator(horizon, spec.quantiles).state_size
