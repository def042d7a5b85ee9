"""The steady part of a run: without the ramp at its start and the tail at its end.

A closed loop is steady while every slot is busy. The steady part starts when the requests that
filled the slots all have their first token (they came in one burst, which never recurs: later
prompts come one by one among running answers), and ends when a slot becomes free for good.

An open loop is steady once the answers of its start have left: from the first send on, the number
in flight grows for as long as the longest answer takes (the M/G/infinity queue: Eick, Massey,
Whitt, "The physics of the Mt/G/infinity queue", Operations Research 41, 1993). The steady part
ends with the last send. For the longest answer, the 95th percentile of durations is taken, so that
a single straggler doesn't decide.

If all requests are sent before any of them has ended, they are a closed loop of as many slots.
"""

from typing import Literal

import numpy as np
from msgspec import Struct

from spark_bench.arrays import Floats, without_nan
from spark_bench.metrics.times import NS_PER_S, Concurrency, TimedRequests, Times, ended_ns

# Below these a window says less about the server than about its own edges.
MIN_SHARE = 0.1
MIN_TOKENS = 100
RAMP_PERCENTILE = 95


class Steady(Struct, frozen=True):
    """What lies inside the window. Latencies in ms, None where nothing of the kind is inside.

    rule: how the window was found: every slot busy ("closed"), or arrivals in balance ("open")
    start, end: seconds since the first send
    output_tokens: came inside; output_throughput: a second of the window
    completed: answers whose last token came inside
    concurrency: mean number in flight, weighted by time
    ..._ttft_ms: of the n_ttft requests sent inside that became whole answers
    ..._itl_ms: of the gaps that begin and end inside
    """

    rule: Literal["closed", "open"]
    start: float
    end: float
    output_tokens: int
    output_throughput: float
    completed: int
    request_throughput: float
    concurrency: float
    n_ttft: int
    mean_ttft_ms: float | None
    median_ttft_ms: float | None
    p99_ttft_ms: float | None
    mean_itl_ms: float | None
    median_itl_ms: float | None
    p99_itl_ms: float | None


def steady(timed: TimedRequests, slots: int | None = None) -> tuple[Steady | None, str]:
    """The steady part; or None, and why there is none.

    slots: how many a closed loop has; None: an open loop
    """
    times = timed.answered
    if not len(times):
        return None, "no request was answered"
    flight = timed.concurrency
    sent = [request for request in timed.requests if request.sent_ns]
    if flight.peak == len(sent):
        slots = flight.peak
    rule: Literal["closed", "open"] = "open"
    if slots is not None and flight.peak >= slots:
        rule = "closed"
        full = np.flatnonzero(flight.count >= slots)
        filled, end = int(flight.at_ns[full[0]]), int(flight.at_ns[full[-1] + 1])
        burst = times.first_ns[times.sent_ns <= filled]
        start = int(burst.max(initial=filled))
    else:
        sends = [request.sent_ns for request in sent]
        lasted = [ended_ns(request) - request.sent_ns for request in sent]
        start, end = min(sends) + int(np.percentile(lasted, RAMP_PERCENTILE)), max(sends)
    began, last = timed.began_ns, int(times.last_ns.max())
    if end <= start:
        return None, "the tail began before the ramp was over: send more requests"
    if end - start < MIN_SHARE * (last - began):
        seconds, whole = (end - start) / NS_PER_S, (last - began) / NS_PER_S
        return None, f"the load was steady for {seconds:.1f} s of {whole:.1f} s only"
    figures = _figures(times, flight, start, end, began, rule)
    if figures.output_tokens < MIN_TOKENS:
        return None, f"too few tokens came while the load was steady: {figures.output_tokens}"
    return figures, ""


def _figures(
    times: Times,
    flight: Concurrency,
    start: int,
    end: int,
    began: int,
    rule: Literal["closed", "open"],
) -> Steady:
    seconds = (end - start) / NS_PER_S
    tokens = times.token_counts.copy()
    # Hidden tokens have no time of their own: they count when the first visible token comes.
    tokens[times.begins] += times.hidden_tokens
    tokens_inside = int(tokens[(times.token_ns > start) & (times.token_ns <= end)].sum())
    completed = int(((times.last_ns > start) & (times.last_ns <= end)).sum())
    ttft = without_nan(times.latency_ms("ttft")[(times.sent_ns >= start) & (times.sent_ns < end)])
    gaps = times.gaps()
    itl = gaps.where((gaps.end_ns - gaps.ns >= start) & (gaps.end_ns <= end)).itl_ms()
    return Steady(
        rule=rule,
        start=(start - began) / NS_PER_S,
        end=(end - began) / NS_PER_S,
        output_tokens=tokens_inside,
        output_throughput=tokens_inside / seconds,
        completed=completed,
        request_throughput=completed / seconds,
        concurrency=flight.mean(start, end),
        n_ttft=ttft.size,
        **_spread("ttft", ttft),
        **_spread("itl", itl),
    )


def _spread(name: str, values: Floats) -> dict[str, float | None]:
    keys = (f"mean_{name}_ms", f"median_{name}_ms", f"p99_{name}_ms")
    if not values.size:
        return dict.fromkeys(keys)
    figures = (values.mean(), *np.percentile(values, (50, 99)))
    return dict(zip(keys, map(float, figures), strict=True))
