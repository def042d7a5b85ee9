"""Docker's command lines, each asserted whole."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
from samples import ran, specs_of

from cluster.rank import docker
from cluster.rank.spec import Spec

BEGIN = "timeout --kill-after=5 120 docker create --name {name} --label LABEL --network host "
SHARED = "--ipc private --shm-size 32g --gpus all "
LIMITS = "--ulimit memlock=-1 --ulimit stack=67108864 "
RDMA = "--device /dev/infiniband "
CACHE = "--volume /raid/hf-cache/hub:/root/.cache/huggingface/hub:ro "
TIKTOKEN = "--volume /home/me/tiktoken_encodings:/tiktoken_encodings:ro "
HF = "-e HF_HOME=/root/.cache/huggingface -e HF_HUB_OFFLINE=1 "
ALLOC = "-e PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True "
ENGINE = "lmsysorg/sglang:spark python3 -m sglang.launch_server "
GPT_OSS = (
    "--model-path openai/gpt-oss-120b --served-model-name openai/gpt-oss-120b "
    "--reasoning-parser gpt-oss --tool-call-parser gpt-oss "
)
QWEN = (
    "--model-path Qwen/Qwen2.5-72B-Instruct --served-model-name Qwen/Qwen2.5-72B-Instruct "
    "--tool-call-parser qwen25 "
)
LISTEN = "--host 0.0.0.0 --port 30000 --mem-fraction-static 0.85 --enable-metrics "
OVER_RDMA = (
    "-e NCCL_CUMEM_ENABLE=0 -e NCCL_DEBUG=INFO -e NCCL_IB_DISABLE=0 "
    "-e NCCL_IB_HCA=rocep1s0f1,roceP2p1s0f1 -e NCCL_IGNORE_CPU_AFFINITY=1 "
    "-e NCCL_SOCKET_IFNAME=enp1s0f1np1 "
)
OVER_TCP = (
    "-e NCCL_CUMEM_ENABLE=0 -e NCCL_DEBUG=INFO -e NCCL_IB_DISABLE=1 "
    "-e NCCL_IGNORE_CPU_AFFINITY=1 -e NCCL_SOCKET_IFNAME=enp1s0f1np1 "
)
GLOO = "-e GLOO_SOCKET_IFNAME=enp1s0f1np1 "
RDMA_DEVICES = "-e UCX_NET_DEVICES=rocep1s0f1:1,roceP2p1s0f1:1 "
MEET = "--nnodes 2 --node-rank {rank} --dist-init-addr 192.168.100.10:50000 "


def line(spec: Spec) -> str:
    """The whole line, its label shown as LABEL."""
    return shlex.join(docker.create(spec).bounded).replace(
        shlex.quote(f"{docker.LABEL}={spec.dump()}"), "LABEL"
    )


def gpt_oss_rdma(rank: int, name: str) -> str:
    return (
        BEGIN.format(name=name) + SHARED + LIMITS + RDMA + CACHE + TIKTOKEN + GLOO + HF + OVER_RDMA
        + ALLOC + f"-e SGLANG_HOST_IP=192.168.100.1{rank} "
        "-e TIKTOKEN_ENCODINGS_BASE=/tiktoken_encodings -e TP_SOCKET_IFNAME=enp1s0f1np1 "
        + RDMA_DEVICES + ENGINE + GPT_OSS + "--tp-size 2 --pp-size 1 " + MEET.format(rank=rank)
        + LISTEN + "--disable-cuda-graph --enable-dp-attention"
    )  # fmt: skip


def qwen_tcp(rank: int, name: str) -> str:
    return (
        BEGIN.format(name=name) + SHARED + LIMITS + CACHE + GLOO + HF + OVER_TCP + ALLOC
        + f"-e SGLANG_HOST_IP=192.168.100.1{rank} -e TP_SOCKET_IFNAME=enp1s0f1np1 "
        "-e UCX_NET_DEVICES=enp1s0f1np1 " + ENGINE + QWEN + "--tp-size 2 --pp-size 1 "
        + MEET.format(rank=rank) + LISTEN + "--disable-cuda-graph"
    )  # fmt: skip


ALONE = (
    BEGIN.format(name="sglang-head") + SHARED + LIMITS + CACHE + TIKTOKEN + HF
    + "-e NCCL_CUMEM_ENABLE=0 -e NCCL_DEBUG=INFO " + ALLOC
    + "-e TIKTOKEN_ENCODINGS_BASE=/tiktoken_encodings " + ENGINE + GPT_OSS
    + "--tp-size 1 --pp-size 1 " + LISTEN + "--enable-dp-attention"
)  # fmt: skip
QWEN_ALONE = (
    BEGIN.format(name="sglang-head") + SHARED + LIMITS + CACHE + HF
    + "-e NCCL_CUMEM_ENABLE=0 -e NCCL_DEBUG=INFO " + ALLOC + ENGINE + QWEN
    + "--tp-size 1 --pp-size 1 " + LISTEN.rstrip()
)  # fmt: skip

LINES: list[Any] = [
    pytest.param({}, 0, gpt_oss_rdma(0, "sglang-head"), id="gpt-oss-rdma-head"),
    pytest.param({}, 1, gpt_oss_rdma(1, "sglang-worker-1"), id="gpt-oss-rdma-worker"),
    pytest.param(
        {"model": "qwen72b", "rdma": "off"}, 0, qwen_tcp(0, "sglang-head"), id="qwen-tcp-head"
    ),
    pytest.param(
        {"model": "qwen72b", "rdma": "off"}, 1, qwen_tcp(1, "sglang-worker-1"), id="qwen-tcp-worker"
    ),
    pytest.param({"nodes": 1}, 0, ALONE, id="gpt-oss-alone"),
    pytest.param({"head_only": True}, 0, ALONE, id="gpt-oss-head-only"),
    pytest.param({"nodes": 1, "model": "qwen72b"}, 0, QWEN_ALONE, id="qwen-alone"),
    pytest.param(
        {"nodes": 1, "model": "qwen72b", "ipc": "host", "gpus": "none"},
        0,
        QWEN_ALONE.replace(SHARED, "--ipc host "),
        id="host-ipc-without-gpus",
    ),
    pytest.param(
        {"nodes": 1, "model": "qwen72b", "version": "0.5.23", "disable_cuda_graph": True},
        0,
        QWEN_ALONE + " --cuda-graph-backend-decode disabled --cuda-graph-backend-prefill disabled",
        id="newer-spelling",
    ),
    pytest.param(
        {"nodes": 1, "model": "qwen72b", "extra_args": ["--port", "1", "--log-level", "a b"]},
        0,
        QWEN_ALONE.replace("--port 30000 ", "") + " --port 1 --log-level 'a b'",
        id="extra-arguments-win",
    ),
    pytest.param(
        {"nodes": 1, "model": "qwen72b", "env": {"A": "it's $HOME"}, "volumes": ["/a b:/c"]},
        0,
        QWEN_ALONE.replace(CACHE + HF, CACHE + "--volume '/a b:/c' -e 'A=it'\"'\"'s $HOME' " + HF),
        id="odd-characters",
    ),
]


@pytest.mark.parametrize(("data", "rank", "expected"), LINES)
def test_the_docker_create_command(data: dict[str, Any], rank: int, expected: str) -> None:
    assert line(list(specs_of(**data).values())[rank]) == expected


def test_the_label_is_one_word_with_the_whole_spec() -> None:
    spec = specs_of(env={"A": 'quote\'s "here"'})["spark-1"]
    words = docker.create(spec).argv
    assert words[words.index("--label") + 1] == f"spark-serving.spec={spec.dump()}"


def test_no_restart_policy_until_the_group_is_ready() -> None:
    assert not any(
        word.startswith("--restart") for word in docker.create(specs_of()["spark-1"]).argv
    )


def test_the_other_docker_commands() -> None:
    spec = specs_of()["spark-2"]
    commands = {
        "start": docker.start(spec),
        "keep": docker.keep(spec.name, "unless-stopped"),
        "release": docker.release(spec.name),
        "stop": docker.stop(ran(spec), 30),
        "remove": docker.remove(spec.name),
        "pull": docker.pull("sgl:1", 7200),
        "logs": docker.logs(spec.name, 40, earlier=True),
    }
    name, bound = "sglang-worker-1", "timeout --kill-after=5"
    assert {verb: shlex.join(command.bounded) for verb, command in commands.items()} == {
        "start": f"{bound} 60 docker start {name}",
        "keep": f"{bound} 30 docker update --restart unless-stopped {name}",
        "release": f"{bound} 30 docker update --restart no {name}",
        "stop": f"{bound} 60 docker stop -t 30 {name}",
        "remove": f"{bound} 60 docker rm --force {name}",
        "pull": f"{bound} 7200 docker pull --quiet sgl:1",
        "logs": f"{bound} 20 docker logs --tail 40 {name}",
    }


def test_a_rank_s_log_begins_at_its_last_start(tmp_path: Path) -> None:
    fake = tmp_path / "docker"
    started = "2026-11-23T11:55:29.124071507Z"
    fake.write_text(f'#!/bin/sh\n[ "$1" = logs ] && echo "$@" || echo {started}\n')
    fake.chmod(0o755)
    path = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    words = docker.logs("sglang-head", 40).bounded
    output = subprocess.run(words, env=path, capture_output=True, text=True, check=True).stdout
    assert output == f"logs --since {started} --tail 40 sglang-head\n"


def test_a_stop_may_take_longer_than_the_engine_is_given() -> None:
    assert docker.stop(ran(specs_of()["spark-1"]), 120).seconds > 120


@pytest.mark.parametrize(
    ("gpus", "word"), [("2", "2"), ("device=0", "device=0"), ("device=0,1", '"device=0,1"')]
)
def test_several_devices_are_one_field_of_dockers_csv(gpus: str, word: str) -> None:
    words = docker.create(specs_of(gpus=gpus)["spark-1"]).argv
    assert words[words.index("--gpus") + 1] == word


@pytest.mark.parametrize(
    ("gpus", "names"),
    [
        pytest.param("all", ["all"], id="all"),
        pytest.param("2", ["0", "1"], id="a number"),
        pytest.param("device=1", ["1"], id="an index"),
        pytest.param("device=0,GPU-3a23c669", ["0", "GPU-3a23c669"], id="index and UUID"),
        pytest.param("none", [], id="none"),
    ],
)
def test_gpus_are_cdi_devices_where_docker_has_no_other_way(gpus: str, names: list[str]) -> None:
    spec = specs_of(gpus=gpus)["spark-1"]
    words = docker.create(spec, cdi=True).argv
    assert "--gpus" not in words
    assert devices(words) == [
        *devices(docker.create(spec).argv),
        *(f"nvidia.com/gpu={n}" for n in names),
    ]
    assert label_of(words) == label_of(docker.create(spec).argv)


@pytest.mark.parametrize("cdi", [True, False])
def test_explicit_cdi_devices_are_used_as_given(cdi: bool) -> None:
    spec = specs_of(gpus="nvidia.com/gpu=0,vendor.org/gpu=1")["spark-1"]
    words = docker.create(spec, cdi=cdi).argv
    assert "--gpus" not in words
    assert devices(words)[-2:] == ["nvidia.com/gpu=0", "vendor.org/gpu=1"]


def devices(words: tuple[str, ...]) -> list[str]:
    """What `--device` names, CDI devices last."""
    named = [words[i + 1] for i, word in enumerate(words) if word == "--device"]
    return sorted(named, key=lambda name: "=" in name)


def label_of(words: tuple[str, ...]) -> str:
    return words[words.index("--label") + 1]
