"""A server in simulated time, for what is inferred from requests alone: the truth is known.

It has slots, decodes all its streams in steps, and reads prompts between steps (which stops the
streams, as SGLang does by default), within steps by pieces, or elsewhere. Times are in ms.
"""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import Literal

from made_requests import answer
from spark_bench.record import Request


@dataclass(frozen=True)
class Engine:
    """A server.

    slots: requests that it runs at once; None: no limit
    prefills: "between" steps, all waiting prompts at once; "alone" between steps, one at a time;
        "pieces": within steps, one prompt at a time; "apart": elsewhere, all at once, so that no
        stream is stopped
    prefill_ms, step_ms: of one prompt; of one token of all streams
    jitter: of steps, as a share
    pauses: (from, how long): the engine stands still
    refill: a free slot is taken at once; False: only once all are free
    """

    slots: int | None = None
    prefills: Literal["between", "alone", "pieces", "apart"] = "between"
    prefill_ms: float = 50.0
    step_ms: float = 10.0
    pieces: int = 4
    jitter: float = 0.02
    pauses: tuple[tuple[float, float], ...] = ()
    refill: bool = True


@dataclass(frozen=True)
class Load:
    """closed: requests in flight; rate: per second, instead; tokens: fewest and most of an answer;
    prompts: shortest and longest, in units of the engine's prefill_ms; delay_ms: of delivery."""

    requests: int = 100
    closed: int | None = None
    rate: float = 1.0
    tokens: tuple[int, int] = (50, 50)
    prompts: tuple[float, float] = (1.0, 1.0)
    delay_ms: float = 0.2


@dataclass
class _Job:
    index: int
    sent: float
    tokens: int
    prompt: float
    begun: float = -1.0
    left: float = 0.0
    times: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Observed:
    """requests: as a client records them
    waited_ms: the true mean time in which requests found no free slot
    queued_ms: the true mean time until their prompts were being read
    ran: the most that the server ran at once
    stops: (request, from, to): its prompt stopped other streams
    """

    requests: list[Request]
    waited_ms: float
    queued_ms: float
    ran: int
    stops: list[tuple[int, float, float]]


def simulate(engine: Engine, load: Load, seed: int = 0) -> Observed:
    """Run a load against a server."""
    rng = random.Random(seed)
    jobs: list[_Job] = []
    arrivals: list[tuple[float, int]] = []

    def send(at: float) -> None:
        if len(jobs) < load.requests:
            jobs.append(_Job(len(jobs), at, rng.randint(*load.tokens), rng.uniform(*load.prompts)))
            heapq.heappush(arrivals, (at, len(jobs) - 1))

    at = 0.0
    for _ in range(load.closed or load.requests):
        send(at)
        at += rng.uniform(0, 0.05) if load.closed else rng.expovariate(load.rate) * 1000
    now = waited = 0.0
    waiting: list[_Job] = []
    reading: list[_Job] = []
    running: list[_Job] = []
    apart: list[tuple[float, int]] = []
    pauses, stops = list(engine.pauses), list[tuple[int, float, float]]()
    ran, filling = 0, True
    while arrivals or waiting or reading or running or apart:
        if not (waiting or reading or running):
            now = max(now, min([*arrivals[:1], *apart[:1]])[0])
        while arrivals and arrivals[0][0] <= now:
            waiting.append(jobs[heapq.heappop(arrivals)[1]])
        while apart and apart[0][0] <= now:
            running.append(jobs[heapq.heappop(apart)[1]])
            running[-1].times.append(now)
        while pauses and pauses[0][0] <= now:
            now += pauses.pop(0)[1]
        busy = len(running) + len(reading) + len(apart)
        filling = engine.refill or filling or not busy
        free = (engine.slots or load.requests) - busy
        begun = waiting[:free] if filling else []
        del waiting[: len(begun)]
        filling = filling and len(begun) < free
        for job in begun:
            job.left = job.prompt * engine.prefill_ms
            if engine.prefills == "apart":
                job.begun = now
                heapq.heappush(apart, (now + job.left, job.index))
            else:
                reading.append(job)
        ran = max(ran, busy + len(begun))
        before = now
        if reading and engine.prefills in ("between", "alone"):
            batch = reading[:1] if engine.prefills == "alone" else reading[:]
            lasts = sum(job.left for job in batch)
            for job in batch:
                job.begun = now
                job.times.append(now + lasts)
                stops.append((job.index, now, now + lasts))
                reading.remove(job)
            running += batch
            now += lasts
        elif running or reading:
            now += engine.step_ms * max(0.2, rng.gauss(1, engine.jitter))
            if reading:
                first = reading[0]
                first.begun = before if first.begun < 0 else first.begun
                piece = first.prompt * engine.prefill_ms / engine.pieces
                first.left -= piece
                now += piece
                stops.append((first.index, before, now))
            for job in running:
                job.times.append(now)
            if reading and reading[0].left < 1e-9:
                reading[0].times.append(now)
                running.append(reading.pop(0))
        else:
            now = min([*arrivals[:1], *apart[:1]])[0]
        if busy + len(begun) >= (engine.slots or load.requests):
            waited += len(waiting) * (now - before) + sum(max(now - at, 0) for at, _ in arrivals)
        for job in [job for job in running if len(job.times) >= job.tokens]:
            running.remove(job)
            if load.closed:
                send(job.times[-1] + 2 * load.delay_ms + rng.uniform(0, 0.2))
    return Observed(
        requests=[_request(job, load.delay_ms, rng) for job in jobs],
        waited_ms=waited / len(jobs),
        queued_ms=sum(job.begun - job.sent for job in jobs) / len(jobs),
        ran=ran,
        stops=stops,
    )


def _request(job: _Job, delay_ms: float, rng: random.Random) -> Request:
    times = list(accumulate((at + delay_ms * rng.uniform(0.5, 1.0) for at in job.times), max))
    return answer(
        job.index,
        sent=job.sent,
        ttft=times[0] - job.sent,
        gaps=[later - at for at, later in pairwise(times)],
        prompt_tokens=round(256 * job.prompt),
    )
