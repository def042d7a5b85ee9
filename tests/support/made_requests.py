"""Requests with known times, and a slow, plain second opinion on every figure."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
from hypothesis import strategies as st
from spark_bench.record import Request

MS = 1_000_000
S = 1_000_000_000
START = 5 * S


def answer(
    index: int = 0,
    *,
    sent: float = 0.0,
    ttft: float = 200.0,
    gaps: Sequence[float] = (),
    counts: Sequence[int] = (),
    **fields: object,
) -> Request:
    """A whole answer. sent, ttft, gaps in ms; counts: tokens of each delta, one by default."""
    sent_ns = START + round(sent * MS)
    stamps = sent_ns + np.round(np.cumsum([ttft, *gaps]) * MS).astype(np.int64)
    tokens = np.array(counts or [1] * stamps.size, np.int32)
    usual: dict[str, object] = {
        "scheduled_ns": sent_ns,
        "sent_ns": sent_ns,
        "first_event_ns": int(stamps[0]),
        "text_ns": int(stamps[0]),
        "done_ns": int(stamps[-1]) + MS,
        "token_ns": stamps,
        "token_counts": tokens,
        "counted_by": "usage" if counts else "chunk",
        "prompt_tokens": 128,
        "asked_output": int(tokens.sum()),
        "output_tokens": int(tokens.sum()),
        "usage": True,
    }
    return Request(index, **(usual | fields))  # type: ignore[arg-type]


def failed(index: int, kind: str, *, sent: float = 0.0, ends: float = 50.0) -> Request:
    """A request that failed `ends` ms after it was sent."""
    sent_ns = START + round(sent * MS)
    done_ns = sent_ns + round(ends * MS)
    return Request(index, sent_ns, sent_ns, done_ns=done_ns, failure=kind, asked_output=8)


def widened(rng: random.Random, request: Request) -> tuple[Request, Request]:
    """The request as it is recorded, with spans of time, and as it may really have been."""
    at = request.token_ns
    early = np.maximum.accumulate(
        at - np.array([rng.choice([0, 0, 1, 30]) * rng.randrange(MS) for _ in at])
    )
    early = np.maximum(early, request.sent_ns)
    share = np.array([rng.random() for _ in at])
    true = np.maximum.accumulate((early + (at - early) * share).astype(np.int64))
    send = rng.randrange(MS)
    recorded = replace(
        request,
        sent_by_ns=request.sent_ns + send,
        token_since_ns=early,
        first_event_since_ns=int(early[0]),
        text_since_ns=int(early[0]),
        done_since_ns=int(early[-1]),
    )
    real = replace(
        request,
        sent_ns=request.sent_ns + rng.randrange(send + 1),
        token_ns=true,
        first_event_ns=int(true[0]),
        text_ns=int(true[0]),
        done_ns=int(true[-1] + (request.done_ns - true[-1]) * rng.random()),
    )
    return recorded, real


def closed_loop(
    slots: int, requests: int, *, ttft: float = 200.0, itl: float = 10.0, tokens: int = 50
) -> list[Request]:
    """Every slot sends its next request as soon as its last one is done; all alike."""
    lasts = ttft + itl * (tokens - 1) + 1
    gaps = [itl] * (tokens - 1)
    return [answer(i, sent=i // slots * lasts, ttft=ttft, gaps=gaps) for i in range(requests)]


@st.composite
def runs(draw: st.DrawFn) -> list[Request]:
    """Requests of any shape: failed ones, one-token answers, deltas of several or no tokens."""
    requests = []
    for index in range(draw(st.integers(0, 8))):
        sent = draw(st.integers(0, 5_000))
        if draw(st.integers(0, 4)) == 0:
            requests.append(failed(index, draw(st.sampled_from(["timeout", "http"])), sent=sent))
            continue
        gaps = draw(st.lists(st.floats(0, 400), max_size=6))
        counts = draw(st.lists(st.integers(0, 5), min_size=len(gaps) + 1, max_size=len(gaps) + 1))
        counts[draw(st.integers(0, len(gaps)))] += 1
        hidden = draw(st.integers(0, 3))
        late = draw(st.integers(0, 300)) * MS
        request = answer(
            index,
            sent=sent,
            ttft=draw(st.floats(1, 900)),
            gaps=gaps,
            counts=counts,
            hidden_tokens=hidden,
            output_tokens=sum(counts) + hidden,
            asked_output=draw(st.integers(1, 40)),
            scheduled_ns=START + sent * MS - late,
        )
        request.text_ns = draw(st.sampled_from([0, int(request.token_ns[-1])]))
        requests.append(request)
    return requests


def second_opinion(requests: Sequence[Request]) -> dict[str, float]:
    """Every `_ms` figure and every rate, with loops and the statistics module only."""
    pools: dict[str, list[float]] = {}
    tokens_in = tokens_out = 0
    last = 0

    def add(name: str, ns: float) -> None:
        pools.setdefault(name, []).append(ns / MS)

    for r in requests:
        if r.failure:
            continue
        tokens_in, tokens_out = tokens_in + r.prompt_tokens, tokens_out + r.output_tokens
        pairs = zip(r.token_ns.tolist(), r.token_counts.tolist(), strict=True)
        deltas = [(t, k) for t, k in pairs if k]
        first, end = deltas[0][0], deltas[-1][0]
        last = max(last, end)
        add("ttft", first - r.sent_ns)
        add("ttfc", r.first_event_ns - r.sent_ns)
        if r.text_ns:
            add("ttfo", r.text_ns - r.sent_ns)
        add("e2e_latency", end - r.sent_ns)
        add("e2e_done", r.done_ns - r.sent_ns)
        add("scheduled_ttft", first - r.scheduled_ns)
        add("scheduled_e2e_latency", end - r.scheduled_ns)
        after = [k for _, k in deltas[1:]]
        if after:
            add("tpot", (end - first) / sum(after))
        for (t0, _), (t1, k) in pairwise(deltas):
            add("icl", t1 - t0)
            for _ in range(k):
                add("itl", (t1 - t0) / k)
    figures = {key: value for name, pool in pools.items() for key, value in _figures(name, pool)}
    if last:
        seconds = (last - min(r.sent_ns for r in requests)) / S
        figures |= {
            "duration": seconds,
            "request_throughput": sum(r.ok for r in requests) / seconds,
            "input_throughput": tokens_in / seconds,
            "output_throughput": tokens_out / seconds,
            "total_throughput": (tokens_in + tokens_out) / seconds,
            "concurrency": math.fsum(pools["e2e_latency"]) / 1000 / seconds,
        }
    return figures


def _figures(name: str, pool: list[float]) -> list[tuple[str, float]]:
    ranked = sorted(pool)

    def percentile(p: float) -> float:
        rank = (len(ranked) - 1) * p / 100
        low = math.floor(rank)
        high = min(low + 1, len(ranked) - 1)
        return ranked[low] + (ranked[high] - ranked[low]) * (rank - low)

    return [
        (f"mean_{name}_ms", statistics.fmean(pool)),
        (f"median_{name}_ms", statistics.median(pool)),
        (f"std_{name}_ms", statistics.pstdev(pool)),
        (f"max_{name}_ms", ranked[-1]),
        *((f"p{p}_{name}_ms", percentile(p)) for p in (90, 95, 99)),
        (f"p99_9_{name}_ms", percentile(99.9)),
    ]
