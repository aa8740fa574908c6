"""The rules of order, written once more as plainly as possible: one stream, one frame at a time, Python integers.

What `foretell.admit` does in columns is held against this.
"""

from __future__ import annotations

from dataclasses import dataclass

from foretell.choices import OnEpoch, OnGap, OnLongGap, OnMissing
from foretell.config import StreamsConfig
from foretell.wire import Flag, Refusal


@dataclass(frozen=True)
class Sent:
    """One frame as it was sent; `kind` is what its values are: "finite", "missing" (a NaN) or "infinite"."""

    name: bytes
    frame: int
    epoch: int = 0
    unnumbered: bool = False
    kind: str = "finite"
    num_channels: int = 1


@dataclass
class Outcome:
    """What became of a frame: refused, or accepted as `number` with `flags` after `num_fills` fills."""

    refused: Refusal | None = None
    number: int = 0
    flags: int = 0
    num_fills: int = 0
    num_missed: int = 0
    is_new_epoch: bool = False
    is_reset: bool = False


class ReferenceStream:
    """One stream's order, as the wire format says it."""

    def __init__(self, config: StreamsConfig, num_channels: int, warm_up: int, *, can_fill: bool) -> None:
        self.config = config
        self.num_channels = num_channels
        self.warm_up = warm_up
        self.can_fill = can_fill
        self.last: int | None = None
        self.epoch = 0
        self.num_seen = 0
        self.num_unseen = 0
        self.has_missed = False
        self.must_restart = False
        self.run = 0
        self.run_frame = 0

    def judge(self, sent: Sent) -> Outcome:
        """Judge the stream's next frame."""
        outcome = Outcome()
        is_first = self.last is None
        if self.last is not None and sent.epoch > self.epoch:
            is_first = outcome.is_new_epoch = True
        elif self.last is not None and sent.epoch < self.epoch:
            self.run = 0
            return Outcome(refused=Refusal.LATE)
        elif self.last is not None and not sent.unnumbered and sent.frame <= self.last:
            if not self._restarts(sent):
                return Outcome(refused=Refusal.DUPLICATE if sent.frame == self.last else Refusal.LATE)
            is_first = outcome.is_new_epoch = True
        self.run = 0
        has_changed = self.last is not None and sent.num_channels != self.num_channels
        if has_changed and not is_first:
            return Outcome(refused=Refusal.WRONG_CHANNELS)
        refused = self._refuse_values(sent)
        if refused and has_changed:
            return Outcome(refused=refused)
        self._take_number(sent, outcome, is_first=is_first, has_changed=has_changed)
        if refused:
            self.num_unseen += 1
            outcome.refused = refused
            return outcome
        self._accept(sent, outcome, has_changed=has_changed)
        return outcome

    def _restarts(self, sent: Sent) -> bool:
        """A producer without epochs began its numbers again, if enough ascending frames were behind."""
        if sent.epoch != 0 or self.epoch != 0:
            self.run = 0
            return False
        ascends = self.run > 0 and sent.frame == self.run_frame + 1
        if ascends and self.run >= self.config.restart_after:
            return True
        self.run = self.run + 1 if ascends else 1
        self.run_frame = sent.frame
        return False

    def _refuse_values(self, sent: Sent) -> Refusal | None:
        if sent.kind == "infinite":
            return Refusal.NON_FINITE
        if sent.kind == "missing" and self.config.on_missing is OnMissing.REFUSE:
            return Refusal.MISSING_VALUE
        return None

    def _take_number(self, sent: Sent, outcome: Outcome, *, is_first: bool, has_changed: bool) -> None:
        if is_first:
            if self.last is not None and self.config.on_epoch is OnEpoch.RESET:
                self.must_restart = True
            self.num_unseen, self.has_missed = 0, False
            number = 0 if sent.unnumbered else sent.frame
        else:
            assert self.last is not None
            number = (self.last + 1) % 2**64 if sent.unnumbered else sent.frame
            outcome.num_missed = 0 if sent.unnumbered else number - self.last - 1
            self.num_unseen += outcome.num_missed
            self.has_missed |= outcome.num_missed > 0
        outcome.number = self.last = number
        self.epoch = sent.epoch

    def _accept(self, sent: Sent, outcome: Outcome, *, has_changed: bool) -> None:
        config, gap = self.config, self.num_unseen
        begins = self.must_restart or has_changed or self.num_seen == 0
        if gap and config.on_gap is OnGap.RESET:
            begins = True
        if gap and config.on_gap is OnGap.FILL:
            if gap > config.max_fill:
                begins |= config.on_long_gap is OnLongGap.RESET
            elif self.can_fill and not begins:
                outcome.num_fills = gap
        outcome.is_reset = begins and self.num_seen > 0
        self.num_seen = 1 if begins else self.num_seen + 1
        flags = Flag(0)
        flags |= Flag.RESET if begins else flags
        flags |= Flag.GAP if self.has_missed else flags
        flags |= Flag.UNNUMBERED if sent.unnumbered else flags
        flags |= Flag.IMPUTED if outcome.num_fills or sent.kind == "missing" else flags
        flags |= Flag.WARMING if self.num_seen < self.warm_up else flags
        outcome.flags = flags
        self.num_channels = sent.num_channels
        self.num_unseen, self.has_missed, self.must_restart = 0, False, False
