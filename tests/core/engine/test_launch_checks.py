"""What is wrong with a launch before any node is looked at more closely."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st
from launch_findings import GIB, SPARK, check_declared, findings, nodes
from samples import fabric_of, ran, specs_of, want

from cluster.catalog.models import catalog, find_model
from cluster.checks import Needs, check_launch
from cluster.engine.argv import argv
from cluster.engine.options import RECORDED, check_arguments
from cluster.engine.pairs import check_pairs
from cluster.engine.versions import UNKNOWN
from cluster.findings import Level, Refused
from cluster.node.readings import Gpu, MemoryReading
from cluster.plan.decide import named_version
from cluster.plan.specs import declared_specs


@pytest.mark.parametrize("model", range(1, 15))
def test_every_model_of_the_catalogue_is_launched_without_an_error(model: int) -> None:
    assert [line for line in check_declared(model=model) if line.startswith("error")] == []


@pytest.mark.parametrize(
    ("data", "line"),
    [
        pytest.param(
            {"host": "10.0.0.1"},
            "error host = '10.0.0.1' over several nodes: every rank must answer its head, so it "
            "must be 0.0.0.0 -> --data host=0.0.0.0",
            id="host",
        ),
        pytest.param(
            {"port": 50000},
            "error port and dist_port are both 50000: the head listens on each -> "
            "--data dist_port=50000, or any other free port",
            id="ports",
        ),
        pytest.param(
            {"model": "qwen7b", "context_length": 32769},
            "error context_length = 32769 is more than qwen7b has (32768) -> "
            "--data context_length=32768",
            id="context",
        ),
        pytest.param(
            {"model": "smollm2"},
            "error model smollm2 needs runtime = 'process', not 'docker' -> "
            "inventories/local.py serves smollm2; a Spark serves any other model",
            id="runtime",
        ),
        pytest.param(
            {"runtime": "process", "model": "smollm2"},
            "error runtime = 'process' serves from one node -> --data head_only=true",
            id="process",
        ),
    ],
)
def test_refused(data: dict[str, Any], line: str) -> None:
    assert line in check_declared(**data)


@pytest.mark.parametrize("data", [{"host": "127.0.0.1"}, {"port": 50000}])
def test_one_node_may(data: dict[str, Any]) -> None:
    assert check_declared(count=1, model="qwen7b", **data) == []


@pytest.mark.parametrize(
    "more",
    [
        pytest.param({"context_length": 32768}, id="exactly"),
        pytest.param({"env": {"SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN": "1"}}, id="allowed"),
        pytest.param({"extra_args": ["--json-model-override-args", "{}"]}, id="stretched"),
        pytest.param({"model": "org/unknown"}, id="unknown-model"),
    ],
)
def test_a_context_that_sglang_takes(more: dict[str, Any]) -> None:
    data = {"model": "qwen7b", "context_length": 65536} | more
    assert "context-too-long" not in {finding.key for finding in findings(**data)}


# ---- memory


def test_memory_that_other_programs_take_is_warned_of() -> None:
    taken = replace(nodes()[1], memory=MemoryReading(SPARK.total, 60 * GIB))
    (line,) = check_declared(nodes()[0], taken, model="qwen72b")
    assert line.startswith("warning 72.7 GB of weights per node > 0.85 x 60.0 GiB free = 54.8 GB")


def test_memory_that_our_own_rank_takes_comes_free() -> None:
    rank = ran(specs_of(model="qwen72b")["spark-2"])
    ours = replace(nodes()[1], memory=MemoryReading(SPARK.total, 5 * GIB), ranks=(rank,))
    assert check_declared(nodes()[0], ours, ours=rank.name, model="qwen72b") == []
    stopped = replace(ours, ranks=(replace(rank, status="exited"),))
    assert "5.0 GiB free" in check_declared(nodes()[0], stopped, ours=rank.name, model="qwen72b")[0]


# ---- extra_args


@pytest.mark.parametrize("version", ["0.5.3.post3", "0.5.23", "0.5.12"])
@pytest.mark.parametrize(
    ("words", "decider"),
    [
        (["--port", "1"], "the setting port"),
        (["--port=1"], "the setting port"),
        (["--host", "::"], "the setting host"),
        (["--served-model-name", "x"], "the setting served_model_name"),
        (["--model-path", "x"], "the setting model"),
        (["--model", "x"], "the setting model"),
        (["--tp-size", "1"], "the setting tensor_parallel"),
        (["--tp", "1"], "the setting tensor_parallel"),
        (["--tensor-parallel-size=1"], "the setting tensor_parallel"),
        (["--pp-size", "1"], "the setting pipeline_parallel"),
        (["--pp-s", "1"], "the setting pipeline_parallel"),
        (["--pipeline-parallel-size", "1"], "the setting pipeline_parallel"),
        (["--nnodes", "1"], "the inventory"),
        (["--nn", "1"], "the inventory"),
        (["--node-rank", "1"], "the inventory"),
        (["--dist-init-addr", "a:1"], "the settings address and dist_port"),
        (["--nccl-init-addr", "a:1"], "the settings address and dist_port"),
        (["--log-level", "info", "--dist-init", "a:1"], "the settings address and dist_port"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[-2:][0],
)
def test_an_option_with_a_setting_is_refused_in_extra_args(
    words: list[str], decider: str, version: str
) -> None:
    option = next(w for w in reversed(words) if w.startswith("--")).partition("=")[0]
    (line,) = check_declared(model="qwen7b", version=version, extra_args=words)
    assert line.startswith(f"error extra_args must not hold {option}: {decider} decides it -> ")


@pytest.mark.parametrize(
    "word", ["--api-key", "--api-key=x", "--api-k", "--api", "--admin-api-key", "--admin-api-key=x"]
)
@pytest.mark.parametrize("version", ["0.5.3.post3", "0.5.23"])
def test_a_key_is_refused_in_extra_args_in_any_spelling(word: str, version: str) -> None:
    (line,) = check_declared(model="qwen7b", version=version, extra_args=[word, "sesame"])
    assert "it would show in `ps` and in `docker inspect`" in line
    assert "sesame" not in line


def test_an_abbreviated_admin_key_is_refused_where_sglang_has_it() -> None:
    (line,) = check_declared(model="qwen7b", version="0.5.23", extra_args=["--admin", "sesame"])
    assert line.startswith("error extra_args must not hold --admin: it would show")


@pytest.mark.parametrize(
    "words",
    [
        ["--log-level", "debug"],
        ["--dist-timeout", "900"],
        ["--mem-fraction-static=0.7"],
        ["--speculative-draft-model-path", "/drafts/own"],
        ["--tokenizer-path=./own"],
        ["--tokenizer-path", "Qwen/Qwen2.5-7B-Instruct"],
        ["--lora-paths", "a=/lora/a", "/lora/b", '{"lora_name": "c", "lora_path": "/lora/c"}'],
        ["--pp-max-micro-batch-size", "4"],
        ["--chat-template", "port"],
    ],
    ids=lambda words: words[0],
)
def test_other_extra_args_are_left_to_the_user(words: list[str]) -> None:
    assert check_declared(model="qwen7b", extra_args=words) == []


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["--speculative-draft-model-path", "org/other"], "org/other"),
        (["--speculative-draft-model=org/other"], "org/other"),
        (["--speculative-draft-model-pa", "org/other"], "org/other"),
        (["--tokenizer-path", "org/tokens"], "org/tokens"),
        (["--tokenizer-path", "gpt2"], "gpt2"),
        (["--speculative-token-map", "thunlp/Map/freq.pt"], "thunlp/Map/freq.pt"),
        (["--lora-paths", "a=/lora/a", "b=org/lora"], "org/lora"),
        (["--lora-paths", "org/lora"], "org/lora"),
        (["--lora-paths", '{"lora_name": "c", "lora_path": "org/lora"}'], "org/lora"),
    ],
)
def test_another_repository_is_refused_with_what_to_do(words: list[str], name: str) -> None:
    (line,) = [li for li in check_declared(model="qwen7b", extra_args=words) if "error" in li]
    assert line.startswith(f"error extra_args name the repository {name} (--")
    assert "mount it (volumes)" in line
    assert (f"--data draft={name}" in line) == words[0].startswith("--speculative-draft")


def test_a_draft_that_nothing_would_use_is_refused() -> None:
    (line,) = check_declared(model="qwen7b", draft="me/draft")
    assert "error draft = 'me/draft', but no algorithm uses it: qwen7b" in line
    algorithm = ["--speculative-algorithm", "EAGLE3"]
    assert check_declared(model="qwen7b", draft="me/draft", extra_args=algorithm) == []
    twice = [*algorithm, "--speculative-draft-model-path", "/drafts/own"]
    (line,) = check_declared(model="qwen7b", draft="me/draft", extra_args=twice)
    assert "extra_args name a draft model too" in line


@pytest.mark.parametrize("option", ["--revision", "--speculative-draft-model-revision"])
def test_a_revision_that_would_not_be_brought_is_refused(option: str) -> None:
    (line,) = check_declared(model="qwen7b", extra_args=[option, "v2"])
    assert line.startswith(f"error extra_args must not hold {option}: ")


def test_sglang_options_are_ignored_by_the_process_runtime() -> None:
    assert (
        check_declared(count=1, version="", runtime="process", model="smollm2", extra_args=["--tp"])
        == []
    )


@pytest.mark.parametrize(
    ("data", "line"),
    [
        ({"mem_fraction": 0.9}, "warning mem_fraction = 0.9 leaves the system too little"),
        ({"mem_fraction": 0.86}, "freezes the machine -> --data mem_fraction=0.8; earlyoom=true"),
        ({"extra_args": ["--mem-fraction-static", "0.95"]}, "mem_fraction = 0.95 leaves"),
        ({"extra_args": ["--mem-frac=0.95"]}, "mem_fraction = 0.95 leaves"),
        ({"ipc": "host"}, "warning ipc = 'host': logind removes its semaphores"),
        ({"shm_size": "100g"}, "warning shm_size = '100g' uses memory too"),
        ({"env": {"AWS_SECRET_ACCESS_KEY": "x"}}, "env AWS_SECRET_ACCESS_KEY looks like a secret"),
        ({"env": {"WANDB_API_KEY": "x"}}, "env WANDB_API_KEY looks like a secret"),
        ({"env": {"GITHUB_TOKEN": "x"}}, "plans, labels and docker inspect show its value"),
        ({"env": {"DB_PASSWORD": "x"}}, "env DB_PASSWORD looks like a secret"),
        ({"env": {"CLIENT_SECRET": "x"}}, "env CLIENT_SECRET looks like a secret"),
    ],
)
def test_options_that_freeze_a_spark_or_leak_a_secret_warn(data: dict[str, Any], line: str) -> None:
    (warned,) = (w for w in check_declared(model="qwen7b", **data) if w.startswith("warning"))
    assert line in warned


@pytest.mark.parametrize(
    "data",
    [
        {"mem_fraction": 0.85},
        {"ipc": "host", "linger": True},
        {"shm_size": "64g"},
        {"env": {"TOKENIZERS_PARALLELISM": "false", "MAX_TOKEN": "512", "KEYBOARD": "us"}},
        {"env": {"MONKEY": "x", "HF_TOKEN_PATH": "/run/t"}},
    ],
)
def test_settings_owners_use_cause_no_warning(data: dict[str, Any]) -> None:
    assert check_declared(model="qwen7b", **data) == []


def test_swap_beside_a_large_fraction_is_warned_of() -> None:
    swapping = [replace(n, memory=replace(SPARK, swap=16 * GIB)) for n in nodes()]
    warned = check_declared(*swapping, model="qwen7b", mem_fraction=0.9)
    assert any("with swap on (spark-1, spark-2)" in line for line in warned)
    assert check_declared(*swapping, model="qwen7b", mem_fraction=0.8) == []


def test_a_gpu_with_memory_of_its_own_may_have_more() -> None:
    cards = (Gpu(0, "NVIDIA H100", "580", "9.0", memory_bytes=80 * GIB),)
    facts = [replace(n, gpus=cards) for n in nodes()]
    assert check_declared(*facts, model="qwen7b", mem_fraction=0.9) == []


@pytest.mark.parametrize(
    ("value", "hidden"),
    [("1", True), ("", True), ("-1", True), ("1,0", True), ("0", False), ("GPU-8b4c0f1e", False)],
)
def test_a_hidden_gpu_is_reported(value: str, hidden: bool) -> None:
    """A Spark has one GPU, number 0."""
    spark = [replace(node, gpus=(Gpu(0, "NVIDIA GB10", "580.95.05", "12.1"),)) for node in nodes(1)]
    reported = findings(*spark, model="qwen7b", env={"CUDA_VISIBLE_DEVICES": value})
    assert [finding.key for finding in reported].count("gpus-hidden") == hidden
    assert not hidden or "hides every GPU: the node has 1 GPU" in reported[0].what


# ---- any declaration

EXTRA = [
    (),
    ("--tp", "4"),
    ("--mem-fraction-static=0.95",),
    ("--max-total-tokens", "4096"),
    ("--page-size", "48"),
    ("--enable-mixed-chunk",),
    ("--speculative-algorithm", "NGRAM"),
    ("--speculative-draft-model-pa", "/drafts/own"),
    ("--speculative-draft-model", "org/other"),
    ("--lora-paths", "a=org/lora"),
    ("--dp-size", "2"),
    ("--attention-backend", "trtllm_mla"),
    ("--enforce-eager",),
    ("--api-k", "secret"),
    ("word",),
]


@settings(max_examples=60)
@given(
    alias=st.sampled_from([model.alias for model in catalog() if model.runtime == "docker"]),
    count=st.sampled_from([1, 2, 3, 4, 8]),
    variant=st.integers(-1, 8),
    data=st.fixed_dictionaries(
        {},
        optional={
            "head_only": st.booleans(),
            "tensor_parallel": st.integers(1, 8),
            "pipeline_parallel": st.integers(1, 4),
            "mem_fraction": st.sampled_from([0.1, 0.5, 0.8, 0.95]),
            "context_length": st.sampled_from([512, 32_768, 10**6]),
            "kv_cache_dtype": st.sampled_from(["bf16", "fp8_e4m3", "fp9"]),
            "draft": st.sampled_from(["none", "org/draft"]),
            "disable_cuda_graph": st.booleans(),
            "enable_dp_attention": st.booleans(),
            "reasoning_parser": st.sampled_from(["none", "qwen3", "nope"]),
            "image": st.sampled_from([f"lmsysorg/sglang:v{v}" for v in (*RECORDED, "0.5.20")]),
            "extra_args": st.sampled_from(EXTRA),
        },
    ),
)
def test_any_declaration_is_refused_with_a_cure_or_starts_with_whole_heads(
    alias: str, count: int, variant: int, data: dict[str, Any]
) -> None:
    model = find_model(alias)
    names = ["auto", "nope", *(v.name for v in model.variants)]
    data = {"model": alias, "variant": names[(variant + 1) % len(names)], **data}
    try:
        wanted = want(count, **data)
    except Refused as refusal:
        assert all(f.cure for f in refusal.findings)
        return
    version = named_version(wanted) or UNKNOWN
    facts = {node.name: node for node in nodes(len(wanted.names))}
    found = [*check_launch(wanted, model, [*facts.values()], Needs(), version)]
    specs = declared_specs(wanted, model, fabric_of(wanted, facts), facts, version)
    known = wanted.catalog.own_arguments
    launch = [*specs.values()][-1].launch
    line = argv(launch, version)[1:]
    found += [*check_arguments(line, version, known), *check_pairs(line, version)]
    refused = [f for f in found if f.level is Level.ERROR]
    assert all(f.cure for f in refused), refused
    ours = argv(replace(launch, extra_args=()), version)[1:]
    unknown = [f for f in check_arguments(ours, version, known) if "does not know" in f.what]
    if "image" not in data:
        assert not unknown
    if refused:
        return
    assert not [f for f in unknown if f.level is Level.ERROR]
    shape, tp, pp = model.shape, launch.tp, launch.pp
    assert tp * pp % len(specs) == 0 and tp * pp <= len(specs)
    if shape.kv_heads and shape.kv_latent_dim is None:
        assert shape.kv_heads % tp == 0 or tp % shape.kv_heads == 0
    assert (shape.attention_heads or tp) % tp == 0
