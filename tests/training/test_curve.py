"""The learning curve: read as it was written, without what a stopped run left behind, and drawn."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from foretell.training.curve import Point, append_point, draw_curve, point_of, read_curve
from foretell.training.evaluate import Score


def point(block: int, median: float = 0.8) -> Point:
    """A point of the curve."""
    return Point(block=block, loss=0.3, ratio=(median - 0.1, median, median + 0.1), coverage=0.9)


def test_points_are_read_as_they_were_written(tmp_path: Path) -> None:
    """Points come back in order."""
    path = tmp_path / "curve.jsonl"
    for block in (10, 20):
        append_point(path, point(block))
    assert read_curve(path) == [point(10), point(20)]


def test_points_after_the_checkpoint_are_replaced(tmp_path: Path) -> None:
    """A run that goes on from an earlier block writes over what was said of later ones."""
    path = tmp_path / "curve.jsonl"
    for block in (10, 20, 30):
        append_point(path, point(block))
    append_point(path, point(20, 0.7))
    assert read_curve(path) == [point(10), point(20, 0.7)]


def test_a_point_has_the_quartiles_of_the_ratios() -> None:
    """The error is told by its quartiles over the signals, the loss by its mean."""
    scores = [Score(error, 1.0, 0.9) for error in (0.5, 0.6, 0.7, 0.8, 0.9)]
    made = point_of(10, [0.2, 0.4], scores)
    assert made.ratio == (0.6, 0.7, 0.8)
    assert made.loss == pytest.approx(0.3)


def test_the_picture_is_well_formed_and_falls_with_the_error() -> None:
    """The line goes down the picture, which is valid XML, where the error does."""
    picture = ET.fromstring(draw_curve([point(10), point(20, 0.7)], "Error"))
    line = next(part for part in picture.iter() if part.tag.endswith("polyline"))
    (_, first), (_, second) = (pair.split(",") for pair in line.attrib["points"].split())
    assert float(second) > float(first)  # SVG counts downwards
