"""The state of a group, decided from what was read, and correct even if little was readable."""

from __future__ import annotations

from dataclasses import replace

import pytest
from samples import ran, spark, specs_of

from cluster.node.readings import Gpu, MemoryReading
from cluster.reports.status import (
    Leftover,
    RankStatus,
    ServerLoad,
    describe_drift,
    find_leftovers,
    group_state,
    rank_status,
    start_time,
)
from facts.answers import Metrics

MODEL = "openai/gpt-oss-120b"
OK = RankStatus(rank=0, node="spark-1", container="c", state="running", health=200)
LOADING = replace(OK, health=503, phase="loading weights")
HUNG = replace(OK, health=0, phase="ready")
GONE = replace(OK, state="exited", health=0)
MISSING = RankStatus(rank=0, node="spark-1", state="missing")
OFF = RankStatus(rank=0, node="spark-1", lost="no route to host")
BLIND = replace(
    OK, state="unknown", container="", lost="Docker does not respond: no answer in time"
)


@pytest.mark.parametrize(
    ("ranks", "served", "says"),
    [
        pytest.param((OK, OK), (MODEL,), "ready", id="ready"),
        pytest.param((OK, BLIND), (MODEL,), "ready", id="serves-beside-a-dead-docker"),
        pytest.param((OK, OK), (), "starting", id="not-yet-served"),
        pytest.param((LOADING, OK), (), "starting", id="the-head-loads"),
        pytest.param((OK, OK), ("another/model",), "degraded", id="another-model"),
        pytest.param((HUNG, OK), (), "degraded", id="was-ready-and-hangs"),
        pytest.param((OK, GONE), (MODEL,), "degraded", id="half"),
        pytest.param((OK, OFF), (MODEL,), "degraded", id="a-node-is-off"),
        pytest.param((OFF, OK), (), "unknown", id="the-head-is-off"),
        pytest.param((GONE, GONE), (), "down", id="both-ended"),
        pytest.param((MISSING, MISSING), (), "down", id="nothing-there"),
    ],
)
def test_the_groups_state(ranks, served, says):
    assert group_state("running", ranks, served, MODEL) == says


@pytest.mark.parametrize(
    ("ranks", "says"),
    [
        pytest.param((GONE, GONE), "stopped", id="stopped"),
        pytest.param((MISSING, MISSING), "absent", id="absent"),
        pytest.param((OK, GONE), "degraded", id="one-still-runs"),
        pytest.param((GONE, OFF), "degraded", id="a-node-is-not-read"),
    ],
)
def test_the_state_of_a_group_that_should_not_run(ranks, says):
    assert group_state("stopped", ranks, (), MODEL) == says


def test_a_rank_is_described_from_its_container_and_node():
    spec = specs_of()["spark-1"]
    rank = ran(spec, restarts=2)
    begun = start_time(rank)
    assert begun is not None
    gpu = Gpu(0, "GB10", "580", "12.1", power_watts=34.5)
    facts = spark(0, ranks=(rank,), clock=begun + 90, memory=MemoryReading(100, 40), gpus=(gpu,))
    status = rank_status(0, "spark-1", facts, rank, health=200, phase="ready", drift=("a -> b",))
    assert (status.container, status.state, status.uptime, status.restarts) == (
        spec.name,
        "running",
        90,
        2,
    )
    assert (status.memory_used, status.memory_total, status.gpu_watts) == (60, 100, 34.5)
    assert (status.image, len(status.spec), status.drift) == ("ab" * 6, 12, ("a -> b",))
    assert status.healthy


def test_no_answer_never_means_nothing_runs():
    facts = spark(0, unread={"ranks": "no answer in time"})
    status = rank_status(0, "spark-1", facts, None, health=200)
    assert (status.state, status.lost) == ("unknown", "Docker does not respond: no answer in time")
    assert rank_status(0, "spark-1", spark(0), None).state == "missing"
    assert rank_status(0, "spark-1", None, None, lost="off").state == "unknown"


def test_leftovers_of_a_switch_are_named_and_are_not_drift():
    own, *others = (
        ran(specs_of()["spark-1"], id=name) for name in ("own", "previous", "failed", "stray")
    )
    names = ("sglang-head.previous", "sglang-head.failed", "sglang-old")
    ranks = (own, *(replace(r, name=n) for r, n in zip(others, names, strict=True)))
    left = find_leftovers("spark-1", ranks, own)
    assert [x.kind for x in left] == ["previous", "failed", "stray"]
    assert describe_drift({"spark-2": ("is not there",)}, left) == (
        "spark-2: is not there",
        "spark-1: sglang-old is no longer part of the group",
    )
    assert left[0] == Leftover(
        node="spark-1", container="sglang-head.previous", state="running", kind="previous"
    )


SGLANG = """
# HELP sglang:num_running_reqs The number of running requests.
sglang:num_running_reqs{engine_type="unified",model_name="acme/m, x",tp_rank="0"} 2.0
sglang:num_running_reqs{engine_type="unified",model_name="acme/m, x",tp_rank="1"} 2.0
sglang:num_queue_reqs{model_name="acme/m, x"} 3.0
sglang:gen_throughput{model_name="acme/m, x"} 75.25
sglang:token_usage{model_name="acme/m, x"} 0.12
sglang:cache_hit_rate{model_name="acme/m, x"} NaN
sglang:num_running_reqs_offline_batch{model_name="acme/m, x"} 9.0
"""
LLAMA = "llamacpp:requests_processing 1\nllamacpp:predicted_tokens_seconds 101.5\n"


@pytest.mark.parametrize(
    ("text", "load"),
    [
        pytest.param(SGLANG, ServerLoad("acme/m, x", 2, 3, 75.25, 0.12), id="sglang"),
        pytest.param(LLAMA, ServerLoad("", 1, None, 101.5), id="llama.cpp"),
        pytest.param("", ServerLoad(), id="nothing"),
        pytest.param("<html>404</html>", ServerLoad(), id="another-program"),
    ],
)
def test_the_load_is_read_from_the_servers_metrics(text, load):
    assert Metrics().process(text.splitlines()) == load
