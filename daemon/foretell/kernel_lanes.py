"""Words for arithmetic on a vector of lanes, rounded as numpy rounds."""

from __future__ import annotations

import numpy as np

from foretell.vector_ir import Function, Value


class Lanes:
    """Writes to a function; made to be inherited from."""

    def __init__(self, f: Function) -> None:
        self._f = f
        self._zero, self._one = self._number(0.0), self._number(1.0)

    def _number(self, number: float | np.floating) -> Value:
        return self._f.everywhere(float(np.float32(number)))

    def _above(self, a: Value, b: Value) -> Value:
        return self._f.code.fcmp_ordered(">", a, b)

    def _max(self, a: Value, b: Value) -> Value:
        return self._f.code.select(self._above(a, b), a, b)

    def _min(self, a: Value, b: Value) -> Value:
        return self._f.code.select(self._above(b, a), a, b)

    def _limit(self, x: Value, largest: float | np.floating) -> Value:
        return self._limit_by(x, self._number(largest))

    def _limit_by(self, x: Value, largest: Value) -> Value:
        return self._min(self._max(x, self._f.code.fneg(largest)), largest)

    def _powered(self, x: Value, squarings: int) -> Value:
        for _ in range(squarings):
            x = self._f.code.fmul(x, x)
        return x

    def _abs(self, x: Value) -> Value:
        return self._f.intrinsic(f"llvm.fabs.v{self._f.lanes}f32", self._f.vector, x)

    def _sqrt(self, x: Value) -> Value:
        return self._f.intrinsic(f"llvm.sqrt.v{self._f.lanes}f32", self._f.vector, x)
