"""How the interpreter is set while the loop turns: every setting in one place, with what it gained.

What was measured and gained nothing is not set; it stands in `daemon/README.md`.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import sys
import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

SWITCH_INTERVAL_S: Final = 100e-6
"""How long the loop waits for the GIL before a thread that computes, such as a scrape, must hand it over.

The default is 5 ms, longer than a scrape takes, so a frame that arrives during one waited for its end. With the two
threads on cores of their own, p99 of waking up beside bursts of 3 ms fell from 2.8 ms to 0.7 to 0.9 ms (500 us: 1.3 ms;
20 us: 0.5 ms). Where the kernel puts both threads on one core, the wait is the scheduler's and nothing changes.
"""

KEPT_BYTES: Final = 64 << 20
"""How much free memory the C library keeps for the next batch instead of giving it back to the kernel.

A batch of 4,096 frames takes and frees some 3 MB in pieces of up to 1 MB. By default the C library gave them back each
time, and the kernel made 400 empty pages of them again for the next batch: 0.2 of 1.5 us of CPU a frame.
"""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of mallopt(3)
_MMAP_THRESHOLD_BYTES: Final = 32 << 20  # the most that glibc takes


LOWEST_PRIORITY: Final = 19
"""The last of Linux's nice values."""


@contextlib.contextmanager
def tuned() -> Iterator[None]:
    """Within the block the interpreter is set for the loop; call it when everything that lives until the exit is there.

    The heap is frozen: a full collection of what the imports leave takes 90 ms, and 1 us of what comes after them.
    That free memory is kept stays so after the block: the C library does not tell what was set before.
    """
    interval_s = sys.getswitchinterval()
    keep_memory()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
        sys.setswitchinterval(interval_s)


def keep_memory() -> None:
    """Let the C library keep up to `KEPT_BYTES` of free memory; nothing happens where it is not glibc."""
    with contextlib.suppress(OSError, AttributeError):
        set_option = ctypes.CDLL(None).mallopt
        set_option(_M_MMAP_THRESHOLD, _MMAP_THRESHOLD_BYTES)
        set_option(_M_TRIM_THRESHOLD, KEPT_BYTES)


def give_way() -> None:
    """Let the calling thread wait for a core behind all others of the machine; nothing happens where that is forbidden.

    For the threads that answer HTTP: what they compute would hold up the loop for the rest of their slice. p99 of a
    lone frame beside a scrape every second fell from 1.1 to 0.8 ms, where it is 0.7 without scrapes.
    """
    if sys.platform == "linux":  # there a thread has a priority of its own
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOWEST_PRIORITY)
