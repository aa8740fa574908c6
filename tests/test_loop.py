"""The loop in this process, over real sockets: a turn, what is looked after between turns, and stopping."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq

from foretell.admit import Admitter
from foretell.choices import OutputFormat
from foretell.config import BatchConfig, Config, InputConfig, OutputConfig, StreamsConfig
from foretell.loop import Loop
from foretell.run import describe_streams
from foretell.sockets import ZmqContext, ZmqSocket, open_context
from foretell.step import Engine
from foretell.stepped import Errors
from foretell.stop import StopSignals
from foretell.wire import decode_forecasts, encode_frames
from observing import Observed
from pipeline import frames_of
from small_models import joint_spec, model_of

MODEL = model_of(joint_spec(2))
DEADLINE_S = 20.0
NO_SPIN = BatchConfig()


@pytest.fixture
def context() -> Iterator[ZmqContext]:
    """The daemon's context."""
    with open_context() as context:
        yield context


class Bench:
    """A loop with a producer and a subscriber, over ipc."""

    def __init__(
        self, context: ZmqContext, folder: Path, streams: StreamsConfig, batch: BatchConfig = NO_SPIN
    ) -> None:
        config = Config(
            input=InputConfig(endpoints=(f"ipc://{folder}/in",)),
            output=OutputConfig(endpoint=f"ipc://{folder}/out", format=OutputFormat.PACKED),
            streams=streams,
            batch=batch,
        )
        self.observed = Observed()
        self.loop = Loop(
            config,
            MODEL,
            context,
            engine=Engine(MODEL, 4),
            admitter=Admitter(streams, describe_streams(MODEL, 4)),
            observer=self.observed.observer,
        )
        self.producer: ZmqSocket = context.socket(zmq.XPUB)
        self.producer.connect(f"ipc://{folder}/in")
        self.subscriber: ZmqSocket = context.socket(zmq.SUB)
        self.subscriber.connect(f"ipc://{folder}/out")
        self.subscriber.subscribe(b"")
        self.subscriber.rcvtimeo = round(DEADLINE_S * 1000)

    def turn(self) -> None:
        """Turn until something was carried."""
        deadline = time.monotonic() + DEADLINE_S
        while not self.loop.run_once():
            assert time.monotonic() < deadline

    def await_peers(self) -> None:
        """Turn until the producer knows the subscription and a first frame came through to the subscriber."""
        deadline = time.monotonic() + DEADLINE_S
        poller = zmq.Poller()
        poller.register(self.producer, zmq.POLLIN)
        while not poller.poll(1):  # a bound SUB sends its subscription when its thread next enters libzmq
            self.loop.run_once()
            assert time.monotonic() < deadline
        number = 0
        while not self.subscriber.poll(1):
            self.send(b"probe", number)
            number += 1
            self.loop.run_once()
            assert time.monotonic() < deadline
        while self.loop.run_once() or self.subscriber.poll(50):  # a probe may still be on its way in
            if self.subscriber.poll(0):
                self.subscriber.recv_multipart()

    def send(self, name: bytes, number: int) -> None:
        """One frame as a packed record."""
        self.producer.send(encode_frames(frames_of([name], [number], np.ones((1, 2), np.float32))))

    def close(self) -> None:
        """Close all sockets."""
        self.loop.close()
        self.producer.close(linger=0)
        self.subscriber.close(linger=0)


@contextmanager
def opened(
    context: ZmqContext, folder: Path, streams: StreamsConfig, batch: BatchConfig = NO_SPIN
) -> Iterator[Bench]:
    """A bench whose peers are connected."""
    bench = Bench(context, folder, streams, batch)
    try:
        bench.await_peers()
        yield bench
    finally:
        bench.close()


def test_a_turn_without_frames_does_nothing(context: ZmqContext, tmp_path: Path) -> None:
    """Where nothing has arrived there is no batch, and nothing is counted."""
    with opened(context, tmp_path, StreamsConfig(capacity=4)) as bench:
        while bench.loop.run_once():
            pass
        before = bench.observed.sample("foretell_frames_received_total")
        assert not bench.loop.run_once()
        assert bench.observed.sample("foretell_frames_received_total") == before


def test_a_turn_carries_a_frame_to_its_forecast(context: ZmqContext, tmp_path: Path) -> None:
    """One turn receives, steps and publishes what has arrived."""
    with opened(context, tmp_path, StreamsConfig(capacity=4)) as bench:
        bench.send(b"pump", 7)
        bench.turn()
        forecasts, latency_ns = decode_forecasts(bench.subscriber.recv_multipart())
        assert (forecasts.names, forecasts.frame.tolist()) == ([b"pump"], [7])
        assert forecasts.model == MODEL.fingerprint
        assert latency_ns[0] > 0


def test_what_stepping_tells_of_the_forecasts_is_shown(
    context: ZmqContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The surprise and the errors of each batch that is stepped count, once."""
    with opened(context, tmp_path, StreamsConfig(capacity=4)) as bench:
        bench.observed.load_model()
        engine = bench.loop._engine
        step, surprise = engine.step, np.full((1, 2), 3.0, np.float32)
        monkeypatch.setattr(
            engine, "step", lambda steps: replace(step(steps), surprise=surprise, errors=Errors(1.0, 2.0))
        )
        for number in range(3):
            bench.send(b"pump", number)
            bench.turn()
        assert bench.observed.sample("foretell_values_judged_total") == 6
        assert bench.observed.sample("foretell_skill_ratio") == 0.5


def test_silent_streams_are_evicted_between_turns(context: ZmqContext, tmp_path: Path) -> None:
    """While the loop waits it looks after streams that have been silent for too long, and stops when it is asked to."""
    with (
        opened(context, tmp_path, StreamsConfig(capacity=4, idle_timeout_s=0.2)) as bench,
        StopSignals() as stop,
    ):
        deadline = time.monotonic() + DEADLINE_S

        def stop_when_evicted() -> None:
            if bench.observed.sample("foretell_streams") == 0:
                stop.is_set = True
            assert time.monotonic() < deadline

        bench.loop.run(stop, stop_when_evicted)
        assert bench.observed.sample("foretell_streams_evicted_total", reason="idle") >= 1


def test_a_signal_ends_an_idle_loop(context: ZmqContext, tmp_path: Path) -> None:
    """A loop that waits for frames returns when the wake-up descriptor is written to."""
    with opened(context, tmp_path, StreamsConfig(capacity=4)) as bench, StopSignals() as stop:

        def ask() -> None:
            stop.is_set = True
            stop._writer.send(b"\0")

        timer = threading.Timer(0.05, ask)
        timer.start()
        bench.loop.run(stop, lambda: None)
        timer.join()
        assert stop.is_set


class CountingPoller(zmq.Poller):
    """A poller that says how often a loop went to sleep in it."""

    num_polls = 0

    def poll(self, timeout: int | None = None) -> list[tuple[Any, int]]:
        """As that of zmq, counted."""
        CountingPoller.num_polls += 1
        return super().poll(timeout)


@pytest.mark.parametrize("spin_us", [0, 1_000_000])
def test_the_loop_sleeps_after_a_frame_unless_it_is_to_spin(
    context: ZmqContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spin_us: int
) -> None:
    """With `batch.spin_us` the loop looks for frames without a poll, takes care meanwhile, and can be stopped."""
    monkeypatch.setattr(zmq, "Poller", CountingPoller)
    with (
        opened(context, tmp_path, StreamsConfig(capacity=4), BatchConfig(spin_us=spin_us)) as bench,
        StopSignals() as stop,
    ):
        bench.loop._take_care()  # the next is due in 250 ms, a quarter of the time that the loop is to spin
        monkeypatch.setattr(CountingPoller, "num_polls", 0)
        bench.send(b"pump", 7)
        assert bench.loop.receiver.socket.poll(round(DEADLINE_S * 1000))

        def stop_it() -> None:
            stop.is_set = True

        bench.loop.run(stop, stop_it)
        bench.subscriber.recv_multipart()
        assert (CountingPoller.num_polls > 0) == (spin_us == 0)
