"""The native calibrator does what the one in numpy does."""

from __future__ import annotations

import ctypes
from typing import Final

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from llvmlite import ir
from numpy.typing import NDArray

from foretell.arena import aligned_zeros
from foretell.calibrate import Calibrator, CalibratorSpec
from foretell.kernel_calibrate import NUM_ARGUMENTS, write_calibrator_tile
from foretell.kernel_layout import Target
from foretell.machine_code import compile_module
from foretell.normalize import Normalizer, NormalizerSpec
from foretell.vector_ir import CELLS, Function

LANES: Final = 16
LEVELS: Final = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
NORMAL: Final = np.array([-2.326, -1.645, -0.674, 0.0, 0.674, 1.645, 2.326], np.float32)
CALIBRATOR: Final = Calibrator(CalibratorSpec(), LEVELS)

Values = NDArray[np.float32]


class Native:
    """The tile on its own, compiled for this processor, with memory to work on."""

    def __init__(self, calibrator: Calibrator) -> None:
        module = ir.Module("calibration")
        tile = write_calibrator_tile(module, calibrator, Target(lanes=LANES, tile_rows=1))
        entry = Function(module, "run", [CELLS] * NUM_ARGUMENTS, lanes=LANES, is_public=True)
        entry.code.call(tile, entry.args)
        entry.code.ret_void()
        self._engine = compile_module(str(module), is_tuned=True)
        address = self._engine.get_function_address("run")
        self._call = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * NUM_ARGUMENTS)(address)
        self.state = aligned_zeros(calibrator.state_size, LANES)
        self._frame = [aligned_zeros(LANES) for _ in range(4)]
        num_levels = calibrator.bands.num_levels
        self._outputs, self.levels = aligned_zeros(num_levels, LANES), aligned_zeros(num_levels, LANES)
        self.surprise, self.errors = aligned_zeros(1, LANES), aligned_zeros(2, LANES)

    def advance(
        self, values: Values, base: Values, unit: Values, outputs: Values, observed: NDArray[np.bool_]
    ) -> None:
        """As `Calibrator.advance`, from `state` to `state`, `levels`, `surprise` and `errors`."""
        for place, column in zip(self._frame, (values, base, observed, unit), strict=True):
            place[:] = column
        self._outputs[:], self.errors[:] = outputs, 0.0
        places = (self.state, *self._frame, self._outputs, self.levels, self.surprise, self.errors)
        self._call(*(place.ctypes.data for place in places))


@pytest.fixture(scope="module")
def native() -> Native:
    """Compiled once."""
    return Native(CALIBRATOR)


def check_equal(native: Native, values: Values, observed: NDArray[np.bool_], outputs: Values) -> None:
    """Feed both [frames, LANES], outputs [frames, Q, LANES]; all that they give is equal."""
    normalizer = Normalizer(NormalizerSpec())
    scaling, state = normalizer.initial_state(LANES), CALIBRATOR.initial_state(LANES)
    native.state[:] = state
    for t, frame in enumerate(values):
        base = scaling[0]
        advanced = normalizer.advance(scaling, frame, observed[t])
        expected = CALIBRATOR.advance(state, frame, base, advanced.unit, outputs[t], observed[t])
        native.advance(frame, base, advanced.unit, outputs[t], observed[t])
        scaling, state = advanced.state, expected.state
        assert (native.state == state).all()
        assert (native.levels == expected.levels).all()
        assert np.array_equal(native.surprise[0], expected.surprise, equal_nan=True)
        assert (native.errors == expected.errors).all()


def test_the_same_bits_on_ordinary_series(native: Native) -> None:
    """Walks, noises and cycles of every scale, some values missing, give the same numbers frame by frame."""
    rng = np.random.default_rng(1)
    values = np.concatenate(
        [
            rng.standard_t(3, (600, 6)).cumsum(axis=0) * 10.0 ** rng.uniform(-20, 20, 6),
            rng.normal(size=(600, 6)),
            np.sin(np.arange(600)[:, None] / [1.0, 4.0, 9.0, 30.0]),
        ],
        axis=1,
    ).astype(np.float32)
    outputs = NORMAL[:, None] * rng.uniform(0.1, 3.0, (600, 1, LANES)) + rng.normal(size=(600, 1, LANES))
    check_equal(native, values, rng.random(values.shape) > 0.05, outputs.astype(np.float32))


@settings(max_examples=50, deadline=None)
@given(
    arrays(np.float32, (6, LANES), elements=st.floats(width=32, allow_nan=False, allow_infinity=False)),
    arrays(np.bool_, (6, LANES)),
    arrays(np.float32, (6, len(LEVELS), LANES), elements=st.floats(-1e3, 1e3, width=32)),
)
def test_the_same_numbers_on_any_values(
    native: Native, values: Values, observed: NDArray[np.bool_], outputs: Values
) -> None:
    """Whatever finite values come and whatever the model says, both give the same numbers."""
    check_equal(native, values, observed, np.sort(outputs, axis=1))
