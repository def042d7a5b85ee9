"""The times of many requests as arrays: one pass over the requests, everything else vectorized."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from spark_bench.arrays import Bools, Counts, Floats, Ints
from spark_bench.record import Request

NS_PER_MS = 1e6
NS_PER_S = 1e9

# Fields of Request that become columns unchanged.
COLUMNS = (
    "index",
    "scheduled_ns",
    "sent_ns",
    "first_event_ns",
    "text_ns",
    "done_ns",
    "sent_by_ns",
    "first_event_since_ns",
    "text_since_ns",
    "done_since_ns",
    "prompt_tokens",
    "output_tokens",
    "hidden_tokens",
    "ok",
)


@dataclass(frozen=True)
class Gaps:
    """The gaps between successive token-bearing deltas of a request, pooled over all requests.

    ns: their lengths
    end_ns: when the delta that ended each gap came
    tokens: how many tokens that delta carried
    """

    ns: Ints
    end_ns: Ints
    tokens: Counts

    def where(self, chosen: Bools) -> Gaps:
        """The chosen ones."""
        return Gaps(self.ns[chosen], self.end_ns[chosen], self.tokens[chosen])

    def itl_ms(self) -> Floats:
        """One latency in ms for each token after a first delta: a gap before k tokens counts k
        times as gap/k, as in sglang 0.5.23 (benchmark/serving.py, `adjusted_itl`)."""
        each = self.each_ms()
        return np.repeat(each, self.tokens) if np.any(self.tokens != 1) else each

    def each_ms(self) -> Floats:
        """Each gap in ms divided by its tokens; undivided if its delta has no token of its own
        (the second delta of one step)."""
        each = self.ns / NS_PER_MS
        each /= np.maximum(self.tokens, 1)
        return each


@dataclass(frozen=True)
class Times:
    """Requests with at least one visible token, as arrays with one entry per request, except
    token_ns, token_since_ns and token_counts; `_ns` is CLOCK_MONOTONIC, 0 if it never happened.

    ok: 1 for a whole answer, 0 for a request that failed later
    token_ns, token_counts: when each delta of all requests came, and how many tokens it carried
    token_since_ns: when each of them can have come at the earliest
    begins: where each request's deltas begin in those three
    """

    index: Ints
    scheduled_ns: Ints
    sent_ns: Ints
    first_event_ns: Ints
    text_ns: Ints
    done_ns: Ints
    sent_by_ns: Ints
    first_event_since_ns: Ints
    text_since_ns: Ints
    done_since_ns: Ints
    prompt_tokens: Ints
    output_tokens: Ints
    hidden_tokens: Ints
    ok: Ints
    token_ns: Ints
    token_since_ns: Ints
    token_counts: Counts
    begins: Ints

    @classmethod
    def of(cls, requests: Iterable[Request]) -> Times:
        """The times of those requests that have a visible token."""
        chosen = [request for request in requests if np.any(request.token_counts > 0)]
        rows = np.array(
            [[getattr(request, column) for column in COLUMNS] for request in chosen], np.int64
        ).reshape(-1, len(COLUMNS))
        stamps = since = np.concatenate([r.token_ns for r in chosen]) if chosen else _none()
        if any(r.token_since_ns.size for r in chosen):
            since = np.concatenate(
                [r.token_since_ns if r.token_since_ns.size else r.token_ns for r in chosen]
            )
        counts = np.concatenate([r.token_counts for r in chosen]) if chosen else _none()
        sizes = np.array([r.token_ns.size for r in chosen], np.int64)
        if not counts.all():
            # A delta without a token of its own (as with "even") ends no gap: the next one does.
            bearing = counts > 0
            owner = np.repeat(np.arange(sizes.size), sizes)
            sizes = np.bincount(owner[bearing], minlength=sizes.size)
            stamps, since, counts = stamps[bearing], since[bearing], counts[bearing]
        begins = np.cumsum(sizes) - sizes
        return cls(
            **dict(zip(COLUMNS, rows.T, strict=True)),
            token_ns=stamps,
            token_since_ns=since,
            token_counts=counts.astype(np.int32, copy=False),
            begins=begins,
        )

    def where(self, chosen: Bools) -> Times:
        """The chosen requests."""
        sizes = self.ends - self.begins
        of_chosen = np.repeat(chosen, sizes)
        return Times(
            **{column: getattr(self, column)[chosen] for column in COLUMNS},
            token_ns=self.token_ns[of_chosen],
            token_since_ns=self.token_since_ns[of_chosen],
            token_counts=self.token_counts[of_chosen],
            begins=np.cumsum(sizes[chosen]) - sizes[chosen],
        )

    def __len__(self) -> int:
        return int(self.begins.size)

    @cached_property
    def ends(self) -> Ints:
        """Where each request's deltas end, in token_ns."""
        return np.append(self.begins, self.token_ns.size)[1:]

    @property
    def first_ns(self) -> Ints:
        """When each request's first visible token came."""
        return self.token_ns[self.begins]

    @property
    def last_ns(self) -> Ints:
        """When each request's last token came."""
        return self.token_ns[self.ends - 1]

    @cached_property
    def after(self) -> Ints:
        """How many visible tokens came after each request's first delta: its number of ITLs."""
        if not len(self):
            return _none()
        visible = np.add.reduceat(self.token_counts, self.begins, dtype=np.int64)
        return np.asarray(visible - self.token_counts[self.begins], np.int64)

    def gaps(self) -> Gaps:
        """The gaps of all requests, in the order of the requests."""
        return self._gaps(np.diff(self.token_ns))

    def gap_bounds(self) -> tuple[Gaps, Gaps]:
        """The gaps of all requests at their shortest, and at their longest."""
        shortest = self.token_since_ns[1:] - self.token_ns[:-1]
        low = self._gaps(np.maximum(shortest, 0, out=shortest))
        longest = (self.token_ns[1:] - self.token_since_ns[:-1])[self._later()[1:]]
        return low, Gaps(longest, low.end_ns, low.tokens)

    def _gaps(self, ns: Ints) -> Gaps:
        """Those of the gaps between successive deltas that lie within a request."""
        later = self._later()
        return Gaps(ns[later[1:]], self.token_ns[later], self.token_counts[later])

    def _later(self) -> Bools:
        """Which deltas are not the first of their request."""
        later = np.ones(self.token_ns.size, bool)
        later[self.begins] = False
        return later

    def gap_owners(self) -> Counts:
        """For each gap, the position of its request."""
        sizes = self.ends - self.begins - 1
        return np.repeat(np.arange(len(self), dtype=np.int32), sizes)

    def latency_ms(self, name: str) -> Floats:
        """One value per request, in ms; NaN if it has none (no text, one token, ...).

        ttft: send to first token (a role doesn't count, reasoning does)
        ttfc: send to first stream event, even if it has only a role
        ttfo: send to first token that is not reasoning
        e2e_latency: send to last token
        e2e_done: send to the end of the stream, which is sglang's e2e_latency
        scheduled_ttft, scheduled_e2e_latency: from when it should have been sent, so that a
            client or a server that holds requests back can't hide that time
        tpot: see `_tpot_ms`
        longest_itl: the longest gap, each divided by its tokens

        Raises KeyError for any other name.
        """
        match name:
            case "ttft":
                return _since(self.first_ns, self.sent_ns)
            case "ttfc":
                return _since(self.first_event_ns, self.sent_ns)
            case "ttfo":
                return _since(self.text_ns, self.sent_ns)
            case "e2e_latency":
                return _since(self.last_ns, self.sent_ns)
            case "e2e_done":
                return _since(self.done_ns, self.sent_ns)
            case "scheduled_ttft":
                return _since(self.first_ns, self.scheduled_ns)
            case "scheduled_e2e_latency":
                return _since(self.last_ns, self.scheduled_ns)
            case "tpot":
                return self._tpot_ms()
            case "longest_itl":
                return self._longest_itl_ms()
        raise KeyError(name)

    def _tpot_ms(self) -> Floats:
        """(last token - first token) / tokens after the first delta.

        With one token in the first delta this is the usual (E2E - TTFT) / (n - 1). With k it
        stays unbiased, as those k took no gap: 4 tokens every 40 ms are 10 ms each, where n - 1
        would give 9.8. Hidden tokens came before the first one, so they aren't among n.
        """
        after = np.where(self.after > 0, self.after, np.nan)
        return (self.last_ns - self.first_ns) / NS_PER_MS / after

    def _longest_itl_ms(self) -> Floats:
        longest = np.full(len(self), -np.inf)
        np.maximum.at(longest, self.gap_owners(), self.gaps().each_ms())
        longest[np.isinf(longest)] = np.nan
        return longest


@dataclass(frozen=True)
class Concurrency:
    """A step function: from at_ns[i] to at_ns[i + 1], count[i] requests were in flight."""

    at_ns: Ints
    count: Ints

    @property
    def peak(self) -> int:
        """The most that were in flight at one time."""
        return int(self.count.max(initial=0))

    def mean(self, start_ns: int, end_ns: int) -> float:
        """The mean number in flight between two times, weighted by time."""
        edges = np.clip(np.append(self.at_ns, end_ns), start_ns, end_ns)
        return float(np.dot(self.count, np.diff(edges)) / (end_ns - start_ns))


def count_in_flight(requests: Iterable[Request]) -> Concurrency:
    """How many requests were in flight over time.

    Failed ones count too, since they had a slot. Where one ends in the same nanosecond in which
    another is sent, they share a slot.
    """
    spans = [(r.sent_ns, ended_ns(r)) for r in requests if r.sent_ns]
    if not spans:
        return Concurrency(np.empty(0, np.int64), np.empty(0, np.int64))
    events = np.array(spans, np.int64)
    at, change = events.T.ravel(), np.repeat(np.array([1, -1]), len(spans))
    order = np.lexsort((change, at))
    return Concurrency(at[order], np.cumsum(change[order]))


def ended_ns(request: Request) -> int:
    """When a request's stream ended; if it has no end, its last token, else its send."""
    last = int(request.token_ns[-1]) if request.token_ns.size else 0
    return max(request.done_ns, last, request.sent_ns)


class TimedRequests:
    """The requests of one run and their times, from which all figures are made. Each property is
    computed once, when it is first needed."""

    def __init__(self, requests: Sequence[Request]) -> None:
        self.requests = requests

    @cached_property
    def answered(self) -> Times:
        """The times of whole answers with a visible token, from which figures are made."""
        whole = self.streamed.ok == 1
        return self.streamed if whole.all() else self.streamed.where(whole)

    @cached_property
    def streamed(self) -> Times:
        """The times of all requests with a visible token, including those that failed later."""
        return Times.of(self.requests)

    @cached_property
    def concurrency(self) -> Concurrency:
        """How many of all sent requests were in flight over time."""
        return count_in_flight(self.requests)

    @cached_property
    def began_ns(self) -> int:
        """When the first request was sent, failed or not; 0 if none was."""
        return min((request.sent_ns for request in self.requests if request.sent_ns), default=0)


def _none() -> Ints:
    return np.empty(0, np.int64)


def _since(then: Ints, start: Ints) -> Floats:
    both = (then > 0) & (start > 0)
    return np.where(both, (then - start) / NS_PER_MS, np.nan)
