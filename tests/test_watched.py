"""The gauges of streams that are watched."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from foretell.watched import FORECAST, GAUGES, LOWER, MAX_SERIES, SURPRISE, UPPER, VALUE, Watched
from observing import QUANTILES, Observed, accepted_of, stepped_of

Samples = dict[tuple[str, str, str], float]

BUILTIN = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


class Watch:
    """Watched streams, a slot table, and what a scrape gives."""

    def __init__(self, names: Sequence[str], quantiles: Sequence[float] = QUANTILES) -> None:
        self.slots: dict[bytes, int] = {}
        self.quantiles = quantiles
        self.watched = Watched(names, quantiles, capacity=300)
        self.registry = CollectorRegistry()
        self.registry.register(self.watched)

    def look(self, *frames: tuple[bytes, Sequence[float]], is_calibrated: bool = True) -> None:
        """A batch of these frames; quantile q of a forecast is the value + 1 + q, the surprise a tenth of the value."""
        names, values = [name for name, _ in frames], np.array([row for _, row in frames], np.float32)
        for name in names:
            self.slots.setdefault(name, len(self.slots))
        forecast = values[:, None] + 1 + np.array(self.quantiles, np.float32)[:, None]
        accepted = accepted_of(names, [self.slots[name] for name in names], values)
        stepped = stepped_of(forecast, values / 10 if is_calibrated else None)
        self.watched.look(accepted, stepped, self.slots)

    def shown(self) -> Samples:
        """Every sample of a stream, by gauge, stream and channel."""
        families = text_string_to_metric_families(generate_latest(self.registry).decode())
        return {
            (sample.name, sample.labels["stream"], sample.labels["channel"]): sample.value
            for family in families
            for sample in family.samples
            if sample.labels
        }

    def values(self) -> dict[str, float]:
        """The last value of the first channel of each stream."""
        shown = self.shown()
        return {stream: shown[gauge, stream, "0"] for gauge, stream, _ in shown if gauge == VALUE}

    @property
    def num_left_out(self) -> float | None:
        """What `foretell_stream_series_left_out` says."""
        return self.registry.get_sample_value("foretell_stream_series_left_out")


def test_a_watched_stream_has_five_gauges_a_channel() -> None:
    """Value, median, ends of the band and surprise, labelled with the stream and the channel's number."""
    watch = Watch(["pump"])
    watch.look((b"pump", [10, 20]))
    expected = {
        (gauge, "pump", channel): pytest.approx(value, rel=1e-6)
        for channel, values in (("0", (10, 11.5, 11.05, 11.95, 1)), ("1", (20, 21.5, 21.05, 21.95, 2)))
        for gauge, value in zip((VALUE, FORECAST, LOWER, UPPER, SURPRISE), values, strict=True)
    }
    assert watch.shown() == expected


def test_streams_that_are_not_watched_have_no_series() -> None:
    """Whether they come alone or with others."""
    watch = Watch(["pump"])
    watch.look((b"valve", [1]))
    watch.look((b"valve", [1]), (b"pump", [2]), (b"wheel", [3]))
    assert {stream for _, stream, _ in watch.shown()} == {"pump"}


def test_a_stream_not_seen_yet_has_no_series() -> None:
    """Nothing is shown before its first frame."""
    watch = Watch(["pump", "valve"])
    watch.look((b"pump", [1]))
    assert set(watch.values()) == {"pump"}


@given(st.lists(st.lists(st.sampled_from([b"pump", b"valve", b"wheel"]), min_size=1, max_size=9), max_size=6))
def test_the_newest_frame_counts(batches: list[list[bytes]]) -> None:
    """However frames are cut into batches, a stream shows its last one."""
    watch = Watch(["valve", "pump"])
    expected: dict[str, float] = {}
    number = 0.0
    for names in batches:
        frames = []
        for name in names:
            number += 1
            frames.append((name, [number]))
            if name != b"wheel":
                expected[name.decode()] = number
        watch.look(*frames)
    assert watch.values() == expected


def test_two_frames_of_a_stream_in_a_batch_show_the_second() -> None:
    """All gauges are of one and the same frame."""
    watch = Watch(["pump"])
    watch.look((b"pump", [1]), (b"valve", [5]), (b"pump", [2]), (b"valve", [6]))
    shown = watch.shown()
    assert (shown[VALUE, "pump", "0"], shown[FORECAST, "pump", "0"]) == (2, 3.5)


def test_an_evicted_stream_has_no_series() -> None:
    """From the moment it has no slot, whether or not a frame of anyone comes afterwards; until it comes again."""
    watch = Watch(["pump", "valve"])
    watch.look((b"pump", [1]), (b"valve", [2]))
    del watch.slots[b"pump"]
    assert watch.values() == {"valve": 2}
    watch.slots[b"wheel"] = 0
    watch.look((b"wheel", [3]), (b"valve", [4]))
    assert watch.values() == {"valve": 4}
    watch.slots[b"pump"] = 2
    watch.look((b"pump", [5]), (b"valve", [6]))
    assert watch.values() == {"pump": 5, "valve": 6}


def test_a_slot_that_goes_to_another_stream_is_not_watched_any_longer() -> None:
    """Nothing is kept of streams that nobody named, however often slots change hands."""
    watch = Watch(["pump", "valve"])
    watch.look((b"pump", [1]), (b"valve", [2]))
    watch.slots[b"wheel"] = watch.slots.pop(b"pump")
    watch.look((b"wheel", [3]), (b"valve", [4]))
    assert set(watch.watched._latest) == {b"pump", b"valve"}


def test_a_missing_value_is_nan() -> None:
    """A value that did not come is no value, and its forecast is still there."""
    watch = Watch(["pump"])
    watch.look((b"pump", [np.nan, 1]))
    shown = watch.shown()
    assert np.isnan(shown[VALUE, "pump", "0"])
    assert shown[VALUE, "pump", "1"] == 1


def test_a_stream_that_changes_its_width_shows_its_last_channels() -> None:
    """No channel is left over from a wider frame."""
    watch = Watch(["pump"])
    watch.look((b"pump", [1, 2, 3]))
    watch.look((b"pump", [4]))
    assert {channel for _, _, channel in watch.shown()} == {"0"}


def test_a_model_that_is_not_calibrated_shows_no_surprise() -> None:
    """A gauge that would always be NaN is not there."""
    watch = Watch(["pump"])
    watch.look((b"pump", [1]), is_calibrated=False)
    assert {gauge for gauge, *_ in watch.shown()} == set(GAUGES) - {SURPRISE}


def test_a_point_model_shows_no_band() -> None:
    """There is a value and a forecast."""
    watch = Watch(["pump"], quantiles=(0.5,))
    watch.look((b"pump", [1]), is_calibrated=False)
    assert {gauge for gauge, *_ in watch.shown()} == {VALUE, FORECAST}


@pytest.mark.parametrize(
    ("quantiles", "lower", "upper"), [(BUILTIN, 0.05, 0.95), ((0.1, 0.25, 0.5, 0.75, 0.9), 0.1, 0.9)]
)
def test_the_band_is_that_of_90_percent_or_else_the_widest(
    quantiles: tuple[float, ...], lower: float, upper: float
) -> None:
    """A wider one is not taken where there is one of 90 %."""
    watch = Watch(["pump"], quantiles)
    watch.look((b"pump", [0]))
    shown = watch.shown()
    assert shown[LOWER, "pump", "0"] == pytest.approx(1 + lower)
    assert shown[UPPER, "pump", "0"] == pytest.approx(1 + upper)


def test_outputs_of_other_channels_have_no_value() -> None:
    """Where a model forecasts something else than its inputs, a value under the forecast's number would mislead."""
    watch = Watch(["pump"], quantiles=(0.5,))
    watch.slots[b"pump"] = 0
    watch.watched.look(accepted_of([b"pump"], [0], [[1, 2, 3]]), stepped_of([[[7, 8]]]), watch.slots)
    assert watch.shown() == {(FORECAST, "pump", "0"): 7, (FORECAST, "pump", "1"): 8}


def test_no_more_than_5000_series_are_shown_and_the_rest_is_counted() -> None:
    """Streams come in the order of the settings, and a channel is there with all its gauges or with none."""
    names = [f"stream-{number}" for number in range(100)]
    watch = Watch(names)
    watch.look(*[(name.encode(), range(64)) for name in reversed(names)])
    shown = watch.shown()
    assert len(shown) == MAX_SERIES == 5000
    assert watch.num_left_out == 100 * 64 * 5 - MAX_SERIES
    whole = [f"stream-{number}" for number in range(15)]  # of 320 series each
    assert {stream for _, stream, _ in shown} == {*whole, "stream-15"}
    assert sum(stream == "stream-15" for _, stream, _ in shown) == 5000 - 15 * 320
    channels = {(stream, channel) for _, stream, channel in shown}
    assert len(channels) * 5 == MAX_SERIES


def test_nothing_is_left_out_where_there_is_room() -> None:
    """5,000 series fit exactly."""
    names = [f"stream-{number}" for number in range(100)]
    watch = Watch(names)
    watch.look(*[(name.encode(), range(10)) for name in names])
    assert (len(watch.shown()), watch.num_left_out) == (5000, 0)


def test_any_name_is_a_label() -> None:
    """Names beyond ASCII, quotes and backslashes come through."""
    name = 'Pumpe "süd" \\ 1'
    watch = Watch([name])
    watch.look((name.encode(), [1]))
    assert watch.values() == {name: 1}


def test_what_is_watched_does_not_change_with_the_batch() -> None:
    """What was looked at is kept, not the batch: its arrays may be used again."""
    watch = Watch(["pump"])
    watch.slots[b"pump"] = 0
    accepted, stepped = accepted_of([b"pump"], [0], [[1]]), stepped_of([[[0], [1], [2]]], [[3]])
    watch.watched.look(accepted, stepped, watch.slots)
    before = watch.shown()
    accepted.values[:] = stepped.forecast[:] = 9
    assert watch.shown() == before


# -- through the observer


@pytest.mark.parametrize("watched", [[], ["pump"]])
def test_without_streams_in_the_settings_there_are_no_such_metrics(watched: list[str]) -> None:
    """An empty list leaves not even their names; with one of them they are there."""
    observed = Observed(watched)
    observed.load_model()
    accepted, stepped = accepted_of([b"pump"], [0], [[1]]), stepped_of([[[0], [1], [2]]], [[3]])
    observed.observer.stepped(accepted, stepped, {b"pump": 0})
    text = observed.scrape()
    for name in (*GAUGES, "foretell_stream_series_left_out"):
        assert (name in text) == bool(watched)
