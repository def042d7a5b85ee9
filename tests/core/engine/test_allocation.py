"""What logs of real SGLang say about memory, beside what the table computes."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from cluster.catalog.entry import Model
from cluster.catalog.memory import GIB, Use, memory_table
from cluster.engine.allocation import Allocation, allocation_rows, read_allocation

# Two H100 cards, SGLang 0.5.11, tensor parallelism over two "nodes": rank 0's lines.
SERVED = """
[2026-11-26 19:19:54 TP0] Load weight begin. avail mem=77.68 GB
[2026-11-26 19:19:57 TP0] Load weight end. elapsed=2.38 s, type=Qwen2ForCausalLM, avail mem=71.36 GB, mem usage=6.33 GB.
[2026-11-26 19:19:57 TP0] KV Cache is allocated. #tokens: 2090404, K size: 27.91 GB, V size: 27.91 GB
[2026-11-26 19:19:57 TP0] Memory pool end. avail mem=15.40 GB
[2026-11-26 19:20:08 TP0] Capture cuda graph end. Time elapsed: 10.36 s. mem usage=0.44 GB. avail mem=14.85 GB.
""".strip().splitlines()  # noqa: E501
# Two GPUs in one machine, a published log of Qwen3.5-9B (a hybrid); then a draft model's lines.
HYBRID = """
[2026-04-14 16:08:49 TP1] Load weight end. elapsed=5.46 s, type=Qwen3_5ForConditionalGeneration, avail mem=14.08 GB, mem usage=8.85 GB.
[2026-04-14 16:08:49 TP0] Load weight end. elapsed=5.54 s, type=Qwen3_5ForConditionalGeneration, avail mem=14.08 GB, mem usage=8.85 GB.
[2026-04-14 16:08:49 TP0] Mamba Cache is allocated. max_mamba_cache_size: 186, conv_state size: 0.10GB, ssm_state size: 4.38GB
[2026-04-14 16:08:49 TP1] Mamba Cache is allocated. max_mamba_cache_size: 186, conv_state size: 0.10GB, ssm_state size: 4.38GB
[2026-04-14 16:08:49 TP1] KV Cache is allocated. #tokens: 327310, K size: 2.50 GB, V size: 2.50 GB
[2026-04-14 16:08:52 TP1] Load weight end. elapsed=1.00 s, type=DFlash2DraftModel, avail mem=9.00 GB, mem usage=3.65 GB.
[2026-04-14 16:08:53 TP1] KV Cache is allocated. dtype: torch.bfloat16, #tokens: 327310, KV size: 4.76 GB
""".strip().splitlines()  # noqa: E501


def test_states_and_a_draft_are_distinguished_and_one_gpu_counts() -> None:
    found = read_allocation(HYBRID)
    assert (found.weights, found.draft) == (8.85 * GIB, 3.65 * GIB)
    assert found.states == pytest.approx(4.48 * GIB)
    assert (found.kv, found.kv_tokens) == (5 * GIB, 327_310)
    assert found.draft_kv == pytest.approx(4.76 * GIB)


def test_what_is_unknown_on_either_side_is_named_or_left_out() -> None:
    table = memory_table(Model(id="a/b"), 1 << 37, Use(nodes=1, tp=1))
    assert [*allocation_rows(Allocation(), table)] == []
    assert [*allocation_rows(read_allocation(HYBRID), table)] == [
        "weights 9.5 GB, computed: unknown",
        "draft 3.9 GB, computed: unknown",
        "draft's KV cache 5.1 GB, computed: unknown",
        "states 4.8 GB, computed: unknown",
        "KV cache 5.4 GB: 327,310 tokens, computed: unknown",
    ]


@given(st.lists(st.text(max_size=80) | st.sampled_from(SERVED + HYBRID), max_size=9))
def test_any_log_is_read(lines: list[str]) -> None:
    found = read_allocation(lines)
    assert all(getattr(found, name) >= 0 for name in vars(Allocation()))


def test_a_line_that_lies_is_bounded() -> None:
    line = "Load weight end. mem usage=" + "9" * 60_000 + " GB"
    assert read_allocation([line]) == Allocation()
