"""A switch that is cut anywhere: what the next run finds, and that it ends in one whole group."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given, settings as profile, strategies as st
from samples import ran, running, spark, specs_of
from world import Killed, World

from cluster.node.readings import NodeFacts, Rank
from cluster.plan.plan import Plan, make_plan
from cluster.plan.previous_group import (
    PreviousGroup,
    find_previous_group,
    kept_name,
    undo_interrupted_switch,
)
from cluster.rank.spec import Spec, group_urls

Specs = dict[str, Spec]
Facts = dict[str, NodeFacts]
ALONE = specs_of(nodes=1)


@cache
def old(nodes: int) -> Specs:
    return specs_of(nodes=nodes, model="qwen7b", pipeline_parallel=nodes, tensor_parallel=1)


@cache
def new(nodes: int) -> Specs:
    return specs_of(nodes=nodes, model="qwen14b", pipeline_parallel=nodes, tensor_parallel=1)


def planned(facts: Facts, specs: Specs) -> tuple[Plan, Facts]:
    """As a deploy plans, interrupted switches and all."""
    view = undo_interrupted_switch(facts, specs, "sglang")
    return make_plan(specs, view, "running"), view


def switched(nodes: int, steps: int) -> World:
    """From old to new, cut after so many commands; whole where there are not so many."""
    world = World(running(old(nodes)), patience=steps)
    plan, view = planned(world.facts, new(nodes))
    assert plan.previous is not None
    try:
        world.switch(plan, new(nodes))
    except Killed:
        assert steps >= 0
    world.patience = -1
    assert view == running(old(nodes))
    return world


def steps_of(nodes: int) -> int:
    return switched(nodes, -1).commands_run


def names(facts: Facts) -> dict[str, list[str]]:
    return {node: sorted(r.name for r in facts.ranks) for node, facts in facts.items()}


def runs(facts: Facts) -> dict[str, str | None]:
    """Node → the label of the one rank that is there, and runs."""
    assert all(len(facts.ranks) == 1 and facts.ranks[0].running for facts in facts.values()), facts
    return {node: facts.ranks[0].label for node, facts in facts.items()}


def labels(specs: Specs) -> dict[str, str | None]:
    return {node: spec.dump() for node, spec in specs.items()}


CUTS = [
    pytest.param(nodes, steps, id=f"{nodes} nodes, {steps} commands")
    for nodes in (1, 2, 3)
    for steps in range(steps_of(nodes) + 1)
]


@pytest.mark.parametrize(("nodes", "steps"), CUTS)
def test_the_same_deploy_again_ends_with_the_new_group_alone(nodes: int, steps: int) -> None:
    world = switched(nodes, steps)
    plan, _ = planned(world.facts, new(nodes))
    world.switch(plan, new(nodes))
    assert runs(world.facts) == labels(new(nodes))
    assert names(world.facts) == {node: [spec.name] for node, spec in new(nodes).items()}
    assert not planned(world.facts, new(nodes))[0].changes


@pytest.mark.parametrize(("nodes", "steps"), CUTS)
def test_a_deploy_of_the_old_model_ends_with_the_old_group_alone(nodes: int, steps: int) -> None:
    world = switched(nodes, steps)
    untouched = all(r.running and r.id.startswith("id-of")
                    for facts in world.facts.values() for r in facts.ranks)  # fmt: skip
    plan, _ = planned(world.facts, old(nodes))
    assert plan.restart != untouched, "a group that still serves gets its name back, no more"
    world.switch(plan, old(nodes))
    assert runs(world.facts) == labels(old(nodes))
    assert not planned(world.facts, old(nodes))[0].changes


@pytest.mark.parametrize(("nodes", "steps"), CUTS)
def test_the_old_group_can_be_put_back_until_the_new_one_is_proven(nodes: int, steps: int) -> None:
    world = switched(nodes, steps)
    plan, view = planned(world.facts, new(nodes))
    proven = all(
        any(r.name == s.name and r.running and r.restart_policy != "no" and r.label == s.dump()
            for r in world.facts[n].ranks)
        for n, s in new(nodes).items()
    )  # fmt: skip
    if not proven:
        previous = find_previous_group(view, "sglang")
        assert plan.previous == previous
        assert previous is not None
        assert previous.specs == old(nodes)
        assert previous.model == "Qwen/Qwen2.5-7B-Instruct"


@profile(max_examples=75)
@given(st.data())
def test_repeatedly_cut_runs_still_end_in_one_group(data: st.DataObject) -> None:
    """Old and new wanted in any order, each run cut anywhere, and then one that is not."""
    nodes = data.draw(st.integers(1, 3))
    world = World(running(old(nodes)))
    for _ in range(data.draw(st.integers(1, 5))):
        specs = data.draw(st.sampled_from([old(nodes), new(nodes)]))
        world.patience = world.commands_run + data.draw(st.integers(0, 12 * nodes))
        try:
            world.switch(planned(world.facts, specs)[0], specs)
        except Killed:
            continue
    world.patience = -1
    last = data.draw(st.sampled_from([old(nodes), new(nodes)]))
    world.switch(planned(world.facts, last)[0], last)
    assert runs(world.facts) == labels(last)


def failed(nodes: int) -> Facts:
    """After a switch that was undone: the old group serves, the new one is kept, stopped."""
    facts = running(old(nodes))
    for node, spec in new(nodes).items():
        wreck = ran(spec, id="wreck", status="exited", restart_policy="no")
        wreck = replace(wreck, name=f"{spec.name}.failed")
        facts[node] = replace(facts[node], ranks=(*facts[node].ranks, wreck))
    return facts


def test_a_failed_group_is_removed_without_a_restart() -> None:
    plan, _ = planned(failed(2), old(2))
    assert plan.changes
    assert not plan.restart
    world = World(failed(2))
    world.switch(plan, old(2))
    assert runs(world.facts) == labels(old(2))
    assert "was kept for inspection after it had failed" in " ".join(plan.lines())


def test_a_failed_group_is_never_restored() -> None:
    plan, _ = planned(failed(2), new(2))
    assert plan.previous is not None
    assert plan.previous.specs == old(2)
    world = World(failed(2))
    world.switch(plan, new(2))
    assert runs(world.facts) == labels(new(2))


def one(*ranks: Rank) -> Facts:
    return {"spark-1": replace(spark(0), ranks=ranks)}


@pytest.mark.parametrize(
    "facts",
    [
        pytest.param(one(), id="nothing is there"),
        pytest.param(one(ran(ALONE["spark-1"], label="{}")), id="a label of no spec"),
        pytest.param(one(ran(ALONE["spark-1"], status="exited")), id="stopped"),
        pytest.param(one(ran(old(2)["spark-1"])), id="half a group"),
        pytest.param(one(Rank("sglang-head", "x", "running")), id="somebody else's"),
    ],
)
def test_a_group_that_does_not_serve_is_not_kept(facts: Facts) -> None:
    assert find_previous_group(facts, "sglang") is None


def test_a_group_of_which_a_rank_has_ended_is_kept_as_a_whole() -> None:
    facts = running(old(2))
    ended = replace(facts["spark-2"].ranks[0], status="exited", exit_code=137)
    facts["spark-2"] = replace(facts["spark-2"], ranks=(ended,))
    previous = find_previous_group(facts, "sglang")
    assert previous is not None
    assert list(previous.ranks) == ["spark-1", "spark-2"]


def test_rollback_can_be_turned_off() -> None:
    plan = make_plan(new(2), running(old(2)), "running", rollback=False)
    assert plan.previous is None


def test_restarted_containers_are_no_previous_group() -> None:
    plan = make_plan(old(2), running(old(2)), "running", restart="it hangs")
    assert plan.restart
    assert plan.previous is None


def test_a_group_that_shrinks_to_its_head_is_kept_on_both_nodes() -> None:
    alone = specs_of(head_only=True)
    plan, _ = planned(running(specs_of()), alone)
    assert plan.previous is not None
    assert list(plan.previous.ranks) == ["spark-1", "spark-2"]
    world = World(running(specs_of()))
    world.switch(plan, alone)
    assert names(world.facts) == {"spark-1": ["sglang-head"], "spark-2": []}


def test_ranks_of_another_group_are_neither_renamed_nor_kept() -> None:
    blue = replace(old(1)["spark-1"], group="blue", name="blue-head")
    facts = running(old(1))
    facts["spark-1"] = replace(facts["spark-1"], ranks=(*facts["spark-1"].ranks, ran(blue)))
    world = World(facts)
    world.switch(planned(facts, new(1))[0], new(1))
    assert names(world.facts) == {"spark-1": ["blue-head", "sglang-head"]}
    assert not [name for _, name in world.touched if name.startswith("blue")]


def test_where_a_group_serves_is_read_from_its_specs() -> None:
    assert group_urls(old(2)) == ["http://127.0.0.1:30000", "http://192.168.100.11:30000"]
    assert group_urls(specs_of(nodes=1, model="smollm2", runtime="process", host="127.0.0.1")) == [
        "http://127.0.0.1:30000"
    ]


def test_a_rank_set_aside_keeps_its_name() -> None:
    rank = ran(old(1)["spark-1"])
    assert kept_name(rank) == "sglang-head.previous"
    assert kept_name(replace(rank, container="sglang-head.previous")) == "sglang-head.previous"
    assert not PreviousGroup({}, {}).holds("spark-1", rank)


@pytest.mark.parametrize("count", [None, "2", 10**9, -1, 2.5, [1], True])
def test_a_container_with_an_odd_label_is_passed_over(count: object) -> None:
    """Whoever may create a container on a node can write one."""
    facts = running(old(2))
    label = json.loads(next(iter(old(2).values())).dump())
    label["launch"]["nnodes"] = count
    odd = Rank("sglang-odd", "7", "running", label=json.dumps(label))
    first = next(iter(facts))
    mixed = facts | {first: replace(facts[first], ranks=(odd, *facts[first].ranks))}
    assert find_previous_group(mixed, "sglang") == find_previous_group(facts, "sglang")
    assert find_previous_group({first: replace(facts[first], ranks=(odd,))}, "sglang") is None
