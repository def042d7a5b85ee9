"""The stub engine behaves as SGLang was seen to, so that a deploy tested on it is tested at all."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from sparks import IMAGE, Cluster

NEWER = "lmsysorg/sglang:v0.5.23"
RDMA = {
    "NCCL_DEBUG": "INFO",
    "NCCL_IB_HCA": "rocep1s0f1,roceP2p1s0f1",
    "NCCL_SOCKET_IFNAME": "enp1s0f1np1",
    "GLOO_SOCKET_IFNAME": "enp1s0f1np1",
}


def start_rank(
    cluster: Cluster,
    rank: int,
    flags: str = "",
    nnodes: int = 2,
    image: str = IMAGE,
    options: str = "--device /dev/infiniband",
    **env: str,
) -> None:
    """`docker run` of one rank on node rank + 1, named "rank<rank>"."""
    settings = {**RDMA, "SGLANG_HOST_IP": f"169.254.{rank + 1}.1", **env}
    words = " ".join(f"-e {name}='{value}'" for name, value in settings.items() if value)
    cluster.node(rank + 1).run(
        f"docker run -d --name rank{rank} --gpus all --network host {options} {words} {image} "
        f"python3 -m sglang.launch_server --model-path stub/model --host 0.0.0.0 --port 30000 "
        f"--tp-size {nnodes} --nnodes {nnodes} --node-rank {rank} "
        f"--dist-init-addr 169.254.1.1:20000 {flags}"
    )


def start(cluster: Cluster, flags: str = "", **rest: Any) -> None:
    for rank in (0, 1):
        start_rank(cluster, rank, flags, **rest)


def wait(what: Callable[[], bool], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.1)


def healthy(cluster: Cluster, node: int = 1) -> bool:
    return cluster.http("/health", node=node).status == 200


def state(cluster: Cluster, rank: int) -> tuple[str, int]:
    (container,) = cluster.node(rank + 1).containers()
    return container["State"]["Status"], container["State"]["ExitCode"]


def logs(cluster: Cluster, rank: int) -> str:
    return cluster.node(rank + 1).logs(f"rank{rank}")


def test_two_ranks_serve_and_rank_1_only_reports_its_health(cluster: Cluster) -> None:
    start(cluster, STUB_WARMUP_SECONDS="1", HF_TOKEN="hf_secret")
    wait(lambda: cluster.http("/v1/models").status == 200)
    assert cluster.http("/health").status == 503
    assert healthy(cluster, node=2)
    wait(lambda: healthy(cluster))

    assert cluster.http("/v1/models").json["data"][0]["id"] == "stub/model"
    assert cluster.http("/v1/models", node=2).status == 404
    info = cluster.http("/get_server_info").json
    assert (info["stub"], info["version"], info["tp_size"]) == (True, "0.5.3.post3", 2)
    answer = cluster.http("/v1/chat/completions", {"model": "nope", "messages": []})
    assert (answer.status, answer.json["model"]) == (200, "nope")
    assert "NCCL INFO Using network IB" in logs(cluster, 1)
    assert "hf_secret" not in logs(cluster, 0) + logs(cluster, 1)


def test_a_stream_has_role_tokens_finish_usage_and_done(cluster: Cluster) -> None:
    start_rank(cluster, 0, nnodes=1)
    wait(lambda: healthy(cluster))
    query = {"stream": True, "stream_options": {"include_usage": True}, "max_tokens": 3}
    stream = cluster.http("/v1/chat/completions", {"messages": [], **query}).body
    events = [line.removeprefix("data: ") for line in stream.splitlines() if line]
    assert '"role": "assistant"' in events[0]
    assert '"finish_reason": "length"' in events[-3]
    assert '"completion_tokens": 3' in events[-2]
    assert events[-1] == "[DONE]"
    assert len(events) == 1 + 3 + 3


def test_stopping_the_worker_first_waits_and_stopping_the_head_ends_both(cluster: Cluster) -> None:
    start(cluster)
    wait(lambda: healthy(cluster) and healthy(cluster, node=2))
    cluster.node(2).run("docker kill -s TERM rank1")
    wait(lambda: not healthy(cluster, node=2))  # the older version closes its dummy server
    assert state(cluster, 1) == ("running", 0)
    assert healthy(cluster)

    cluster.node(1).run("docker stop rank0")
    wait(lambda: state(cluster, 1)[0] == "exited")
    # PID 1 can't kill itself: SGLang's SIGKILL does nothing, and its sys.exit(0) follows
    assert state(cluster, 0) == state(cluster, 1) == ("exited", 0)
    assert "Connection reset by peer" in logs(cluster, 1)


def test_a_newer_worker_logs_that_it_ignores_sigterm(cluster: Cluster) -> None:
    cluster.add_image("0.5.23", NEWER)
    start(cluster, image=NEWER, options="--init")
    wait(lambda: healthy(cluster) and healthy(cluster, node=2))
    cluster.node(2).run("docker kill -s TERM rank1")
    wait(lambda: "SIGTERM received on node_rank 1; waiting" in logs(cluster, 1))
    assert healthy(cluster, node=2)
    assert cluster.http("/ping", node=2).status == 200
    assert cluster.http("/server_info").json["version"] == "0.5.23"
    assert "NCCL INFO Using network Socket" in logs(cluster, 0)  # no /dev/infiniband

    cluster.node(2).run("docker kill rank1")
    wait(lambda: state(cluster, 0) == ("exited", 137))


def test_without_sglang_host_ip_both_ranks_freeze(cluster: Cluster) -> None:
    start(cluster, SGLANG_HOST_IP="")
    for rank in (0, 1):
        wait(lambda rank=rank: "Can not get local ip by remote" in logs(cluster, rank))
    time.sleep(1)
    assert cluster.http("/health").status == cluster.http("/health", node=2).status == 0
    assert "Load weight begin" not in logs(cluster, 0) + logs(cluster, 1)
    assert state(cluster, 1) == ("running", 0)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        pytest.param("--no-such-flag", "unrecognized arguments: --no-such-flag", id="unknown-flag"),
        pytest.param("--reasoning-parser nope", "invalid choice: 'nope'", id="bad-choice"),
        pytest.param("--attn-dp-size 1", "unrecognized arguments", id="flag-of-a-newer-version"),
    ],
)
def test_a_wrong_flag_is_exit_code_2(cluster: Cluster, flags: str, message: str) -> None:
    start_rank(cluster, 0, flags, nnodes=1)
    wait(lambda: state(cluster, 0) == ("exited", 2))
    assert message in logs(cluster, 0)


def test_a_lone_rank_gives_up_after_its_dist_timeout(cluster: Cluster) -> None:
    start_rank(cluster, 0, "--dist-timeout 1", options="--init")
    wait(lambda: state(cluster, 0) == ("exited", 137))
    assert "waiting for clients. 1/2 clients joined." in logs(cluster, 0)

    start_rank(cluster, 1, "--dist-timeout 1", options="--init")
    wait(lambda: state(cluster, 1) == ("exited", 137))
    assert "The client socket has timed out after 1000ms" in logs(cluster, 1)


@pytest.mark.parametrize(
    ("port", "message"),
    [
        pytest.param(20000, "EADDRINUSE", id="rendezvous"),
        pytest.param(30000, "[Errno 98] error while attempting to bind", id="http"),
    ],
)
def test_a_taken_port_ends_the_rank(cluster: Cluster, port: int, message: str) -> None:
    cluster.node(1).run(f"python3 -m http.server {port} >/dev/null 2>&1 & sleep 0.5")
    start(cluster)
    wait(lambda: state(cluster, 0)[0] == "exited")
    assert message in logs(cluster, 0)


def test_a_rank_that_dies_loading_takes_the_other_down(cluster: Cluster) -> None:
    start(cluster, options="--init", STUB_EXIT_RANK="1", STUB_EXIT_CAUSE="because")
    wait(lambda: state(cluster, 0) == state(cluster, 1) == ("exited", 137))
    assert "Scheduler hit an exception" in logs(cluster, 1)
    assert "because" in logs(cluster, 1)
    assert "Received sigquit from a child process" in logs(cluster, 0)


def test_a_link_that_is_down_shows_in_health_alone_and_heals(cluster: Cluster) -> None:
    start(cluster, SGLANG_HEALTH_CHECK_TIMEOUT="1")
    wait(lambda: healthy(cluster))
    cluster.link(2, "q1", "down")
    wait(lambda: cluster.http("/health").status == 503)
    assert cluster.http("/v1/models").status == 200
    cluster.link(2, "q1", "up")
    wait(lambda: healthy(cluster))


def test_container_faults_are_simulated(cluster: Cluster) -> None:
    start_rank(cluster, 0, "--api-key k", nnodes=1, STUB_SERVE_AS="a/b", STUB_COMPLETION_FAILS="1")
    wait(lambda: healthy(cluster))
    assert cluster.http("/v1/models").status == 401
    assert cluster.http("/v1/models", key="k").json["data"][0]["id"] == "a/b"
    assert cluster.http("/v1/completions", {"prompt": "a"}, key="k").status == 500


@pytest.mark.parametrize("token", ["", "hf_x"])
def test_a_gated_model_needs_its_token_file(cluster: Cluster, token: str) -> None:
    cluster.node(1).run(f"printf '{token}' > /run/hf_token")
    mount = "-v /run/hf_token:/run/hf_token:ro -e HF_TOKEN_PATH=/run/hf_token"
    start_rank(cluster, 0, nnodes=1, options=mount, STUB_GATED="401")
    if token:
        wait(lambda: healthy(cluster))
        assert "STUB token file: /run/hf_token: readable" in logs(cluster, 0)
    else:
        wait(lambda: state(cluster, 0) == ("exited", 1))
        assert "You are trying to access a gated repo." in logs(cluster, 0)
        assert "401 Client Error." in logs(cluster, 0)
