"""`foretell demo`: a daemon, a producer and the live view together, on this machine's own sensors or on recordings."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console

from foretell.child import DaemonProcess
from foretell.client import Producer, Subscriber
from foretell.formats import format_duration, format_ratio
from foretell.interrupt import stop_on_signals
from foretell.replay import Pace, read_recordings, send_all
from foretell.sensors import Sensors
from foretell.tally import Score, Tally
from foretell.view import Scene, View, save_svg
from foretell.watch import follow

_READY_TIMEOUT_S = 60.0  # generous: importing torch from a cold disk takes many seconds
_CONNECT_S = 10.0
_SETTLE_S = 2.0  # how long the last forecasts may take to arrive
_MAX_SUMMARY_STREAMS = 20


class Feed(threading.Thread):
    """Sends frames to a daemon beside the view, until they end or its block does, which raises what ended it early.

    send: given a producer and what tells that it is time to stop, yields the number of frames sent so far.
    """

    def __init__(self, endpoint: str, send: Callable[[Producer, threading.Event], Iterator[int]]) -> None:
        super().__init__(name="foretell-feed", daemon=True)
        self.num_sent = 0
        self.error: Exception | None = None
        self._endpoint = endpoint
        self._send = send
        self._stopping = threading.Event()

    def run(self) -> None:
        """Send; an error ends the feed and is raised at the end of its block."""
        try:
            with Producer(self._endpoint, linger_s=_SETTLE_S) as producer:
                for num_sent in self._send(producer, self._stopping):
                    self.num_sent = num_sent
        except Exception as error:  # noqa: BLE001 - raised again in the main thread
            self.error = error

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self.join()
        if error is None and self.error is not None:
            raise self.error


def send_sensors(
    sensors: Sensors, rate: float, producer: Producer, stopping: threading.Event
) -> Iterator[int]:
    """Send a frame of every stream `rate` times a second; yields how many frames have been sent."""
    start_s = time.monotonic()
    num_sent = 0
    for frame in itertools.count():
        if stopping.wait(max(0.0, start_s + frame / rate - time.monotonic())):
            return
        timestamp_ns = time.time_ns()
        for name, values in sensors.read().items():
            producer.send(name, values, frame=frame, timestamp_ns=timestamp_ns)
            num_sent += 1
        yield num_sent


def demo_sensors(
    rate: float, *, seconds: float | None = None, settings: Sequence[str] = (), svg_path: Path | None = None
) -> int:
    """Forecast this machine's own sensors, read `rate` times a second, until Ctrl-C or for so many seconds.

    settings: of the daemon, as `--set` takes them. svg_path: a picture of the view is written there at the end.
    """
    sensors = Sensors()
    scene = Scene("foretell demo: this machine's sensors", stream=b"cpu", channel_names=sensors.channels)
    return _run(scene, partial(send_sensors, sensors, rate), seconds, settings, svg_path)


def demo_recordings(
    paths: Sequence[Path],
    pace: Pace,
    *,
    seconds: float | None = None,
    settings: Sequence[str] = (),
    svg_path: Path | None = None,
) -> int:
    """Forecast recordings, each as a stream, until they end, until Ctrl-C or for so many seconds.

    settings, svg_path: as for sensors. Raises RecordingError before anything is started.
    """
    recordings = read_recordings(paths)
    widest = max(len(recording.channels) for recording in recordings)
    scene = Scene(
        f"foretell demo: {', '.join(path.name for path in paths)}",
        channel_names={recording.name: recording.channels for recording in recordings},
    )
    return _run(
        scene,
        lambda producer, stopping: send_all(producer, recordings, pace, stopping),
        seconds,
        [f"streams.max_channels={max(widest, 64)}", *settings],
        svg_path,
    )


def _run(
    scene: Scene,
    send: Callable[[Producer, threading.Event], Iterator[int]],
    seconds: float | None,
    settings: Sequence[str],
    svg_path: Path | None,
) -> int:
    tally = Tally()
    console = Console()
    with stop_on_signals() as stopping, DaemonProcess(settings) as daemon:
        console.print(f"starting a daemon; its metrics are at {daemon.metrics_url}/metrics", highlight=False)
        if not daemon.wait_ready(_READY_TIMEOUT_S, stopping):
            return 0
        start_s = time.monotonic()
        with (
            Subscriber(daemon.output_endpoint, wait_s=_CONNECT_S) as subscriber,
            View(scene, console) as view,
        ):
            with Feed(daemon.input_endpoint, send) as feed:

                def is_over() -> bool:
                    daemon.check()
                    has_time = seconds is None or time.monotonic() - start_s < seconds
                    return stopping.is_set() or not feed.is_alive() or not has_time

                follow(subscriber, tally, view, is_over)
            end_s = time.monotonic()
            follow(
                subscriber,
                tally,
                view,
                lambda: has_all(tally, feed.num_sent) or time.monotonic() - end_s >= _SETTLE_S,
            )
        for line in summarize(tally, daemon.read_metrics(), feed.num_sent, end_s - start_s):
            print(line)
    if svg_path is not None:
        save_svg(svg_path, tally, scene)
    return 0


def has_all(tally: Tally, num_sent: int) -> bool:
    """Whether a forecast of every frame sent has arrived or is known to be lost."""
    return tally.num_forecasts + tally.num_lost >= num_sent


def summarize(tally: Tally, metrics: Mapping[str, float], num_sent: int, elapsed_s: float) -> list[str]:
    """The end of a demo in lines: what went in and out, whether the books balance, how fast and how well."""

    def count(metric: str) -> str:
        return f"{metrics.get(f'foretell_{metric}', 0):,.0f}"

    received, accepted = count("frames_received_total"), count("frames_accepted_total")
    refused, published = count("frames_refused_total"), count("forecasts_published_total")
    p50, p99 = (format_duration(tally.latency.percentile_ns(percent)) for percent in (50, 99))
    return [
        f"{elapsed_s:.1f} s",
        f"  frames     {num_sent:,} sent; {received} received = {accepted} accepted + {refused} refused",
        f"             {accepted} accepted = {published} published + {count('frames_pending')} pending",
        f"  forecasts  {tally.num_forecasts:,} arrived, {tally.num_lost:,} lost on the way",
        f"  latency    p50 {p50}, p99 {p99}, from the receipt of a frame to the making of its forecast",
        "  error against persistence (the last value as the forecast), below ×1 is better:",
        *(f"    {line}" for line in _describe_scores(tally)),
    ]


def _describe_scores(tally: Tally) -> Iterator[str]:
    names = tally.streams[:_MAX_SUMMARY_STREAMS]
    width = max((len(name.decode()) for name in names), default=0)
    for name in names:
        yield f"{name.decode():{width}}  {describe_score(tally.score(name))}"
    if len(tally.streams) > len(names):
        yield f"… and {len(tally.streams) - len(names):,} more streams"
    yield f"{'all':{width}}  {describe_score(tally.score())}"


def describe_score(score: Score) -> str:
    """A score in words."""
    if score.relative_mae is None:
        return "nothing to compare: too few frames, or no change"
    band = "" if score.coverage is None else f"; 90 % band held {score.coverage:.1%}"
    return f"{format_ratio(score.relative_mae)} over {score.num_scored:,} values{band}"
