"""A whole result and a request, for the tests of what is written."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np
from spark_bench.client.audit import Audit, Spread
from spark_bench.metrics.intervals import Interval
from spark_bench.metrics.stalls import stalls
from spark_bench.metrics.summary import distributions, summarize
from spark_bench.metrics.times import TimedRequests
from spark_bench.record import Request
from spark_bench.results.assemble import compare_lengths
from spark_bench.results.codec import START_NS
from spark_bench.results.config_schema import Conversations, Dataset, RunConfig
from spark_bench.results.provenance_schema import (
    Client,
    Commit,
    DeployedGroup,
    DeployedRank,
    Machine,
    Provenance,
    ServerInfo,
)
from spark_bench.results.schema import Repeat, Result
from spark_bench.telemetry.messages import NodeSample
from spark_bench.telemetry.readings import Extent, NodeSamples, ServerSample, ServerSide

MS = 1_000_000


def a_request(**changes: Any) -> Request:
    """Sent 5 ms after the start; TTFT 200 ms, then gaps of 10, 10 and 12 ms; 4 of 8 tokens."""
    sent = START_NS + 5 * MS
    request = Request(
        index=0,
        scheduled_ns=START_NS + 4 * MS,
        sent_ns=sent,
        first_event_ns=sent + 190 * MS,
        text_ns=sent + 200 * MS,
        done_ns=sent + 233 * MS,
        token_ns=np.array([sent + at * MS for at in (200, 210, 220, 232)], np.int64),
        token_counts=np.array([1, 1, 1, 1], np.int32),
        counted_by="chunk",
        asked_input=128,
        asked_output=8,
        prompt_tokens=128,
        cached_tokens=0,
        output_tokens=4,
        usage=True,
        finish_reason="stop",
        status=200,
        text="a few words",
    )
    for name, value in changes.items():
        setattr(request, name, value)
    return request


REQUESTS = tuple(
    a_request(index=index, failure="http_500" if index == 4 else "") for index in range(10)
)


def a_config() -> RunConfig:
    return RunConfig(
        profile="quick",
        overrides={"num_prompts": 10, "concurrency": None},
        endpoint="chat",
        url="http://spark-1:30000",
        model="openai/gpt-oss-120b",
        num_prompts=10,
        input_len=128,
        output_len=8,
        request_rate=None,
        burstiness=1.0,
        concurrency=4,
        ramp=0.0,
        duration=None,
        seed=7,
        cache="miss",
        warmup=1,
        repeat=2,
        timeout=600.0,
        ignore_eos=True,
        temperature=0.0,
        extra_body={"top_p": 0.9},
        count_tokens="auto",
        conversations=Conversations(),
        dataset=Dataset(format="trace", file="day.jsonl", sha256="0" * 64),
        slo={"ttft": 500.0},
        command=("spark-bench", "run", "quick"),
    )


def a_provenance() -> Provenance:
    rank = DeployedRank(
        rank=0,
        node="spark-1",
        image="lmsysorg/sglang:spark",
        image_id="sha256:1234",
        engine_version="0.5.23",
        spec="ab" * 32,
    )
    return Provenance(
        client=Client(version="0.1.0", python="3.11.7", httpx="0.28.1"),
        machine=Machine(
            hostname="spark-1",
            product="NVIDIA DGX Spark",
            cpu="Cortex-X925 + Cortex-A725",
            cores=20,
            usable_cores=20,
            memory_bytes=128 * 2**30,
            kernel="6.11.0-1016-nvidia",
            platform="Linux aarch64",
            load_average=(0.5, 0.25, 0.125),
            governor="performance",
            clock_source="arch_sys_counter",
        ),
        project=Commit(sha="c" * 40, dirty=False),
        server=ServerInfo(
            engine="sglang",
            version="0.5.23",
            models=("openai/gpt-oss-120b",),
            model="openai/gpt-oss-120b",
            max_model_len=131072,
            settings={"tp_size": 2, "disable_cuda_graph": False, "mem_fraction_static": 0.8},
        ),
        deployment=DeployedGroup(
            model="openai/gpt-oss-120b",
            revision="d" * 40,
            group="main",
            launch={"tp": 2},
            ranks=(rank, msgspec.structs.replace(rank, rank=1, node="spark-2")),
        ),
    )


def a_repeat(number: int) -> Repeat:
    return Repeat(
        repeat=number,
        started=datetime(2026, 11, 23, 13, 30 + number, tzinfo=UTC),
        summary=summarize(TimedRequests(REQUESTS)),
        audit=Audit(clock="kernel", reads=40, lag_us=Spread(7.0, 17.0, 250.0)),
        lengths=compare_lengths(REQUESTS, "/models/gpt-oss-120b/tokenizer.json"),
        distributions=distributions(TimedRequests(REQUESTS)),
        stalls=stalls(TimedRequests(REQUESTS)),
        requests_file=f"bench_quick_20261123_133805.requests.{number}.jsonl",
    )


def a_result() -> Result:
    repeats = (a_repeat(0), a_repeat(1))
    return Result(
        id="20261123T133805250Z-0a1b2c3d",
        created=datetime(2026, 11, 23, 13, 38, 5, 250_000, tzinfo=UTC),
        status="partial",
        reason="Ctrl-C",
        config=a_config(),
        provenance=a_provenance(),
        summary=repeats[0].summary,
        audit=repeats[0].audit,
        lengths=repeats[0].lengths,
        distributions=repeats[0].distributions,
        intervals={
            "output_throughput": Interval(
                estimate=171.0, low=169.5, high=172.5, n=2, method="student-t", median=171.0
            )
        },
        stalls=repeats[0].stalls,
        requests_file="bench_quick_20261123_133805.requests.jsonl",
        repeats=repeats,
        notes=("One request failed.",),
    )


WHEN = datetime(2026, 11, 23, 13, 38, 5, 250_000, tzinfo=UTC)


SECOND = 1_000_000_000


SIDE = ServerSide(
    begin_ns=5 * SECOND,
    end_ns=7 * SECOND,
    samples=(
        ServerSample(at_ns=5 * SECOND, running=0.0, queued=0.0),
        ServerSample(at_ns=6 * SECOND + SECOND // 2, running=4.0, queued=1.0, throughput=75.0),
    ),
    generated_tokens=40.0,
    running=Extent(3.0, 4.0),
    nodes=(
        NodeSamples(
            name="spark-1",
            samples=(
                NodeSample(at_ns=6 * SECOND, power_w=50.0),
                NodeSample(
                    at_ns=7 * SECOND,
                    power_w=60.0,
                    memory_total_bytes=100,
                    memory_available_bytes=30,
                ),
            ),
            energy_joules=110.0,
            power_w=Extent(55.0, 60.0),
        ),
    ),
)
