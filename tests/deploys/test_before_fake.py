"""The group before a switch is asked where its own head is, as its own labels tell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fakes import Fakes

from cluster.engine.argv import Launch
from cluster.node.readings import Rank
from cluster.plan.decide import Decision, Readings
from cluster.plan.plan import Plan
from cluster.plan.previous_group import PreviousGroup
from cluster.rank import docker
from cluster.rank.spec import Spec
from control import switching
from control.deployment import Deployment
from operations import shell

KEYED = ("/var/lib/spark-serving/sglang:/run/secrets/spark-serving-api:ro",)


class FakeDeclaration:
    """What is declared: the head is the other node now, on another port."""

    def __init__(self, **settings: Any) -> None:
        self.head = "spark-2"
        usual = {"runtime": "docker", "stop_timeout": 30, "ready_timeout": "auto"}
        self.common = type("FakeSettings", (), {**usual, "drop_caches": False, **settings})


def rank(number: int, volumes: tuple[str, ...] = ()) -> Spec:
    launch = Launch("m", served_model_name="old", nnodes=2, rank=number, port=31000)
    env = {"SGLANG_HOST_IP": f"192.168.100.1{number}"}
    name = "sglang-head" if number == 0 else "sglang-worker-1"
    return Spec(
        rank=number, name=name, runtime="docker", model="m", launch=launch, env=env, volumes=volumes
    )


def asked_of(
    monkeypatch: pytest.MonkeyPatch, specs: dict[str, Spec], **settings: Any
) -> tuple[str, str, str]:
    """Which node gets the questions, the command, and what comes on its stdin."""
    asked = list[tuple[str, str, str]]()

    def run(host: Any, script: Any, seconds: int, stdin: str) -> shell.Output:
        asked.append((host, str(script), stdin))
        return shell.Output(ok=False, lost="nobody is there")

    monkeypatch.setattr(shell, "_run", run)
    hosts: Any = {"spark-2": "spark-2", "spark-1": "spark-1"}
    ranks = {n: Rank(s.name, n, "running", label=s.dump()) for n, s in specs.items()}
    plan = Plan((), restart=True, policies={}, previous=PreviousGroup(ranks, specs))
    declaration: Any = FakeDeclaration(**settings)
    model: Any = None
    deployment = Deployment(hosts, {}, Decision(declaration, model, Readings(), {}, plan=plan))
    group = switching._previous(deployment)
    assert group is not None
    assert group.runtime is docker
    assert not all(reply.status for reply in group.fetch_answers().health)
    return asked[0]


def test_the_head_has_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    node, words, _ = asked_of(
        monkeypatch, {"spark-1": rank(0), "spark-2": rank(1)}, api_key_file=""
    )
    assert node == "spark-1"
    assert "http://127.0.0.1:31000/health" in words
    assert "http://192.168.100.11:31000/health" in words


def test_a_key_that_is_no_longer_declared(monkeypatch: pytest.MonkeyPatch) -> None:
    specs = {"spark-1": rank(0, KEYED), "spark-2": rank(1)}
    assert asked_of(monkeypatch, specs, api_key_file="")[2] == ""


def test_a_key_that_the_group_before_did_not_have(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    key = tmp_path / "key"
    key.write_text("k" * 32)
    key.chmod(0o600)
    open_ = {"spark-1": rank(0), "spark-2": rank(1)}
    assert asked_of(monkeypatch, open_, api_key_file=str(key))[2] == ""
    keyed = {"spark-1": rank(0, KEYED), "spark-2": rank(1)}
    assert asked_of(monkeypatch, keyed, api_key_file=str(key))[2] == "k" * 32 + "\n"


def test_a_limit_that_would_serve_from_half_of_a_running_group(tmp_path: Path) -> None:
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
