"""What the measurements are held against: every limit in one place, and the verdict on a figure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Limit:
    """What a figure may be at most, or at least."""

    what: str
    bound: float
    is_most: bool = True

    def __str__(self) -> str:
        sign = "<=" if self.is_most else ">="
        return f"{sign} {self.bound:,.0f}" if self.bound >= 1_000 else f"{sign} {self.bound:g}"


def judge(limit: Limit, low: float, high: float | None = None, *, drift: float = 1.0) -> str:
    """`pass` or `FAIL`: FAIL where the interval `low` to `high` of a figure lies wholly beyond the limit.

    A figure without an interval is `low` alone. `drift` loosens the limit: what the same measurement gives of a thing
    against itself (at most where the limit is one of most, at least where it is one of least).
    """
    high = low if high is None else high
    fails = low > limit.bound * drift if limit.is_most else high < limit.bound * drift
    return "FAIL" if fails else "pass"


def at_most(what: str, bound: float) -> Limit:
    """A limit that is kept from below."""
    return Limit(what, bound)


def at_least(what: str, bound: float) -> Limit:
    """A limit that is kept from above."""
    return Limit(what, bound, is_most=False)


# Ratios of one run with everything on; plain-64 (joint, 8 channels, one layer of 64) unless the words say otherwise.

# Suite `rates`. Medians of at least five alternating runs.
CPU_DAEMON_BARE: Final = at_most("CPU a frame, daemon / bare", 1.25)
RATE_DAEMON_BARE: Final = at_least("frames/s packed, daemon / bare", 0.8)
RATE_DAEMON: Final = at_least("frames/s packed, daemon, where bare reaches 1.25 M", 1e6)
RATE_BARE_REFERENCE: Final = 1.25e6
"""The bare loop's rate from which on `RATE_DAEMON` is asked: a slower machine cannot give it."""
CPU_PLAIN_DAEMON_MESSAGE: Final = at_least("CPU a frame, plain / daemon, a message a frame", 18)
CPU_PLAIN_DAEMON_PACKED: Final = at_least("CPU a frame, plain / daemon, packed", 50)
RATE_BUILTIN_STEP: Final = at_least("rows/s of built-in model packed, daemon / its step alone", 0.6)
RATE_DEEP_DAEMON_BARE: Final = at_least("frames/s packed, plain-128x2, daemon / bare", 1.2)
PEER_RATE: Final = at_least("frames/s, daemon / peer", 1.0)
PEER_CPU: Final = at_least("CPU a frame, peer / daemon", 1.0)

# Suite `lone`. One frame at a time at 1 kHz: intervals of at least 20 interleaved pairs, loosened by the A/A pair.
LONE_P50: Final = at_most("lone frame, p50, daemon / bare", 1.10)
LONE_P99: Final = at_most("lone frame, p99, daemon / bare", 1.25)

# Suite `step`. Hidden 64 and 128; gather and scatter included on both sides.
STEP_ONNX_LARGE: Final = at_most("step, engine / ONNX Runtime, batch >= 256", 1.0)
STEP_ONNX_64: Final = at_most("step, engine / ONNX Runtime, batch 64", 1.2)
STEP_ONNX_1: Final = at_most("step, engine / ONNX Runtime, batch 1", 2.0)
STEP_PRODUCTS: Final = at_most("step, engine / its matrix products alone, batch >= 256", 1.6)

# Suite `calibration`. The built-in model's network.
CALIBRATION: Final = at_most("normalise and calibrate a row, batch 1,024, / its step", 0.5)

# Suite `scale`.
SCALE_CPU: Final = at_most("CPU a frame packed, 100,000 streams / 1,000", 1.15)
SCALE_ADMIT_US: Final = at_most("us to admit a stream", 5.0)
SCALE_EVICT_US: Final = at_most("us to evict a stream", 5.0)
SCALE_P99_MS: Final = at_most("p99 ms from due, packed, 200,000 frames/s for a minute", 10.0)
SCALE_STATE_FACTOR: Final = 1.25
SCALE_STATE_BYTES: Final = 256


def scale_bytes(state_bytes: int) -> Limit:
    """Of a resident stream's memory: `state_bytes` are those of its state, normaliser and calibration."""
    return at_most("bytes a resident stream", SCALE_STATE_FACTOR * state_bytes + SCALE_STATE_BYTES)


# Suite `effects`. Intervals of interleaved pairs, loosened by the A/A pair.
EFFECT_P99: Final = at_most("p99, with the side effect / without", 1.2)
