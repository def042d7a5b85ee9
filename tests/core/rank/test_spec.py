"""A rank as data: what settings, model, fabric and node make of it, and what counts as drift."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings as profile, strategies as st
from samples import declare, fabric_of, node_name, spark, specs_of, want

from cluster.catalog.models import find_model
from cluster.fabric import NodeFabric
from cluster.node.readings import Rank
from cluster.plan.specs import declared_specs, expand, mem_fraction, parallelism, token_mounts
from cluster.rank.docker import create
from cluster.rank.spec import Spec, label_drift, read_label
from cluster.reports.listing import cache_folder
from cluster.settings.declaration import HostData, parse_declaration
from cluster.settings.resolve import resolve
from cluster.settings.schema import Settings


def head(**data: Any) -> Spec:
    return specs_of(**data)["spark-1"]


def worker(**data: Any) -> Spec:
    return specs_of(**data)["spark-2"]


# ---- the canonical JSON

DUMP = (
    '{"compile_caches":"/raid/hf-cache/spark-serving","devices":["/dev/infiniband"],'
    '"env":{"GLOO_SOCKET_IFNAME":"enp1s0f1np1",'
    '"HF_HOME":"/root/.cache/huggingface",'
    '"HF_HUB_OFFLINE":"1","NCCL_CUMEM_ENABLE":"0",'
    '"NCCL_DEBUG":"INFO","NCCL_IB_DISABLE":"0","NCCL_IB_HCA":"rocep1s0f1,roceP2p1s0f1",'
    '"NCCL_IGNORE_CPU_AFFINITY":"1","NCCL_SOCKET_IFNAME":"enp1s0f1np1",'
    '"PYTORCH_CUDA_ALLOC_CONF":"expandable_segments:True","SGLANG_HOST_IP":"192.168.100.11",'
    '"TIKTOKEN_ENCODINGS_BASE":"/tiktoken_encodings","TP_SOCKET_IFNAME":"enp1s0f1np1",'
    '"UCX_NET_DEVICES":"rocep1s0f1:1,roceP2p1s0f1:1"},"gpus":"all","group":"sglang",'
    '"image":"lmsysorg/sglang:spark","ipc":"private","launch":{"context_length":null,'
    '"disable_cuda_graph":true,"dist_init_addr":"192.168.100.10:50000","dist_timeout":null,'
    '"enable_dp_attention":true,"enable_metrics":true,"extra_args":[],"host":"0.0.0.0",'
    '"mem_fraction":0.85,"model_path":"openai/gpt-oss-120b","nnodes":2,"port":30000,"pp":1,'
    '"rank":1,"reasoning_parser":"gpt-oss","revision":null,"served_model_name":"openai/gpt-oss-120b",'
    '"tool_call_parser":"gpt-oss","tp":2,"trust_remote_code":false},'
    '"model":"openai/gpt-oss-120b","name":"sglang-worker-1","rank":1,'
    '"restart_policy":"unless-stopped","runtime":"docker","sglang":"0.5.3.post3",'
    '"shm_size":"32g","volumes":["/raid/hf-cache/hub:/root/.cache/huggingface/hub:ro",'
    '"/home/me/tiktoken_encodings:/tiktoken_encodings:ro"]}'
)


def test_the_dump_of_a_worker_spec() -> None:
    assert worker().dump() == DUMP


def test_equal_settings_make_equal_dumps_in_any_order() -> None:
    one = head(env={"B": "2", "A": "1"}, port=30001, model="qwen72b")
    two = head(model="Qwen/Qwen2.5-72B-Instruct", port=30001, env={"A": 1, "B": 2})
    assert one.dump() == two.dump()


def test_a_model_by_number_alias_or_id_is_the_same_rank() -> None:
    assert (
        len({head(model=name).dump() for name in (1, "gpt-oss-120b", "openai/gpt-oss-120b")}) == 1
    )


def test_the_dump_reads_back_as_the_spec() -> None:
    spec = worker(extra_args=["--log-level", "it's"], env={"A": 'q"\\ \u00e9'}, mem_fraction=0.1)
    assert msgspec.json.decode(spec.dump(), type=Spec) == spec


# ---- what decides a field

FIELDS: list[Any] = [
    pytest.param({}, lambda s: s.name, "sglang-head", id="name"),
    pytest.param({"head_container": "llm"}, lambda s: s.name, "llm", id="name-set"),
    pytest.param({"served_model_name": "m"}, lambda s: s.launch.served_model_name, "m", id="alias"),
    pytest.param({"model": "~/m"}, lambda s: s.launch.model_path, "/home/me/m", id="home-model"),
    pytest.param(
        {"model": "~/m"}, lambda s: "/home/me/m:/home/me/m:ro" in s.volumes, True, id="model-mount"
    ),
    pytest.param(
        {"model": "/m/x"}, lambda s: "/m/x:/m/x:ro" in s.volumes, True, id="local-model-mount"
    ),
    pytest.param(
        {"hf_cache": "~/hf"}, lambda s: s.volumes[0].split(":")[0], "/home/me/hf/hub", id="~"
    ),
    pytest.param(
        {"hf_cache": "~"}, lambda s: s.volumes[0].split(":")[0], "/home/me/hub", id="only-~"
    ),
    pytest.param(
        {"hf_cache": "/a~"}, lambda s: s.volumes[0].split(":")[0], "/a~/hub", id="inner-~"
    ),
    pytest.param({"volumes": ["/a:/b"]}, lambda s: s.volumes[-1], "/a:/b", id="volume-last"),
    pytest.param({}, lambda s: s.launch.mem_fraction, 0.85, id="models-fraction"),
    pytest.param({"model": "a/b"}, lambda s: s.launch.mem_fraction, 0.8, id="unknown-model"),
    pytest.param({"mem_fraction": 0.7}, lambda s: s.launch.mem_fraction, 0.7, id="fraction-set"),
    pytest.param({}, lambda s: s.launch.context_length, None, id="context-auto"),
    pytest.param({"context_length": 9}, lambda s: s.launch.context_length, 9, id="context-set"),
    pytest.param({"dist_timeout": 60}, lambda s: s.launch.dist_timeout, 60, id="dist-timeout"),
    pytest.param({"rdma": "off"}, lambda s: s.devices, (), id="tcp-without-devices"),
    pytest.param({"nodes": 1}, lambda s: s.devices, (), id="one-node-without-devices"),
    pytest.param({"gpus": "none"}, lambda s: s.gpus, "", id="no-gpus"),
    pytest.param({"gpus": "device=0"}, lambda s: s.gpus, "device=0", id="one-gpu"),
    pytest.param(
        {"model": "deepseek-lite"}, lambda s: s.launch.trust_remote_code, True, id="trust-auto"
    ),
    pytest.param(
        {"model": "deepseek-lite", "trust_remote_code": False},
        lambda s: s.launch.trust_remote_code,
        False,
        id="trust-refused",
    ),
    pytest.param({}, lambda s: s.launch.reasoning_parser, "gpt-oss", id="parser-auto"),
    pytest.param(
        {"reasoning_parser": "none"}, lambda s: s.launch.reasoning_parser, "", id="parser-none"
    ),
    pytest.param(
        {"reasoning_parser": ""}, lambda s: s.launch.reasoning_parser, "", id="parser-empty"
    ),
    pytest.param(
        {"tool_call_parser": "llama3"}, lambda s: s.launch.tool_call_parser, "llama3", id="tools"
    ),
    pytest.param({}, lambda s: s.launch.disable_cuda_graph, True, id="graphs-off"),
    pytest.param(
        {"disable_cuda_graph": False}, lambda s: s.launch.disable_cuda_graph, False, id="graphs-on"
    ),
    pytest.param({"env": {"NCCL_DEBUG": "WARN"}}, lambda s: s.env["NCCL_DEBUG"], "WARN", id="env"),
    pytest.param({"nccl_debug": "WARN"}, lambda s: s.env["NCCL_DEBUG"], "WARN", id="nccl-debug"),
    pytest.param(
        {"model": "qwen72b"}, lambda s: "TIKTOKEN_ENCODINGS_BASE" in s.env, False, id="no-tiktoken"
    ),
    pytest.param(
        {"model": "qwen72b"},
        lambda s: any("tiktoken" in v for v in s.volumes),
        False,
        id="no-tiktoken-mount",
    ),
]


@pytest.mark.parametrize(("data", "field", "value"), FIELDS)
def test_spec_fields_follow_the_settings(
    data: dict[str, Any], field: Callable[[Spec], Any], value: Any
) -> None:
    assert field(head(**data)) == value


def test_a_nodes_own_settings_reach_its_rank_alone() -> None:
    one, two = declare()
    hosts = [one, HostData(two.name, two.groups, {"hf_cache": "/data", "env": {"X": "1"}})]
    model, facts = find_model("qwen72b"), {node_name(i): spark(i) for i in range(2)}
    declaration = resolve(parse_declaration(hosts), model)
    specs = declared_specs(declaration, model, fabric_of(declaration, facts), facts, "0.5.23")
    assert specs["spark-1"].volumes[0].startswith("/raid/hf-cache/hub:")
    assert specs["spark-2"].volumes[0].startswith("/data/hub:")
    assert "X" in specs["spark-2"].env
    assert "X" not in specs["spark-1"].env


def test_the_process_runtime_has_the_users_environment_and_nothing_of_dockers() -> None:
    spec = head(nodes=1, model="smollm2", runtime="process", env={"A": "1"})
    docker = (spec.image, spec.sglang, spec.volumes, spec.devices, spec.gpus, spec.ipc)
    assert docker == ("", "", (), (), "", "")
    assert (spec.shm_size, spec.restart_policy, spec.env) == ("", "", {"A": "1"})


@pytest.mark.parametrize(
    ("nodes", "data", "sizes"),
    [
        pytest.param(1, {}, (1, 1), id="one"),
        pytest.param(2, {}, (2, 1), id="two"),
        pytest.param(4, {}, (4, 1), id="four"),
        pytest.param(4, {"pipeline_parallel": 2}, (2, 2), id="stages"),
        pytest.param(2, {"pipeline_parallel": 2}, (1, 2), id="stages-alone"),
        pytest.param(2, {"pipeline_parallel": 4}, (1, 4), id="more-stages-than-nodes"),
        pytest.param(2, {"tensor_parallel": 4}, (4, 1), id="as-said"),
        pytest.param(4, {"head_only": True}, (1, 1), id="head-only"),
        pytest.param(4, {"head_only": True, "tensor_parallel": 4}, (1, 1), id="head-only-wins"),
    ],
)
def test_parallelism(nodes: int, data: dict[str, Any], sizes: tuple[int, int]) -> None:
    assert parallelism(want(nodes, **data)) == sizes


def test_home_of_the_node_not_of_this_machine() -> None:
    assert expand("~/x", replace(spark(0), home="/root")) == "/root/x"


def test_fraction_of_a_model_outside_the_catalogue() -> None:
    assert mem_fraction(Settings(), find_model("somebody/something")) == 0.80


# ---- drift

DRIFT: list[Any] = [
    pytest.param({"mem_fraction": 0.8}, "mem_fraction: 0.85 -> 0.8", id="fraction"),
    pytest.param({"image": "sgl:2"}, "image: 'lmsysorg/sglang:spark' -> 'sgl:2'", id="image"),
    pytest.param({"nccl_debug": "WARN"}, "env NCCL_DEBUG: 'INFO' -> 'WARN'", id="env-value"),
    pytest.param({"env": {"NEW": "1"}}, "env NEW: (none) -> '1'", id="env-new"),
    pytest.param({"port": 30001}, "port: 30000 -> 30001", id="port"),
    pytest.param({"dist_port": 5}, "dist_init_addr: '192.168.100.10:50000' -> '192.168.100.10:5'",
                 id="rendezvous"),
    pytest.param({"ipc": "shareable"}, "ipc: 'private' -> 'shareable'", id="ipc"),
    pytest.param({"shm_size": "64g"}, "shm_size: '32g' -> '64g'", id="shm"),
    pytest.param({"context_length": 8192}, "context_length: None -> 8192", id="context"),
    pytest.param({"enable_metrics": False}, "enable_metrics: True -> False", id="metrics"),
    pytest.param({"extra_args": "--log-level debug"},
                 "extra_args: [] -> ['--log-level', 'debug']", id="extra"),
    pytest.param({"served_model_name": "m"},
                 "served_model_name: 'openai/gpt-oss-120b' -> 'm'", id="served-name"),
    pytest.param({"gpus": "1"}, "gpus: 'all' -> '1'", id="gpus"),
    pytest.param({"cache_dir": "none"},
                 "compile_caches: '/raid/hf-cache/spark-serving' -> (none)", id="caches"),
    pytest.param({"tool_call_parser": "none"}, "tool_call_parser: 'gpt-oss' -> ''", id="parser"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "reason"), DRIFT)
def test_drift_is_reported_by_field(data: dict[str, Any], reason: str) -> None:
    assert label_drift(head().dump(), head(**data)) == (reason,)


def test_drift_of_a_model_names_every_field_it_moves() -> None:
    drift = label_drift(head().dump(), head(model="qwen72b"))
    assert [line.partition(":")[0] for line in drift] == [
        "enable_dp_attention",
        "env TIKTOKEN_ENCODINGS_BASE",
        "model",
        "model_path",
        "reasoning_parser",
        "served_model_name",
        "tool_call_parser",
        "volume /tiktoken_encodings",
    ]


def test_a_removed_variable_is_reported() -> None:
    assert label_drift(head(env={"OLD": "1"}).dump(), head()) == ("env OLD: '1' -> (none)",)


@pytest.mark.parametrize("data", [{}, {"model": "qwen72b"}, {"env": {"B": "1", "A": "2"}}])
def test_cosmetics_are_no_drift(data: dict[str, Any]) -> None:
    spec = head(**data)
    backwards = dict(reversed(json.loads(spec.dump()).items()))
    backwards["env"] = dict(reversed(backwards["env"].items()))
    backwards["launch"] = dict(reversed(backwards["launch"].items()))
    assert label_drift(json.dumps(backwards, indent=2), spec) == ()


def test_a_field_that_older_labels_lack_counts_only_if_it_says_something() -> None:
    old = json.loads(head().dump())
    del old["launch"]["context_length"]
    assert label_drift(json.dumps(old), head()) == ()
    assert label_drift(json.dumps(old), head(context_length=5)) == ("context_length: (none) -> 5",)


@pytest.mark.parametrize(
    "label", ["", "x", "5", "null", "[]", '"s"', '{"env": 5}', '{"launch": null}', "{"]
)
def test_a_label_that_is_not_a_spec(label: str) -> None:
    assert label_drift(label, head()) == ("its label is not a spec of ours",)


@profile(max_examples=50)
@given(st.text(max_size=20) | st.recursive(
    st.none() | st.integers() | st.text(max_size=3),
    lambda x: st.dictionaries(st.sampled_from(["env", "launch", "rank", "x"]), x, max_size=3),
    max_leaves=6,
).map(json.dumps))  # fmt: skip
def test_any_label_gives_reasons(label: str) -> None:
    assert label_drift(label, head())


# ---- what a rank is started with


def test_head_only_passes_no_nnodes() -> None:
    words = create(head(head_only=True)).argv
    assert not {"--nnodes", "--node-rank", "--dist-init-addr"} & set(words)
    assert words[words.index("--tp-size") + 1] == "1"
    assert "SGLANG_HOST_IP" not in head(head_only=True).env


def test_workers_honor_name_tiktoken_and_timeout() -> None:
    spec = worker(worker_container="crew", tiktoken_dir="/t", dist_timeout=77)
    words = create(spec).argv
    assert spec.name == "crew-1"
    assert "/t:/tiktoken_encodings:ro" in words
    assert words[words.index("--dist-timeout") + 1] == "77"


def test_no_token_is_anywhere_in_a_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_sesame")
    spec = head(model="llama8b", hf_token_file="/home/me/token")
    assert not [name for name in spec.env if "TOKEN" in name]
    assert not [volume for volume in spec.volumes if "/run" in volume]
    assert spec.env["HF_HUB_OFFLINE"] == "1"
    assert "sesame" not in " ".join(create(spec).argv)
    assert "/home/me/token" not in " ".join(create(spec).argv)


def test_shm_size_goes_with_private_ipc_only() -> None:
    assert (head().ipc, head().shm_size) == ("private", "32g")
    assert (head(ipc="host").ipc, head(ipc="host").shm_size) == ("host", "")


@pytest.mark.parametrize("nodes", [1, 2, 3, 4, 8])
def test_tensor_parallel_follows_the_nodes(nodes: int) -> None:
    for rank, spec in enumerate(specs_of(nodes=nodes, model="qwen72b").values()):
        assert (spec.launch.tp, spec.launch.nnodes, spec.rank) == (nodes, nodes, rank)
        assert spec.launch.tp * spec.launch.pp % nodes == 0


def test_the_same_declaration_causes_no_drift() -> None:
    for node, spec in specs_of().items():
        assert label_drift(specs_of()[node].dump(), spec) == ()


def test_every_rank_is_passed_its_own_fabric_address() -> None:
    specs = specs_of(nodes=3)
    assert [s.env["SGLANG_HOST_IP"] for s in specs.values()] == [
        "192.168.100.10",
        "192.168.100.11",
        "192.168.100.12",
    ]
    assert {s.launch.dist_init_addr for s in specs.values()} == {"192.168.100.10:50000"}


def test_a_lone_head_has_no_rendezvous() -> None:
    nodes, facts = want(1), {"spark-1": spark(0)}
    fabric = replace(fabric_of(nodes, facts), nodes=(NodeFabric("spark-1", "127.0.0.1"),))
    (spec,) = declared_specs(nodes, find_model(1), fabric, facts, "0.5.23").values()
    assert spec.launch.dist_init_addr is None


def test_no_port_or_name_is_hard_coded() -> None:
    data = {"port": 31000, "dist_port": 51000}
    data |= {"head_container": "first", "worker_container": "crew"}
    for spec, name in ((head(**data), "first"), (worker(**data), "crew-1")):
        assert (spec.name, spec.launch.port) == (name, 31000)
        assert (spec.launch.dist_init_addr or "").endswith(":51000")


@pytest.mark.parametrize(
    ("volume", "shows"),
    [
        pytest.param("~/.cache/huggingface:/root/.cache/huggingface", True, id="the usual HF_HOME"),
        pytest.param("~:/host", True, id="the login's home"),
        pytest.param("/:/host:ro", True, id="everything"),
        pytest.param("/raid/hf-cache:/models", True, id="hf_cache"),
        pytest.param("~/.cache/huggingface/token:/token:ro", True, id="the token itself"),
        pytest.param("/raid/hf-cache/hub:/models", False, id="hf_cache's hub"),
        pytest.param("~/.cache/huggingface/datasets:/d", False, id="beside the token"),
        pytest.param("/data:/data", False, id="elsewhere"),
    ],
)
def test_a_volume_exposing_the_token(volume: str, shows: bool) -> None:
    facts = spark(0)
    settings = Settings(volumes=(volume,))
    assert list(token_mounts(settings, facts)) == ([volume] if shows else [])
    spec = head(hf_cache="~/.cache/huggingface", model="qwen7b")
    assert not [v for v in spec.volumes if v.startswith("/home/me/.cache/huggingface:")]


@pytest.mark.parametrize(
    ("volumes", "cache"),
    [
        pytest.param(head(hf_cache="/data/hf/").volumes, "/data/hf", id="today's"),
        pytest.param(("/raid/hf:/root/.cache/huggingface",), "/raid/hf", id="of 0.1.0"),
        pytest.param(("/a:/b", "odd"), "", id="none"),
    ],
)
def test_a_ranks_cache_folder_is_found_from_its_volumes(
    volumes: tuple[str, ...], cache: str
) -> None:
    assert cache_folder(replace(head(), volumes=volumes)) == cache


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"nnodes": None}, id="no-count"),
        pytest.param({"nnodes": 0}, id="a-rank-beyond-the-count"),
        pytest.param({"nnodes": "2"}, id="count-in-words"),
        pytest.param({"nnodes": 2.5}, id="half-a-node"),
        pytest.param({"nnodes": [2]}, id="a-list"),
        pytest.param({"nnodes": 10**19}, id="more-nodes-than-there-are"),
        pytest.param({"nnodes": -1}, id="fewer-nodes-than-none"),
        pytest.param({"port": 0}, id="port-0"),
        pytest.param({"port": 10**30}, id="a-huge-port"),
        pytest.param({"host": None}, id="no-host"),
        pytest.param({"extra_args": "--a"}, id="words-that-are-text"),
    ],
)
def test_a_label_that_is_not_a_spec_is_none(change: dict[str, object]) -> None:
    label = json.loads(specs_of(nodes=2)["spark-1"].dump())
    label["launch"] |= change
    rank = Rank("sglang-head", "1", "running", label=json.dumps(label))
    assert rank.spec is None


@pytest.mark.parametrize("text", ["", "{", "[]", "7", "[" * 100_000, '{"sglang": "\u001b[2J"}'])
def test_an_arbitrary_label_is_not_a_spec(text: str) -> None:
    rank = Rank("sglang-head", "1", "running", label=text)
    assert rank.spec is None
    assert label_drift(text, specs_of(nodes=1)["spark-1"])


@pytest.mark.parametrize("number", [-1, 2, 10**19])
def test_a_label_with_a_rank_outside_its_group_is_not_a_spec(number: int) -> None:
    label = json.loads(specs_of(nodes=2)["spark-1"].dump()) | {"rank": number}
    rank = Rank("sglang-head", "1", "running", label=json.dumps(label))
    assert rank.spec is None
    assert (rank.group, rank.number) == ("sglang", number), "enough to replace it"


LABELS = Path(__file__).with_name("labels")


@pytest.mark.parametrize(
    "version",
    ["without_group", "with_group", "with_revision", "with_hub_mount", "with_compile_caches"],
)
def test_a_label_of_every_earlier_version_is_read(version: str) -> None:
    text = (LABELS / f"{version}.json").read_text().strip()
    rank = Rank("sglang-head", "1", "running", label=text)
    assert rank.spec is not None
    assert rank.spec.launch.model_path == "openai/gpt-oss-120b"
    assert (rank.spec.url, rank.number) == ("http://127.0.0.1:30000", 0)
    # What names no group belongs to none: nobody but its owner touches it.
    assert rank.group == ("" if version == "without_group" else "sglang")
    assert label_drift(text, rank.spec) == ()


def test_the_current_label_is_the_last_recorded_one() -> None:
    last = (LABELS / "with_compile_caches.json").read_text().strip()
    assert specs_of()["spark-1"].dump() == last, "keep the old one here, and add the new one"


def test_a_rank_of_before_compile_caches_goes_on_serving_and_gets_them_at_its_next_start() -> None:
    text = (LABELS / "with_hub_mount.json").read_text().strip()
    assert label_drift(text, specs_of()["spark-1"], serves=True) == ()
    assert label_drift(text, specs_of()["spark-1"]) == (
        "compile_caches: (none) -> '/raid/hf-cache/spark-serving'",
    )


def test_our_label_reads_back_as_its_spec() -> None:
    for spec in specs_of(nodes=2).values():
        assert read_label(spec.dump()).spec == spec
