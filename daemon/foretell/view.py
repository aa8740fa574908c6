"""The live view: a tally of forecasts drawn for a terminal of any size, or as plain lines where there is none."""

from __future__ import annotations

import io
import math
import re
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from foretell.errors import ConfigError
from foretell.formats import describe_flags, format_duration, format_number, format_ratio, sparkline
from foretell.plot import BAND_STYLE, FORECAST_STYLE, VALUE_STYLE, plot
from foretell.tally import StreamState, Tally

REFRESH_S = 0.2  # a drawing takes about 20 ms of CPU
PLAIN_LINE_S = 1.0

_RATE_WINDOW_S = 3.0
_PLOT_LINES = 10
_CHROME_LINES = 9  # header, frames of the table and of the plot, the line of what is not shown
_SPARKLINE_CELLS = 12


@dataclass(frozen=True, slots=True)
class Scene:
    """What to show: where the forecasts come from, which stream is plotted (None: the first), names of channels."""

    title: str
    stream: bytes | None = None
    channel: int = 0
    channel_names: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def channel_name(self, stream: str, channel: int) -> str:
        """The channel's name where it is known, else its number: names do not travel with forecasts."""
        names = self.channel_names.get(stream, ())
        return names[channel] if channel < len(names) else str(channel)


class RateMeter:
    """Forecasts a second over the last few seconds."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()

    def update(self, now_s: float, total: int) -> float:
        """Take in a running total; give its rate."""
        self._samples.append((now_s, total))
        while now_s - self._samples[0][0] > _RATE_WINDOW_S:
            self._samples.popleft()
        since_s, before = self._samples[0]
        return (total - before) / (now_s - since_s) if now_s > since_s else 0.0


class View:
    """Draws a tally again and again: in place on a terminal, one plain line a second elsewhere.

    A context manager; `refresh` may be called as often as one likes and draws when it is time to.
    """

    def __init__(self, scene: Scene, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._scene = scene
        self._console = console
        self._clock = clock
        self._rate = RateMeter()
        self._next_s = clock()
        self._has_begun = False
        self._interval_s = REFRESH_S if console.is_terminal else PLAIN_LINE_S
        self._live = Live(console=console, auto_refresh=False, screen=False) if console.is_terminal else None

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def refresh(self, tally: Tally) -> None:
        """Draw if the last drawing is old enough, or if the first forecast has come since."""
        now_s = self._clock()
        has_begun = tally.num_forecasts > 0
        if now_s < self._next_s and has_begun == self._has_begun:
            return
        self._has_begun = has_begun
        self._next_s = now_s + self._interval_s
        rate = self._rate.update(now_s, tally.num_forecasts)
        if self._live is not None:
            width, height = self._console.size
            self._live.update(draw(tally, self._scene, rate, width, height - 1), refresh=True)
        else:
            # Past rich, which would turn a reader that has gone into an exit of its own.
            self._console.file.write(f"{plain_line(tally, rate)}\n")
            self._console.file.flush()


def save_svg(path: Path, tally: Tally, scene: Scene, width: int = 110, height: int = 34) -> None:
    """Write the view as a picture. Raises ConfigError where that cannot be done."""
    console = Console(
        file=io.StringIO(),
        record=True,
        width=width,
        height=height,
        force_terminal=True,
        color_system="truecolor",
    )
    console.print(draw(tally, scene, None, width, height))
    # rich has every viewer of the picture fetch a font from afar; a monospaced one is at hand.
    picture = re.sub(r"@font-face \{.*?\}\s*", "", console.export_svg(title="foretell"), flags=re.DOTALL)
    try:
        path.write_text(picture, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: the picture cannot be written: {error.strerror}") from error


def plain_line(tally: Tally, rate: float | None) -> str:
    """The totals as one line of text."""
    return " · ".join(_totals(tally, rate))


def draw(tally: Tally, scene: Scene, rate: float | None, width: int, height: int) -> RenderableType:
    """The whole view, at most `height` lines of `width` cells."""
    names = tally.streams
    if not names:
        return Panel(
            Text("waiting for the first forecast …", style="dim"), title=Text(scene.title), title_align="left"
        )
    chosen = scene.stream if scene.stream in names else names[0]
    plot_lines = min(_PLOT_LINES, max(0, height - _CHROME_LINES - 4))
    num_rows = max(1, height - _CHROME_LINES - plot_lines)
    parts: list[RenderableType] = [
        _header(tally, scene, rate),
        _table(tally, scene, names, chosen, num_rows, width),
    ]
    if plot_lines >= 3:
        parts.append(_plot_panel(tally, scene, chosen, width, plot_lines))
    return Group(*parts)


def _totals(tally: Tally, rate: float | None) -> list[str]:
    streams = f"{len(tally.streams):,}" + ("+" if tally.num_untracked else "")
    p50, p99 = tally.latency.percentile_ns(50), tally.latency.percentile_ns(99)
    score = tally.score()
    totals = [
        f"{streams} streams",
        f"{tally.num_forecasts:,} forecasts",
        f"latency p50 {format_duration(p50)} p99 {format_duration(p99)}",
        f"lost {tally.num_lost:,}",
        f"error {format_ratio(score.relative_mae)} of persistence",
    ]
    if rate is not None:
        totals.insert(1, f"{rate:,.0f} a second")
    return totals


def _header(tally: Tally, scene: Scene, rate: float | None) -> RenderableType:
    header = Table.grid(expand=True)
    header.add_column(ratio=1)
    header.add_row(Text(f" {scene.title}", style="bold", no_wrap=True, overflow="ellipsis"))
    header.add_row(
        Text(" " + "  ·  ".join(_totals(tally, rate)), style="dim", no_wrap=True, overflow="ellipsis")
    )
    return header


def _table(
    tally: Tally, scene: Scene, names: Sequence[bytes], chosen: bytes, num_rows: int, width: int
) -> RenderableType:
    """Streams as far as there is room, the plotted one first; each with as many channels as is fair."""
    table = Table(expand=True, box=None, padding=(0, 1), header_style="bold dim")
    table.add_column("stream", no_wrap=True, ratio=3)
    table.add_column("channel", no_wrap=True, ratio=3, min_width=12)
    for heading in ("value", "forecast", "90 % band", "error", "latency", "lost"):
        table.add_column(heading, justify="right", no_wrap=True)
    is_wide = width >= 100
    if is_wide:
        table.add_column("last frames", no_wrap=True, width=_SPARKLINE_CELLS)
    table.add_column("state", no_wrap=True, ratio=2, min_width=7)

    ordered = [chosen, *(name for name in names if name != chosen)]
    shown = ordered[: max(1, num_rows)]
    states = [tally.state(name) for name in shown]
    limit = _fair_limit([state.value.size for state in states], num_rows)
    for name, state in zip(shown, states, strict=True):
        for channel in range(min(limit, state.value.size)):
            table.add_row(*_cells(tally, scene, name, state, channel, is_wide=is_wide))
    hidden = sum(max(0, state.value.size - limit) for state in states)
    rest = [f"{hidden:,} more channels"] if hidden else []
    rest += [f"{len(ordered) - len(shown):,} more streams"] if len(ordered) > len(shown) else []
    rest += [f"{tally.num_untracked:,} forecasts of streams beyond those"] if tally.num_untracked else []
    return Group(table, Text(" … and " + ", ".join(rest), style="dim")) if rest else table


def _fair_limit(widths: Sequence[int], num_rows: int) -> int:
    """The most channels a stream may show so that all streams together fit; at least one."""
    limit = min(max(widths), max(1, num_rows))
    while limit > 1 and sum(min(limit, width) for width in widths) > num_rows:
        limit -= 1
    return limit


def _cells(
    tally: Tally, scene: Scene, name: bytes, state: StreamState, channel: int, *, is_wide: bool
) -> list[RenderableType]:
    is_first = channel == 0
    ratio = tally.score(name, channel).relative_mae
    value, median = state.value[channel], state.median[channel]
    lower, upper = state.lower[channel], state.upper[channel]
    has_band = not (math.isnan(lower) or math.isnan(upper))
    scale = max(
        (abs(number) for number in (value, median, lower, upper) if math.isfinite(number)), default=0.0
    )
    cells: list[RenderableType] = [
        Text(state.name if is_first else "", style="bold"),
        Text(scene.channel_name(state.name, channel), style="dim"),
        Text(format_number(value, scale), style=VALUE_STYLE),
        Text(format_number(median, scale), style=FORECAST_STYLE),
        Text(
            f"{format_number(lower, scale)} … {format_number(upper, scale)}" if has_band else "none",
            style="dim",
        ),
        Text(format_ratio(ratio), style="" if ratio is None else "green" if ratio < 1 else "red"),
        Text(format_duration(state.latency_ns) if is_first else "", style="dim"),
        Text(f"{state.num_lost:,}" if is_first else "", style="red" if state.num_lost else "dim"),
    ]
    if is_wide:
        history = tally.history(name, channel)
        cells.append(Text(sparkline(history.value, _SPARKLINE_CELLS), style=f"dim {VALUE_STYLE}"))
    cells.append(Text(describe_flags(state.flags) if is_first else "", style="yellow"))
    return cells


def _plot_panel(tally: Tally, scene: Scene, name: bytes, width: int, height: int) -> RenderableType:
    state = tally.state(name)
    channel = min(scene.channel, state.value.size - 1)
    lines = plot(tally.history(name, channel), width - 4, height)
    score = tally.score(name, channel)
    legend = Text.assemble(
        ("━ value", VALUE_STYLE), "  ", ("━ forecast", FORECAST_STYLE), "  ", ("█", BAND_STYLE), " 90 % band"
    )
    if score.coverage is not None:
        legend.append(f" (held {score.coverage:.0%})")
    title = Text(f"{state.name} · {scene.channel_name(state.name, channel)}")
    return Panel(
        Group(*lines),
        title=title,
        title_align="left",
        subtitle=legend,
        subtitle_align="right",
        border_style="dim",
    )
