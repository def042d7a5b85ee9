"""What each phase says to one node, for both runtimes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from samples import IMAGE_ID, ran, running, spark, sparks, specs_of

from cluster.plan.phases import Phases
from cluster.plan.plan import make_plan
from cluster.rank import docker, process
from cluster.rank.runtime import runtime_of

TWO = specs_of()
NEW = specs_of(mem_fraction=0.7)
LOCAL = specs_of(nodes=1, model="smollm2", runtime="process")


def test_the_setting_names_the_runtime() -> None:
    assert runtime_of("docker") is docker
    assert runtime_of("process") is process


def test_the_head_stops_before_its_workers() -> None:
    plan = make_plan(NEW, running(TWO), "running", rollback=False)
    first = {n: Phases(docker, plan, 30).stop_head(n) for n in TWO}
    then = {n: Phases(docker, plan, 30).stop_workers(n) for n in TWO}
    assert {n: [c.argv[-1] for c in commands] for n, commands in first.items()} == {
        "spark-1": ["sglang-head"],
        "spark-2": [],
    }
    assert {n: [c.argv[-1] for c in commands] for n, commands in then.items()} == {
        "spark-1": [],
        "spark-2": ["sglang-worker-1"],
    }


def test_a_worker_without_its_head_is_not_waited_for() -> None:
    facts = running(TWO)
    facts["spark-1"] = replace(facts["spark-1"], ranks=())
    plan = make_plan(NEW, facts, "running", rollback=False)
    (command,) = Phases(docker, plan, 30).stop_workers("spark-2")
    assert command.argv[command.argv.index("-t") + 1] == "1"


def test_policies_go_before_anything_stops_on_every_rank() -> None:
    plan = make_plan(NEW, running(TWO), "running", rollback=False)
    assert Phases(docker, plan, 30).release("spark-1") == [docker.release("sglang-head")]
    assert Phases(docker, plan, 30).release("spark-2") == [docker.release("sglang-worker-1")]


def test_replace_removes_before_it_creates_and_starts_nothing() -> None:
    plan = make_plan(NEW, running(TWO), "running", rollback=False)
    commands = Phases(docker, plan, 30).create_containers("spark-1")
    assert commands == [
        docker.remove("sglang-head"),
        docker.create(NEW["spark-1"], image_id=IMAGE_ID),
    ]
    assert not any("start" in command.argv for command in commands)


def test_the_stop_timeout_is_the_setting() -> None:
    plan = make_plan(NEW, running(TWO), "running", rollback=False)
    (command,) = Phases(docker, plan, 7).stop_head("spark-1")
    assert command.argv[-3:] == ("-t", "7", "sglang-head")


def test_a_node_without_a_part_in_the_plan_is_left_alone() -> None:
    plan = make_plan(NEW, running(TWO), "running", rollback=False)
    phases = Phases(docker, plan, 30)
    for phase in (phases.release, phases.create_containers, phases.keep):
        assert phase("spark-9") == []


def test_a_process_has_no_creating_and_no_policies() -> None:
    facts = sparks(1)
    plan = make_plan(LOCAL, facts, "running")
    assert plan.restart
    assert Phases(process, plan, 30).create_containers("spark-1") == []
    assert Phases(process, plan, 30).release("spark-1") == []


def test_a_drifted_process_is_stopped() -> None:
    (old,) = LOCAL.values()
    rank = ran(old, id="4242", image_id="", restart_policy="")
    facts = {"spark-1": replace(spark(0), ranks=(rank,), image=None)}
    changed = specs_of(nodes=1, model="smollm2", runtime="process", port=30001)
    plan = make_plan(changed, facts, "running")
    assert Phases(process, plan, 5).stop_head("spark-1") == [process.stop(rank, 5)]
    # Its log is written anew: what to put back is known from its arguments.
    assert Phases(process, plan, 30).create_containers("spark-1") == []
    assert Phases(process, plan, 30).remove_previous("spark-1") == []


def test_a_converged_process_is_left_alone() -> None:
    (spec,) = LOCAL.values()
    rank = ran(spec, id="4242", image_id="", restart_policy="")
    plan = make_plan(LOCAL, {"spark-1": replace(spark(0), ranks=(rank,), image=None)}, "running")
    assert not plan.changes


@pytest.mark.parametrize("state", ["stopped", "absent"])
def test_stopping_or_removing_a_process(state: str) -> None:
    (spec,) = LOCAL.values()
    rank = ran(spec, id="4242", image_id="", restart_policy="")
    plan = make_plan({}, {"spark-1": replace(spark(0), ranks=(rank,))}, state)
    assert Phases(process, plan, 5).stop_head("spark-1") == [process.stop(rank, 5)]
    gone = [process.remove("sglang-head")] if state == "absent" else []
    assert Phases(process, plan, 30).create_containers("spark-1") == gone
