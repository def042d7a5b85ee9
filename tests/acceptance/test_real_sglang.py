"""The whole deploy against real SGLang: two ranks on CPU, tensor parallel over the fabric."""

from __future__ import annotations

import re
import time

import pytest
from deploying import HEAD, WORKER, Deploy, lives, serves, states

MODEL = "tiny-qwen2"
# Two ranks on two cores that have other work too took 60 to 130 s.
READY = 650
pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(READY + 60)]


@pytest.fixture
def serving(deploy: Deploy) -> Deploy:
    """The deploy, with the group served whatever the test before left."""
    deploy.succeeds(timeout=READY)
    return deploy


def test_a_deploy_serves_real_sglang_on_two_nodes(serving: Deploy) -> None:
    cluster = serving.cluster
    info = cluster.http("/server_info", timeout=30).json
    assert (info["version"], info["tp_size"], info["nnodes"]) == ("0.5.23", 2, 2)
    assert (info["served_model_name"], info["model_path"]) == (MODEL, "/opt/sglang/model")
    assert info["dist_init_addr"] == "169.254.1.1:50000"
    assert "stub" not in info
    for number, name in ((1, HEAD), (2, WORKER)):
        log = cluster.node(number).logs(name)
        assert "STUB" not in log
        assert f"TP{number - 1}] Load weight end" in log, log[-3000:]


def test_it_answers_with_tokens(serving: Deploy) -> None:
    question = [{"role": "user", "content": "Hello!"}]
    body = {"model": MODEL, "messages": question, "max_tokens": 8, "ignore_eos": True}
    answer = serving.cluster.http("/v1/chat/completions", body, timeout=60)
    assert answer.status == 200, answer.body
    assert answer.json["usage"]["completion_tokens"] == 8


def test_a_second_run_changes_nothing(serving: Deploy) -> None:
    serving.unchanged(timeout=READY)


def test_verify_asks_every_endpoint(serving: Deploy) -> None:
    said = serving.succeeds(program="deploys/verify.py")
    assert re.search(r"200 .*/v1/chat/completions", said), said


def test_a_killed_worker_takes_the_group_through_a_restart(serving: Deploy) -> None:
    cluster = serving.cluster
    before = lives(cluster)
    cluster.node(2).run(f"docker update --restart no {WORKER}; docker kill {WORKER}")
    said = serving.succeeds(timeout=READY)
    after = lives(cluster)
    assert f"{WORKER}: is exited, exit code 137" in said, said
    assert serves(cluster, MODEL)
    assert [new != old for new, old in zip(after, before, strict=True)] == [True, True]


def test_stopped_ends_the_head_first_and_kills_nobody(serving: Deploy) -> None:
    cluster, begun = serving.cluster, time.monotonic()
    serving.succeeds(state="stopped")
    took = time.monotonic() - begun
    assert states(cluster) == {HEAD: "exited", WORKER: "exited"}
    assert ended(cluster, 1) < ended(cluster, 2)
    assert took < 30
