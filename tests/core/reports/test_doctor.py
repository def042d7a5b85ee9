"""What is wrong, from what was read: every line that the notes on engines name, every state."""

from __future__ import annotations

from dataclasses import replace

import pytest
from samples import ran, spark, specs_of

from cluster.engine.diagnosis import diagnose
from cluster.findings import error, ok, warning
from cluster.node.readings import DiskReading, Engine
from cluster.reports.doctor import (
    RankLogText,
    disk_problems,
    doctor_report,
    engine_problems,
    finding_problems,
    group_problems,
    leftover_problems,
    log_problems,
    unreachable_nodes,
    watchdog_problems,
)
from cluster.reports.status import LeaseHolder, Leftover, RankStatus, Status
from cluster.reports.watch import WatchdogStatus

SPEC = specs_of()["spark-1"]
HEAD = RankStatus(rank=0, node="spark-1", container="sglang-head", state="running", health=200)
WORKER = replace(HEAD, rank=1, node="spark-2", container="sglang-worker-1")
READY = Status(
    group="sglang",
    ok=True,
    ready=True,
    state="ready",
    declared="running",
    wanted="acme/m",
    served=("acme/m",),
    ranks=(HEAD, WORKER),
)
DOWN = replace(READY, ok=False, ready=False, state="degraded", served=())


def keys(findings):
    return [a.key for a in findings]


# Quoted from SGLang 0.5.23 and 0.5.3.post3, torch, NCCL, huggingface_hub and FlashInfer.
LINES = [
    ("Not enough memory. Please try to increase --mem-fraction-static.", "kv-too-small"),
    ("Capture cuda graph failed: x", "graph-oom"),
    ("1. set --mem-fraction-static to a smaller value (e.g., 0.8 or 0.7)", "graph-oom"),
    (
        "The memory capacity is unbalanced. Some GPUs may be occupied by other processes.",
        "gpu-shared",
    ),
    (
        "Received sigquit from a child process. It usually means the child failed.",
        "child-died",
    ),
    ("SIGQUIT received. signum=None. It usually means one child failed.", "child-died"),
    ("Scheduler or DataParallelController 18051 terminated with -9", "child-killed"),
    ("Initialization failed. Please see the error messages above.", "init-failed"),
    ("Initialization failed. warmup error: x", "init-failed"),
    (
        "Health check failed. Server couldn't get a response from detokenizer for last 20 seconds.",
        "hung",
    ),
    (
        "DistNetworkError: The server socket has failed to listen on any local network address. "
        "port: 50000, useIpv6: false, code: -98, name: EADDRINUSE",
        "rendezvous-port",
    ),
    (
        "[Errno 98] error while attempting to bind on address ('127.0.0.1', 31300): "
        "address already in use",
        "http-port",
    ),
    ("You are trying to access a gated repo.", "gated-token"),
    ("401 Client Error.", "gated-token"),
    ("403 Client Error.", "gated-licence"),
    ("We couldn't connect to 'https://huggingface.co' to load the files", "no-network"),
    ("HFValidationError: Repo id must be in the form 'a'", "no-such-model"),
    (
        "Connection reset by peer. This is typically caused by a remote worker hanging",
        "peer-gone",
    ),
    ("Watchdog caught collective operation timeout: WorkNCCL(x)", "nccl-timeout"),
    ("remote process exited or there was a network error", "peer-gone"),
    ("CUDART error: invalid resource handle", "fusion-bug"),
    ("CUDART error: invalid device context", "fusion-bug"),
    ("no kernel image is available for execution on the device", "sm121"),
    ("ptxas fatal: 'x' not supported on .target 'sm_121a'", "ptxas"),
    (
        "torch.distributed.DistStoreError: Timed out after 16 seconds waiting for clients. "
        "1/2 clients joined.",
        "waiting-for-ranks",
    ),
    (
        "torch.distributed.DistNetworkError: The client socket has timed out after 15000ms while "
        "trying to connect to (127.0.0.1, 31500).",
        "head-unreachable",
    ),
    ("Can not get local ip by remote", "wrong-address"),
    ("Bootstrap : no socket interface found", "no-interface"),
    ("Can not initialize OpenAIServingResponses, error: x", "tiktoken"),
    ("OpenAI Responses API (/v1/responses) disabled: x", "tiktoken"),
    ("HarmonyError error downloading or loading vocab file: failed", "tiktoken"),
    ("invalid tiktoken vocab file: No such file or directory", "tiktoken"),
    ("tp_size must be divisible by number of nodes", "divisible"),
    ("multi-node data parallel is not supported unless dp attention!", "data-parallel"),
    ("launch_server.py: error: unrecognized arguments: --nope", "bad-flags"),
    (
        "OutOfResources: out of resource: shared memory, Required: 108544, Hardware limit: 101376",
        "triton-shared-memory",
    ),
    ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.", "cuda-oom"),
]
HARMLESS = [
    "Ignore import error when loading sglang.srt.models.x: No module named 'x'",
    "Custom allreduce is disabled because this process group spans across nodes.",
    "Setup Custom allreduce failed with . To silence this warning, specify",
    "The server is fired up and ready to roll!",
    "Dummy health check server started in background thread at 0.0.0.0:30000",
    "sglang is using nccl==2.28.3",
    "Load weight begin. avail mem=101.00 GB",
]


@pytest.mark.parametrize(("line", "key"), [pytest.param(*x, id=x[1]) for x in LINES])
def test_every_known_line_is_understood(line, key):
    words = RankLogText("spark-2", ran(SPEC, status="exited", exit_code=0), [line])
    (finding,) = log_problems([words], ready=False, rdma=False)
    assert finding.key == key
    assert finding.cause and finding.cure and finding.evidence
    assert finding.where == f"spark-2 {SPEC.name}"


@pytest.mark.parametrize("line", [pytest.param(x, id=x.split(" ")[0]) for x in HARMLESS])
def test_lines_of_a_healthy_rank_are_not_symptoms(line):
    assert diagnose([line]) == ()


def test_a_consequence_is_a_warning_beside_its_cause():
    cause = RankLogText("spark-2", ran(SPEC, status="exited"), ["CUDA out of memory"])
    lost = RankLogText("spark-1", ran(SPEC, status="exited"), ["x: Connection reset by peer"])
    findings = list(log_problems([lost, cause], ready=False, rdma=False))
    assert [(a.key, a.level) for a in findings] == [("cuda-oom", "error"), ("peer-gone", "warning")]
    (alone,) = log_problems([lost], ready=False, rdma=False)
    assert alone.level == "error"


def test_a_consequence_is_left_out_next_to_its_cause():
    lines = ["CUDA out of memory", "Received sigquit from a child process."]
    words = RankLogText("spark-2", ran(SPEC, status="exited"), lines)
    assert keys(log_problems([words], ready=False, rdma=False)) == ["cuda-oom"]
    alone = replace(words, lines=lines[1:])
    assert keys(log_problems([alone], ready=False, rdma=False)) == ["child-died"]


def test_a_problem_a_serving_group_overcame_is_a_warning():
    words = RankLogText("spark-1", ran(SPEC, restarts=1), ["x: Connection reset by peer"])
    assert [(a.key, a.level) for a in log_problems([words], ready=True, rdma=False)] == [
        ("peer-gone", "warning")
    ]


def test_a_stopped_groups_lost_head_is_not_an_error():
    line = "SIGTERM received. signum=None frame=None. Draining requests and shutting down..."
    head = RankLogText("spark-1", ran(SPEC, status="exited"), [line])
    worker = RankLogText("spark-2", ran(SPEC, status="exited"), ["x: Connection reset by peer"])
    findings = {a.where: a.level for a in log_problems([head, worker], ready=False, rdma=False)}
    assert findings[f"spark-2 {SPEC.name}"] == "warning"
    alone = {a.where: a.level for a in log_problems([worker], ready=False, rdma=False)}
    assert alone == {f"spark-2 {SPEC.name}": "error"}


def test_nccl_over_tcp_is_an_error_where_rdma_was_chosen():
    line = "spark-1:1:2 [0] NCCL INFO Using network Socket"
    words = RankLogText("spark-1", ran(SPEC), transport=[line])
    (finding,) = log_problems([words], ready=True, rdma=True)
    assert (finding.key, finding.level, finding.evidence) == ("nccl-tcp", "error", line)
    assert list(log_problems([words], ready=True, rdma=False)) == []


def test_a_memory_kill_is_recognized_by_docker_not_by_137():
    killed = RankLogText("spark-1", ran(SPEC, status="exited", exit_code=137, oom_killed=True))
    (finding,) = log_problems([killed], ready=False, rdma=False)
    assert finding.key == "oom-killed"
    plain = replace(killed, rank=replace(killed.rank, oom_killed=False))
    (finding,) = log_problems([plain], ready=False, rdma=False)
    assert finding.key == "ended"


@pytest.mark.parametrize(
    ("status", "key", "level"),
    [
        pytest.param(
            replace(DOWN, ranks=(HEAD, replace(WORKER, state="exited", health=0))),
            *("half-group", "error"),
            id="half",
        ),
        pytest.param(
            replace(DOWN, ranks=(replace(HEAD, state="missing", health=0),) * 2),
            *("no-group", "error"),
            id="none",
        ),
        pytest.param(
            replace(DOWN, ranks=(HEAD, replace(WORKER, restarts=7, uptime=20))),
            *("restart-loop", "error"),
            id="loop",
        ),
        pytest.param(
            replace(DOWN, ranks=(HEAD, replace(WORKER, state="paused", health=0))),
            *("paused", "error"),
            id="paused",
        ),
        pytest.param(
            replace(DOWN, ranks=(replace(HEAD, health=0), WORKER)),
            *("unhealthy", "error"),
            id="hangs",
        ),
        pytest.param(
            replace(DOWN, state="starting", ranks=(replace(HEAD, health=503), WORKER)),
            *("starting", "warning"),
            id="starts",
        ),
        pytest.param(replace(DOWN, served=("other/m",)), "another-model", "error", id="model"),
        pytest.param(
            replace(READY, drift=("spark-1: tp: 1 -> 2",)), "drift", "warning", id="drift"
        ),
        pytest.param(
            replace(READY, holder=LeaseHolder(owner="eve@laptop", age=90, stale=True)),
            *("stale-lease", "warning"),
            id="lease",
        ),
    ],
)
def test_rank_states_become_a_finding(status, key, level):
    (finding,) = group_problems(status)
    assert (finding.key, finding.level) == (key, level)
    assert finding.cure


def test_drift_is_one_warning_a_node_that_names_every_field():
    drift = ("spark-1: tp: 1 -> 2", "spark-1: image: a -> b", "spark-2: tp: 1 -> 2")
    first, second = group_problems(replace(READY, drift=drift))
    assert (first.where, first.evidence) == ("spark-1", "tp: 1 -> 2; image: a -> b")
    assert (second.where, second.evidence) == ("spark-2", "tp: 1 -> 2")


def test_a_healthy_group_has_no_problems():
    assert list(group_problems(READY)) == []
    healed = replace(READY, ranks=(HEAD, replace(WORKER, restarts=7, uptime=86400)))
    assert list(group_problems(healed)) == []


@pytest.mark.parametrize(
    ("engine", "unread", "key"),
    [
        pytest.param(Engine(error="stopped", detail="d"), {"ranks": "x"}, "docker-stopped", id="1"),
        pytest.param(Engine(error="denied", detail="d"), {"ranks": "x"}, "docker-denied", id="2"),
        pytest.param(Engine(error="missing", detail="d"), {"ranks": "x"}, "docker-missing", id="3"),
        pytest.param(None, {"ranks": "no answer in time"}, "docker-silent", id="frozen"),
    ],
)
def test_a_container_engine_that_does_not_answer(engine, unread, key):
    (finding,) = engine_problems({"spark-1": spark(0, engine=engine, unread=unread)})
    assert (finding.key, finding.where) == (key, "spark-1")
    assert finding.evidence
    of_docker = error("the Docker daemon is not running", "spark-1", "x", key="docker-unusable")
    others = [
        replace(of_docker, where="spark-2"),
        error("Docker, by its words alone", "spark-1", key="other"),
    ]
    findings = finding_problems([of_docker, *others], [finding])
    assert [(p.where, p.cause) for p in findings] == [(f.where, f.what) for f in others]


def test_a_node_that_is_off_and_a_disk_that_fills():
    assert keys(unreachable_nodes({"spark-1": "timed out"})) == ["node-unreachable"]
    full = DiskReading("/", True, False, 10**12, 10**9)
    filling = DiskReading("/raid", True, True, 10**12, 4 * 10**10)
    fine = DiskReading("/data", True, True, 10**12, 10**11)
    findings = list(disk_problems({"spark-1": spark(0, disks=(full, filling, fine))}))
    assert [(a.level, a.cause) for a in findings] == [
        ("warning", "the disk under /raid is nearly full"),
        ("error", "the disk under / is nearly full"),
    ]


def test_a_kept_failed_rank_is_reported_with_its_last_log_lines():
    left = Leftover(node="spark-1", container="sglang-head.failed", state="exited", kind="failed")
    words = RankLogText("spark-1", replace(ran(SPEC), name="sglang-head.failed"), ["one", "two"])
    (finding,) = leftover_problems(replace(READY, leftovers=(left,)), [words])
    assert (finding.key, finding.evidence) == ("left-failed", "one / two")
    assert "docker logs sglang-head.failed" in finding.cure


def test_an_ongoing_switch_is_not_a_problem():
    left = Leftover(node="spark-1", container="h.previous", state="exited", kind="previous")
    status = replace(READY, leftovers=(left,))
    (cut,) = leftover_problems(status, [])
    assert cut.key == "left-previous"
    assert "continues the switch" in cut.cure
    busy = replace(status, holder=LeaseHolder(owner="eve@laptop", age=3))
    assert list(leftover_problems(busy, [])) == []


def test_a_report_with_only_warnings_is_ok():
    findings = list(finding_problems([ok("fine"), warning("hm", "spark-1", key="clock-off")], []))
    report = doctor_report(READY, [*findings, *findings], ("x",))
    assert (report.ok, keys(report.ailments)) == (True, ["clock-off"])
    report = doctor_report(
        READY, [*findings, *finding_problems([error("bad", "spark-2", "do", key="bad")], [])], ()
    )
    assert (report.ok, [a.level for a in report.ailments]) == (False, ["error", "warning"])


DOG = WatchdogStatus(duty="serving", age=3.0)


@pytest.mark.parametrize(
    ("dog", "health", "keys_"),
    [
        (DOG, 200, []),
        (replace(DOG, age=61.0), 200, [("watchdog-silent", "warning")]),
        (replace(DOG, duty="limit", why="no answer"), 0, [("watchdog-limit", "error")]),
        (
            replace(DOG, last="end", last_key="memory-floor", last_age=90.0),
            0,
            [("memory-floor", "error")],
        ),
        (
            replace(DOG, last="end", last_key="group-restart", last_age=90.0),
            200,
            [("group-restart", "warning")],
        ),
        (replace(DOG, duty="no address"), 0, [("watchdog-no-address", "error")]),
        (
            replace(DOG, last="start", last_key="docker-killed", last_age=90.0),
            200,
            [("docker-killed", "warning")],
        ),
        (replace(DOG, last="end", last_key="memory-floor", last_age=3600.0), 0, []),
        (replace(DOG, last="end", last_key="else", last_age=3.0), 0, []),
        (
            replace(DOG, last="end", last_key="memory-floor", last_failed="timed out"),
            0,
            [("watchdog-failed", "error")],
        ),
        # Rank 0's end in a restart of the group: it had ended by itself.
        (replace(DOG, last="end", last_failed="it does not run"), 200, []),
    ],
)
def test_what_watchdogs_did_and_could_not_do(
    dog: WatchdogStatus, health: int, keys_: list[tuple[str, str]]
) -> None:
    status = replace(READY, ranks=(replace(HEAD, watchdog=dog, health=health), WORKER))
    assert [(p.key, p.level) for p in watchdog_problems(status)] == keys_


def test_what_a_watchdog_could_not_do_is_not_reported_as_done() -> None:
    dog = replace(
        DOG, last="stop", last_key="memory-floor", last_why="low", last_failed="no Docker"
    )
    (problem,) = watchdog_problems(replace(READY, ranks=(replace(HEAD, watchdog=dog), WORKER)))
    assert problem.cause == "the watchdog tried to stop the rank, and could not"
    assert problem.evidence == "0 min ago: no Docker (low)"


def test_a_rank_stopped_for_memory_is_reported_as_such() -> None:
    dog = replace(DOG, last="stop", last_key="memory-floor", last_why="2 MB below", last_age=120.0)
    rank = replace(HEAD, watchdog=dog, state="exited", health=0)
    (problem,) = watchdog_problems(replace(DOWN, ranks=(rank,)))
    assert problem.cause.endswith("before the node froze, for the third time, and left it stopped")
    assert problem.evidence == "2 min ago: 2 MB below"
    assert "mem_fraction" in problem.cure
