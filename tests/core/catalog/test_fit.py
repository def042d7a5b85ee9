"""Heads over GPUs, weights and KV cache over memory."""

from __future__ import annotations

import pytest

from cluster.catalog.entry import Shape
from cluster.catalog.fit import fit
from cluster.catalog.memory import GIB, Use, kv_tokens
from cluster.catalog.models import Model, catalog, find_model
from cluster.findings import Finding, Level

SPARK = 131_334_144 * 1024  # MemTotal of a DGX Spark
FIRST = [m for m in catalog() if m.number is not None and m.number <= 14]
ALIASES = [m.alias for m in FIRST]


def tried(
    alias: str, nodes: int, tp: int | None = None, pp: int = 1, **more: int | None
) -> list[Finding]:
    model = find_model(alias)
    fraction = model.mem_fraction or 0.8
    memory = more.pop("memory", SPARK)
    context = more.pop("context_length", None)
    tp = nodes if tp is None else tp
    use = Use(nodes=nodes, tp=tp, pp=pp, mem_fraction=fraction, context_length=context)
    return fit(model, memory, use, **more)  # type: ignore[arg-type]


def only(findings: list[Finding], level: Level) -> str:
    (finding,) = findings
    assert finding.level is level
    return str(finding)


@pytest.mark.parametrize("alias", ALIASES)
def test_every_model_fits_two_sparks(alias: str) -> None:
    assert tried(alias, 2) == []


@pytest.mark.parametrize("alias", [a for a in ALIASES if a != "phi4"])
def test_every_model_but_phi4_fits_four_sparks(alias: str) -> None:
    assert tried(alias, 4) == []


@pytest.mark.parametrize("alias", [a for a in ALIASES if a not in ("qwen72b", "llama70b")])
def test_all_but_the_two_largest_fit_one_spark(alias: str) -> None:
    assert tried(alias, 1) == []


def test_weights_too_large_are_refused_with_the_arithmetic() -> None:
    assert only(tried("llama70b", 1), Level.ERROR) == (
        "llama70b does not fit: 141.1 GB of weights > 0.85 x 121.6 GiB = 111.0 GB"
        " -> at least 2 nodes (tensor_parallel=2), a smaller or a quantized model"
    )


def test_the_message_shows_each_nodes_share() -> None:
    message = only(tried("llama70b", 2, memory=64 * GIB), Level.ERROR)
    assert "141.1 GB of weights / 2 nodes = 70.6 GB > 0.85 x 62.1 GiB = 56.7 GB" in message
    assert "at least 3 nodes" in message


@pytest.mark.parametrize(
    ("tp", "pp", "nodes"), [(2, 1, 4), (3, 1, 2), (1, 1, 2), (1, 3, 2), (2, 2, 3)]
)
def test_ranks_that_do_not_divide_over_the_nodes_are_refused(tp: int, pp: int, nodes: int) -> None:
    output = str(tried("gpt-oss-20b", nodes, tp, pp)[0])
    assert f"tensor_parallel {tp} x pipeline_parallel {pp} = {tp * pp}" in output
    assert f"over {nodes} nodes" in output and f"tensor_parallel={nodes}" in output


def test_more_ranks_than_gpus_are_refused() -> None:
    message = only(tried("gpt-oss-20b", 2, 4), Level.ERROR)
    assert "= 4 GPUs are needed, the nodes have 2 x 1" in message
    assert tried("gpt-oss-20b", 2, 4, gpus_per_node=2) == []


@pytest.mark.parametrize(
    ("alias", "tp", "heads"),
    [
        pytest.param("qwen7b", 3, "28 attention heads", id="attention"),
        pytest.param("gpt-oss-120b", 3, "64 attention heads", id="three-sparks"),
        pytest.param("phi4", 4, "10 KV heads", id="kv"),
        pytest.param("phi4", 8, "10 KV heads", id="kv-8"),
        pytest.param("deepseek-lite", 3, "16 attention heads", id="latent-attention"),
    ],
)
def test_heads_that_do_not_divide_are_refused(alias: str, tp: int, heads: str) -> None:
    message = only(tried(alias, tp), Level.ERROR)
    assert f"{alias} has {heads}, which do not divide over tensor_parallel {tp}" in message


def test_another_split_over_the_same_gpus_is_offered() -> None:
    assert "tensor_parallel=2 --data pipeline_parallel=2" in str(tried("phi4", 4)[0])
    assert tried("phi4", 4, 2, 2) == []
    assert "an inventory with 2 GPUs, and tensor_parallel=2" in str(tried("gpt-oss-20b", 3)[0])


@pytest.mark.parametrize(
    ("alias", "tp"),
    [
        pytest.param("llama70b", 16, id="8-kv-heads-over-16"),
        pytest.param("qwen7b", 28, id="4-kv-heads-over-28"),
        pytest.param("deepseek-lite", 16, id="latent"),
    ],
)
def test_kv_heads_are_copied_as_sglang_does(alias: str, tp: int) -> None:
    assert tried(alias, tp) == []


def test_an_unknown_model_is_accepted_as_unchecked() -> None:
    assert "was not checked: its size" in only(tried("Qwen/Qwen3-8B", 2), Level.WARNING)


def test_unread_memory_is_not_called_enough() -> None:
    message = only(tried("llama70b", 2, memory=None), Level.WARNING)
    assert "memory could not be read" in message


def test_a_cache_without_room_is_refused() -> None:
    model = Model(
        id="a/b",
        weight_bytes=10**9,
        shape=Shape(layers=80, attention_heads=8, kv_heads=8, head_dim=128),
    )
    memory = round((10**9 + 100 * 80 * 4096) / 0.8 / (121.6 * GIB) * SPARK)
    findings = fit(model, memory, Use(nodes=1, tp=1))
    assert "tokens, 512 are needed" in only(findings, Level.ERROR)


def test_a_cache_smaller_than_one_context_is_a_warning_with_the_cure() -> None:
    message = only(tried("mixtral", 1, context_length=200_000), Level.WARNING)
    assert "less than one full context (200000)" in message and "context_length=133120" in message


def test_too_little_free_memory_is_a_warning() -> None:
    message = only(tried("mixtral", 1, memory_available_bytes=int(101.5 * GIB)), Level.WARNING)
    assert "93.4 GB of weights per node > 0.85 x 101.5 GiB free" in message
    assert tried("mixtral", 2, memory_available_bytes=int(101.5 * GIB)) == []


@pytest.mark.parametrize("nodes", [1, 2, 4])
def test_kv_tokens_of_a_group(nodes: int) -> None:
    model = find_model("llama8b")
    tokens = kv_tokens(model, SPARK, Use(nodes=nodes, tp=nodes))
    per_node = 0.8 * 121.6 * GIB - 16_060_522_496 / nodes
    assert tokens == pytest.approx(per_node / (131_072 / nodes), abs=1)


def test_pipeline_stages_share_the_cache_as_tensor_ranks_do() -> None:
    model = find_model("llama8b")
    by_stage = kv_tokens(model, SPARK, Use(nodes=2, tp=1))
    assert by_stage == kv_tokens(model, SPARK, Use(nodes=2, tp=2))


def test_the_latent_cache_is_whole_on_every_rank() -> None:
    model = find_model("deepseek-lite")
    tokens = kv_tokens(model, SPARK, Use(nodes=2, tp=2))
    assert tokens == pytest.approx((0.8 * 121.6 * GIB - 15_706_484_224) / 31_104, abs=1)


def test_kv_tokens_of_an_unknown_model_are_unknown() -> None:
    assert kv_tokens(Model(id="a/b"), SPARK, Use(nodes=1, tp=1)) is None


def test_the_embedded_model_needs_only_its_file_in_memory() -> None:
    assert tried("smollm2", 1, memory=2 * GIB) == []
    assert "does not fit" in only(tried("smollm2", 1, memory=50_000_000), Level.ERROR)
    assert "not checked" in only(tried("smollm2", 1, memory=None), Level.WARNING)
