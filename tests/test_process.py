"""The interpreter while the loop turns."""

from __future__ import annotations

import gc
import os
import resource
import sys
import threading

import numpy as np
import pytest

from foretell.process import LOWEST_PRIORITY, SWITCH_INTERVAL_S, give_way, keep_memory, tuned


def test_the_heap_is_frozen_and_the_gil_changes_hands_sooner() -> None:
    """Within the block collections have nothing old to look at, and after it all is as before."""
    interval_s = sys.getswitchinterval()
    with tuned():
        assert sys.getswitchinterval() == pytest.approx(SWITCH_INTERVAL_S)
        assert gc.get_freeze_count() > 10_000
    assert sys.getswitchinterval() == interval_s
    assert gc.get_freeze_count() == 0


@pytest.mark.skipif(sys.platform != "linux", reason="of the C library of Linux")
def test_memory_that_a_batch_frees_is_kept_for_the_next() -> None:
    """Arrays taken and freed again and again, 8 MB at a time, touch no page that the kernel must make anew."""
    keep_memory()

    def take() -> int:
        before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
        _ = [np.ones(1 << 17) for _ in range(8)]
        return resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before

    take()
    assert sum(take() for _ in range(10)) < 8 << 20 >> 12  # the pages of a single time


@pytest.mark.skipif(sys.platform != "linux", reason="only there a thread has a priority of its own")
def test_a_thread_gives_way_alone() -> None:
    """The thread that asks for it has the lowest priority, and the others keep theirs."""
    before, seen = os.getpriority(os.PRIO_PROCESS, 0), []

    def ask() -> None:
        give_way()
        seen.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    assert seen == [LOWEST_PRIORITY]
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == before
