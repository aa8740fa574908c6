"""Every metric of the daemon, declared; events that repeat declare theirs in `foretell.events`."""

from __future__ import annotations

import enum

from foretell.events import Event
from foretell.metrics import BATCH_BOUNDS, NS_PER_S, Counter, Gauge, Histogram, Info, MetricSet


class Phase(enum.StrEnum):
    """What a turn of the loop does, in this order; values of the `phase` label."""

    RECEIVE = "receive"
    DECODE = "decode"
    ADMIT = "admit"
    STEP = "step"
    PUBLISH = "publish"


class Instruments(MetricSet):
    """The metrics, each an attribute. Hold `lock` to change any of them."""

    def __init__(self) -> None:
        super().__init__()
        add = self.register
        self.build = add(Info("foretell_build", "The versions of what is running."))
        self.model = add(
            Info("foretell_model", "The model that is loaded: its origin, fingerprint and sizes.")
        )

        # received = accepted + refused, accepted = published + pending
        self.received = add(Counter("foretell_frames_received", "Frames received: accepted or refused."))
        self.accepted = add(
            Counter("foretell_frames_accepted", "Frames admitted to be stepped: published or pending.")
        )
        self.published = add(
            Counter("foretell_forecasts_published", "Forecasts published, one for every accepted frame.")
        )
        self.pending = add(
            Gauge("foretell_frames_pending", "Accepted frames whose forecasts are not yet published.")
        )
        self.events = {event: add(event.value.new_counter()) for event in Event}

        self.streams = add(Gauge("foretell_streams", "Streams that have a slot."))
        self.capacity = add(
            Gauge("foretell_stream_capacity", "The most streams at a time, as set by streams.capacity.")
        )
        self.connections = add(
            Gauge("foretell_input_connections", "Connections with producers that are open.")
        )
        self.last_frame = add(
            Gauge(
                "foretell_last_frame_timestamp_seconds",
                "When a forecast was last published, in UTC epoch seconds; 0 before the first.",
                unit=NS_PER_S,
            )
        )

        self.latency = add(
            Histogram("foretell_frame_latency_seconds", "From a frame's receipt to its published forecast.")
        )
        self.age = add(
            Histogram(
                "foretell_frame_age_seconds",
                "From the producer's timestamp of a frame to its published forecast; 0 if its clock is ahead.",
            )
        )
        self.stages = add(
            Histogram(
                "foretell_stage_duration_seconds",
                "Time that a turn of the loop spent in each phase.",
                label="phase",
                values=[phase.value for phase in Phase],
            )
        )
        self.batch = add(
            Histogram(
                "foretell_batch_frames", "Frames that a turn of the loop carried.", BATCH_BOUNDS, unit=1
            )
        )
        self.busy = add(
            Counter(
                "foretell_loop_busy_seconds",
                "Time that the loop spent carrying frames; its rate is the loop's utilisation.",
                unit=NS_PER_S,
            )
        )
