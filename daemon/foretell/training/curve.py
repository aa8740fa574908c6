"""The learning curve of a training run: a line of JSON at each checkpoint, and a picture of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from foretell.training.evaluate import Score

WIDTH, HEIGHT = 640, 360  # pixels of the picture, and of what is around the plot in it:
LEFT, RIGHT, TOP, BOTTOM = 56, 16, 36, 44
INK: Final = "#5b6b7b"
TEXT: Final = f'font-family="sans-serif" font-size="12" fill="{INK}"'
CURVE: Final = "#2ec4e6"
NUM_STEPS: Final = 5  # between the marks of an axis


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """How good the model was after `block` blocks.

    loss: mean training loss since the point before. ratio: error against persistence on the validation signals,
    quartiles. coverage: median share of values within the 90 % band.
    """

    block: int
    loss: float
    ratio: tuple[float, float, float]
    coverage: float


def point_of(block: int, losses: Sequence[float], scores: Sequence[Score]) -> Point:
    """What the curve says of a checkpoint."""
    low, median, high = np.nanquantile([one.ratio for one in scores], [0.25, 0.5, 0.75]).tolist()
    coverage = float(np.nanmedian([one.coverage for one in scores]))
    ratio = (round(low, 5), round(median, 5), round(high, 5))
    return Point(block=block, loss=round(float(np.mean(losses)), 5), ratio=ratio, coverage=round(coverage, 5))


def append_point(path: Path, point: Point) -> None:
    """Add a line to the curve; lines that a run left behind after its last checkpoint are dropped."""
    before = [one for one in read_curve(path) if one.block < point.block]
    path.write_bytes(msgspec.json.Encoder().encode_lines([*before, point]))


def read_curve(path: Path) -> list[Point]:
    """All points so far; none where there is no file yet."""
    if not path.exists():
        return []
    return msgspec.json.Decoder(Point).decode_lines(path.read_bytes())


def draw_curve(points: Sequence[Point], title: str) -> str:
    """An SVG of error against persistence over blocks: the median of the validation signals, and between quartiles."""
    last_block = points[-1].block
    low = min(point.ratio[0] for point in points)
    high = max(point.ratio[2] for point in points)
    room = max(0.02, 0.05 * (high - low))
    low, high = low - room, high + room

    def across(block: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * block / last_block

    def up(ratio: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - ratio) / (high - low)

    lower, median, upper = (
        [f"{across(point.block):.1f},{up(point.ratio[part]):.1f}" for point in points] for part in range(3)
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" {TEXT}>',
            f'<text x="{LEFT}" y="20">{title}</text>',
            *_axes(last_block, (low, high), across, up),
            f'<polygon points="{" ".join([*lower, *reversed(upper)])}" fill="{CURVE}" fill-opacity="0.2"/>',
            f'<polyline points="{" ".join(median)}" fill="none" stroke="{CURVE}" stroke-width="2"/>',
            "</svg>\n",
        ]
    )


def _axes(
    last_block: int,
    limits: tuple[float, float],
    across: Callable[[float], float],
    up: Callable[[float], float],
) -> list[str]:
    """Marks at both axes with what they stand for, and a faint line for each error."""
    lines = [
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2:.0f}" y="{HEIGHT - 8}" text-anchor="middle">training blocks</text>'
    ]
    for ratio in np.linspace(*limits, NUM_STEPS + 1).tolist():
        lines += [
            f'<path d="M{LEFT} {up(ratio):.1f}H{WIDTH - RIGHT}" stroke="{INK}" stroke-opacity="0.25"/>',
            f'<text x="{LEFT - 8}" y="{up(ratio) + 4:.1f}" text-anchor="end">{ratio:.2f}</text>',
        ]
    lines += [
        f'<text x="{across(block):.1f}" y="{HEIGHT - 26}" text-anchor="middle">{block:.0f}</text>'
        for block in np.linspace(0, last_block, NUM_STEPS + 1).tolist()
    ]
    return lines
