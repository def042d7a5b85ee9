"""A group's ranks over hosts that are not there: what is run on them, and what is made of it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import gevent
import pytest
from fake_host import FakeHost, Reply, framed
from fakes import container
from samples import specs_of

from cluster.command import Command
from cluster.engine import readiness
from cluster.engine.nccl import Collectives
from cluster.engine.readiness import RankHealth, ReadyLimits
from cluster.engine.serving import EndpointReply, GroupAnswers
from cluster.findings import Finding, error, ok, warning
from cluster.node.readings import Rank
from cluster.plan.phases import ORPHAN_SECONDS
from cluster.rank import docker
from operations import group as groups, outcome
from operations.group import Group

HEAD, WORKER = "spark-1", "spark-2"
SPECS = specs_of(model="qwen7b", pipeline_parallel=2, tensor_parallel=1)
MODEL = next(iter(SPECS.values())).model
OK = EndpointReply(200, seconds=0.1)
COMPLETION = {"choices": [{"message": {"content": "Paris."}}], "usage": {"completion_tokens": 3}}
SERVED = GroupAnswers(
    (OK, OK),
    EndpointReply(200, json.dumps({"data": [{"id": MODEL}]})),
    EndpointReply(200, json.dumps(COMPLETION)),
)
DROP = Command(("drop-caches",), 5)


def make_group(reply: Reply = lambda script, stdin: framed(), **changes: Any) -> Group:
    hosts: Any = {node: FakeHost(node, reply) for node in SPECS}
    group = Group(
        hosts=hosts, specs=SPECS, runtime=docker, model=MODEL, url="http://127.0.0.1:30000",
        limits=ReadyLimits(60.0), stop_seconds=30, start=True, restarts={},
        fetch_answers=lambda: SERVED, rdma=False,
    )  # fmt: skip
    return replace(group, **changes)


def fake(group: Group, node: str) -> FakeHost:
    host: Any = group.hosts[node]
    return host


def log_of(group: Group) -> str:
    return "\n".join(line for node in group.nodes for line in fake(group, node).logged)


@pytest.fixture(autouse=True)
def record(monkeypatch: pytest.MonkeyPatch) -> Iterator[outcome.RunRecord]:
    """A run's record of its own."""
    record = outcome.RunRecord()
    monkeypatch.setattr(outcome, "record", record)
    yield record


# ---- start


def test_every_rank_is_started_after_the_command_before_it() -> None:
    group = make_group(before_start=DROP)
    assert groups.start_ranks(group) == ()
    for node, spec in SPECS.items():
        before, start = fake(group, node).scripts
        assert "drop-caches" in before
        assert f"docker start {spec.name}" in start
    assert log_of(group) == ""


def test_a_command_before_the_start_may_fail() -> None:
    def reply(script: str, stdin: str) -> list[str]:
        return framed("no such file", status=1) if "drop-caches" in script else framed()

    group = make_group(reply, before_start=DROP)
    assert groups.start_ranks(group) == ()
    assert "docker start" in fake(group, HEAD).scripts[-1]
    assert "the command before its start failed: no such file" in log_of(group)


def test_a_rank_that_can_not_be_started_names_its_node() -> None:
    def reply(script: str, stdin: str) -> list[str]:
        worker = SPECS[WORKER].name in script
        return framed("no space left on device", status=1) if worker else framed()

    (finding,) = groups.start_ranks(make_group(reply))
    assert finding.where == WORKER
    assert "could not be started" in finding.what


# ---- verify


def test_a_verified_model_is_logged_with_its_answer() -> None:
    group = make_group()
    assert groups.verify_model(group) == ()
    assert f"serving {MODEL} on 2 node(s); it answered in 0.10 s: 'Paris.'" in log_of(group)


def test_a_model_that_is_not_served_is_a_finding_and_no_success() -> None:
    broken = replace(SERVED, completion=EndpointReply(500))
    group = make_group(fetch_answers=lambda: broken)
    assert groups.verify_model(group) != ()
    assert "serving" not in log_of(group)


@pytest.mark.parametrize(
    ("log", "rdma", "warning"),
    [
        pytest.param((), True, "does not say whether NCCL runs over RDMA", id="silent"),
        pytest.param((), False, "", id="silent without RDMA"),
        pytest.param(
            ("spark-1:1:2 [0] NCCL INFO Using network Socket",),
            True,
            "NCCL runs over TCP",
            id="tcp",
        ),
        pytest.param(("spark-1:1:2 [0] NCCL INFO Using network IB",), True, "", id="rdma"),
    ],
)
def test_a_group_that_should_use_rdma_warns_unless_its_log_shows_it(
    log: tuple[str, ...], rdma: bool, warning: str
) -> None:
    group = make_group(fetch_answers=lambda: replace(SERVED, log=log), rdma=rdma)
    assert groups.verify_model(group) == ()
    assert ("warning: " in log_of(group)) is bool(warning)
    assert warning in log_of(group)


def test_another_key_is_accepted_only_for_the_previous_group() -> None:
    locked = GroupAnswers((OK, OK), EndpointReply(401), EndpointReply(0))
    group = make_group(fetch_answers=lambda: locked)
    assert groups.verify_model(group, locked=True) == ()
    assert "requires a different API key" in log_of(group)
    assert groups.verify_model(group) != ()


# ---- probe


def test_no_probe_is_sent_where_none_is_wanted() -> None:
    group = make_group()
    assert groups.probe_model(group) == ()
    assert log_of(group) == ""


def test_right_answers_are_logged_and_doubtful_ones_are_warnings() -> None:
    group = make_group(
        probe=lambda: (
            warning("91 apples", HEAD, key="probe-sums"),
            ok("arithmetic is right"),
            ok("probes: 7 right", key="probes"),
        )
    )
    assert groups.probe_model(group) == ()
    assert log_of(group) == "warning: spark-1: 91 apples\nprobes: 7 right"


def test_a_wrong_answer_is_why_the_group_must_not_serve() -> None:
    wrong = error("41 apples", HEAD, key="probe-sums")
    assert groups.probe_model(make_group(probe=lambda: (wrong, ok("probes", key="probes")))) == (
        wrong,
    )


def test_an_interrupt_ends_the_wait_for_answers() -> None:
    interrupt = error("interrupted by SIGINT", key="interrupted")

    def answer() -> tuple[Finding, ...]:
        gevent.sleep(60)
        return ()

    group = make_group(probe=answer, interrupted=lambda: interrupt)
    begun = time.monotonic()
    assert groups.probe_model(group) == (interrupt,)
    assert time.monotonic() - begun < 10


def test_what_goes_wrong_while_probing_is_not_taken_for_right_answers() -> None:
    def broken() -> tuple[Finding, ...]:
        raise ValueError("of another kind")

    with pytest.raises(ValueError, match="of another kind"):
        groups.probe_model(make_group(probe=broken))


# ---- wait


def look(
    node: str, status: str = "running", health: int = 200, more: tuple[str, ...] = ()
) -> list[str]:
    """What reading a node's rank prints."""
    name = SPECS[node].name
    rank = json.dumps(container(name, SPECS[node].dump(), status=status, code=1))
    lines = (f"node {node}", f"name {name}", rank, "asked", f"health {health} 0.01")
    return framed(*lines, *more, "log Load weight begin")


def looks(**each: list[str]) -> Callable[[str, str], list[str]]:
    """Replies to looks, by node: `spark_1=look("spark-1")`."""

    def reply(script: str, stdin: str) -> list[str]:
        node = HEAD if SPECS[HEAD].name in script else WORKER
        return each.get(node.replace("-", "_"), look(node))

    return reply


def test_the_wait_ends_when_every_rank_is_healthy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "PAUSE", 0.01)
    monkeypatch.setattr(readiness, "REPORT_SECONDS", 0.01)
    monkeypatch.setattr("time.sleep", gevent.sleep)  # as in pyinfra, whose threads are gevent's
    loading = [look(WORKER, health=503)] * 2

    def reply(script: str, stdin: str) -> list[str]:
        return loading.pop() if SPECS[WORKER].name in script and loading else looks()(script, stdin)

    group = make_group(reply, limits=ReadyLimits(60.0, note=" (why)"))
    assert groups.wait_until_ready(group) == ()
    assert not loading
    assert "every rank is healthy after" in log_of(group)
    assert "of 60 s (why): " in log_of(group)
    lines = len(fake(group, HEAD).logged)
    gevent.sleep(0.1)
    assert len(fake(group, HEAD).logged) == lines, "progress lines end with the wait"


def test_the_wait_ends_when_a_rank_has_ended() -> None:
    group = make_group(looks(spark_2=look(WORKER, status="exited")))
    (finding,) = groups.wait_until_ready(group)
    assert finding.where == WORKER
    assert "has ended" in finding.what


def test_the_wait_ends_at_an_nccl_that_hangs_though_all_are_healthy() -> None:
    told = "nccl spark-2:1:1 [0] NCCL INFO NCCL version 2.28.9+cuda13.0"
    group = make_group(looks(spark_2=look(WORKER, more=(told,))))
    assert groups.wait_until_ready(group) == ()
    assert "NCCL 2.28.9" in log_of(group)
    graphs = Collectives(nodes=2, graphs=True, cure="--data variant=release")
    (finding,) = groups.wait_until_ready(replace(group, collectives=graphs))
    assert finding.key == "nccl-hangs"
    eager = replace(group, collectives=replace(graphs, graphs=False))
    assert groups.wait_until_ready(eager) == ()
    assert "warning: NCCL 2.28.9 has hung" in log_of(eager)


def test_the_wait_ends_when_nobody_wants_it_any_longer() -> None:
    interrupt = error("interrupted by SIGINT", key="interrupted")
    group = make_group(looks(spark_2=look(WORKER, health=503)), interrupted=lambda: interrupt)
    assert groups.wait_until_ready(group) == (interrupt,)


def test_a_node_that_does_not_answer_is_lost_not_gone() -> None:
    def reply(script: str, stdin: str) -> list[str]:
        if SPECS[WORKER].name in script:
            raise OSError("no route to host")
        return look(HEAD)

    head, worker = groups.read_healths(make_group(reply))
    assert head.healthy
    assert (worker.node, worker.rank) == (WORKER, None)
    assert "no route to host" in worker.lost


# ---- keep and stop


def test_restart_policies_are_set_and_failures_name_their_node() -> None:
    def reply(script: str, stdin: str) -> list[str]:
        return framed("daemon is down", status=1) if SPECS[WORKER].name in script else framed()

    group = make_group(reply)
    groups.keep_ranks(group)
    for node, spec in SPECS.items():
        (script,) = fake(group, node).scripts
        assert f"--restart unless-stopped {spec.name}" in script
    assert fake(group, HEAD).logged == []
    (line,) = fake(group, WORKER).logged
    assert "would not survive a reboot" in line and "daemon is down" in line


@pytest.mark.parametrize(
    ("alive", "seconds"),
    [
        pytest.param((HEAD, WORKER), 30, id="a whole group"),
        pytest.param((WORKER,), ORPHAN_SECONDS, id="a worker that has lost its head"),
    ],
)
def test_ranks_are_stopped_head_first_policies_before(alive: tuple[str, ...], seconds: int) -> None:
    order = list[str]()

    def reply(script: str, stdin: str) -> list[str]:
        order.append(script)
        return framed()

    group = make_group(reply)
    ranks = {n: Rank(SPECS[n].name, f"id-{n}", "running", label=SPECS[n].dump()) for n in alive}
    groups.stop_ranks(group, ranks)
    assert len(order) == 2 * len(alive)
    for node, release, stop in zip(alive, order[::2], order[1::2], strict=True):
        assert f"--restart no {SPECS[node].name}" in release
        assert f"docker stop -t {seconds} {SPECS[node].name}" in stop


# ---- explain


@pytest.mark.parametrize(
    ("started", "earlier"),
    [pytest.param(True, False, id="by this run"), pytest.param(False, True, id="before it")],
)
def test_a_failure_is_explained_from_the_logs(
    record: outcome.RunRecord, started: bool, earlier: bool
) -> None:
    def reply(script: str, stdin: str) -> list[str]:
        if SPECS[WORKER].name in script:
            return framed("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB")
        return framed("loading")

    group = make_group(reply, start=started)
    ended = Rank(SPECS[WORKER].name, "w", "exited", exit_code=1)
    healths = {
        HEAD: RankHealth(HEAD, lost="no route to host"),
        WORKER: RankHealth(WORKER, ended),
    }
    groups.log_causes(group, healths)
    head, worker = ("\n".join(fake(group, node).logged) for node in SPECS)
    assert f"{HEAD}: does not answer (no route to host)" in head
    assert WORKER not in head
    assert "memory" in worker.splitlines()[0]
    assert f"{SPECS[WORKER].name} | torch.OutOfMemoryError" in worker
    assert f"{SPECS[HEAD].name} | loading" in head
    assert ("--since" not in fake(group, HEAD).scripts[0]) is earlier
    assert {finding.where for finding in record.findings} == {WORKER}


def test_current_container_names_replace_the_spec_names() -> None:
    group = make_group().called({WORKER: "w.previous"})
    assert {n: spec.name for n, spec in group.specs.items()} == {
        HEAD: SPECS[HEAD].name,
        WORKER: "w.previous",
    }
    assert group.renames
