"""Desired against actual, case by case; then any mixture of ranks on a model of a few nodes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings as profile, strategies as st
from samples import IMAGE_ID, OTHER_IMAGE_ID, node_name, ran, running, spark, sparks, specs_of
from world import World

from cluster.command import Command
from cluster.findings import Refused
from cluster.node.readings import Engine, ImageReading, NodeFacts, Rank
from cluster.plan.phases import Phases
from cluster.plan.plan import Plan, RankStep, find_split_group, make_plan
from cluster.plan.previous_group import members
from cluster.rank import docker
from cluster.rank.spec import Spec

TWO = specs_of()
HEAD, WORKER = TWO["spark-1"], TWO["spark-2"]


def facts_of(*ranks: Rank, node: int = 0, image: str | None = IMAGE_ID) -> NodeFacts:
    picture = ImageReading("lmsysorg/sglang:spark", image) if image else None
    return replace(spark(node), ranks=ranks, image=picture)


def pair(head: tuple[Rank, ...] | None = None, worker: tuple[Rank, ...] | None = None) -> Any:
    """Two nodes that run what they should, but for what is given."""
    return {
        "spark-1": facts_of(*((ran(HEAD),) if head is None else head)),
        "spark-2": facts_of(*((ran(WORKER),) if worker is None else worker), node=1),
    }


def recreated(plan: Plan) -> list[str]:
    return [step.name for step in plan.steps if step.recreate]


# ---- nothing to do


def test_a_converged_group_is_left_alone() -> None:
    plan = make_plan(TWO, running(TWO), "running")
    assert not plan.changes
    assert list(plan.lines()) == []
    for node in TWO:
        assert everything(plan, node) == []


def test_an_unread_image_is_not_a_reason_to_change() -> None:
    facts = {name: replace(f, image=None) for name, f in pair().items()}
    assert not make_plan(TWO, facts, "running").changes


def test_foreign_containers_are_not_a_reason_to_change() -> None:
    alien = Rank("sglang-of-somebody", "x", "running")
    assert not make_plan(TWO, pair(head=(ran(HEAD), alien)), "running").changes


def test_a_label_with_only_formatting_differences_is_equal() -> None:
    spaced = json.dumps(dict(reversed(json.loads(HEAD.dump()).items())), indent=1)
    assert not make_plan(TWO, pair(head=(ran(HEAD, label=spaced),)), "running").changes


# ---- the group is the unit

BOTH = ["sglang-head", "sglang-worker-1"]
# A rank that is kept with a group that serves is made anew with the next one.
ONE_WRONG: list[Any] = [
    pytest.param((), "is not there", ["sglang-worker-1"], id="missing"),
    pytest.param((ran(WORKER, status="exited", exit_code=1),), "is exited, exit code 1", [],
                 id="exited"),
    pytest.param((ran(WORKER, status="exited", exit_code=137, oom_killed=True),),
                 "is exited, exit code 137, killed for memory", [], id="out-of-memory"),
    pytest.param((ran(WORKER, status="exited", exit_code=137),), "is exited, exit code 137", [],
                 id="137-alone"),
    pytest.param((ran(WORKER, status="created"),), "is created", [], id="created"),
    pytest.param((ran(WORKER, status="restarting"),), "is restarting", [], id="restarting"),
    pytest.param((ran(WORKER, status="paused"),), "is paused", [], id="paused"),
    pytest.param((ran(WORKER, status="dead"),), "is dead", [], id="dead"),
    pytest.param((ran(WORKER, label=replace(WORKER, image="sgl:0").dump()),),
                 "image: 'sgl:0' -> 'lmsysorg/sglang:spark'", BOTH, id="drifted"),
    pytest.param((ran(WORKER, image_id=OTHER_IMAGE_ID),), "image id: cdcdcdcdcdcd -> abababababab",
                 BOTH, id="image-moved"),
]  # fmt: skip


@pytest.mark.parametrize(("ranks", "reason", "anew"), ONE_WRONG)
def test_one_wrong_rank_restarts_all_and_recreates_what_it_must(
    ranks: tuple[Rank, ...], reason: str, anew: list[str]
) -> None:
    plan = make_plan(TWO, pair(worker=ranks), "running")
    assert plan.restart
    assert recreated(plan) == anew
    assert list(plan.lines()) == [
        "spark-1 sglang-head: restarts with its group",
        f"spark-2 sglang-worker-1: {reason}",
    ]
    assert "docker stop" in " ".join(everything(plan, "spark-1"))


def test_all_reasons_of_a_rank_are_reported() -> None:
    old = replace(WORKER, ipc="host", gpus="")
    facts = pair(worker=(ran(WORKER, label=old.dump(), image_id=OTHER_IMAGE_ID),))
    assert [
        line.partition(": ")[2] for line in list(make_plan(TWO, facts, "running").lines())[1:]
    ] == [
        "gpus: '' -> 'all'",
        "ipc: 'host' -> 'private'",
        "image id: cdcdcdcdcdcd -> abababababab",
    ]


def test_a_first_deploy_creates_everything() -> None:
    plan = make_plan(TWO, sparks(), "running")
    assert recreated(plan) == ["sglang-head", "sglang-worker-1"]
    assert plan.restart
    for node, spec in TWO.items():
        assert Phases(docker, plan, 30).create_containers(node) == [
            docker.create(spec, image_id=IMAGE_ID)
        ]
        assert Phases(docker, plan, 30).stop_head(node) == []


def test_the_node_whose_docker_has_cdi_alone_gets_cdi_devices_and_no_drift() -> None:
    both, alone = Engine("28.5.2", ("cdi", "nvidia")), Engine("28.5.2", ("cdi", "runc"))
    facts = pair(head=(), worker=())
    facts["spark-1"] = replace(facts["spark-1"], engine=both)
    facts["spark-2"] = replace(facts["spark-2"], engine=alone)
    plan = make_plan(TWO, facts, "running")
    assert Phases(docker, plan, 30).create_containers("spark-1") == [
        docker.create(HEAD, image_id=IMAGE_ID)
    ]
    assert Phases(docker, plan, 30).create_containers("spark-2") == [
        docker.create(WORKER, cdi=True, image_id=IMAGE_ID)
    ]
    served = pair()
    served["spark-2"] = replace(served["spark-2"], engine=alone)
    assert not make_plan(TWO, served, "running").changes


def test_a_group_wide_reason_is_reported_once_at_the_head() -> None:
    plan = make_plan(TWO, pair(), "running", restart="/health of rank 1 does not answer")
    assert plan.restart
    assert recreated(plan) == []
    assert list(plan.lines()) == [
        "spark-1 sglang-head: /health of rank 1 does not answer",
        "spark-2 sglang-worker-1: restarts with its group",
    ]


# ---- restart policies


def test_a_policy_changed_by_hand_is_set_without_a_restart() -> None:
    plan = make_plan(TWO, pair(worker=(ran(WORKER, restart_policy="no"),)), "running")
    assert not plan.restart
    assert plan.changes
    assert list(plan.lines()) == ["spark-2: restart policy -> unless-stopped"]
    assert everything(plan, "spark-1") == []
    assert everything(plan, "spark-2") == [
        "timeout --kill-after=5 30 docker update --restart unless-stopped sglang-worker-1"
    ]


def test_policies_wait_where_the_group_restarts_anyway() -> None:
    plan = make_plan(TWO, pair(head=(ran(HEAD, restart_policy="no"),), worker=()), "running")
    assert plan.policies == {}
    assert Phases(docker, plan, 30).keep("spark-1") == []


def test_a_policy_that_is_off_is_not_turned_off_again() -> None:
    plan = make_plan(TWO, pair(head=(ran(HEAD, restart_policy="no"),), worker=()), "running")
    assert Phases(docker, plan, 30).release("spark-1") == []


# ---- strays


def test_a_renamed_rank_goes_and_the_new_one_comes() -> None:
    old = replace(WORKER, name="old-worker-1")
    plan = make_plan(TWO, pair(worker=(ran(old),)), "running")
    assert "spark-2 old-worker-1: is no longer part of the group" in list(plan.lines())
    assert everything(plan, "spark-2")[0].endswith(
        "docker rename old-worker-1 old-worker-1.previous"
    )
    assert everything(plan, "spark-2")[-1].endswith("docker rm --force old-worker-1.previous")


def test_head_only_removes_the_idle_worker() -> None:
    alone = specs_of(head_only=True)
    plan = make_plan(alone, pair(), "running")
    stray = plan.of("spark-2")[0]
    assert (stray.remove, stray.spec, stray.is_head) == (True, None, False)
    assert plan.restart


def test_a_stray_that_has_ended_goes_without_a_restart() -> None:
    old = ran(replace(WORKER, name="old"), status="exited", exit_code=0)
    plan = make_plan(TWO, pair(worker=(ran(WORKER), old)), "running")
    assert not plan.restart
    assert everything(plan, "spark-1") == []
    assert everything(plan, "spark-2")[-1].endswith("docker rm --force old")
    assert not any("sglang-worker-1" in words for words in everything(plan, "spark-2"))


def test_a_head_that_moved_to_the_other_node_is_stopped_as_a_head() -> None:
    swapped = {"spark-2": replace(HEAD), "spark-1": replace(WORKER)}
    plan = make_plan(swapped, pair(), "running")
    first = texts(Phases(docker, plan, 30).stop_head("spark-1"))
    assert [words.split()[-1] for words in first] == ["sglang-head.previous"]
    assert Phases(docker, plan, 30).stop_head("spark-2") == []


def test_a_head_that_keeps_its_name_as_a_worker_is_still_stopped_as_a_head() -> None:
    """What runs decides the stop order, not what it will become."""
    was_head = ran(replace(WORKER, rank=0, launch=replace(WORKER.launch, rank=0)))
    plan = make_plan(TWO, pair(worker=(was_head,)), "running")
    assert len(Phases(docker, plan, 30).stop_head("spark-2")) == 1


# ---- not ours


@pytest.mark.parametrize(
    ("node", "name", "setting"),
    [
        ("spark-1", "sglang-head", "head_container"),
        ("spark-2", "sglang-worker-1", "worker_container"),
    ],
)
def test_a_container_under_our_name_without_our_label_refuses(
    node: str, name: str, setting: str
) -> None:
    facts = pair()
    facts[node] = replace(facts[node], ranks=(Rank(name, "x", "running"),))
    with pytest.raises(Refused) as refused:
        make_plan(TWO, facts, "running")
    (finding,) = refused.value.findings
    assert str(finding) == (
        f"{node}: a container named {name} exists and is not ours (it lacks our label) -> "
        f"docker rename {name} {name}-old, or --data {setting}=another-name"
    )


@pytest.mark.parametrize(
    ("label", "why"),
    [
        pytest.param("", "its label names no group", id="empty"),
        pytest.param("{", "its label names no group", id="broken"),
        pytest.param("[1]", "its label names no group", id="a-list"),
        pytest.param('{"group":"blue"}', "it belongs to the group blue", id="another-group"),
    ],
)
def test_a_label_of_another_group_is_refused_with_the_reason(label: str, why: str) -> None:
    with pytest.raises(Refused, match=f"is not ours .{why}."):
        make_plan(TWO, pair(worker=(ran(WORKER, label=label),)), "running")


def test_another_group_on_the_same_nodes_is_left_alone() -> None:
    other = ran(replace(HEAD, name="blue-head", group="blue"))
    facts = pair(head=(ran(HEAD), other))
    assert not make_plan(TWO, facts, "running").changes
    for state in ("stopped", "absent"):
        assert not any("blue" in w for w in everything(make_plan({}, facts, state), "spark-1"))


@pytest.mark.parametrize("state", ["stopped", "absent"])
def test_stopping_spares_what_is_not_ours(state: str) -> None:
    facts = pair(head=(Rank("sglang-head", "x", "running"),), worker=())
    plan = make_plan({}, facts, state)
    assert not plan.changes
    assert everything(plan, "spark-1") == []


# ---- stopped, absent


def test_stopped() -> None:
    plan = make_plan({}, pair(), "stopped")
    assert list(plan.lines()) == [
        "spark-1 sglang-head: is running",
        "spark-2 sglang-worker-1: is running",
    ]
    assert not plan.restart
    name, bound = "sglang-head", "timeout --kill-after=5"
    assert everything(plan, "spark-1") == [
        f"{bound} 30 docker update --restart no {name}",
        f"{bound} 60 docker stop -t 30 {name}",
    ]


def test_absent_removes_the_containers() -> None:
    plan = make_plan({}, pair(), "absent")
    assert [words.split()[4] for words in everything(plan, "spark-2")] == ["update", "stop", "rm"]
    assert {line.partition(": ")[2] for line in plan.lines()} == {"is there"}


@pytest.mark.parametrize("state", ["stopped", "absent"])
def test_stopping_nothing_is_not_a_change(state: str) -> None:
    plan = make_plan({}, sparks(), state)
    assert not plan.changes


def test_stopping_what_has_stopped_is_no_change_and_keeps_it() -> None:
    facts = pair(*((ran(s, status="exited", restart_policy="no"),) for s in (HEAD, WORKER)))
    assert not make_plan({}, facts, "stopped").changes


def test_an_ended_rank_with_a_restart_policy_is_not_stopped() -> None:
    facts = pair(*((ran(s, status="exited", exit_code=0),) for s in (HEAD, WORKER)))
    plan = make_plan({}, facts, "stopped")
    assert [words.split()[4] for words in everything(plan, "spark-1")] == ["update"]


def test_removing_what_has_stopped_stops_nothing() -> None:
    facts = pair(*((ran(s, status="exited", restart_policy="no"),) for s in (HEAD, WORKER)))
    plan = make_plan({}, facts, "absent")
    assert [words.split()[4] for words in everything(plan, "spark-1")] == ["rm"]


def test_a_limit_that_would_leave_half_a_group_running_is_refused() -> None:
    facts = pair()
    plan = make_plan({}, {"spark-2": facts["spark-2"]}, "stopped")
    (split,) = find_split_group(plan, {"spark-1": facts["spark-1"]}, "sglang")
    assert str(split).startswith("--limit leaves out spark-1, where ranks of the same group run")


@pytest.mark.parametrize(
    ("here", "there"),
    [
        pytest.param("exited", "running", id="nothing-to-stop-here"),
        pytest.param("running", "exited", id="nothing-runs-there"),
    ],
)
def test_a_limit_that_splits_no_group_is_allowed(here: str, there: str) -> None:
    facts = pair((ran(HEAD, status=there),), (ran(WORKER, status=here),))
    plan = make_plan({}, {"spark-2": facts["spark-2"]}, "absent")
    assert not list(find_split_group(plan, {"spark-1": facts["spark-1"]}, "sglang"))
    assert not list(find_split_group(plan, {}, "sglang"))


# ---- a model of a few nodes


def texts(commands: list[Command]) -> list[str]:
    return [" ".join(command.bounded) for command in commands]


def everything(plan: Plan, node: str) -> list[str]:
    return texts(
        [
            *Phases(docker, plan, 30).set_aside(node),
            *Phases(docker, plan, 30).release(node),
            *Phases(docker, plan, 30).stop_head(node),
            *Phases(docker, plan, 30).stop_workers(node),
            *Phases(docker, plan, 30).create_containers(node),
            *Phases(docker, plan, 30).keep(node),
            *Phases(docker, plan, 30).remove_previous(node),
        ]
    )


STATUSES = ("running", "exited", "created", "restarting", "paused", "dead")
POLICIES = ("no", "unless-stopped", "always", "on-failure")
THREE = specs_of(nodes=3, model="qwen72b")
OLD = specs_of(nodes=3, model="qwen72b", mem_fraction=0.5)
LABELS = ("as-wanted", "old")
# Of strays: what names no group of ours is not ours to touch.
ODD = ("broken", "empty", "other-group")


@st.composite
def own_rank(draw: st.DrawFn, spec: Spec, name: str, labels: tuple[str, ...] = LABELS) -> Rank:
    label = draw(st.sampled_from(labels))
    old = replace(OLD[node_name(spec.rank)], name=name)
    text = {
        "as-wanted": replace(spec, name=name).dump(),
        "old": old.dump(),
        "broken": "{",
        "empty": "",
        "other-group": replace(old, group="blue").dump(),
    }[label]
    return ran(
        spec,
        label=text,
        status=draw(st.sampled_from(STATUSES)),
        restart_policy=draw(st.sampled_from(POLICIES)),
        image_id=draw(st.sampled_from((IMAGE_ID, OTHER_IMAGE_ID))),
    )


@st.composite
def worlds(draw: st.DrawFn) -> dict[str, NodeFacts]:
    """Three nodes: each rank there or not, right or wrong; strays; other people's containers."""
    facts = {}
    for rank, (node, spec) in enumerate(THREE.items()):
        ranks = [replace(Rank("somebodys", "x", "running"), restart_policy="always")]
        if draw(st.booleans()):
            ranks.append(draw(own_rank(spec, spec.name)))
        for name in draw(st.lists(st.sampled_from(["old-a", "old-b"]), unique=True, max_size=2)):
            was = THREE[node_name(draw(st.integers(0, 2)))]
            ranks.append(replace(draw(own_rank(was, name, LABELS + ODD)), name=name))
        facts[node] = facts_of(*ranks, node=rank, image=draw(st.sampled_from((IMAGE_ID, None))))
    return facts


def ours(facts: Mapping[str, NodeFacts]) -> set[tuple[str, str]]:
    return {(n, r.name) for n, f in facts.items() for r in members(f, "sglang")}


WISHES = st.sampled_from(["running", "running", "running", "hangs", "stopped", "absent"])


@profile(max_examples=75)
@given(worlds(), WISHES)
def test_after_the_orders_a_second_plan_is_empty(facts: dict[str, NodeFacts], wish: str) -> None:
    state = "running" if wish == "hangs" else wish
    specs = THREE if state == "running" else {}
    world, before = World(dict(facts)), ours(facts)
    plan = make_plan(specs, world.facts, state, restart="it hangs" if wish == "hangs" else "")
    world.carry_out(plan)
    assert {(n, name.removesuffix(".previous")) for n, name in world.touched} <= before
    assert all(Rank("somebodys", "x", "running", restart_policy="always") in f.ranks
               for f in world.facts.values())  # fmt: skip
    if state == "running" and plan.restart:
        alive = {n: [r for r in members(f, "sglang") if r.running]
                 for n, f in world.facts.items()}  # fmt: skip
        assert not any(alive.values()), "all are stopped before the first starts"
    world.start_and_keep(plan, specs)
    world.forget(plan)
    again = make_plan(specs, world.facts, state)
    assert not again.changes, list(again.lines())


@profile(max_examples=50)
@given(worlds(), WISHES)
def test_no_worker_is_stopped_before_a_head(facts: dict[str, NodeFacts], wish: str) -> None:
    state = "running" if wish == "hangs" else wish
    world = World(dict(facts))
    world.carry_out(make_plan(THREE if state == "running" else {}, facts, state))
    labels = {(n, r.name): r.label or "" for n, f in facts.items() for r in f.ranks}
    ended = [labels[node, name.removesuffix(".previous")] for node, name in world.stopped]
    heads = ['"rank":0' in label for label in ended if '"rank"' in label]
    assert heads == sorted(heads, reverse=True)


@profile(max_examples=40)
@given(worlds())
def test_a_correct_rank_is_not_recreated_unless_it_is_kept(
    facts: dict[str, NodeFacts],
) -> None:
    right = {
        (n, r.name) for n, f in facts.items() for r in f.ranks
        if r.label == THREE[n].dump() and (f.image is None or f.image.id == r.image_id)
    }  # fmt: skip
    plan = make_plan(THREE, facts, "running")
    right -= {(n, r.name) for n, r in plan.previous.ranks.items()} if plan.previous else set()
    assert not right & {(s.node, s.name) for s in plan.steps if s.recreate or s.remove}


def test_a_rank_that_does_not_exist_yet_is_the_head_by_its_spec() -> None:
    wanted = specs_of(2)
    actions = [RankStep(node, spec.name, None, spec) for node, spec in wanted.items()]
    assert [action.is_head for action in actions] == [True, False]
