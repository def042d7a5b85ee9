"""The memory table: its arithmetic beside what sources state, and beside logs of real GPUs."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, strategies as st

from cluster.catalog.entry import Model
from cluster.catalog.fit import fit
from cluster.catalog.memory import (
    GIB,
    KV_WIDTH,
    MIB,
    MemoryPart,
    Use,
    draft_token_bytes,
    entry_use,
    graph_batches,
    kv_token_bytes,
    kv_tokens,
    memory_rows,
    memory_table,
    node_states,
    node_weights,
)
from cluster.catalog.models import catalog, find_model
from cluster.findings import Level

SPARK = 131_334_144 * 1024
SERVED = [model for model in catalog() if model.runtime == "docker"]


def parts_of(model: Model, use: Use) -> dict[str, MemoryPart]:
    return {part.name: part for part in memory_table(model, SPARK, use).parts}


def errors(model: Model, use: Use, memory: int = SPARK) -> list[str]:
    return [str(f) for f in fit(model, memory, use) if f.level is Level.ERROR]


@pytest.mark.parametrize("variant", ["low-latency", "high-throughput"])
@pytest.mark.parametrize("nodes", [1, 2])
def test_flash_next_fits_where_upstream_has_verified_it(variant: str, nodes: int) -> None:
    model = find_model("qwen38-flash-next")
    use = entry_use(model, nodes, variant)
    assert errors(model, use) == []
    # 78.3 GiB without the table on one node; all 126 GiB over two (upstream's page).
    expected = 78.3 * GIB if nodes == 1 else 63 * GIB
    assert node_weights(model, use) == pytest.approx(expected, rel=1e-3)
    assert [*parts_of(model, use)][:3] == ["weights", "KV cache", "states"]


def test_a_table_on_nvme_is_what_makes_one_spark_enough() -> None:
    model = find_model("qwen38-flash-next")
    (message,) = errors(model, Use(nodes=1, tp=1, mem_fraction=0.85))
    assert "135.3 GB of weights > 0.85 x 121.6 GiB" in message


@pytest.mark.parametrize(
    ("variant", "nodes", "tokens"),
    [
        ("low-latency", 2, 1_480_000),
        ("high-throughput", 2, 1_070_000),
        ("low-latency", 1, 93_000),
        ("high-throughput", 1, 286_000),
    ],
)
def test_pools_that_upstream_states_are_below_ours(variant: str, nodes: int, tokens: int) -> None:
    """Ours has no states, whose size is unknown, and takes all memory for free: an upper bound."""
    model = find_model("qwen38-flash-next")
    ours = kv_tokens(model, SPARK, entry_use(model, nodes, variant))
    assert ours is not None and ours > tokens


def test_the_notes_of_qwen38_27b() -> None:
    """16 layers x 4 heads x 256 x K and V in one byte; a state of 153.9 MB in FP32."""
    model = find_model("qwen38-27b")
    use = entry_use(model, 1, "eagle")
    assert kv_token_bytes(model, use) == 16 * 4 * 256 * 2
    pool = Use(nodes=1, tp=1, slots=20, running=4, draft_tokens=4)
    assert parts_of(model, pool)["states"].bytes == 21 * 153_900_000
    assert parts_of(model, pool)["states of drafts"].bytes == 16 * 153_900_000
    assert node_states(model, pool) == 37 * 153_900_000
    # 27B's own drafts replay states (--enable-linear-replayssm-spec).
    assert use.replays_states and not entry_use(model, 1, "none").replays_states
    assert node_states(model, replace(pool, replays_states=True)) == 21 * 153_900_000
    assert "states of drafts" not in parts_of(model, replace(pool, replays_states=True))
    # Where the entry states no slots, states and KV cache share what the weights leave, 0.9 : 1.
    table = memory_table(model, SPARK, use)
    left = table.budget - 21_900_000_000
    assert parts_of(model, use)["states"].bytes == pytest.approx(left * 0.9 / 1.9, rel=0.01)
    assert table.kv_tokens == pytest.approx(left / 1.9 / (32_768 * 17 / 16), rel=0.01)


def test_minimax_over_two_nodes_at_the_fraction_of_four() -> None:
    """The entry's own note: 69.5 GB of weights a node leave 2 GB at 0.55."""
    model = find_model("minimax-m27")
    table = memory_table(model, SPARK, Use(nodes=2, tp=2, mem_fraction=0.55))
    weights = table.parts[0].bytes or 0
    assert (weights / 1e9, (table.budget - weights) / 1e9) == pytest.approx((69.5, 2.3), abs=0.1)


# What the notes state of each model: GB of weights, tokens of context, the fewest nodes. None: they
# do not say.
NOTED: dict[str, tuple[float | None, int | None, int]] = {
    "qwen38-flash-next": (135.3, 262_144, 1),
    "qwen38-flash-next-nv": (None, 262_144, 1),
    "qwen38-27b": (21.9, 262_144, 1),
    "qwen38-27b-fp8": (30.9, 262_144, 1),
    "qwen38-27b-bf16": (54, 262_144, 1),
    "qwen38-27b-bf16head": (25.1, 262_144, 1),
    "qwen38-27b-nv": (21.9, 262_144, 1),
    "dsv4-flash": (156, 1_048_576, 2),
    "dsv4-flash-nv": (168.3, 1_048_576, 2),
    "dsv4-flash-vision": (168, 1_048_576, 2),
    "inkling-small": (170, 1_048_576, 2),
    "nemotron-lightning": (21.6, None, 1),
    "nemotron-lightning-bf16": (60, None, 1),
    "muse-glimmer": (60, None, 1),
    "muse-glimmer-nvfp4": (None, None, 1),
    "minicpm5-2b": (5, 131_072, 1),
    "ling-3-flash": (None, 262_144, 1),
    "qwen36-35b-fp8": (35, 262_144, 1),
    "qwen36-35b-nvfp4": (21, 262_144, 1),
    "qwen36-27b-fp8": (27, 262_144, 1),
    "qwen35-122b": (75, 262_144, 1),
    "minimax-m27": (139, 196_608, 2),
    "nemotron-super": (67, None, 1),
    "gemma4-26b": (52, 262_144, 1),
    "glm-53-flash": (194.3, None, 2),
    "dsv41-flash": (None, 1_048_576, 4),
    "gpt-oss-120b": (65.2, 131_072, 1),
}


@pytest.mark.parametrize("alias", NOTED)
def test_every_size_and_context_of_the_notes(alias: str) -> None:
    weights, context, nodes = NOTED[alias]
    model = find_model(alias)
    variant = next((v.name for v in model.variants if any(f.nodes == nodes for f in v.forms)), "")
    use = entry_use(model, nodes, variant)
    table = memory_table(model, SPARK, use)
    assert model.max_context == context and (model.min_nodes or 1) == nodes
    on_node = table.parts[0].bytes
    if weights is None:
        assert on_node is None and table.kv_tokens is None
        return
    assert on_node == pytest.approx((weights * 1e9 - use.offloaded_bytes) / nodes, rel=0.005)
    # It is served on so many nodes, so it must fit there, with one request's full context.
    assert on_node <= table.budget and errors(model, use) == []
    whole = use.context_length or context
    if table.kv_tokens is not None and whole:
        assert table.kv_tokens >= whole
        needed = parts_of(model, use)["KV cache"].bytes
        assert needed is not None
        assert needed == pytest.approx(whole * (kv_token_bytes(model, use) or 0))


def test_other_sizes_of_the_notes() -> None:
    flash = find_model("dsv4-flash")
    # 14.6 KB a token, the whole on both ranks. 78 GiB a node come with a draft of 5.4 GB.
    assert kv_token_bytes(flash, Use(nodes=2, tp=2)) == 14_600
    loaded = (node_weights(flash, Use(nodes=2, tp=2)) or 0) + 5.4e9
    assert loaded == pytest.approx(78 * GIB, rel=0.005)
    # In BF16 a token takes twice as much, and a state of BF16 78.4 MB (BF16's convolutions stay).
    model = find_model("qwen38-27b")
    assert kv_token_bytes(model, Use(nodes=1, tp=1)) == 2 * 32_768
    half = parts_of(model, Use(nodes=1, tp=1, slots=1, state_share=0.5))["states"].bytes
    assert half == pytest.approx(2 * 78.4e6, rel=0.02)


def test_a_head_of_the_checkpoint_has_one_layer_more() -> None:
    model = find_model("qwen38-27b")
    eagle, plain = entry_use(model, 1, "eagle"), entry_use(model, 1, "none")
    assert draft_token_bytes(model, eagle) == 32_768 / 16
    assert draft_token_bytes(model, plain) == 0
    assert parts_of(model, eagle)["draft's KV cache"].bytes == 262_144 * 32_768 / 16
    assert (kv_tokens(model, SPARK, eagle) or 0) < (kv_tokens(model, SPARK, plain) or 0)


def test_the_cache_of_a_draft_model_is_its_own() -> None:
    model = find_model("qwen38-27b")
    use = entry_use(model, 1, "dspark")
    assert "draft's KV cache" in memory_table(model, SPARK, use).unknown
    (draft, *_) = model.drafts
    stated = replace(model, drafts=(replace(draft, kv_token_bytes=20_480), *model.drafts[1:]))
    assert draft_token_bytes(stated, entry_use(stated, 1, "dspark")) == 20_480


def test_graphs_of_a_spark_by_context_and_requests() -> None:
    model = find_model("qwen7b")
    assert graph_batches(16, drafts=False) == [1, 2, 4, 8, 12, 16]
    assert len(graph_batches(256, drafts=False)) == 36 and len(graph_batches(32, drafts=True)) == 20
    assert graph_batches(0, drafts=False) == [] and graph_batches(17, drafts=False)[-1] == 17
    few, many = (Use(nodes=1, tp=1, context_length=32_768, graph_batch=n) for n in (8, 256))
    assert parts_of(model, few)["CUDA graphs"].bytes == pytest.approx(72.7 * MIB, rel=0.002)
    assert parts_of(model, many)["CUDA graphs"].bytes == pytest.approx(422.1 * MIB, rel=0.002)
    # What SGLang reserves in all stays its rule's: 10 GiB at least, 12.8 GiB for prefills of 8192.
    for use in (few, many):
        parts = parts_of(model, use)
        whole = (parts["CUDA graphs"].bytes or 0) + (parts["activations, JIT"].bytes or 0)
        rule = 512 + 8192 * 1.5 + 128 + 2 * use.graph_batch
        assert whole == pytest.approx(rule * MIB)
    # FlashInfer's index is smaller; off is off.
    less = replace(many, attention="flashinfer")
    saved = (parts_of(model, many)["CUDA graphs"].bytes or 0) - 256 * 32_768 * 4
    assert parts_of(model, less)["CUDA graphs"].bytes == pytest.approx(saved)
    assert parts_of(model, Use(nodes=1, tp=1))["CUDA graphs"].bytes == 0


def test_a_draft_of_which_only_the_head_is_loaded() -> None:
    model = find_model("qwen38-flash-next-nv")
    assert parts_of(model, entry_use(model, 2))["draft"].bytes == GIB / 2 / 2
    assert "draft" not in parts_of(model, entry_use(model, 1))


@pytest.mark.parametrize("model", SERVED, ids=lambda m: m.alias)
def test_forms_of_the_catalog_fit_as_far_as_they_are_known(model: Model) -> None:
    for variant in model.variants:
        for form in variant.forms:
            assert errors(model, entry_use(model, form.nodes, variant.name)) == []


# ---- rules


def test_what_is_unknown_is_named_and_never_zero() -> None:
    table = memory_table(Model(id="a/b"), SPARK, Use(nodes=1, tp=1, draft_bytes=None))
    assert table.unknown == ("weights", "KV cache", "draft")
    rows = {name: size for name, size, _ in memory_rows(table)}
    assert rows["weights"] == rows["KV cache"] == rows["draft"] == "unknown"
    assert "without weights and KV cache and draft" in [*memory_rows(table)][-2][2]
    (finding,) = fit(Model(id="a/b"), SPARK, Use(nodes=1, tp=1))
    assert finding.level is Level.WARNING


def test_what_other_groups_hold_is_out_of_reach() -> None:
    model = find_model("mixtral")
    use = Use(nodes=1, tp=1, mem_fraction=0.85)
    assert errors(model, use) == []
    (message,) = errors(model, Use(nodes=1, tp=1, mem_fraction=0.85, others_bytes=30e9))
    assert "without 30.0 GB of other groups" in message and "--data state=stopped" in message


def test_a_draft_that_the_fraction_leaves_no_room_for() -> None:
    model = find_model("llama8b")
    assert errors(model, Use(nodes=1, tp=1, mem_fraction=0.9, draft_bytes=10**10)) == []
    (message,) = errors(model, Use(nodes=1, tp=1, mem_fraction=0.95, draft_bytes=10**10))
    assert "10.0 GB of draft model do not fit beside mem_fraction = 0.95" in message
    assert "mem_fraction=0.92" in message
    assert errors(model, Use(nodes=1, tp=1, mem_fraction=0.92, draft_bytes=10**10)) == []


@given(
    model=st.sampled_from(SERVED),
    nodes=st.integers(1, 8),
    pp=st.sampled_from([1, 2, 4]),
    tp=st.integers(1, 16),
    fraction=st.sampled_from([0.3, 0.55, 0.8, 0.85, 0.95]),
    dtype=st.sampled_from(["auto", "bfloat16", *KV_WIDTH]),
    others=st.sampled_from([0, 3e10, 1.4e11]),
    slots=st.sampled_from([None, 1, 400]),
)
def test_any_use_is_judged_with_a_cure_and_no_head_is_split(
    model: Model,
    nodes: int,
    pp: int,
    tp: int,
    fraction: float,
    dtype: str,
    others: float,
    slots: int | None,
) -> None:
    use = Use(
        nodes=nodes,
        tp=tp,
        pp=pp,
        mem_fraction=fraction,
        kv_cache_dtype=dtype,
        others_bytes=others,
        slots=slots,
    )
    found = fit(model, SPARK, use, gpus_per_node=16)
    refused = [finding for finding in found if finding.level is Level.ERROR]
    assert all(finding.cure for finding in refused)
    table = memory_table(model, SPARK, use)
    assert all(part.bytes is None or part.bytes >= 0 for part in table.parts)
    assert len([*memory_rows(table)]) == len(table.parts) + 2
    if refused or any("not checked" in str(finding) for finding in found):
        return
    kv_heads, heads = model.shape.kv_heads, model.shape.attention_heads
    if kv_heads and heads and model.shape.kv_latent_dim is None:
        assert heads % tp == 0 and (kv_heads % tp == 0 or tp % kv_heads == 0)
    weights = node_weights(model, use)
    assert weights is not None and weights <= table.budget
