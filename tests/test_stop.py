"""Stopping on signals."""

from __future__ import annotations

import os
import select
import signal

import pytest

from foretell.stop import StopSignals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_sets_the_request_and_wakes_whoever_waits(number: signal.Signals) -> None:
    """Within the block a signal is a request, and its descriptor can be read."""
    with StopSignals() as stop:
        os.kill(os.getpid(), number)
        assert select.select([stop.wakeup], [], [], 10)[0]
        assert stop.is_set
        assert stop.name == number.name


def test_asking_twice_is_asking_once() -> None:
    """A second signal changes nothing."""
    with StopSignals() as stop:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
        assert stop.is_set


def test_handlers_are_put_back() -> None:
    """After the block the signals do what they did before."""
    before = signal.getsignal(signal.SIGTERM)
    with StopSignals():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before
