"""Does the truth lie within the bounds that the client states? Trials against the reference server.

Each trial is a schedule of the server's, a disturbance of the client's, and a seed that chooses the
load. It runs in a process of its own, which the trial may stop or crowd.

    python tests/support/bound_trials.py --trials 1000 --results FILE

prints a table by disturbance; with --results it goes on where FILE ends, and FILE keeps each seed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray
from spark_bench.display.progress import Silent
from spark_bench.metrics.intervals import MAIN
from spark_bench.metrics.summary import describe_latency
from spark_bench.record import Request
from spark_bench.reference_server.launcher import ReferenceServer
from spark_bench.reference_server.streams import Stream
from spark_bench.selftest.accuracy import match_streams
from spark_bench.selftest.bench import LoadShape, Observation, connect_bench

Floats = NDArray[np.float64]

# Settings of the reference server, in µs but for counts. ITLs are those of small and large models.
SCHEDULES: dict[str, dict[str, int]] = {
    "even 10 ms": {"itl_us": 10_000},
    "even 2 ms": {"itl_us": 2_000},
    "even 40 ms": {"itl_us": 40_000},
    "one clock": {"itl_us": 20_000, "step": 1},
    "jitter": {"itl_us": 5_000, "jitter_us": 1_500},
    "wide jitter": {"itl_us": 10_000, "jitter_us": 10_000},
    "heavy tail": {"itl_us": 8_000, "heavy_permille": 50, "heavy_us": 100_000},
    "rare long gaps": {"itl_us": 5_000, "heavy_permille": 5, "heavy_us": 300_000},
    "8 at once": {"itl_us": 5_000, "together": 8},
    "2 at once": {"itl_us": 10_000, "together": 2},
    "8 at once, jitter": {"itl_us": 5_000, "together": 8, "jitter_us": 3_000},
    "split events": {"itl_us": 10_000, "split": 1},
    "role first": {"itl_us": 10_000, "role_early": 1},
    "4 tokens each": {"itl_us": 20_000, "k": 4},
    "hidden tokens": {"itl_us": 10_000, "hidden": 3},
    "engine stalls": {"itl_us": 10_000, "stall_every_ms": 300, "stall_ms": 120},
    "one stream stalls": {"itl_us": 10_000, "slow_one": 3, "slow_ms": 200},
    "half of the streams stall": {"itl_us": 10_000, "slow_one": 2, "slow_ms": 150},
    "a queue": {"itl_us": 5_000, "max_running": 4},
    "as fast as it can": {"itl_us": 0, "burst": 4},
}
# SIGSTOP stands for a scheduler or a hypervisor that gives the client no CPU.
DISTURBANCES = ("none", "a neighbor spins", "stopped 40 ms", "stopped 2 s", "one core")
STREAMS = (1, 4, 16, 64)
# The server's log and the kernel's stamps are of two clocks, whose offset is measured, and a packet
# may wait for the kernel's own thread between them.
CLOCKS_MS = 0.25


@dataclass(frozen=True)
class Trial:
    """One trial and its outcome.

    misses: what lay outside its bounds, in words; figures: how many were checked
    width_ms: median width of a token's time; width_share: that of the main figures, as a share
    failed: why it gave no figures; "": it did
    """

    schedule: str
    disturbance: str
    seed: int
    streams: int
    misses: tuple[str, ...] = ()
    figures: int = 0
    verdict: str = ""
    width_ms: float = 0.0
    width_share: float = 0.0
    failed: str = ""


def trials(count: int, first: int = 0) -> list[Trial]:
    """The trials with these seeds: every schedule with every disturbance in turn."""
    chosen = []
    for seed in range(first, first + count):
        schedule = tuple(SCHEDULES)[seed % len(SCHEDULES)]
        disturbance = DISTURBANCES[seed // len(SCHEDULES) % len(DISTURBANCES)]
        streams = random.Random(seed).choice(STREAMS)
        chosen.append(Trial(schedule, disturbance, seed, streams))
    return chosen


def run_trial(trial: Trial) -> Trial:
    """Run one; the client is a process of its own, the server another."""
    rng = random.Random(trial.seed)
    settings = SCHEDULES[trial.schedule]
    itl_ms = settings["itl_us"] / 1000
    tokens = rng.randrange(20, max(21, min(100, round(600 / (itl_ms or 6)))))
    shape = LoadShape(
        trial.streams, rng.choice((1, 2)), tokens, rng.choice((30, 60, 120)), itl_ms, settings
    )
    core = rng.choice(sorted(os.sched_getaffinity(0)))
    with ReferenceServer(core=core if trial.disturbance == "one core" else None) as reference:
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            os.close(reading)
            status = 1
            try:
                if trial.disturbance in ("one core", "a neighbor spins"):
                    os.sched_setaffinity(0, {core})
                os.write(writing, json.dumps(asdict(_observe(trial, shape, reference))).encode())
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        os.close(writing)
        _disturb(trial, child, core, reference, shape)
        with os.fdopen(reading, "rb") as pipe:
            document = pipe.read()
        os.waitpid(child, 0)
    if not document:
        return Trial(**{**asdict(trial), "failed": "the client ended without a result"})
    return _trial(json.loads(document))


def _trial(document: dict[str, object]) -> Trial:
    return Trial(**{**document, "misses": tuple(document["misses"])})  # type: ignore[arg-type]


def _disturb(
    trial: Trial, child: int, core: int, reference: ReferenceServer, shape: LoadShape
) -> None:
    """Stop or crowd the client as the first tokens come."""
    if trial.disturbance == "a neighbor spins":
        _spin(child, core)
        return
    if not trial.disturbance.startswith("stopped"):
        return
    until = time.monotonic() + 20
    while time.monotonic() < until and not reference.stats().running:
        time.sleep(0.001)
    time.sleep(max(0.0, shape.ttft_ms / 1000 - 0.015))
    with suppress(ProcessLookupError):
        os.kill(child, signal.SIGSTOP)
        time.sleep(2.0 if trial.disturbance == "stopped 2 s" else 0.04)
        os.kill(child, signal.SIGCONT)


def _spin(client: int, core: int) -> None:
    """Start a process that takes the client's core until the client ends, 4 s at most."""
    if os.fork():
        return
    if not os.fork():  # a grandchild, which init waits for
        os.sched_setaffinity(0, {core})
        until = time.monotonic() + 4
        with suppress(ProcessLookupError):
            while time.monotonic() < until:
                os.kill(client, 0)
    os._exit(0)


def _observe(trial: Trial, shape: LoadShape, reference: ReferenceServer) -> Trial:
    with Silent() as show, connect_bench(reference, show) as bench:
        observation = bench.observe(shape, "")
    misses, figures = _misses(observation)
    values = {name: getattr(observation.summary, name) for name in MAIN}
    bounds = observation.bounds
    shares = [
        bounds[name].off(value) / value
        for name, value in values.items()
        if value and name in bounds
    ]
    whole = [request for request in observation.requests if request.ok]
    widths = [
        (r.token_ns - r.token_since_ns) / 1e6
        if r.token_since_ns.size
        else np.zeros(r.token_ns.size)
        for r in whole
    ]
    return Trial(
        trial.schedule,
        trial.disturbance,
        trial.seed,
        trial.streams,
        tuple(misses),
        figures,
        observation.audit.verdict,
        round(float(np.median(np.concatenate(widths))), 4) if widths else 0.0,
        round(median(shares), 5) if shares else 0.0,
    )


def _misses(observation: Observation) -> tuple[list[str], int]:
    """What lies outside its bounds: means, percentiles, and times of tokens (by how many ms the
    worst of a request was stated before and after it was sent); how many figures were checked.

    The server's log says between which moments each chunk was handed to its kernel.
    """
    pairs = [(r, _arrived(s, r)) for r, s in match_streams(observation)]
    misses = []
    for request, stream in pairs:
        since = request.token_since_ns if request.token_since_ns.size else request.token_ns
        early = (stream.sent_ns - request.token_ns).max() / 1e6
        late = (since - stream.left_ns).max() / 1e6
        if early > CLOCKS_MS or late > CLOCKS_MS:
            misses.append(f"request {request.index}: {early:.3f} ms before, {late:.3f} after")
    figures = {**_true("ttft", _ttft(pairs)), **_true("e2e_latency", _e2e(pairs))}
    figures |= _true("icl", _gaps(pairs))
    for name, (low, high) in figures.items():
        bound = observation.bounds.get(name)
        if bound is None:
            misses.append(f"{name} has no bounds")
        elif not (low - CLOCKS_MS <= bound.high and bound.low <= high + CLOCKS_MS):
            misses.append(
                f"{name} is {low:.3f} to {high:.3f}, stated as {bound.low:.3f} to {bound.high:.3f}"
            )
    return misses, len(figures)


def _arrived(stream: Stream, request: Request) -> Stream:
    """The stream with the time of its arrival as `left_ns` where the sender's kernel kept a chunk
    back, so that only the receiver's knows when it came."""
    return replace(stream, left_ns=np.where(stream.left_ns > 0, stream.left_ns, request.token_ns))


Pairs = Sequence[tuple[Request, Stream]]


def _true(name: str, spans: tuple[Floats, Floats]) -> dict[str, tuple[float, float]]:
    """The true figures of a latency: the lowest and the highest that the log allows."""
    lows, highs = (describe_latency(name, each.copy()) for each in spans)
    return {key: (low, highs[key]) for key, low in lows.items() if not key.startswith("std")}


def _since_send(pairs: Iterable[tuple[Request, Stream]], chunk: int) -> tuple[Floats, Floats]:
    lows, highs = [], []
    for request, stream in pairs:
        begun = min(stream.received_ns, request.sent_by_ns or stream.received_ns)
        lows.append(stream.sent_ns[chunk] - stream.received_ns)
        highs.append(stream.left_ns[chunk] - begun)
    return np.array(lows) / 1e6, np.array(highs) / 1e6


def _ttft(pairs: Pairs) -> tuple[Floats, Floats]:
    return _since_send(pairs, 0)


def _e2e(pairs: Pairs) -> tuple[Floats, Floats]:
    return _since_send(pairs, -1)


def _gaps(pairs: Pairs) -> tuple[Floats, Floats]:
    lows = [np.maximum(s.sent_ns[1:] - s.left_ns[:-1], 0) for _, s in pairs]
    highs = [s.left_ns[1:] - s.sent_ns[:-1] for _, s in pairs]
    return np.concatenate(lows) / 1e6, np.concatenate(highs) / 1e6


def run_trials(
    wanted: Sequence[Trial], at_once: int = 4, report: Callable[[Trial], None] = lambda _: None
) -> list[Trial]:
    """Run trials, several at once: what they take from each other is one more disturbance.

    report: called with each outcome as it comes
    """
    outcomes: list[Trial] = []

    def run(batch: Sequence[Trial]) -> None:
        """Run some in a process without other threads, since it forks."""
        seeds = ",".join(str(trial.seed) for trial in batch)
        argv = [sys.executable, __file__, "--seeds", seeds]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout
            for line in process.stdout:
                outcomes.append(_trial(json.loads(line)))
                report(outcomes[-1])

    batches = [wanted[first::at_once] for first in range(min(at_once, len(wanted)))]
    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(run, batches))
    return outcomes


def table(outcomes: Sequence[Trial]) -> Iterator[str]:
    """A line per disturbance: trials, misses, median widths, verdicts."""
    yield (
        f"{'disturbance':20} {'trials':>6} {'missed':>6} {'figures':>8} {'token ms':>9} "
        f"{'figure %':>8} {'exact':>6}"
    )
    for disturbance in DISTURBANCES:
        rows = [each for each in outcomes if each.disturbance == disturbance and not each.failed]
        if not rows:
            continue
        exact = sum(each.verdict == "exact" for each in rows) / len(rows)
        yield (
            f"{disturbance:20} {len(rows):6} {sum(bool(each.misses) for each in rows):6} "
            f"{sum(each.figures for each in rows):8} {median(e.width_ms for e in rows):9.4f} "
            f"{100 * median(e.width_share for e in rows):8.3f} {exact:6.0%}"
        )
    for each in outcomes:
        for miss in (*each.misses[:3], *([each.failed] if each.failed else [])):
            yield f"seed {each.seed} ({each.schedule}, {each.disturbance}): {miss}"


def main() -> int:
    """Exit status 1 if the truth lay outside the bounds in any trial."""
    parser = argparse.ArgumentParser(description="Hold the stated bounds against the truth.")
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--at-once", type=int, default=4)
    parser.add_argument("--results", type=Path, help="JSON lines; goes on where they end")
    parser.add_argument("--seeds", help="run these trials alone, and print them as JSON")
    options = parser.parse_args()
    if options.seeds:
        for seed in options.seeds.split(","):
            (trial,) = trials(1, int(seed))
            print(json.dumps(asdict(run_trial(trial))), flush=True)
        return 0
    done: list[Trial] = []
    if options.results and options.results.exists():
        done = [_trial(json.loads(line)) for line in options.results.read_text().splitlines()]
    ready = {each.seed for each in done}
    wanted = [each for each in trials(options.trials) if each.seed not in ready]

    def keep(outcome: Trial) -> None:
        if options.results:
            with options.results.open("a") as file:
                file.write(json.dumps(asdict(outcome)) + "\n")

    outcomes = [*done, *run_trials(wanted, options.at_once, keep)]
    print("\n".join(table(outcomes)))
    return int(any(each.misses or each.failed for each in outcomes))


if __name__ == "__main__":
    sys.exit(main())
