"""Every launch line that the catalogue can lead to; also words that a parser must refuse."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from cluster.catalog.models import catalog
from cluster.engine.argv import Launch

FULL = Launch(
    model_path="openai/gpt-oss-120b",
    served_model_name="gpt-oss",
    dist_timeout=600,
    mem_fraction=0.85,
    context_length=8192,
    trust_remote_code=True,
    reasoning_parser="gpt-oss",
    tool_call_parser="gpt-oss",
    disable_cuda_graph=True,
    enable_dp_attention=True,
)

ACCEPTED = (
    ("--max-running-requests", "8"),
    ("--max-running=8",),
    ("--chunked-prefill-size", "-1"),
    ("--log-level", "debug"),
    ("--json-model-override-args", '{"a": 1}'),
    ("--attention-backend", "triton"),
    ("--model", "other/model"),
    ("--mem-fraction=0.5",),
    ("--tp", "4"),
    ("--max-prefill-tokens", "4096"),
    ("--bucket-time-to-first-token", "0.1", "0.5"),
    ("--enable-metrics",),
    ("--chat-template", "- a template"),
)
REFUSED = (
    ("--nodes", "2"),
    ("--tp", "two"),
    ("--port", "http"),
    ("--reasoning-parser", "nope"),
    ("--tool-call-parser=deepseek",),
    ("--reasoning-parser", "deepseek"),
    ("--attention-backend", "tritn"),
    ("--max-running-requests",),
    ("--max-running-requests", "--log-level", "info"),
    ("--enable-metrics=yes",),
    ("--enable-metrics", "yes"),
    ("--disable", "x"),
    ("--bucket-time-to-first-token",),
    ("-tp", "2"),
    ("word",),
)


def launches() -> Iterator[Launch]:
    """Every model that SGLang serves, on 1, 2 and 4 nodes, first and last rank; every option."""
    for model in catalog():
        if model.runtime == "docker":
            one = Launch(
                model.id,
                mem_fraction=model.mem_fraction,
                trust_remote_code=model.trust_remote_code,
                reasoning_parser=model.reasoning_parser,
                tool_call_parser=model.tool_call_parser,
            )
            yield from over_nodes(one)
    yield from over_nodes(FULL)


def over_nodes(launch: Launch) -> Iterator[Launch]:
    for nodes in (1, 2, 4):
        group = replace(launch, tp=nodes, nnodes=nodes, dist_init_addr="169.254.1.1:50000")
        yield group
        if nodes > 1:
            yield replace(group, rank=nodes - 1)
            yield replace(group, tp=nodes // 2, pp=2)
