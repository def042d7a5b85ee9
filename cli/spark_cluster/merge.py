"""Lines of several nodes in the order in which they were said. No I/O, no clock."""

import heapq
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

# Docker's --timestamps: RFC 3339 with up to nine digits of a second, UTC.
_STAMP = re.compile(r"^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?Z ?")
NS = 10**9
# Less than this is what a connection costs, not what a clock is off.
SKEW_NS = NS


@dataclass(frozen=True, order=True)
class LogLine:
    """One line. `at`: when it was said, Unix ns by the reader's clock; `serial`: keeps the order of
    lines said at the same moment."""

    at: int
    rank: int
    serial: int
    text: str = field(compare=False)
    arrived: float = field(compare=False, default=0.0)


def split_stamp(line: str) -> tuple[int | None, str]:
    """When Docker says a line was said (Unix ns), and the line; None for Docker's own words."""
    match = _STAMP.match(line)
    if match is None:
        return None, line
    try:
        whole = datetime.fromisoformat(match[1]).replace(tzinfo=UTC)
    except ValueError:
        return None, line
    return int(whole.timestamp()) * NS + int((match[2] or "").ljust(9, "0")), line[match.end() :]


def clock_skew(node_ns: int, here_ns: int) -> int:
    """How much a node's clock is ahead; 0 where that may as well be the way to it."""
    ahead = node_ns - here_ns
    return ahead if abs(ahead) > SKEW_NS else 0


class LogMerge:
    """Holds each line back for a moment, so that one said earlier may still come before it.

    + hold: seconds; lines that come later than that stand where they came
    """

    def __init__(self, hold: float) -> None:
        self.hold = hold
        self._heap: list[LogLine] = []

    def add(self, line: LogLine) -> None:
        heapq.heappush(self._heap, line)

    def due(self, now: float) -> Iterator[LogLine]:
        """What has waited long enough, in order."""
        while self._heap and self._heap[0].arrived + self.hold <= now:
            yield heapq.heappop(self._heap)

    def rest(self) -> Iterator[LogLine]:
        while self._heap:
            yield heapq.heappop(self._heap)
