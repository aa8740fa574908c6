"""The live view: what it shows of a tally, on a terminal, in a pipe and as a picture."""

from __future__ import annotations

import io
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from rich.console import Console

from forecasts import latencies, make_forecasts
from foretell.tally import Tally
from foretell.view import RateMeter, Scene, View, draw, plain_line, save_svg


def _tally(
    names: list[str], *, num_frames: int = 3, num_channels: int = 2, band: float | None = 1.0
) -> Tally:
    tally = Tally()
    for frame in range(num_frames):
        values = [[10.0 * frame + channel for channel in range(num_channels)]] * len(names)
        batch = make_forecasts(names, [frame] * len(names), values, values, band=band)
        tally.add(batch, latencies(len(names)))
    return tally


def _text(tally: Tally, scene: Scene, width: int = 120, height: int = 40) -> str:
    console = Console(file=io.StringIO(), width=width, height=height, record=True)
    console.print(draw(tally, scene, 12.0, width, height))
    return console.export_text()


def test_view_waits_visibly() -> None:
    """Before the first forecast the view says that it waits, and for what."""
    text = _text(Tally(), Scene("a daemon"))
    assert "waiting" in text
    assert "a daemon" in text


def test_view_shows_value_forecast_band_error_and_latency() -> None:
    """A channel's row has its value, forecast, band, error against persistence and the latency; names where known."""
    row = next(
        line
        for line in _text(_tally(["pump"]), Scene("x", channel_names={"pump": ("flow", "heat")})).splitlines()
        if "pump" in line and "flow" in line
    )
    for part in ("20.00", "19.00 … 21.00", "×1.00", "250 µs"):
        assert part in row


def test_view_says_where_there_is_no_band() -> None:
    """A model of points has no band, and the view says so."""
    assert "none" in _text(_tally(["pump"], band=None), Scene("x"))


@pytest.mark.parametrize("num_streams", [1, 5, 400])
@pytest.mark.parametrize("num_channels", [1, 9])
@pytest.mark.parametrize("size", [(80, 24), (120, 40), (40, 10)], ids=str)
def test_view_fits_the_terminal(num_streams: int, num_channels: int, size: tuple[int, int]) -> None:
    """However many streams and channels there are, the view is no larger than the terminal and counts the rest."""
    width, height = size
    names = [f"stream-{i}" for i in range(num_streams)]
    lines = _text(_tally(names, num_channels=num_channels), Scene("x"), width, height).splitlines()
    assert len(lines) <= height
    assert max(len(line) for line in lines) <= width
    if num_streams == 400:
        assert any("more streams" in line for line in lines)


def test_chosen_stream_is_plotted() -> None:
    """The stream asked for comes first and is the one plotted; one that is not there leaves the first."""
    tally = _tally(["a", "b"])
    assert "b · 0" in _text(tally, Scene("x", stream=b"b"))
    assert "a · 0" in _text(tally, Scene("x", stream=b"absent"))
    assert "a · 1" in _text(tally, Scene("x", channel=7))


def test_names_are_not_markup() -> None:
    """A stream may be called like a style or a broken tag; it is shown as it is."""
    assert "[bold]x[/]" in _text(_tally(["[bold]x[/]"]), Scene("[/nope]"))


def test_plain_line_has_the_totals() -> None:
    """In a pipe a line says streams, rate, forecasts, latency, losses and error."""
    line = plain_line(_tally(["a", "b"]), 20.0)
    assert line.split(" · ") == [
        "2 streams",
        "20 a second",
        "6 forecasts",
        "latency p50 252 µs p99 252 µs",
        "lost 0",
        "error ×1.00 of persistence",
    ]


def test_pipe_gets_a_plain_line_a_second() -> None:
    """Without a terminal the view prints one line a second, without any escape sequence, however often it is asked."""
    output = io.StringIO()
    clock = iter(np.arange(0.0, 3.0, 0.125).tolist())
    with View(Scene("x"), Console(file=output), clock=lambda: next(clock)) as view:
        for _ in range(20):
            view.refresh(_tally(["a"]))
    lines = output.getvalue().splitlines()
    assert len(lines) == 3
    assert "\x1b" not in output.getvalue()


def test_first_forecast_is_shown_at_once() -> None:
    """The first forecast does not wait for the next second."""
    output = io.StringIO()
    times = iter([0.0, 0.0, 0.1, 0.2])
    with View(Scene("x"), Console(file=output), clock=lambda: next(times)) as view:
        view.refresh(Tally())
        view.refresh(_tally(["a"]))
        view.refresh(_tally(["a"]))
    assert [line.split(" · ")[2] for line in output.getvalue().splitlines()] == ["0 forecasts", "3 forecasts"]


def test_terminal_is_drawn_in_place() -> None:
    """On a terminal the view moves the cursor back and draws over itself."""
    output = io.StringIO()
    times = iter([0.0, 0.0, 1.0])
    console = Console(file=output, force_terminal=True, width=100, height=30)
    with View(Scene("x"), console, clock=lambda: next(times)) as view:
        view.refresh(_tally(["a"]))
        view.refresh(_tally(["a"]))
    assert "\x1b[1A" in output.getvalue()


def test_colour_is_left_out_where_it_is_not_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    """With NO_COLOR set the view has no colours."""
    monkeypatch.setenv("NO_COLOR", "1")
    output = io.StringIO()
    console = Console(file=output, force_terminal=True, width=100, height=30)
    console.print(draw(_tally(["a"]), Scene("x"), None, 100, 30))
    assert "38;" not in output.getvalue()
    assert "48;" not in output.getvalue()


def test_picture_is_an_svg_of_the_view(tmp_path: Path) -> None:
    """The picture is well-formed SVG, shows the stream, and loads nothing from elsewhere."""
    path = tmp_path / "view.svg"
    save_svg(path, _tally(["pump"]), Scene("x"))
    assert ET.parse(path).getroot().tag.endswith("svg")


def test_picture_is_whole_by_itself(tmp_path: Path) -> None:
    """Opening the picture fetches nothing, fonts neither."""
    path = tmp_path / "view.svg"
    save_svg(path, _tally(["pump"]), Scene("x"))
    assert "url(http" not in path.read_text().replace('"', "").replace("'", "")
    text = path.read_text(encoding="utf-8")
    assert "pump" in text
    assert "url(http" not in text
    assert 'url("http' not in text


def test_rate_is_of_the_last_seconds() -> None:
    """The rate forgets what was more than three seconds ago."""
    meter = RateMeter()
    assert meter.update(0.0, 0) == 0.0
    assert meter.update(1.0, 100) == 100.0
    assert meter.update(10.0, 100) == 0.0
