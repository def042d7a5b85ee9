"""The wait for a group, on a clock of our own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings as profile, strategies as st

from cluster.engine.log import CAPTURING, MEETING
from cluster.engine.nccl import Collectives
from cluster.engine.readiness import RankHealth, ReadinessWatch, ReadyLimits, ending, ready_limits
from cluster.node.readings import Rank

LIMITS = ReadyLimits(ready=600)
NAMES = {"spark-1": "sglang-head", "spark-2": "sglang-worker-1"}


def look(node: str = "spark-1", health: int = 0, **rank: Any) -> RankHealth:
    return RankHealth(node, Rank(NAMES[node], "id", **({"status": "running"} | rank)), health)


def gone(node: str = "spark-1") -> RankHealth:
    return RankHealth(node)


def lost(node: str = "spark-1", why: str = "timed out") -> RankHealth:
    return RankHealth(node, lost=why)


def watch(**more: Any) -> ReadinessWatch:
    return ReadinessWatch(LIMITS, begun=1000.0, **more)


def failures(watched: ReadinessWatch, looks: list[RankHealth], after: float) -> list[str]:
    return [str(finding) for finding in watched.failures(looks, 1000.0 + after)]


BOTH = [look("spark-1"), look("spark-2")]


# ---- one rank ends

ENDS: list[Any] = [
    pytest.param(look(status="exited", exit_code=1), "has ended: exited with exit code 1", id="1"),
    pytest.param(look(status="exited", exit_code=0), "has ended: exited with exit code 0", id="0"),
    pytest.param(look(status="dead"), "has ended: dead", id="dead"),
    pytest.param(look(status="restarting", exit_code=1), "has ended: restarting", id="restarting"),
    pytest.param(look(status="paused"), "has ended: paused", id="paused"),
    pytest.param(gone(), "spark-1: the rank is gone", id="gone"),
    pytest.param(look(restarts=1), "keeps restarting by itself", id="restarted"),
    pytest.param(
        look(restarts=1, health=200), "keeps restarting by itself", id="restarted-healthy"
    ),
]


@pytest.mark.parametrize(("ended", "why"), ENDS)
def test_a_rank_that_exits_ends_the_wait_at_once(ended: RankHealth, why: str) -> None:
    (finding,) = failures(watch(), [ended, look("spark-2")], after=1)
    assert finding.startswith("spark-1: ")
    assert why in finding


def test_a_worker_that_exits_fails_the_wait_though_the_head_is_healthy() -> None:
    looks = [look(health=200), look("spark-2", status="exited", exit_code=1)]
    (finding,) = failures(watch(), looks, after=1)
    assert finding.startswith("spark-2: sglang-worker-1 has ended")


def test_a_rank_that_is_never_ready_fails_the_deploy() -> None:
    assert failures(watch(), BOTH, after=600)


def test_every_rank_that_ended_is_named() -> None:
    looks = [look(status="exited", exit_code=1), gone("spark-2")]
    assert [line.partition(":")[0] for line in failures(watch(), looks, 1)] == [
        "spark-1",
        "spark-2",
    ]


@pytest.mark.parametrize("between", [{"status": "restarting"}, {"status": "running"}])
def test_docker_may_restart_a_rank_of_its_own_once(between: dict[str, Any]) -> None:
    """One that this run did not start: the wait may have begun just before Docker's restart."""
    watched = watch(restarts={"spark-1": 3})
    assert failures(watched, [look(restarts=3)], 1) == []
    assert failures(watched, [look(restarts=4, **between)], 2) == []
    assert failures(watched, [look(restarts=4, status="exited", exit_code=1)], 3) == [
        "spark-1: sglang-head has ended: exited with exit code 1"
    ]
    assert "keeps restarting" in failures(watched, [look(restarts=5, **between)], 4)[0]


def test_a_container_not_yet_started_is_waited_for() -> None:
    assert failures(watch(), [look(status="created")], 1) == []


@pytest.mark.parametrize(
    ("rank", "words"),
    [
        pytest.param({"exit_code": 137}, "exited with exit code 137", id="137-alone"),
        pytest.param(
            {"exit_code": 137, "oom_killed": True},
            "exited with exit code 137, killed for memory",
            id="137-by-the-kernel",
        ),
        pytest.param({"exit_code": 1}, "exited with exit code 1", id="1"),
    ],
)
def test_exit_code_137_alone_does_not_mean_out_of_memory(rank: dict[str, Any], words: str) -> None:
    assert ending(Rank("sglang-head", "id", "exited", **rank)) == words


# ---- a node that does not answer


def test_a_silent_node_has_its_grace() -> None:
    watched = watch()
    assert failures(watched, BOTH, after=10) == []
    assert failures(watched, [lost(), look("spark-2")], after=20) == []
    assert failures(watched, [lost(), look("spark-2")], after=39) == []
    assert failures(watched, [lost(), look("spark-2")], after=40) == [
        "spark-1: the node has not answered for 30 s: timed out"
    ]


def test_an_answer_renews_the_grace() -> None:
    watched = watch()
    for after in range(0, 200, 20):
        looks = [lost() if after % 40 else look(), look("spark-2")]
        assert failures(watched, looks, after) == []


def test_a_node_that_never_answered_counts_from_the_beginning() -> None:
    assert failures(watch(), [lost()], after=29) == []
    assert "has not answered for 30 s" in failures(watch(), [lost()], after=30)[0]


def test_a_lost_node_never_counts_as_a_missing_rank() -> None:
    assert failures(watch(), [lost(), look("spark-2")], after=1) == []


# ---- the deadline


def test_the_deadline_is_reported_with_every_ranks_state() -> None:
    looks = [look(), look("spark-2", health=200)]
    assert failures(watch(), looks, after=599) == []
    assert failures(watch(), looks, after=600) == [
        "not ready after 600 s (ready_timeout = 600): spark-1 loading; spark-2 healthy -> "
        "--data ready_timeout=1200 if it only loads slowly"
    ]


@pytest.mark.parametrize(
    ("phases", "meet"),
    [
        pytest.param((MEETING, MEETING), False, id="both-wait"),
        pytest.param((MEETING, "loading weights"), True, id="one-loads"),
        pytest.param((MEETING,), True, id="alone"),
    ],
)
def test_ranks_that_never_met_are_sent_to_the_check_of_the_fabric(
    phases: tuple[str, ...], meet: bool
) -> None:
    looks = [replace(one, phase=at) for one, at in zip(BOTH, phases, strict=False)]
    (finding,) = failures(watch(), looks, after=600)
    assert (
        "-> the ranks did not meet: pyinfra -y INVENTORY deploys/check.py" in finding
    ) is not meet
    assert "--data ready_timeout=1200 if it only loads slowly" in finding


def test_an_ended_rank_is_reported_before_a_timeout() -> None:
    assert "has ended" in failures(watch(), [look(status="exited", exit_code=1)], after=9999)[0]


# ---- how a rank health reads

LOOKS: list[Any] = [
    pytest.param(look(health=200), "spark-1 healthy", True, id="healthy"),
    pytest.param(look(health=503), "spark-1 loading", False, id="loading"),
    pytest.param(look(health=0), "spark-1 loading", False, id="silent"),
    pytest.param(gone(), "spark-1 gone", False, id="gone"),
    pytest.param(lost(), "spark-1 does not answer", False, id="lost"),
    pytest.param(look(status="exited", health=200), "spark-1 exited", False, id="foreign-200"),
    pytest.param(
        RankHealth("spark-1", Rank("x", "i", "running"), 0, "loading weights"),
        "spark-1 loading (loading weights)",
        False,
        id="phase",
    ),
]


@pytest.mark.parametrize(("health", "words", "healthy"), LOOKS)
def test_a_rank_health_is_described_in_words(health: RankHealth, words: str, healthy: bool) -> None:
    assert (str(health), health.healthy) == (words, healthy)


@pytest.mark.parametrize(
    ("timeout", "nodes", "seconds", "first"),
    [("auto", 1, 300, 1200), ("auto", 2, 600, 1500), ("auto", 32, 600, 1500), (45, 2, 45, 45)],
)
def test_limits_by_the_number_of_nodes_and_for_a_first_start(
    timeout: int | str, nodes: int, seconds: float, first: float
) -> None:
    assert ready_limits(timeout, nodes) == ReadyLimits(seconds)
    longer = ready_limits(timeout, nodes, first=True)
    assert (longer.ready, longer.note) == (first, " (its kernels are not compiled yet)")


STATES = st.one_of(
    st.builds(
        look,
        st.just("spark-1"),
        st.sampled_from([0, 200, 503]),
        status=st.sampled_from(["running", "created", "exited"]),
    ),
    st.builds(gone),
    st.builds(lost),
)


@profile(max_examples=80)
@given(st.lists(STATES, min_size=1, max_size=12))
def test_every_wait_ends(looks: list[RankHealth]) -> None:
    """Whatever was seen, standing still at the last look fails within the longest limit."""
    watched = watch()
    for second, healths in enumerate(looks):
        watched.failures([healths], 1000.0 + second)
    assert watched.failures([looks[-1]], 1000.0 + len(looks) + 601)


# ---- CUDA graphs

CAPTURING_WORDS = "[2026-11-26 20:05:33 TP0] Capture cuda graph bs [1, 2, 4]"


def captures(node: str = "spark-1", **more: Any) -> RankHealth:
    return replace(look(node), **({"phase": CAPTURING, "words": CAPTURING_WORDS} | more))


def two(**more: Any) -> list[RankHealth]:
    return [captures(**more), captures("spark-2", **more)]


def test_a_capture_without_progress_ends_the_wait_at_a_deadline_of_its_own() -> None:
    watched = watch(collectives=Collectives(nodes=2, graphs=True, cure="x"))
    assert failures(watched, two(), 100) == []
    assert failures(watched, two(), 399) == []
    (finding,) = failures(watched, two(), 400)
    assert "the capture of CUDA graphs has made no progress for 300 s" in finding
    assert "spark-1 loading (capturing CUDA graphs)" in finding
    assert "likely: its log names no NCCL" in finding
    assert "--data disable_cuda_graph=true" in finding
    assert "ready_timeout=1200" in finding


@pytest.mark.parametrize(
    "moves",
    [
        pytest.param({"progress": "1 of 3"}, id="the bar moves"),
        pytest.param({"words": "another line"}, id="the log moves"),
        pytest.param({"compiling": True}, id="a compiler runs"),
    ],
)
def test_a_capture_that_makes_progress_is_waited_for(moves: dict[str, Any]) -> None:
    watched = watch()
    failures(watched, two(), 100)
    assert failures(watched, [captures(), captures("spark-2", **moves)], 350) == []
    assert failures(watched, [captures(), captures("spark-2", **moves)], 450) == []


def test_a_capture_waits_for_a_rank_that_still_loads() -> None:
    watched = watch()
    for after in range(0, 590, 10):
        loads = replace(look("spark-2"), phase="loading weights", words=f"shard {after}")
        assert failures(watched, [captures(), loads], after) == []


def test_a_healthy_rank_whose_log_goes_on_hides_no_hang() -> None:
    watched = watch()
    for after in range(0, 300, 100):
        done = replace(look("spark-2", health=200), phase="ready", words=f"GET /health {after}")
        assert failures(watched, [captures(), done], after) == []
    assert "no progress for 300 s" in failures(watched, [captures(), done], 300)[0]


def test_a_longer_ready_timeout_grants_a_capture_more() -> None:
    assert ReadyLimits(ready=600).capture == 300
    assert ReadyLimits(ready=3600).capture == 1800


def test_an_nccl_that_hangs_ends_the_wait_before_it_does() -> None:
    watched = watch(collectives=Collectives(nodes=2, graphs=True, cure="--data variant=release"))
    looks = [replace(look(), nccl=("2.28.9",)), look("spark-2")]
    (finding,) = failures(watched, looks, 1)
    assert "NCCL 2.28.9 hangs over several nodes with CUDA graphs" in finding
    assert "-> --data variant=release" in finding
    eager = watch(collectives=Collectives(nodes=2, graphs=False, cure="x"))
    assert failures(eager, looks, 1) == []
    assert failures(watch(), looks, 1) == []
