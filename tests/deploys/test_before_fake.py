"""The group before a switch is asked where its own head is, as its own labels tell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fake_host import FakeHost, Reply
from fakes import Fakes

from cluster.engine.argv import Launch
from cluster.node.readings import Rank
from cluster.plan.decide import Decision, Readings
from cluster.plan.plan import Plan
from cluster.plan.previous_group import PreviousGroup
from cluster.rank import docker
from cluster.rank.spec import Spec
from control.deployment import Deployment
from control.steps import build_switch

KEYED = ("/var/lib/spark-serving/sglang:/run/secrets/spark-serving-api:ro",)


class FakeDeclaration:
    """What is declared: nothing is to run, and the head is the other node now, on another port."""

    def __init__(self, **settings: Any) -> None:
        self.head = "spark-2"
        usual = {
            "runtime": "docker",
            "stop_timeout": 30,
            "ready_timeout": "auto",
            "state": "stopped",
        }
        self.common = type("FakeSettings", (), {**usual, "drop_caches": False, **settings})


def rank(number: int, volumes: tuple[str, ...] = ()) -> Spec:
    launch = Launch("m", served_model_name="old", nnodes=2, rank=number, port=31000)
    env = {"SGLANG_HOST_IP": f"192.168.100.1{number}"}
    name = "sglang-head" if number == 0 else "sglang-worker-1"
    return Spec(
        rank=number, name=name, runtime="docker", model="m", launch=launch, env=env, volumes=volumes
    )


def question_to_previous(specs: dict[str, Spec], **settings: Any) -> tuple[str, str, str]:
    """Which node is asked what the group before serves, the script, and what comes on stdin."""
    questions = list[tuple[str, str, str]]()

    def reply_of(node: str) -> Reply:
        def reply(script: str, stdin: str) -> list[str]:
            questions.append((node, script, stdin))
            raise OSError("nobody is there")

        return reply

    hosts: Any = {node: FakeHost(node, reply_of(node)) for node in ("spark-2", "spark-1")}
    ranks = {n: Rank(s.name, n, "running", label=s.dump()) for n, s in specs.items()}
    plan = Plan((), restart=True, policies={}, previous=PreviousGroup(ranks, specs))
    declaration: Any = FakeDeclaration(**settings)
    model: Any = None
    deployment = Deployment(hosts, {}, Decision(declaration, model, Readings(), {}, plan=plan))
    switch = build_switch(deployment)
    assert switch is not None and switch.previous is not None
    assert switch.previous.runtime is docker
    assert not all(reply.status for reply in switch.previous.fetch_answers().health)
    return questions[0]


def test_the_previous_head_is_queried_after_a_move() -> None:
    specs = {"spark-1": rank(0), "spark-2": rank(1)}
    node, script, _ = question_to_previous(specs, api_key_file="")
    assert node == "spark-1"
    assert "http://127.0.0.1:31000/health" in script
    assert "http://192.168.100.11:31000/health" in script


def test_a_key_that_is_no_longer_declared() -> None:
    specs = {"spark-1": rank(0, KEYED), "spark-2": rank(1)}
    assert question_to_previous(specs, api_key_file="")[2] == ""


def test_a_key_that_the_group_before_did_not_have(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("k" * 32)
    key.chmod(0o600)
    keyless = {"spark-1": rank(0), "spark-2": rank(1)}
    assert question_to_previous(keyless, api_key_file=str(key))[2] == ""
    keyed = {"spark-1": rank(0, KEYED), "spark-2": rank(1)}
    assert question_to_previous(keyed, api_key_file=str(key))[2] == "k" * 32 + "\n"


def test_a_limit_serving_from_half_of_a_running_group(tmp_path: Path) -> None:
    """head_only needs the head alone; the group that it ends has a rank where nobody looks."""
    sparks = Fakes.of(tmp_path)
    sparks.run_ranks()
    head, worker = (spark.name for spark in sparks.sparks)
    alone = ("--data", "head_only=true", "--data", "model=gpt-oss-20b")
    run = sparks.deploy("--limit", head, *alone)
    assert run.code == 1, run.text
    assert f"--limit leaves out {worker}, where ranks of the same group run" in run.text
    assert run.changes == {}
    sparks.sparks[1].container = None
    run = sparks.deploy("--limit", head, *alone, "--dry", yes=False)
    assert run.code == 0, run.text
