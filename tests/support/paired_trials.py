"""What gates and paired requests find, and what they wrongly find, in simulated pairs of runs.

    .venv/bin/python tests/support/paired_trials.py [PAIRS]

Three spreads, from fixed seeds:

two H100, one H100
        figures of runs against SGLang (gpu_spread.json): a run's start is drawn from how far the
        runs lie apart beyond what their repeats explain, its first repeat from their first ones,
        the other repeats from all that were not first, all figures of a repeat together
jitter  each gap between tokens is evenly drawn from 3.5 to 6.5 ms, 16 streams; the figures are
        those that spark-bench computes of such answers
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
from compare_samples import a_run
from made_requests import answer
from numpy.typing import NDArray
from spark_bench.compare import stats
from spark_bench.compare.gates import judge_gates, parse_gates
from spark_bench.compare.metric_names import STEADIEST, better
from spark_bench.compare.request_pairs import SavedRepeat, log_ratios
from spark_bench.compare.runs import ComparedRun
from spark_bench.metrics.steady import Steady
from spark_bench.metrics.summary import summarize
from spark_bench.metrics.times import TimedRequests
from spark_bench.record import Request

REPEATS = 5
PAIRS = 2000
GPUS = ("two H100", "one H100")
RECORDED = json.loads(Path(__file__).with_name("gpu_spread.json").read_text())
Floats = NDArray[np.float64]
Sample = Mapping[str, Floats]  # a figure's repeats
STREAMS, ROUNDS, TOKENS = 16, 4, 128  # of the jitter's load


# ---- pairs of runs


def gpu_runs(rng: np.random.Generator, slower: float, where: str) -> Iterator[Sample]:
    """Runs as the recorded ones, by so much slower: 1.03 is 3 %."""
    values = RECORDED[where]["values"]
    names = [*values]
    logs = np.log(np.array([values[name] for name in names]))  # (figures, runs, repeats)
    others = logs[:, :, 1:]
    runs, n = others.shape[1:]
    means = others.mean(axis=2)
    residuals = (others - means[:, :, np.newaxis]).reshape(len(names), -1) * np.sqrt(n / (n - 1))
    firsts = logs[:, :, 0] - means
    between = np.sqrt(np.maximum(0.0, means.var(axis=1, ddof=1) - residuals.var(axis=1) / n))
    ways = np.array([-1.0 if better(name) == "higher" else 1.0 for name in names])
    while True:
        start = means.mean(axis=1) + ways * np.log(slower) + rng.choice([-1, 1]) * between
        drawn = rng.integers(residuals.shape[1], size=REPEATS - 1)
        first = firsts[:, rng.integers(runs)]
        repeats = np.exp(start[:, np.newaxis] + np.column_stack([first, residuals[:, drawn]]))
        yield dict(zip(names, repeats, strict=True))


def jittered_repeat(rng: np.random.Generator, slower: float) -> list[Request]:
    """The answers of a closed loop; ITL 5 ms, each gap up to 1.5 ms shorter or longer."""
    requests = []
    sent = np.zeros(STREAMS)
    for turn in range(ROUNDS):
        for stream in range(STREAMS):
            gaps = slower * rng.uniform(3.5, 6.5, TOKENS - 1)
            index = turn * STREAMS + stream
            requests.append(answer(index, sent=sent[stream], ttft=50.0, gaps=gaps.tolist()))
            sent[stream] += 50.0 + gaps.sum() + 0.2
    return requests


@cache
def jittered(slower: float, count: int) -> tuple[list[SavedRepeat], list[dict[str, float]]]:
    """So many repeats, and their figures."""
    rng = np.random.default_rng([7, round(slower * 1e4)])
    saved, figures = [], []
    for _ in range(count):
        timed = TimedRequests(jittered_repeat(rng, slower))
        summary = summarize(timed, slots=STREAMS)
        steady = summary.steady
        assert isinstance(steady, Steady)
        saved.append(SavedRepeat({}, timed.answered))
        figures.append(
            {
                "output_throughput": summary.output_throughput or 0.0,
                "mean_itl_ms": summary.mean_itl_ms or 0.0,
                "median_itl_ms": summary.median_itl_ms or 0.0,
                "median_tpot_ms": summary.median_tpot_ms or 0.0,
                "steady.output_throughput": steady.output_throughput or 0.0,
            }
        )
    return saved, figures


def jitter_runs(rng: np.random.Generator, slower: float, pool: int) -> Iterator[Sample]:
    """Runs of repeats drawn from a pool of so many."""
    figures = jittered(slower, pool)[1]
    while True:
        drawn = [figures[which] for which in rng.choice(pool, REPEATS, replace=False)]
        yield {name: np.array([each[name] for each in drawn]) for name in drawn[0]}


# ---- what is found


def outcomes(
    gate: str, first: Iterator[Sample], second: Iterator[Sample], pairs: int
) -> Counter[str]:
    """How often a gate failed, held, or could not be judged; a group counts as one."""
    gates = parse_gates(gate)
    counts: Counter[str] = Counter()
    for _ in range(pairs):
        runs = [named("A", next(first)), named("B", next(second))]
        given = {verdict.outcome for verdict in judge_gates(gates, runs)}
        counts[next(o for o in ("failed", "holds", "unjudged") if o in given)] += 1
    return counts


def named(letter: str, sample: Sample) -> ComparedRun:
    return a_run(letter, **{name: values.tolist() for name, values in sample.items()})


def coverage(name: str, runs: Iterator[Sample], pairs: int) -> float:
    """The share of 95 % intervals that hold the truth, of runs that do not differ."""
    samples = [np.log(next(runs)[name]).tolist() for _ in range(2 * pairs)]
    low, high = stats.contrast(
        stats.locations(samples[:pairs]), stats.locations(samples[pairs:])
    ).interval()
    return float(((low < 0) & (high > 0)).mean())


def by_request(slower: float, pairs: int, pool: int, repeats: int = REPEATS) -> Counter[str]:
    """How often paired requests of jittered runs say that E2E differs, at 1 %."""
    rng = np.random.default_rng(11)
    base, other = jittered(1.0, pool)[0], jittered(slower, pool)[0]
    counts: Counter[str] = Counter()
    for _ in range(pairs):
        drawn = rng.choice(pool, 2 * repeats, replace=False)
        ratios = [
            stats.trimmed_mean(log_ratios("e2e_latency", base[one], other[two]).tolist())
            for one, two in zip(drawn[:repeats], drawn[repeats:], strict=True)
        ]
        counts["found" if stats.paired(ratios).p()[0] < 0.01 else "not found"] += 1
    return counts


def main(pairs: int) -> None:
    print(f"{pairs} pairs of runs of {REPEATS} repeats, in percent of pairs")
    print("spread   gate                            B slower   failed   holds  unjudged")
    pool = 300
    gates = (
        "3%",
        *(
            f"{name}={'-' if better(name) == 'higher' else '+'}3%"
            for name in (*STEADIEST, "mean_itl_ms")
        ),
    )
    for where, gate, slower in product(GPUS, gates, (1.0, 1.03)):
        rngs = np.random.default_rng(1), np.random.default_rng(2)
        runs = gpu_runs(rngs[0], 1.0, where), gpu_runs(rngs[1], slower, where)
        line(where, gate, slower, outcomes(gate, *runs, pairs), pairs)
    for gate in (each.replace("3%", "2.7%") for each in gates):
        for slower in (1.0, 1 / 0.973):
            rngs = np.random.default_rng(3), np.random.default_rng(4)
            first = jitter_runs(rngs[0], 1.0, pool)
            counts = outcomes(gate, first, jitter_runs(rngs[1], slower, pool), pairs)
            line("jitter", gate, slower, counts, pairs)
    for repeats in (5, 3):
        for slower in (1.0, 1.03):
            counts = by_request(slower, pairs, pool, repeats)
            share = 100 * counts["found"] / pairs
            print(
                f"jitter   E2E by request, {repeats} repeats       {slower - 1:8.2%} {share:8.2f}"
            )
    for name in STEADIEST:
        covered = [
            coverage(name, gpu_runs(np.random.default_rng(5), 1.0, where), pairs) for where in GPUS
        ]
        covered.append(coverage(name, jitter_runs(np.random.default_rng(6), 1.0, pool), pairs))
        shares = ", ".join(f"{share:.1%}" for share in covered)
        print(f"coverage of 95 % intervals of {name}, in this order: {shares}")


def line(spread: str, gate: str, slower: float, counts: Counter[str], pairs: int) -> None:
    shares = (100 * counts[outcome] / pairs for outcome in ("failed", "holds", "unjudged"))
    print(f"{spread:8} {gate:31} {slower - 1:8.2%}", *(f"{share:8.2f}" for share in shares))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else PAIRS)
