"""Numbers, durations, ratios and flags as a person reads them."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from foretell.wire import Flag

_BARS = " ▁▂▃▄▅▆▇█"


def format_number(number: float, scale: float = 0.0) -> str:
    """At most nine characters; an en dash where there is no number.

    Five significant digits of the number, or of `scale` where that is larger: the size of what stands beside it.
    """
    if math.isnan(number):
        return "–"
    size = max(abs(number), scale)
    if size >= 1e7 or 0 < size < 1e-3:
        return f"{number:.2e}"
    decimals = 0 if size >= 10_000 else 1 if size >= 1000 else 2 if size >= 10 else 3
    return f"{round(number, decimals) + 0.0:.{decimals}f}"  # + 0.0: no minus before a zero


def format_duration(duration_ns: float | None) -> str:
    """Nanoseconds in the unit that reads best."""
    if duration_ns is None:
        return "–"
    for unit, size in (("s", 1e9), ("ms", 1e6)):
        if duration_ns >= size:
            return f"{duration_ns / size:.3g} {unit}"
    return f"{duration_ns / 1e3:.3g} µs"


def format_ratio(relative_mae: float | None) -> str:
    """Error against persistence: `×0.83` is an error of 83 % of persistence's."""
    return "–" if relative_mae is None else f"×{relative_mae:.2f}"


def describe_flags(flags: Flag) -> str:
    """The flags of a forecast by name, in lower case."""
    return " ".join(flag.name.lower() for flag in Flag if flag in flags and flag.name)


def sparkline(values: NDArray[np.float64], width: int) -> str:
    """The last `width` values as bars between their smallest and largest; a blank where one is missing."""
    shown = values[-width:]
    finite = shown[np.isfinite(shown)]
    if not finite.size:
        return " " * width
    low, span = finite.min(), np.ptp(finite)
    bars = "".join(
        _BARS[1 + round(float((value - low) / span) * 7) if span else 4] if math.isfinite(value) else " "
        for value in shown
    )
    return bars.rjust(width)
