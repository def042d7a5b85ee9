"""Goodput: the answers that met every latency objective."""

import re

import numpy as np
from msgspec import Struct

from spark_bench.errors import BadInput
from spark_bench.formats import did_you_mean
from spark_bench.metrics.times import TimedRequests

# The names after --slo, and the latency of a request that each limits. itl: the longest one, so
# an answer with a visible pause misses it. e2el is sglang's and vLLM's word for e2e.
NAMES = {
    "ttft": "ttft",
    "tpot": "tpot",
    "itl": "longest_itl",
    "e2e": "e2e_latency",
    "e2el": "e2e_latency",
    "ttfo": "ttfo",
    "scheduled_ttft": "scheduled_ttft",
    "scheduled_e2e": "scheduled_e2e_latency",
}
UNITS_MS = {"": 1.0, "ms": 1.0, "s": 1000.0}
CURE = f"write --slo like ttft=500,tpot=50,e2e=10s (ms, or a unit); names: {', '.join(NAMES)}"


class Slo(Struct, frozen=True):
    """Service level objectives. limits_ms: the longest time allowed, by name (see NAMES)."""

    limits_ms: dict[str, float]


class Goodput(Struct, frozen=True):
    """met: answers within every limit; attainment: their share of the requests sent, failed ones
    included (as sglang 0.5.23, benchmark/goodput.py); by_metric: the same for each limit alone.
    The shares are None when nothing was sent."""

    met: int
    attainment: float | None
    by_metric: dict[str, float]


def parse_slo(text: str) -> Slo:
    """Parse "ttft=500,tpot=50,e2e=10s": in milliseconds, or with a unit (ms, s).

    Raises BadInput for anything else, for an unknown name, and for one that is given twice.
    """
    limits: dict[str, float] = {}
    for part in text.split(","):
        part = part.strip()
        match = re.fullmatch(r"(\w+)\s*=\s*(\d+\.?\d*|\.\d+)\s*(ms|s|)", part)
        if not match:
            raise BadInput(f"--slo has {part!r}, which is not a limit; {CURE}.")
        name, number, unit = match.groups()
        if name not in NAMES:
            hint = did_you_mean(name, NAMES, most=1)
            raise BadInput(f"--slo has {part!r}: no latency is called {name!r}{hint}; {CURE}.")
        limit = float(number) * UNITS_MS[unit]
        if not 0 < limit < float("inf"):
            raise BadInput(f"--slo has {part!r}, and a limit must be above 0; {CURE}.")
        if name in limits:
            raise BadInput(f"--slo names {name} twice, in {text!r}; keep one of them.")
        limits[name] = limit
    return Slo(limits)


def goodput(timed: TimedRequests, slo: Slo) -> Goodput:
    """How many answers met the objectives. An answer can't miss one that limits a latency it
    doesn't have (such as the TPOT of a single token)."""
    times = timed.answered
    sent = sum(request.sent_ns > 0 for request in timed.requests)
    met = {name: ~(times.latency_ms(NAMES[name]) > limit) for name, limit in slo.limits_ms.items()}
    every = np.logical_and.reduce(list(met.values()))
    return Goodput(
        met=int(every.sum()),
        attainment=float(every.sum() / sent) if sent else None,
        by_metric={name: float(each.sum() / sent) for name, each in met.items()} if sent else {},
    )
