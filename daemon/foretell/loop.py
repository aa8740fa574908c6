"""The loop: the turn that carries frames to forecasts, and what is looked after between turns.

One thread and no timer on the way of a frame: a turn takes what has arrived, and while the loop is busy the next batch
grows by itself. What is not on a frame's way (the monitor, idle streams, the watchdog) waits for its turn between two.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import numpy as np
import zmq

from foretell.admission import Accepted
from foretell.admit import IDLE_AT_ONCE
from foretell.order import ResetReason
from foretell.publish import Publisher
from foretell.receive import Receiver
from foretell.wire import ForecastBatch, FrameBatch, decode

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from foretell.admit import Admitter
    from foretell.config import Config
    from foretell.device_engine import DeviceEngine
    from foretell.model import Model
    from foretell.observe import Observer
    from foretell.sockets import ZmqContext
    from foretell.step import Engine
    from foretell.stepped import Stepped
    from foretell.stop import StopSignals

CARE_INTERVAL_NS: Final = 250_000_000
"""How often the loop looks after what is not on a frame's way."""


class Loop:
    """The daemon between its sockets. Opens them (EndpointError where it cannot), and `close` closes them.

    One thread owns it. `engine` and `admitter` are of `model`.
    """

    def __init__(
        self,
        config: Config,
        model: Model,
        context: ZmqContext,
        *,
        engine: Engine | DeviceEngine,
        admitter: Admitter,
        observer: Observer,
    ) -> None:
        self._max_frames = config.batch.max_frames
        self._spin_ns = config.batch.spin_us * 1000
        self._max_channels = config.streams.max_channels
        self._outputs_are_inputs = model.spec.outputs_are_inputs
        self._num_outputs = model.spec.output_channels
        self._quantiles = np.array(model.spec.quantiles, np.float32)
        self._fingerprint = model.fingerprint
        self._engine, self._admitter, self._observer = engine, admitter, observer
        self._care_due_ns = 0
        self.receiver = Receiver(context, config.input)
        try:
            self.publisher = Publisher(context, config.output)
        except BaseException:
            self.receiver.close()
            raise

    def run(self, stop: StopSignals, on_care: Callable[[], None]) -> None:
        """Turn until asked to stop; what was admitted by then is published. `on_care` is called between turns."""
        poller = zmq.Poller()
        for readable in (self.receiver.socket, self.receiver.monitor, stop.wakeup):
            poller.register(readable, zmq.POLLIN)
        spin_until_ns = 0
        while not stop.is_set:
            has_news = False
            if self.run_once():
                spin_until_ns = time.monotonic_ns() + self._spin_ns
            elif (
                time.monotonic_ns() >= spin_until_ns
            ):  # receiving lets go of the GIL, so spinning starves no thread
                has_news = self.receiver.monitor in dict(poller.poll(CARE_INTERVAL_NS // 1_000_000))
            if has_news or time.monotonic_ns() >= self._care_due_ns:
                self._take_care()
                on_care()

    def run_once(self) -> bool:
        """One turn: carry what has arrived from socket to socket. Whether there was anything."""
        began_ns = time.monotonic_ns()
        inbox = self.receiver.drain(self._max_frames)
        if not inbox.parts and not inbox.num_malformed:
            return False
        received_ns = time.monotonic_ns()
        decoded = decode(inbox.parts, time.time_ns(), self._max_channels, self._max_frames)
        decoded_ns = time.monotonic_ns()
        self._observer.decoded(decoded.refused, inbox.num_malformed)
        phases_ns = [received_ns - began_ns, decoded_ns - received_ns, 0, 0, 0]
        for batch in decoded.batches:
            self._carry(batch, began_ns, phases_ns)
        self._observer.turned(time.monotonic_ns() - began_ns, phases_ns)
        return True

    def close(self) -> None:
        """Close the sockets; what was published still leaves, for as long as `output.linger_ms` says."""
        self.receiver.close()
        self.publisher.close()

    def _carry(self, batch: FrameBatch, began_ns: int, phases_ns: list[int]) -> None:
        """Admit, step and publish a batch, and add to `phases_ns` what each took."""
        clock = time.monotonic_ns
        started_ns = clock()
        for admission in self._admitter.admit(batch, began_ns):
            self._observer.admitted(admission, len(self._admitter.table))
            admitted_ns = clock()
            phases_ns[2] += admitted_ns - started_ns
            if admission.accepted is None:
                started_ns = admitted_ns
                continue
            stepped = self._engine.step(admission.accepted.steps)
            accepted = admission.accepted
            if stepped.restarted is not None:
                accepted = self._admitter.began_anew(accepted, stepped.restarted)
                self._observer.reset(ResetReason.NON_FINITE, int(np.count_nonzero(stepped.restarted)))
            stepped_ns = clock()
            self.publisher.publish(self._forecasts(accepted, stepped), stepped_ns - began_ns)
            started_ns = clock()
            self._observer.published(accepted.timestamp_ns, started_ns - began_ns)
            self._observer.stepped(accepted, stepped, self._admitter.table.by_name)
            phases_ns[3] += stepped_ns - admitted_ns
            phases_ns[4] += started_ns - stepped_ns

    def _forecasts(self, accepted: Accepted, stepped: Stepped) -> ForecastBatch:
        values = accepted.values
        if not self._outputs_are_inputs:
            values = _missing((len(accepted.names), self._num_outputs))
        return ForecastBatch(
            names=accepted.names,
            frame=accepted.frame,
            timestamp_ns=accepted.timestamp_ns,
            epoch=accepted.epoch,
            flags=accepted.flags,
            count=accepted.count,
            values=values,
            surprise=_missing(values.shape) if stepped.surprise is None else stepped.surprise,
            forecast=stepped.forecast,
            quantiles=self._quantiles,
            model=self._fingerprint,
        )

    def _take_care(self) -> None:
        now_ns = time.monotonic_ns()
        self._care_due_ns = now_ns + CARE_INTERVAL_NS
        self._observer.connections(self.receiver.read_monitor())
        if num_evicted := self._admitter.evict_idle(now_ns):
            self._observer.evicted_idle(num_evicted, len(self._admitter.table))
            if num_evicted == IDLE_AT_ONCE:  # there are more, and frames may be waiting
                self._care_due_ns = now_ns
        self._observer.idle()


def _missing(shape: tuple[int, ...]) -> NDArray[np.float32]:
    values = np.empty(shape, np.float32)
    values.fill(np.nan)
    return values
