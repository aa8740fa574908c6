"""The interpreter while the loop turns."""

from __future__ import annotations

import gc
import sys

import pytest

from foretell.process import SWITCH_INTERVAL_S, tuned


def test_the_heap_is_frozen_and_the_gil_changes_hands_sooner() -> None:
    """Within the block collections have nothing old to look at, and after it all is as before."""
    interval_s = sys.getswitchinterval()
    with tuned():
        assert sys.getswitchinterval() == pytest.approx(SWITCH_INTERVAL_S)
        assert gc.get_freeze_count() > 10_000
    assert sys.getswitchinterval() == interval_s
    assert gc.get_freeze_count() == 0
