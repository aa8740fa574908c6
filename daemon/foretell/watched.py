"""Streams that are watched: the latest value, forecast, band and surprise of each channel, as gauges.

They are few and named in the settings, since every channel is up to five series for whoever scrapes. A batch costs some
array operations and one look-up for each name; numbers become text at a scrape only.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from itertools import repeat
from typing import TYPE_CHECKING, Final

import numpy as np
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from foretell.quality import central_bands

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray
    from prometheus_client.core import Metric as Family

    from foretell.admission import Accepted
    from foretell.stepped import Stepped

MAX_SERIES: Final = 5000
LABELS: Final = ("stream", "channel")
BAND: Final = 0.9
"""The level of the band that is shown, where the model has it."""

VALUE, FORECAST, LOWER, UPPER, SURPRISE = GAUGES = (
    "foretell_stream_value",
    "foretell_stream_forecast",
    "foretell_stream_lower",
    "foretell_stream_upper",
    "foretell_stream_surprise",
)
_MEANINGS: Final = {
    VALUE: "The last value of a watched stream (metrics.streams), as it entered the model; NaN if it was missing.",
    FORECAST: "The median forecast of a watched stream's next value.",
    LOWER: "The lower end of that forecast's central 90 % band, or of the widest that the model has.",
    UPPER: "The upper end of that band.",
    SURPRISE: "How unexpected the last value was: -log10 of its two-sided tail probability; NaN if unknown.",
}


@dataclass(frozen=True, slots=True)
class _Look:
    """The newest frames of some watched streams in a batch: by gauge, float32 [streams, channels]."""

    num_channels: int
    columns: dict[str, NDArray[np.float32]]


class Watched(Collector):
    """The gauges of the streams `names`, of which `capacity` slots may hold some. One thread looks, any may scrape.

    quantiles: the model's levels.
    """

    def __init__(self, names: Sequence[str], quantiles: Sequence[float], capacity: int) -> None:
        self._names = [name.encode() for name in names]
        self._is_watched = frozenset(self._names)
        self._quantile_of = _shown_quantiles(quantiles)
        self._marks = np.zeros(capacity, np.bool_)
        self._lock = threading.Lock()
        self._latest: dict[bytes, tuple[_Look, int]] = {}
        self._slots: Mapping[bytes, int] = {}

    def look(self, accepted: Accepted, stepped: Stepped, slots: Mapping[bytes, int]) -> None:
        """Keep the newest frame of each watched stream in a batch. slots: of all streams that have one, by name."""
        at = self._find_newest(accepted, slots)
        if not at.size:
            return
        num_channels = stepped.forecast.shape[3]
        columns = {}
        if accepted.values.shape[1] == num_channels:  # else the outputs are of other channels
            columns[VALUE] = accepted.values[at]
        for gauge, quantile in self._quantile_of.items():
            columns[gauge] = stepped.forecast[at, 0, quantile]
        if stepped.surprise is not None:
            columns[SURPRISE] = stepped.surprise[at]
        look = _Look(num_channels, columns)
        names = [accepted.names[place] for place in at.tolist()]
        with self._lock:
            self._slots = slots
            self._latest.update(zip(names, zip(repeat(look), range(len(names)), strict=False), strict=False))

    def collect(self) -> Iterator[Family]:
        """The gauges of the streams that have a slot, in the order of the settings, as far as there is room."""
        with self._lock:
            latest = [
                (name.decode(), *self._latest[name])
                for name in self._names
                if name in self._latest and name in self._slots
            ]
        families = {gauge: GaugeMetricFamily(gauge, _MEANINGS[gauge], labels=LABELS) for gauge in GAUGES}
        num_free, num_left_out = MAX_SERIES, 0
        for name, look, place in latest:
            num_shown = min(look.num_channels, num_free // len(look.columns))
            num_free -= num_shown * len(look.columns)
            num_left_out += (look.num_channels - num_shown) * len(look.columns)
            for gauge, column in look.columns.items():
                for channel, value in enumerate(column[place, :num_shown].tolist()):
                    families[gauge].add_metric((name, str(channel)), value)
        yield from families.values()
        yield GaugeMetricFamily(
            "foretell_stream_series_left_out",
            f"Series of watched streams beyond {MAX_SERIES}, the most that are shown.",
            num_left_out,
        )

    def _find_newest(self, accepted: Accepted, slots: Mapping[bytes, int]) -> NDArray[np.int64]:
        """Where the newest frame of each watched stream stands in a batch."""
        if len(accepted.names) == 1:  # a lone frame is the case that must be quick
            return np.arange(1 if accepted.names[0] in self._is_watched else 0)
        seated = [slot for slot in map(slots.get, self._names) if slot is not None]
        self._marks[seated] = True
        newest_first = np.flatnonzero(self._marks[accepted.slot])[::-1]
        self._marks[seated] = False
        _, first = np.unique(accepted.slot[newest_first], return_index=True)
        return newest_first[first]


def _shown_quantiles(quantiles: Sequence[float]) -> dict[str, int]:
    """Which of the quantiles a gauge shows."""
    shown = {FORECAST: quantiles.index(0.5)}
    bands = central_bands(quantiles)
    if bands:
        band = next((band for band in bands if round(band.level, 6) == BAND), bands[0])
        shown |= {LOWER: band.lower, UPPER: band.upper}
    return shown
