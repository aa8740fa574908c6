"""How the interpreter is set while the loop turns: every setting in one place, with what it gained.

What was measured and gained nothing is not set; it stands in `daemon/README.md`.
"""

from __future__ import annotations

import contextlib
import gc
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

SWITCH_INTERVAL_S: Final = 100e-6
"""How long the loop waits for the GIL before a thread that computes, such as a scrape, must hand it over.

The default is 5 ms, longer than a scrape takes, so a frame that arrives during one waited for its end. With the two
threads on cores of their own, p99 of waking up beside bursts of 3 ms fell from 2.8 ms to 0.7 to 0.9 ms (500 us: 1.3 ms;
20 us: 0.5 ms). Where the kernel puts both threads on one core, the wait is the scheduler's and nothing changes.
"""


@contextlib.contextmanager
def tuned() -> Iterator[None]:
    """Within the block the interpreter is set for the loop; call it when everything that lives until the exit is there.

    The heap is frozen: a full collection of what the imports leave takes 90 ms, and 1 us of what comes after them.
    """
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
        sys.setswitchinterval(interval_s)
