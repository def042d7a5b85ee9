"""The launch line: its words, by version and by the number of nodes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, strategies as st

from cluster.catalog.models import catalog
from cluster.engine.argv import Launch, argv
from cluster.engine.options import RECORDED, options_of

SPARK, *_, NEW = RECORDED
ALONE = Launch("Qwen/Qwen2.5-7B-Instruct", tool_call_parser="qwen25", mem_fraction=0.8)
PAIR = Launch(
    "openai/gpt-oss-120b",
    tp=2,
    nnodes=2,
    rank=1,
    dist_init_addr="169.254.1.1:50000",
    mem_fraction=0.85,
    reasoning_parser="gpt-oss",
    tool_call_parser="gpt-oss",
    disable_cuda_graph=True,
    enable_dp_attention=True,
)
each_version = pytest.mark.parametrize("version", RECORDED)


def line(launch: Launch, version: str) -> str:
    return " ".join(argv(launch, version))


def test_two_sparks_with_the_spark_image() -> None:
    assert line(PAIR, SPARK) == (
        "sglang.launch_server --model-path openai/gpt-oss-120b"
        " --reasoning-parser gpt-oss --tool-call-parser gpt-oss"
        " --tp-size 2 --pp-size 1 --nnodes 2 --node-rank 1 --dist-init-addr 169.254.1.1:50000"
        " --host 0.0.0.0 --port 30000 --mem-fraction-static 0.85 --enable-metrics"
        " --disable-cuda-graph --enable-dp-attention"
    )


def test_two_sparks_with_a_new_image() -> None:
    assert line(PAIR, NEW) == (
        "sglang.launch_server --model-path openai/gpt-oss-120b"
        " --reasoning-parser gpt-oss --tool-call-parser gpt-oss"
        " --tp-size 2 --pp-size 1 --nnodes 2 --node-rank 1 --dist-init-addr 169.254.1.1:50000"
        " --host 0.0.0.0 --port 30000 --mem-fraction-static 0.85 --enable-metrics"
        " --cuda-graph-backend-decode disabled --cuda-graph-backend-prefill disabled"
        " --enforce-disable-flashinfer-allreduce-fusion"
    )


@each_version
def test_a_single_node_gets_no_option_about_others(version: str) -> None:
    left_over = replace(ALONE, rank=0, dist_init_addr="169.254.1.1:50000", dist_timeout=60)
    assert line(left_over, version) == (
        "sglang.launch_server --model-path Qwen/Qwen2.5-7B-Instruct --tool-call-parser qwen25"
        " --tp-size 1 --pp-size 1 --host 0.0.0.0 --port 30000 --mem-fraction-static 0.8"
        " --enable-metrics"
    )


@each_version
def test_the_rendezvous_timeout_is_set_by_the_option_that_sglang_reads(version: str) -> None:
    assert "--dist-timeout 60" in line(replace(PAIR, dist_timeout=60), version)


@each_version
@pytest.mark.parametrize("alias", ["llama8b", "llama70b"])
def test_llama_models_pass_their_tool_parser(alias: str, version: str) -> None:
    model = next(m for m in catalog() if m.alias == alias)
    launch = Launch(model.id, tool_call_parser=model.tool_call_parser)
    assert "--tool-call-parser llama3" in line(launch, version)


@each_version
def test_ranks_differ_in_their_number_alone(version: str) -> None:
    head, worker = argv(replace(PAIR, rank=0), version), argv(PAIR, version)
    at = head.index("--node-rank") + 1
    assert [i for i, (a, b) in enumerate(zip(head, worker, strict=True)) if a != b] == [at]


@pytest.mark.parametrize(
    ("extra", "gone"),
    [
        pytest.param(("--mem-fraction-static", "0.5"), "0.85", id="same-name"),
        pytest.param(("--mem-fraction=0.5",), "0.85", id="abbreviated-with-equals"),
        pytest.param(("--model", "a/b"), "openai/gpt-oss-120b", id="alias"),
        pytest.param(("--tensor-parallel-size", "4"), "--tp-size", id="long-alias"),
        pytest.param(("--nccl-init-addr", "h:1"), "--dist-init-addr", id="old-alias"),
        pytest.param(("--host", "127.0.0.1"), "0.0.0.0", id="host"),
    ],
)
@each_version
def test_the_users_option_replaces_ours(extra: tuple[str, ...], gone: str, version: str) -> None:
    words = argv(replace(PAIR, extra_args=extra), version)
    assert words[-len(extra) :] == extra
    assert gone not in words[: -len(extra)]


def test_the_users_cuda_graph_backend_replaces_that_phase_alone() -> None:
    extra = ("--cuda-graph-backend-decode", "full")
    words = argv(replace(PAIR, extra_args=extra), NEW)
    assert words.count("--cuda-graph-backend-decode") == 1
    assert words[words.index("--cuda-graph-backend-prefill") + 1] == "disabled"


def test_an_unknown_user_option_removes_none_of_ours() -> None:
    assert argv(replace(ALONE, extra_args=("--zzz",)), NEW) == (*argv(ALONE, NEW), "--zzz")


LAUNCHES = st.builds(
    Launch,
    model_path=st.sampled_from([m.id for m in catalog()]),
    served_model_name=st.sampled_from(["", "mine"]),
    tp=st.sampled_from([1, 2, 4]),
    pp=st.sampled_from([1, 2]),
    nnodes=st.sampled_from([1, 2, 4]),
    rank=st.integers(0, 3),
    dist_init_addr=st.just("169.254.1.1:50000"),
    dist_timeout=st.none() | st.integers(1, 86400),
    port=st.integers(1, 65535),
    mem_fraction=st.none() | st.floats(0.1, 0.95),
    context_length=st.none() | st.integers(1, 10**6),
    trust_remote_code=st.booleans(),
    enable_metrics=st.booleans(),
)


def read_back(words: tuple[str, ...], version: str) -> dict[str, str | bool]:
    """Option by first spelling -> its value, as a parser would have it."""
    options, values, rest = options_of(version), dict[str, str | bool](), list(words[1:])
    while rest:
        option = options[rest.pop(0)]
        values[option.name] = rest.pop(0) if option.nargs is None else True
    return values


@given(LAUNCHES, st.sampled_from(RECORDED))
def test_the_launch_line_reads_back_as_requested(launch: Launch, version: str) -> None:
    read, options = read_back(argv(launch, version), version), options_of(version)
    several = launch.nnodes > 1
    wanted = {
        "--model-path": launch.model_path,
        "--served-model-name": launch.served_model_name or None,
        "--tp-size": str(launch.tp),
        "--pp-size": str(launch.pp),
        "--nnodes": str(launch.nnodes) if several else None,
        "--node-rank": str(launch.rank) if several else None,
        "--dist-init-addr": launch.dist_init_addr if several else None,
        "--port": str(launch.port),
        "--trust-remote-code": launch.trust_remote_code or None,
        "--enable-metrics": launch.enable_metrics or None,
    }
    assert {name: read.get(options[name].name) for name in wanted} == wanted
    fraction = read.get("--mem-fraction-static")
    assert (None if fraction is None else float(fraction)) == launch.mem_fraction
