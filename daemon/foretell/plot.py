"""A channel as a picture of characters: its values, what was forecast for them, and the band around.

A cell of the terminal holds 2 x 4 dots of Braille, so a plot w cells wide shows the last 2w frames.
"""

from __future__ import annotations

import itertools
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray
from rich.text import Text

from foretell.formats import format_number
from foretell.tally import History

VALUE_STYLE = "#2ec4e6"
FORECAST_STYLE = "#ff9f1c"
BAND_STYLE = "#23395b"

_BRAILLE = 0x2800
_DOTS = np.array(
    [[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]]
)  # bits of a cell's dots, [4 down, 2 across]
_AXIS_WIDTH = 9

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


def plot(history: History, width: int, height: int) -> list[Text]:
    """`height` lines of `width` cells: the scale at the left, then the values, over their forecasts, over the band."""
    columns = max(2, 2 * (width - _AXIS_WIDTH))
    median, lower, upper = (part[-columns:] for part in (history.median, history.lower, history.upper))
    value = np.append(history.value, np.nan)[-columns:]  # the frame to come has a forecast and no value yet
    low, high = _scale(value, median, lower, upper)

    def to_dots(numbers: Floats) -> Floats:
        """Height above the bottom in dots."""
        return (numbers - low) / (high - low) * (4 * height - 1)

    band = _fill(to_dots(lower), to_dots(upper), columns, 4 * height)
    forecasts = _trace(to_dots(median), columns, 4 * height)
    values = _trace(to_dots(value), columns, 4 * height)
    lines = []
    for row in range(height):
        line = Text(_axis_label(row, height, low, high))
        cells = [(slice(4 * row, 4 * row + 4), slice(dots, dots + 2)) for dots in range(0, columns, 2)]
        drawn = [_draw(values[cell], forecasts[cell], band[cell]) for cell in cells]
        for style, run in itertools.groupby(drawn, key=itemgetter(1)):
            line.append("".join(character for character, _ in run), style)
        lines.append(line)
    return lines


def _scale(value: Floats, *others: Floats) -> tuple[float, float]:
    """Lowest and highest number of the plot: all values, and the others as far as they do not dwarf them."""
    numbers = np.concatenate([value, *others])
    numbers = numbers[np.isfinite(numbers)]
    if not numbers.size:
        return 0.0, 1.0
    finite = value[np.isfinite(value)]
    if finite.size > 1 and np.ptp(finite) > 0:
        room = np.ptp(finite) / 2
        numbers = np.clip(numbers, finite.min() - room, finite.max() + room)
    low, high = float(numbers.min()), float(numbers.max())
    margin = max(0.5, abs(low) / 1000)  # around a constant
    return (low, high) if high > low else (low - margin, high + margin)


def _axis_label(row: int, height: int, low: float, high: float) -> str:
    if row not in (0, height // 2, height - 1):
        return " " * (_AXIS_WIDTH - 2) + "│ "
    share = 1 - row / max(1, height - 1)
    return f"{format_number(low + share * (high - low)):>{_AXIS_WIDTH - 2}.7}┤ "


def _trace(dots: Floats, columns: int, rows: int) -> Mask:
    """A line through the finite points, joined downwards or upwards; [rows, columns], the newest at the right."""
    before = np.append(np.nan, dots[:-1])
    middle = np.where(np.isfinite(before), (before + dots) / 2, dots)
    after = np.append(middle[1:], np.nan)
    after = np.where(np.isfinite(after), after, dots)
    ends = np.stack([middle, dots, after])
    return _fill(ends.min(axis=0), ends.max(axis=0), columns, rows)


def _fill(bottom: Floats, top: Floats, columns: int, rows: int) -> Mask:
    """All dots between bottom and top of each column, both included; none where either is NaN."""
    heights = np.arange(rows - 1, -1, -1)[:, None]
    filled = np.zeros((rows, columns), dtype=np.bool_)
    filled[:, columns - bottom.size :] = (heights >= np.rint(bottom)) & (heights <= np.rint(top))
    return filled


def _draw(values: Mask, forecasts: Mask, band: Mask) -> tuple[str, str]:
    """The character and style of a cell of 4 x 2 dots: values before forecasts, the band behind or as half blocks."""
    for line, style in ((values, VALUE_STYLE), (forecasts, FORECAST_STYLE)):
        if line.any():
            ground = f" on {BAND_STYLE}" if band.sum() >= band.size / 2 else ""
            return chr(_BRAILLE + int(_DOTS[line].sum())), style + ground
    upper, lower = bool(band[1].any()), bool(band[2].any())
    return (" ", "▄", "▀", "█")[2 * upper + lower], BAND_STYLE
