"""What can be seen of the daemon from outside: every metric, every line of the log, and whether it is ready.

The loop tells the `Observer` once a batch what became of it, in a few locked sections of some microseconds, so that at
every scrape `received = accepted + refused` and `accepted = published + pending`.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from platform import python_version
from typing import TYPE_CHECKING

import numpy as np
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

from foretell import __version__
from foretell.admission import EvictReason
from foretell.events import Event, EventLog, events_of, present
from foretell.instruments import Instruments, Phase
from foretell.quality import Quality
from foretell.serve import Status
from foretell.watched import Watched
from foretell.wire import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray
    from structlog.typing import FilteringBoundLogger

    from foretell.admission import Accepted, Admission
    from foretell.connections import ConnectionChanges
    from foretell.order import ResetReason
    from foretell.stepped import Stepped

_MAX_AGE_NS = 2**63 - 1


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What is said of the model; the fields are the labels of `foretell_model_info`.

    source: `builtin` or the file; fingerprint: the 16 hex digits that forecasts carry; kernel, reason: what steps
    it, and why; precision: of its weights; device: where, `cpu` or `cuda: ` and the GPU's name.
    """

    source: str
    fingerprint: str
    channels: str
    layers: str
    hidden_size: str
    quantiles: str
    kernel: str
    reason: str
    precision: str
    device: str


class Observer:
    """Takes in what happens and shows it: counts, lines, readiness. One thread tells, any may scrape.

    capacity: the most streams at a time. watched: names of streams to show singly. clock: monotonic, utc_clock: UTC
    epoch; both in ns.
    """

    def __init__(
        self,
        log: FilteringBoundLogger,
        *,
        capacity: int,
        watched: Sequence[str] = (),
        clock: Callable[[], int] = time.monotonic_ns,
        utc_clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self.log = log
        self._metrics = metrics = Instruments()
        self._lock = metrics.lock
        self._events = EventLog(log, metrics.events, clock)
        self._latency, self._age, self._batch = metrics.latency.of(), metrics.age.of(), metrics.batch.of()
        self._stages = [metrics.stages.of(phase) for phase in Phase]
        self._versions = {"foretell": __version__, "Python": python_version(), "torch": version("torch")}
        metrics.build.facts = dict(zip(("version", "python", "torch"), self._versions.values(), strict=True))
        metrics.capacity.value = capacity
        self.registry = CollectorRegistry()
        self.registry.register(metrics)
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self._clock, self._utc_clock = clock, utc_clock
        self._started_ns = clock()
        self._num_received_before = 0  # the turn that is under way
        self._facts: dict[str, str] = {}
        self._watched_names = watched
        self._quality: Quality | None = None
        self._watched: Watched | None = None
        self._readiness = (False, "starting")

    # -- the life of the daemon

    def starting(self) -> None:
        """The settings are read; what takes time begins."""
        self._readiness = (False, "loading the model")
        self.log.info("starting", **self._metrics.build.facts)

    def model_loaded(self, model: ModelFacts, quantiles: Sequence[float], *, is_calibrated: bool) -> None:
        """The model is read and warmed up; its forecasts are of these quantile levels."""
        labels = asdict(model)
        if is_calibrated:
            self._quality = Quality(quantiles, self._clock)
            self.registry.register(self._quality)
        if self._watched_names:
            self._watched = Watched(self._watched_names, quantiles, self._metrics.capacity.value)
            self.registry.register(self._watched)
        with self._lock:
            self._metrics.model.facts = labels
            self._readiness = (False, "opening the sockets")
            self._facts["model"] = (
                f"{model.source} ({model.fingerprint}): {model.channels}, {model.layers} layers of "
                f"{model.hidden_size}, stepped by {model.kernel}"
            )
        self.log.info("model_loaded", **labels)

    def ready(self, inputs: Sequence[str], output: str) -> None:
        """The sockets are open at these endpoints and the loop begins to turn."""
        with self._lock:
            self._facts |= {"input": ", ".join(inputs), "output": output}
            self._readiness = (True, "ready")
        self.log.info("ready", inputs=list(inputs), output=output)

    def stopping(self, reason: str) -> None:
        """No more frames are received, because of `reason`."""
        self._readiness = (False, f"stopping: {reason}")
        self.log.info("stopping", reason=reason)

    def stopped(self) -> None:
        """Everything is published that will be."""
        self._events.tell_all()
        num_received, num_published = self._metrics.received.total, self._metrics.published.total
        self.log.info("stopped", num_received=num_received, num_published=num_published)

    def failed(self, error: BaseException) -> None:
        """A fault of our own ends the daemon; it is logged with its traceback."""
        self._readiness = (False, "failed")
        self._events.tell_all()
        self.log.error("failed", exc_info=error)

    def status(self) -> Status:
        """Whether the daemon is ready and what it is running. Any thread may ask."""
        metrics = self._metrics
        up_s = (self._clock() - self._started_ns) // 10**9
        with self._lock:
            facts = {
                "version": ", ".join(f"{name} {number}" for name, number in self._versions.items()),
                **self._facts,
                "streams": f"{metrics.streams.value:,} of at most {metrics.capacity.value:,}",
                "frames received": f"{metrics.received.total:,}",
                "frames refused": f"{metrics.events[Event.FRAMES_REFUSED].total:,}",
                "forecasts published": f"{metrics.published.total:,}",
                "up for": _format_s(up_s),
            }
            return Status(*self._readiness, facts)

    # -- the path of a batch

    def decoded(self, refused: Mapping[Refusal, int], num_malformed: int) -> None:
        """Messages were decoded, of which these were refused; `num_malformed` more were no messages at all."""
        reasons = present(refused)
        if num_malformed:
            reasons.append((Refusal.MALFORMED.value, num_malformed))
        if not reasons:
            return
        with self._lock:
            self._refuse(reasons)
        for reason, num in reasons:
            self._events.tell(Event.FRAMES_REFUSED, num, reason)

    def admitted(self, admission: Admission, num_streams: int) -> None:
        """A batch, or a part of one, was judged, which left `num_streams` with a slot."""
        metrics = self._metrics
        num_accepted = admission.num_accepted
        refused = present(admission.refused)
        events = events_of(admission)
        with self._lock:
            if refused:
                self._refuse(refused)
            metrics.received.add(num_accepted)
            metrics.accepted.add(num_accepted)
            metrics.pending.value += num_accepted
            metrics.streams.value = num_streams
            for event, num, reason in events:
                self._events.count(event, num, reason)
        for reason, num in refused:
            self._events.tell(Event.FRAMES_REFUSED, num, reason)
        for event, num, reason in events:
            self._events.tell(event, num, reason)

    def reset(self, reason: ResetReason, num: int) -> None:
        """States began anew for a reason that only stepping shows."""
        with self._lock:
            self._events.count(Event.STATES_RESET, num, reason)
        self._events.tell(Event.STATES_RESET, num, reason)

    def published(self, timestamp_ns: NDArray[np.int64], latency_ns: int) -> None:
        """The forecasts after n accepted frames were sent just now.

        timestamp_ns: i64[n], of the frames. latency_ns: since their receipt.
        """
        metrics = self._metrics
        num_frames = timestamp_ns.size
        now_ns = self._utc_clock()
        age_ns = _ages(timestamp_ns, now_ns)
        with self._lock:
            metrics.published.add(num_frames)
            metrics.pending.value -= num_frames
            metrics.last_frame.value = now_ns
            self._latency.observe(latency_ns, num_frames)
            self._age.observe_array(age_ns)

    def stepped(self, accepted: Accepted, stepped: Stepped, slots: Mapping[bytes, int]) -> None:
        """What stepping frames that were accepted gave. slots: of all streams that have one, by name."""
        if self._quality is not None:
            self._quality.judge(stepped)
        if self._watched is not None:
            self._watched.look(accepted, stepped, slots)

    def turned(self, busy_ns: int, phases_ns: Sequence[int]) -> None:
        """A turn of the loop is over, which took `busy_ns`, and so much of it in each `Phase`, in their order."""
        metrics = self._metrics
        num_received = metrics.received.total
        with self._lock:
            self._batch.observe(num_received - self._num_received_before)
            for stage, phase_ns in zip(self._stages, phases_ns, strict=True):
                stage.observe(phase_ns)
            metrics.busy.add(busy_ns)
        self._num_received_before = num_received

    # -- beside the path

    def evicted_idle(self, num: int, num_streams: int) -> None:
        """Streams lost their slot between batches, which left `num_streams` with one."""
        with self._lock:
            self._events.count(Event.STREAMS_EVICTED, num, EvictReason.IDLE)
            self._metrics.streams.value = num_streams
        self._events.tell(Event.STREAMS_EVICTED, num, EvictReason.IDLE)

    def connections(self, changes: ConnectionChanges) -> None:
        """Producers came or went."""
        ended = present(changes.disconnects)
        with self._lock:
            self._metrics.connections.value = changes.num_connections
            for reason, num in ended:
                self._events.count(Event.INPUT_DISCONNECTED, num, reason)
        for reason, num in ended:
            self._events.tell(Event.INPUT_DISCONNECTED, num, reason)

    def idle(self) -> None:
        """The loop has nothing else to do: log repeats that were suppressed and whose time has come."""
        self._events.tell_due()

    def _refuse(self, reasons: Sequence[tuple[str, int]]) -> None:
        for reason, num in reasons:
            self._metrics.received.add(num)
            self._events.count(Event.FRAMES_REFUSED, num, reason)


def _ages(timestamp_ns: NDArray[np.int64], now_ns: int) -> NDArray[np.int64]:
    """How long before `now_ns` each timestamp lies, 0 for one that lies after it."""
    if timestamp_ns.size == 1:  # plain numbers are quicker
        return np.array((min(max(now_ns - timestamp_ns.item(), 0), _MAX_AGE_NS),))
    # Limited before the subtraction, which would overflow for a time before 1735.
    limited = np.minimum(np.maximum(timestamp_ns, now_ns - _MAX_AGE_NS), now_ns)
    return now_ns - limited


def _format_s(seconds: int) -> str:
    days, rest = divmod(seconds, 86_400)
    clock = f"{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"
    return f"{days} d {clock}" if days else clock
