"""Which parts are frames: tells bodies from topics and strays, however messages are cut into parts.

Here alone it is known how a message is cut; what a frame means is the next stage's to say.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from foretell.wire import ARRAY_START, PACKED_FORECAST, PACKED_FRAME, TOPIC_MAX_BYTES, Array, Parts
from foretell.wire_types import CHANNELS_MAX

_PACKED_HEADER_BYTES = 96
_ROWS = re.compile(rb'"shape"\s*:\s*\[\s*(\d{1,9})\s*,')


@dataclass(slots=True)
class Inbox:
    """What a drain took: bodies in order of arrival, and the number of parts or messages that are none.

    run: bodies that came before the others, taken in one piece since they are all alike.
    """

    bodies: list[bytes | Array] = field(default_factory=list)
    num_malformed: int = 0
    run: Parts | None = None

    @property
    def parts(self) -> Sequence[bytes | Array]:
        """All bodies."""
        if self.run is None:
            return self.bodies
        return [*self.run, *self.bodies] if self.bodies else self.run


class Next(enum.Enum):
    """What the next part can be, given those before it in its message."""

    ANYTHING = enum.auto()  # the first part of a message, or the one after a packed body
    AFTER_TOPIC = enum.auto()  # one part came that is the topic if a body follows
    AFTER_STRAYS = enum.auto()  # parts came of which at least one is no topic
    PAYLOAD = enum.auto()  # an array's header came
    REFUSED = enum.auto()  # the message is refused already


class PartReader:
    """Tells bodies from topics and strays, part by part, and never lets one message shift the parts of the next.

    A packed body is judged by itself, so where its message ends is never asked. For every other part it is asked
    whether more parts follow, so that what a part is depends on its own message alone.

    has_more: whether the part just received has another after it in its message.
    """

    def __init__(self, has_more: Callable[[], bool]) -> None:
        self.inbox = Inbox()
        self.next = Next.ANYTHING
        self._has_more = has_more
        self._header = b""
        self._has_strays = False  # whether parts before the body are malformed

    def take(self, part: bytes) -> int:
        """Take the next part in; returns how many frames, refused ones among them, it completes (an estimate)."""
        expected = self.next
        if expected is Next.PAYLOAD:
            if self._has_more():
                return self._refuse(has_more=True)
            return self._accept((self._header, part), count_rows(self._header, part))
        if expected is Next.REFUSED:
            if not self._has_more():
                self._begin()
            return 0
        if part.startswith(PACKED_FRAME):
            return self._accept(part, count_records(part))
        is_header = part.startswith(ARRAY_START)
        has_more = self._has_more()
        if not has_more or (len(part) > TOPIC_MAX_BYTES and not is_header):
            return self._refuse(has_more=has_more)
        if is_header:
            self._header = part
            self.next = Next.PAYLOAD
        elif expected is Next.ANYTHING and not part.startswith(PACKED_FORECAST):
            self.next = Next.AFTER_TOPIC
        else:
            self._has_strays = True
            self.next = Next.AFTER_STRAYS
        return 0

    def _accept(self, body: bytes | Array, num_frames: int) -> int:
        self.inbox.bodies.append(body)
        if self._has_strays:
            self.inbox.num_malformed += 1
            num_frames += 1
        self._begin()
        return num_frames

    def _refuse(self, *, has_more: bool) -> int:
        """Refuse the message, the strays before included, and pass over what it has more."""
        self.inbox.num_malformed += 1
        self._begin()
        if has_more:
            self.next = Next.REFUSED
        return 1

    def _begin(self) -> None:
        self.next = Next.ANYTHING
        self._header = b""
        self._has_strays = False


def count_records(part: bytes) -> int:
    """How many records a packed part of at least four bytes holds if it is sound, and at least 1."""
    channels = min(int.from_bytes(part[4:6], "little"), CHANNELS_MAX)
    return len(part) // (_PACKED_HEADER_BYTES + 4 * channels) or 1


def count_rows(header: bytes, payload: bytes) -> int:
    """About how many rows an array has: what its header says, at least 1 and no more than there is payload for."""
    match = _ROWS.search(header)
    return max(1, min(int(match[1]), len(payload) // 4)) if match else 1


def read_message(parts: Sequence[bytes]) -> Inbox:
    """What one whole message holds."""
    position = 0
    reader = PartReader(lambda: position < len(parts) - 1)
    for position, part in enumerate(parts):  # noqa: B007 - the reader looks at it
        reader.take(part)
    return reader.inbox
