"""The whole deploy against real SGLang: two ranks on CPU, tensor parallel over the fabric.

Each test begins with a group that serves; the first waits for it, the others find it.
"""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from clusterctl import Tool
from conftest import MODEL, START_SECONDS
from deploying import HEAD, WORKER, Deploy, lives, rank, serves, states
from sparks import Cluster

STOP_SECONDS = 30
pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(2 * START_SECONDS)]


def test_a_deploy_serves_real_sglang_over_two_nodes(serving: Cluster) -> None:
    info = serving.http("/server_info", timeout=30).json
    assert "stub" not in info
    assert (info["version"], info["tp_size"], info["nnodes"]) == ("0.5.23", 2, 2)
    assert (info["served_model_name"], info["model_path"]) == (MODEL, "/opt/sglang/model")
    assert info["dist_init_addr"] == "169.254.1.1:50000"


@pytest.mark.parametrize(
    ("node", "name", "ready"),
    [
        pytest.param(1, HEAD, "The server is fired up and ready to roll!", id="head"),
        pytest.param(2, WORKER, "Dummy health check server started", id="worker"),
    ],
)
def test_each_node_loads_its_half(serving: Cluster, node: int, name: str, ready: str) -> None:
    log = serving.node(node).logs(name)
    assert "STUB" not in log
    assert re.search(rf" TP{node - 1}\] Load weight end.* type=Qwen2ForCausalLM", log), log[-3000:]
    assert ready in log


def test_it_answers_with_tokens(serving: Cluster) -> None:
    question = [{"role": "user", "content": "Hello!"}]
    body = {"model": MODEL, "messages": question, "max_tokens": 8, "ignore_eos": True}
    answer = serving.http("/v1/chat/completions", body, timeout=60)
    assert answer.status == 200, answer.body
    assert answer.json["usage"]["completion_tokens"] == 8


def test_a_second_run_changes_nothing(serving: Cluster, deploy: Deploy) -> None:
    before = lives(serving)
    deploy.unchanged()
    assert lives(serving) == before


def test_verify_queries_every_endpoint(serving: Cluster, deploy: Deploy) -> None:
    output = deploy.succeeds(program="deploys/verify.py")
    assert re.search(r"200 .*/v1/chat/completions", output), output


def test_status_shows_the_load_from_the_servers_own_metrics(
    serving: Cluster, deploy: Deploy
) -> None:
    tool, speed = Tool(deploy), None
    question = [{"role": "user", "content": "Hello!"}]
    body = {"model": MODEL, "messages": question, "max_tokens": 900, "ignore_eos": True}
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(serving.http, "/v1/chat/completions", body, timeout=300)
        while not speed and not answer.done():
            document, _ = tool.document("status")
            speed = document["load"]["tokens_per_second"]
        assert answer.result().status == 200, answer.result().body
    assert speed, document
    assert document["load"]["running"] == 1
    assert (document["ok"], document["state"], document["served"]) == (True, "ready", [MODEL])
    assert [r["health"] for r in document["ranks"]] == [200, 200]


def test_logs_and_doctor_read_both_ranks(serving: Cluster, deploy: Deploy) -> None:
    tool = Tool(deploy)
    lines = tool("logs", "--tail", "1000").stdout.splitlines()
    assert [ln for ln in lines if ln.startswith("0 spark-01") and " TP0] Load weight end" in ln]
    assert [ln for ln in lines if ln.startswith("1 spark-02") and " TP1] Load weight end" in ln]
    document, _ = tool.document("doctor")
    assert [a for a in document["ailments"] if a["level"] == "error"] == []
    assert (document["ok"], document["state"]) == (True, "ready")
    assert "2 of 2 ranks answer /health" in document["looked"]


def test_a_crashed_scheduler_brings_the_group_back_without_a_deploy(serving: Cluster) -> None:
    """Both ranks end, and their restart policies let them meet again."""
    scheduler = f"docker top {WORKER} -eo pid,args | awk '/scheduler_TP1/ {{print $1}}'"
    serving.node(2).run(f"kill -9 $({scheduler})")
    until = time.monotonic() + START_SECONDS
    while restarts(serving) != [1, 1] or serving.http("/health", timeout=30).status != 200:
        assert time.monotonic() < until, (restarts(serving), serving.node(1).logs(HEAD)[-3000:])
        time.sleep(1)
    assert serves(serving, MODEL)


def test_a_killed_worker_restarts_the_group(serving: Cluster, deploy: Deploy) -> None:
    before = lives(serving)
    serving.node(2).run(f"docker kill {WORKER}")
    output = deploy.succeeds(timeout=START_SECONDS)
    assert f"{WORKER}: is exited, exit code 137" in output, output
    assert "loading (ready)" not in output, "a word of the life before"
    assert serves(serving, MODEL)
    assert all(new[1] != old[1] for new, old in zip(lives(serving), before, strict=True))


def test_stopping_the_head_ends_its_workers(serving: Cluster, deploy: Deploy) -> None:
    begun = time.monotonic()
    deploy.succeeds(state="stopped")
    assert time.monotonic() - begun < STOP_SECONDS
    assert states(serving) == {HEAD: "exited", WORKER: "exited"}
    ended = [rank(serving, node)["State"] for node in (1, 2)]
    assert [end["ExitCode"] for end in ended] == [0, 0], "nobody was killed"
    assert ended[0]["FinishedAt"] < ended[1]["FinishedAt"], "the head came first"


def restarts(cluster: Cluster) -> list[int]:
    """How often Docker has restarted each rank by itself."""
    return [rank(cluster, node)["RestartCount"] for node in (1, 2)]
