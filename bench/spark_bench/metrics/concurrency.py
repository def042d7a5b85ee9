"""How many requests were in flight, by a sweep over sends and ends (not by seconds)."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spark_bench.record import Request


@dataclass(frozen=True)
class Concurrency:
    """A step function: from at_ns[i] to at_ns[i + 1], count[i] requests were in flight."""

    at_ns: NDArray[np.int64]
    count: NDArray[np.int64]

    @property
    def peak(self) -> int:
        """The most that were in flight at one time."""
        return int(self.count.max(initial=0))

    def mean(self, start_ns: int, end_ns: int) -> float:
        """Over that time, weighted by time."""
        edges = np.clip(np.append(self.at_ns, end_ns), start_ns, end_ns)
        return float(np.dot(self.count, np.diff(edges)) / (end_ns - start_ns))


def concurrency(requests: Iterable[Request]) -> Concurrency:
    """Of all that were sent, failed ones too: they had a slot. A slot that is handed on in the
    same nanosecond is one slot."""
    spans = [(r.sent_ns, ended_ns(r)) for r in requests if r.sent_ns]
    if not spans:
        return Concurrency(np.empty(0, np.int64), np.empty(0, np.int64))
    events = np.array(spans, np.int64)
    at, change = events.T.ravel(), np.repeat(np.array([1, -1]), len(spans))
    order = np.lexsort((change, at))
    return Concurrency(at[order], np.cumsum(change[order]))


def ended_ns(request: Request) -> int:
    """The end of its stream; without one its last token, or its send."""
    last = int(request.token_ns[-1]) if request.token_ns.size else 0
    return max(request.done_ns, last, request.sent_ns)
