"""One decision: what status shows is what a deploy plans; readings are merged by construction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from samples import OTHER_IMAGE_ID, VERSION, ran, running, spark, sparks, specs_of, want

from cluster.catalog.models import find_model
from cluster.node.readings import ImageReading, NodeFacts, Rank
from cluster.plan.decide import NO_PLAN, Decision, Readings, assumed_version, decide
from cluster.rank.spec import Spec
from control.status import Survey, status_document

TWO = specs_of()
HEAD, WORKER = TWO["spark-1"], TWO["spark-2"]
OLD = specs_of(model="qwen72b")
OFF = {"restart_policy": "no"}


def facts_of(head: tuple[Rank, ...], worker: tuple[Rank, ...], **more: Any) -> dict[str, NodeFacts]:
    return {
        "spark-1": replace(spark(0), ranks=head, **more),
        "spark-2": replace(spark(1), ranks=worker, **more),
    }


def both(**how: Any) -> dict[str, NodeFacts]:
    """The declared ranks on both nodes, as `how` changes them."""
    return facts_of((ran(HEAD, **how),), (ran(WORKER, **how),))


def worker(*ranks: Rank) -> dict[str, NodeFacts]:
    """A head that runs as declared, and these ranks on the other node."""
    return facts_of((ran(HEAD),), ranks)


def set_aside(spec: Spec, **how: Any) -> Rank:
    """A rank that a switch has set aside."""
    return replace(ran(spec, **({"id": f"old-{spec.name}"} | how)), name=f"{spec.name}.previous")


def moved_tag() -> dict[str, NodeFacts]:
    image = ImageReading("lmsysorg/sglang:spark", OTHER_IMAGE_ID)
    return facts_of((ran(HEAD),), (ran(WORKER),), image=image)


# What the nodes have, the data that the inventory has beside the default, why it must restart.
CASES: list[Any] = [
    pytest.param(running(TWO), {}, "", id="converged"),
    pytest.param(sparks(), {}, "", id="nothing there"),
    pytest.param(worker(), {}, "", id="one missing"),
    pytest.param(worker(ran(WORKER, status="exited", exit_code=1)), {}, "", id="one exited"),
    pytest.param(
        worker(ran(WORKER, status="exited", exit_code=137, oom_killed=True)), {}, "", id="oom"
    ),
    pytest.param(worker(ran(WORKER, status="created")), {}, "", id="created"),
    pytest.param(worker(ran(WORKER, status="paused")), {}, "", id="paused"),
    pytest.param(running(TWO), {"mem_fraction": 0.7}, "", id="a setting changed"),
    pytest.param(running(TWO), {"model": "qwen72b"}, "", id="another model"),
    pytest.param(worker(ran(WORKER, image_id=OTHER_IMAGE_ID)), {}, "", id="another image's rank"),
    pytest.param(moved_tag(), {}, "", id="a moved tag"),
    pytest.param(worker(ran(WORKER, **OFF)), {}, "", id="a policy changed by hand"),
    pytest.param(worker(ran(replace(WORKER, name="old-worker"))), {}, "", id="a renamed rank"),
    pytest.param(running(TWO), {"head_only": True}, "", id="left by head_only"),
    pytest.param(
        worker(ran(WORKER), ran(replace(WORKER, name="old"), id="old", status="exited")),
        {},
        "",
        id="a stray that has ended",
    ),
    pytest.param(running(TWO), {}, "/health of rank 1 does not answer", id="a group that hangs"),
    pytest.param(running(TWO), {"state": "stopped"}, "", id="to be stopped"),
    pytest.param(both(status="exited", **OFF), {"state": "stopped"}, "", id="stopped"),
    pytest.param(both(status="exited"), {"state": "stopped"}, "", id="would come back"),
    pytest.param(running(TWO), {"state": "absent"}, "", id="to be absent"),
    pytest.param(sparks(), {"state": "absent"}, "", id="absent"),
    pytest.param(
        facts_of((set_aside(OLD["spark-1"]),), (set_aside(OLD["spark-2"]),)),
        {},
        "",
        id="a switch interrupted once it had renamed",
    ),
    pytest.param(
        facts_of(
            (set_aside(OLD["spark-1"]), ran(HEAD, status="created", **OFF)),
            (set_aside(OLD["spark-2"]),),
        ),
        {},
        "",
        id="a switch interrupted while it created",
    ),
    pytest.param(
        facts_of((set_aside(HEAD), ran(HEAD, status="created", **OFF)), (set_aside(WORKER),)),
        {},
        "",
        id="an interrupted switch of the declared group",
    ),
    pytest.param(
        facts_of(
            (set_aside(OLD["spark-1"]), ran(HEAD, **OFF)),
            (set_aside(OLD["spark-2"]), ran(WORKER, **OFF)),
        ),
        {},
        "",
        id="a switch that only lacks its end",
    ),
    pytest.param(
        worker(
            ran(WORKER), replace(ran(OLD["spark-2"], id="f"), name=f"{WORKER.name}.failed", **OFF)
        ),
        {},
        "",
        id="a failed rank kept for inspection",
    ),
]


def decided(facts: Mapping[str, NodeFacts], data: Mapping[str, Any], restart: str = "") -> Decision:
    declaration = want(**data)
    readings = Readings(facts, version=VERSION)
    return decide(declaration, find_model(declaration.common.model), readings, restart)


@pytest.mark.parametrize(("facts", "data", "restart"), CASES)
def test_the_drift_that_status_shows_is_the_plan_that_a_deploy_makes(
    facts: dict[str, NodeFacts], data: dict[str, Any], restart: str
) -> None:
    decision = decided(facts, data, restart)
    assert decision.refusal == ()
    hosts: Any = dict.fromkeys(facts)
    document = status_document(Survey(hosts, decision), "http://spark-1:30000")
    plan = decision.plan
    own = [s for s in plan.steps if s.spec or not decision.running]
    others = [s for s in plan.steps if s not in own]
    planned = [f"{step.node}: {reason}" for step in own for reason in step.reasons]
    planned += [f"{node}: restart policy -> {policy}" for node, policy in plan.policies.items()]
    strays = [f"{x.node}: {x.container} is no longer part of the group" for x in document.leftovers
              if x.kind == "stray"]  # fmt: skip
    assert sorted(document.drift) == sorted([*planned, *strays])
    # Whatever a deploy removes, or gives its name back, is in the document.
    containers = {(rank.node, rank.container) for rank in document.ranks}
    containers |= {(left.node, left.container) for left in document.leftovers}
    assert {(s.node, s.current.called) for s in others if s.current} <= containers
    assert {(node, rank.called) for node, rank in plan.renames.items()} <= containers
    # And nothing is shown of which the plan knows nothing.
    lines = list(plan.lines())
    assert bool(document.drift or document.leftovers) == bool(lines), lines


def test_a_moved_tag_is_judged_by_the_new_image() -> None:
    facts = moved_tag()
    declaration = want()
    model = find_model(declaration.common.model)
    unasked = decide(declaration, model, Readings(facts))
    assert (unasked.undecided_image, unasked.plan, unasked.refusal) == (True, NO_PLAN, ())
    assert assumed_version(declaration, Readings(facts)) == VERSION
    decision = decide(declaration, model, Readings(facts, version="0.5.23"))
    assert decision.version == "0.5.23"
    lines = list(decision.plan.lines())
    assert any("sglang: '0.5.3.post3' -> '0.5.23'" in line for line in lines), lines
    assert any("image id: " in line for line in lines), lines


def test_an_image_is_not_queried_if_a_rank_was_created_from_it_or_the_version_is_declared() -> None:
    model = find_model("gpt-oss-120b")
    assert not decide(want(), model, Readings(running(TWO))).undecided_image
    declared = decide(want(sglang_version="0.5.23"), model, Readings(moved_tag()))
    assert (declared.undecided_image, declared.version) == (False, "0.5.23")


def test_a_silent_node_leaves_no_plan_and_says_which() -> None:
    facts = running(TWO)
    del facts["spark-2"]
    readings = Readings(facts, silent={"spark-2": "no route to host"})
    decision = decide(want(), find_model("gpt-oss-120b"), readings)
    assert decision.plan is NO_PLAN
    assert [f.what for f in decision.refusal] == ["spark-2 could not be read"]


def test_an_impossible_plan_is_reported_not_raised() -> None:
    decision = decided(facts_of((Rank("sglang-head", "x", "running"),), ()), {})
    (finding,) = decision.refusal
    assert "is not ours" in finding.what
    assert decision.plan is NO_PLAN
    # What was decided before is kept: the checks look at it.
    assert decision.fabric.transport == "rdma"
    assert list(decision.specs) == ["spark-1", "spark-2"]


def test_a_full_reading_replaces_the_light_one() -> None:
    light = Readings(running(TWO), version=VERSION)
    later = replace(spark(1), ranks=(ran(WORKER, status="exited", exit_code=1),))
    readings = light.updated({"spark-2": later})
    assert readings.nodes["spark-2"] is later
    assert readings.nodes["spark-1"] is light.nodes["spark-1"]
    assert readings.full == {"spark-2"}
    assert light.full == frozenset()
    assert readings.version == VERSION


def test_running_ranks_are_those_of_the_group_whatever_is_declared() -> None:
    facts = worker(ran(OLD["spark-2"]))
    ranks = decided(facts, {}).running_ranks
    assert list(ranks) == ["spark-1", "spark-2"]
    assert [rank.spec for rank in ranks.values()] == [HEAD, OLD["spark-2"]]
    ended = worker(ran(WORKER, status="exited"))
    assert list(decided(ended, {}).running_ranks) == ["spark-1"]


def test_a_node_that_was_not_read_has_no_running_rank() -> None:
    facts = {"spark-1": running(TWO)["spark-1"]}
    assert list(decided(facts, {}).running_ranks) == ["spark-1"]


def test_a_decision_can_not_be_changed() -> None:
    decision = decided(running(TWO), {})
    with pytest.raises(AttributeError):
        decision.plan = NO_PLAN  # type: ignore[misc]
