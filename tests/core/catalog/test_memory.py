"""The memory table: its arithmetic beside what sources state, and beside logs of real GPUs."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from cluster.catalog.entry import Model, Shape
from cluster.catalog.fit import fit
from cluster.catalog.memory import (
    CUDA_SHARE,
    GIB,
    KV_WIDTH,
    Part,
    Use,
    entry_use,
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


def parts_of(model: Model, use: Use) -> dict[str, Part]:
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
    assert parts_of(model, pool)["states"].bytes == 20 * 153_900_000
    assert parts_of(model, pool)["states of drafts"].bytes == 16 * 153_900_000
    assert node_states(model, pool) == 36 * 153_900_000
    assert parts_of(model, use)["states"].bytes is None


def test_minimax_over_two_nodes_at_the_fraction_of_four() -> None:
    """The entry's own note: 69.5 GB of weights a node leave 2 GB at 0.55."""
    model = find_model("minimax-m27")
    table = memory_table(model, SPARK, Use(nodes=2, tp=2, mem_fraction=0.55))
    weights = table.parts[0].bytes or 0
    assert (weights / 1e9, (table.budget - weights) / 1e9) == pytest.approx((69.5, 2.3), abs=0.1)


def test_a_draft_of_which_only_the_head_is_loaded() -> None:
    model = find_model("qwen38-flash-next-nv")
    assert parts_of(model, entry_use(model, 2))["draft"].bytes == GIB / 2 / 2
    assert "draft" not in parts_of(model, entry_use(model, 1))


@pytest.mark.parametrize("model", SERVED, ids=lambda m: m.alias)
def test_forms_of_the_catalog_fit_as_far_as_they_are_known(model: Model) -> None:
    for variant in model.variants:
        for form in variant.forms:
            assert errors(model, entry_use(model, form.nodes, variant.name)) == []


# ---- two H100 cards, SGLang 0.5.11: the lines of both ranks' logs

QWEN2_7B = Model(
    id="a/random",
    # Of its index: a vocabulary of 32,000 in place of Qwen2's.
    weight_bytes=13_509_995_520,
    shape=Shape(layers=28, attention_heads=28, kv_heads=4, head_dim=128, hidden=3584),
    max_context=8192,
)


@pytest.mark.parametrize(
    ("free", "tokens", "kv"), [(77.68, 2_090_404, 2 * 27.91), (78.21, 2_106_203, 2 * 28.12)]
)
def test_weights_and_kv_cache_of_two_real_gpus(free: float, tokens: int, kv: float) -> None:
    """--mem-fraction-static 0.8, tp 2 over two "nodes"; sizes in the log are GiB. Weights come out
    0.6 % below the log's, the pool's tokens 0.1 % above."""
    use = Use(nodes=2, tp=2, mem_fraction=0.8, graph_batch=256)
    total = int(free * GIB / CUDA_SHARE)
    table = memory_table(QWEN2_7B, total, use)
    assert table.parts[0].bytes == pytest.approx(6.33 * GIB, rel=0.01)
    assert table.kv_tokens == pytest.approx(tokens, rel=0.002)
    assert tokens * (kv_token_bytes(QWEN2_7B, use) or 0) == pytest.approx(kv * GIB, rel=0.001)
    # 0.44 and 0.45 GB by the log: SGLang's rule of thumb reserves 14 % more.
    graphs = next(part for part in table.parts if part.name == "CUDA graphs")
    assert graphs.bytes == pytest.approx(0.44 * GIB, rel=0.15)


# ---- rules


def test_what_is_unknown_is_said_and_never_nothing() -> None:
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
