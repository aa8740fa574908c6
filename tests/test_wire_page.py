"""The page on the wire format says what the code does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import numpy as np

from foretell.wire import Flag, Refusal
from foretell.wire_packed import forecast_dtype, frame_dtype

_PAGE: Final = (Path(__file__).parents[1] / "daemon" / "wire.md").read_text(encoding="utf-8")


def _section(title: str) -> str:
    """From a heading to the next."""
    return re.split(r"^#+ ", _PAGE.split(f"# {title}\n")[1], maxsplit=1, flags=re.MULTILINE)[0]


def _offsets(section: str) -> dict[str, tuple[int, int]]:
    """Offset and size of the fields of a packed record that have a fixed place, by name."""
    rows = re.findall(r"^\| (\d+) \| (\d+) \| (\w+)", section, re.MULTILINE)
    return {name: (int(offset), int(size)) for offset, size, name in rows}


def _laid_out(dtype: np.dtype[np.void]) -> dict[str, tuple[int, int]]:
    """Offset and size of the fields of a dtype whose place does not depend on the shape."""
    assert dtype.fields is not None
    places = {name: (field[1], field[0].itemsize) for name, field in dtype.fields.items()}
    return {name: place for name, place in places.items() if dtype[name].shape == ()}


def test_frames_lie_as_the_page_says() -> None:
    """Each field of a packed frame has the offset and the size that the page gives."""
    laid_out = _laid_out(frame_dtype(3))
    assert laid_out.pop("head") == (0, 8)
    head = {"magic": (0, 4), "channels": (4, 2), "flags": (6, 2)}
    assert _offsets(_section("2. Packed records: for high rates")) == head | laid_out


def test_forecasts_lie_as_the_page_says() -> None:
    """Each field of fixed place of a packed forecast has the offset and the size that the page gives."""
    laid_out = _laid_out(forecast_dtype(3, 2, 5))
    laid_out["quantiles"] = laid_out.pop("num_quantiles")
    assert _offsets(_section("As packed records")) == laid_out


def test_flags_have_the_bits_that_the_page_says() -> None:
    """The table of flags is the code's, bit by bit."""
    rows = re.findall(r"^\| (\d) \| `(\w+)` \|", _section("Flags"), re.MULTILINE)
    assert {name: 1 << int(bit) for bit, name in rows} == {
        flag.name.lower(): flag.value for flag in Flag if flag.name
    }


def test_page_names_every_reason() -> None:
    """The reasons for refusal on the page are the closed set of the code."""
    first_sentence = _section("Reasons for refusal").split(". ")[0]
    named = set(re.findall(r"`(\w+)`", first_sentence)) & {*Refusal}
    assert named == {*Refusal}
