"""Results as a user may have them: two models over several loads, one that failed, odd names."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from msgspec.structs import replace
from result_samples import MS, a_provenance, a_request, a_result
from spark_bench.client.audit import Audit, Spread
from spark_bench.metrics.bounds import Bound
from spark_bench.metrics.figures import Summary
from spark_bench.metrics.intervals import Interval
from spark_bench.metrics.stalls import stalls
from spark_bench.metrics.summary import distributions, summarize
from spark_bench.metrics.times import TimedRequests
from spark_bench.record import Request
from spark_bench.results import codec
from spark_bench.results.assemble import compare_lengths
from spark_bench.results.schema import (
    NodeColumns,
    NodeFigures,
    Nodes,
    Range,
    Result,
    ServerFigures,
    ServerSamples,
)

LOADS = (1, 2, 4, 8, 16, 32)
SLOTS = 8  # of the server: beyond that, requests wait
OUTPUT = 64
HOSTILE = """<script>alert("x")</script><img src=x onerror=alert('x')>&amp;{{ 7 * 7 }}"""
_START = datetime(2026, 11, 23, 12, tzinfo=UTC)


def requests(concurrency: int, ttft_ms: float, itl_ms: float, failure: str = "") -> list[Request]:
    """Four rounds of a closed loop on a server of SLOTS: beyond them, the TTFT is the queue."""
    chance = random.Random(concurrency)
    wait = max(0, concurrency - SLOTS) / SLOTS * (ttft_ms + OUTPUT * itl_ms)
    drawn = []
    for index in range(4 * concurrency):
        first = ttft_ms * chance.uniform(0.95, 1.2) + wait * chance.uniform(0.8, 1.1)
        gaps = [first, *(itl_ms * chance.uniform(0.9, 1.15) for _ in range(OUTPUT - 1))]
        sent = int((index // concurrency) * (wait + ttft_ms + OUTPUT * itl_ms) * MS) + MS
        times = sent + (np.cumsum(gaps) * MS).astype(np.int64)
        drawn.append(
            a_request(
                index=index,
                scheduled_ns=sent,
                sent_ns=sent,
                first_event_ns=int(times[0]),
                text_ns=int(times[0]),
                done_ns=int(times[-1]) + MS,
                token_ns=times,
                token_counts=np.ones(OUTPUT, np.int32),
                asked_output=OUTPUT,
                output_tokens=OUTPUT,
                failure=failure,
            )
        )
    return drawn


def result(
    number: int = 0,
    model: str = "openai/gpt-oss-120b",
    concurrency: int = 4,
    ttft_ms: float = 150.0,
    itl_ms: float = 20.0,
    failure: str = "",
    **changes: Any,
) -> Result:
    """The number-th of a series; changes: fields of the result."""
    ended = _START + timedelta(minutes=5 * number)
    sent = requests(concurrency, ttft_ms, itl_ms, failure)
    base = a_result()
    config = replace(
        base.config,
        model=model,
        concurrency=concurrency,
        num_prompts=len(sent),
        output_len=OUTPUT,
        repeat=1,
        dataset=None,
    )
    summary = summarize(TimedRequests(sent))
    sample = replace(
        base,
        id=f"{ended:%Y%m%dT%H%M%S}000Z-{number:08x}",
        created=ended,
        status="complete",
        reason="",
        config=config,
        summary=summary,
        audit=Audit(clock="kernel", reads=1000, lag_us=Spread(7.0, 17.0, 250.0)),
        lengths=compare_lengths(sent, "/models/tokenizer.json"),
        distributions=distributions(TimedRequests(sent)),
        intervals=_intervals(summary.output_throughput),
        stalls=stalls(TimedRequests(sent)),
        server=None if failure else server(concurrency, summary.duration or 1.0),
        nodes=None if failure else nodes(concurrency, summary.duration or 1.0),
        requests_file=None,
        repeats=(),
        notes=(),
    )
    return replace(sample, **changes)


def several() -> list[Result]:
    """Fourteen: two sweeps, a model that failed, and one of two nodes that is partial."""
    results = [result(i, concurrency=load) for i, load in enumerate(LOADS)]
    qwen = "Qwen/Qwen2.5-72B-Instruct-AWQ"
    results += [
        result(10 + i, qwen, load, ttft_ms=420.0, itl_ms=55.0) for i, load in enumerate(LOADS)
    ]
    results.append(result(20, "deepseek-ai/DeepSeek-R1", 4, failure="http_500"))
    partial = result(21, "meta-llama/Llama-3.3-70B-Instruct", 4, 300.0, 40.0)
    inexact = replace(partial.audit, verdict="approximate", reasons=("the machine was busy",))
    results.append(replace(partial, status="partial", reason="Ctrl-C", audit=inexact))
    results[0] = replace(results[0], bounds=bounds(results[0].summary, 0.995))
    results[-1] = replace(results[-1], bounds=bounds(results[-1].summary, 0.7))
    return results


def bounds(summary: Summary, low: float) -> dict[str, Bound]:
    """From this share of each figure up to the figure."""
    names = ("output_throughput", "median_ttft_ms", "p99_ttft_ms", "p99_itl_ms")
    values = {name: getattr(summary, name) for name in names}
    return {name: Bound(low * value, value) for name, value in values.items()}


def variants() -> list[Result]:
    """One model with one node and with two."""
    launch = {1: {"tp": 1}, 2: {"tp": 2}}
    return [
        result(index, concurrency=load, itl_ms=40.0 / tp, provenance=_launched(launch[tp]))
        for index, (tp, load) in enumerate((tp, load) for tp in launch for load in LOADS)
    ]


def save(results: list[Result], folder: Path) -> Path:
    """As `spark-bench run` would."""
    folder.mkdir(parents=True, exist_ok=True)
    for each in results:
        (folder / f"bench_quick_{each.id}.json").write_bytes(codec.encode_result(each))
    return folder


def server(concurrency: int, duration: float) -> ServerFigures:
    """Samples twice a second; beyond its SLOTS requests wait."""
    at = tuple(index / 2 for index in range(int(duration * 2) + 2))
    running = float(min(concurrency, SLOTS))
    queued = float(max(0, concurrency - SLOTS))
    full = tuple(index % 9 for index in range(len(at)))
    return ServerFigures(
        reconciliation=None,
        generated_tokens=None,
        prompt_tokens=None,
        cache_hit_rate=None,
        running=Range(mean=running, max=running),
        queued=Range(mean=queued, max=queued),
        token_usage=None,
        samples=ServerSamples(
            at=at,
            running=tuple(0.0 if each == 0 else running for each in full),
            queued=tuple(max(0.0, queued - each) for each in full),
            token_usage=tuple(None for _ in at),
            cache_hit_rate=tuple(None for _ in at),
            throughput=tuple(30.0 * running + each for each in full),
        ),
    )


def nodes(concurrency: int, duration: float) -> Nodes:
    """Two Sparks of about 60 W."""
    at = tuple(index / 2 for index in range(int(duration * 2) + 2))
    return Nodes(
        tokens_per_joule=2.5,
        nodes=tuple(
            NodeFigures(
                name=name,
                energy_joules=base * duration,
                power_w=Range(mean=base, max=base + 4),
                temperature_c=Range(mean=61.0, max=64.0),
                memory_used_bytes=Range(mean=96e9, max=97e9),
                received_bytes=10**9,
                sent_bytes=10**9,
                samples=_power(at, base),
            )
            for name, base in (("spark-1", 62.0), ("spark-2", 57.0))
        ),
    )


def _power(at: tuple[float, ...], base: float) -> NodeColumns:
    nothing = tuple(None for _ in at)
    return NodeColumns(
        at=at,
        power_w=tuple(base + index % 5 for index in range(len(at))),
        temperature_c=nothing,
        clock_mhz=nothing,
        utilization=nothing,
        memory_used_bytes=nothing,
        received_bytes=nothing,
        sent_bytes=nothing,
    )


def _launched(launch: dict[str, Any]) -> Any:
    provenance = a_provenance()
    assert provenance.deployment
    return replace(provenance, deployment=replace(provenance.deployment, launch=launch))


def _intervals(throughput: float | None) -> dict[str, Interval]:
    if throughput is None:
        return {}
    return {
        "output_throughput": Interval(
            estimate=throughput,
            low=throughput * 0.98,
            high=throughput * 1.02,
            n=5,
            method="student-t",
            median=throughput,
        )
    }
