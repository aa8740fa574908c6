"""What happens again and again, declared once: an event is a line in the log at times, and always counted."""

from __future__ import annotations

import enum
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from foretell.admission import EvictReason
from foretell.connections import Disconnect
from foretell.metrics import Counter
from foretell.order import ResetReason
from foretell.wire import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from structlog.typing import FilteringBoundLogger

    from foretell.admission import Admission

R = TypeVar("R", bound=enum.StrEnum)

LINE_INTERVAL_NS: Final = 10_000_000_000
"""Of one event and reason, at most one line in so long."""


@dataclass(frozen=True, slots=True)
class EventKind:
    """How an event is logged and counted.

    counter: its metric, without `_total`. reasons: the closed set of its `reason` label, None for no label.
    ordinary: the reasons that are everyday life, logged as information whatever `level` is.
    """

    level: int
    counter: str
    meaning: str
    reasons: type[enum.StrEnum] | None = None
    ordinary: frozenset[str] = frozenset()

    def new_counter(self) -> Counter:
        """Its metric, at 0 for every reason."""
        if self.reasons is None:
            return Counter(self.counter, self.meaning)
        return Counter(self.counter, self.meaning, "reason", [reason.value for reason in self.reasons])

    def level_of(self, reason: str) -> int:
        """The level of its line, as in `logging`."""
        return logging.INFO if reason in self.ordinary else self.level


class Event(enum.Enum):
    """Every event that repeats; its name in lower case is its name in the log."""

    FRAMES_REFUSED = EventKind(
        logging.WARNING,
        "foretell_frames_refused",
        "Frames refused, by reason; a message that cannot be read counts as one.",
        Refusal,
        frozenset({Refusal.DUPLICATE, Refusal.LATE}),
    )
    FRAMES_MISSED = EventKind(
        logging.WARNING,
        "foretell_frames_missed",
        "Frames that never came, counted from the gaps in the frame numbers.",
    )
    EPOCHS_BEGUN = EventKind(
        logging.INFO,
        "foretell_epochs",
        "New epochs of known streams: producers that started again.",
    )
    STREAMS_EVICTED = EventKind(
        logging.INFO,
        "foretell_streams_evicted",
        "Streams that lost their slot: the longest idle one while the table was full, or idle for too long.",
        EvictReason,
    )
    STATES_RESET = EventKind(
        logging.WARNING,
        "foretell_state_resets",
        "States of known streams that began anew.",
        ResetReason,
        frozenset({ResetReason.EPOCH, ResetReason.CHANNELS}),
    )
    VALUES_IMPUTED = EventKind(
        logging.DEBUG,
        "foretell_values_imputed",
        "Values, missing in a frame or with a whole missed frame, that the stream's own forecast stood in for.",
    )
    INPUT_DISCONNECTED = EventKind(
        logging.WARNING,
        "foretell_input_disconnects",
        "Connections with producers that ended, by what libzmq says of why.",
        Disconnect,
        frozenset({Disconnect.CLOSED}),
    )


@dataclass(slots=True)
class _Unlogged:
    """What has happened since the last line of an event and reason."""

    due_ns: int
    num: int = 0
    num_lines: int = 0


class EventLog:
    """Counts events and logs them, repeats of one event and reason at most every 10 s.

    A line says in `num` how many there were since the last one, so that the lines add up to the metric, and in
    `num_suppressed` how many lines were left out. clock: monotonic, in ns.
    """

    def __init__(
        self,
        log: FilteringBoundLogger,
        counters: Mapping[Event, Counter],
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._log = log
        self._clock = clock
        self._unlogged: dict[tuple[Event, str], _Unlogged] = {}
        self._counters = counters

    def count(self, event: Event, num: int, reason: str = "") -> None:
        """Count only; the caller holds the lock of the metrics, and calls `tell` when it has let go of it."""
        self._counters[event].add(num, reason)

    def tell(self, event: Event, num: int, reason: str = "") -> None:
        """Log what was counted, unless there was a line of it a short time ago. Writing may wait: hold no lock."""
        now_ns = self._clock()
        unlogged = self._unlogged.setdefault((event, reason), _Unlogged(now_ns))
        unlogged.num += num
        if now_ns < unlogged.due_ns:
            unlogged.num_lines += 1
        else:
            self._write(event, reason, unlogged, now_ns)

    def tell_due(self) -> None:
        """Log what was suppressed and whose time has come; for when the loop has nothing else to do."""
        now_ns = self._clock()
        for (event, reason), unlogged in self._unlogged.items():
            if unlogged.num and now_ns >= unlogged.due_ns:
                unlogged.num_lines -= 1
                self._write(event, reason, unlogged, now_ns)

    def tell_all(self) -> None:
        """Log all that was suppressed, due or not; for the end."""
        for unlogged in self._unlogged.values():
            unlogged.due_ns = 0
        self.tell_due()

    def _write(self, event: Event, reason: str, unlogged: _Unlogged, now_ns: int) -> None:
        fields: dict[str, str | int] = {"reason": reason} if reason else {}
        fields["num"] = unlogged.num
        if unlogged.num_lines:
            fields["num_suppressed"] = unlogged.num_lines
        self._log.log(event.value.level_of(reason), event.name.lower(), **fields)
        self._unlogged[event, reason] = _Unlogged(now_ns + LINE_INTERVAL_NS)


def present(counts: Mapping[R, int]) -> list[tuple[str, int]]:
    """Those reasons that there were, with their numbers."""
    return [(reason.value, num) for reason, num in counts.items() if num] if counts else []


def events_of(admission: Admission) -> list[tuple[Event, int, str]]:
    """What is told of a batch beside its refusals: event, number, reason."""
    events = []
    if admission.num_missed:
        events.append((Event.FRAMES_MISSED, admission.num_missed, ""))
    if admission.num_epochs:
        events.append((Event.EPOCHS_BEGUN, admission.num_epochs, ""))
    if admission.num_imputed:
        events.append((Event.VALUES_IMPUTED, admission.num_imputed, ""))
    events += [(Event.STATES_RESET, num, reason) for reason, num in present(admission.resets)]
    events += [(Event.STREAMS_EVICTED, num, reason) for reason, num in present(admission.evicted)]
    return events
