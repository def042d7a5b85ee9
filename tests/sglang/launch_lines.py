"""Every launch line that the catalog can lead to; also words that a parser must refuse."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from samples import every_form, rendered

from cluster.engine.argv import Launch
from cluster.engine.options import nearest_recorded

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


def launches(release: str) -> Iterator[tuple[Launch, tuple[str, ...]]]:
    """First and last rank of every entry, variant and number of nodes whose image's options are
    compared with this release; each with what its image must know by its entry's word. Then every
    option of ours."""
    for model, variant, nodes in every_form():
        declared, version, specs = rendered(model, nodes, variant=variant)
        if nearest_recorded(version) == release:
            ranks = [*specs.values()]
            for spec in (ranks[0], *ranks[1:][-1:]):
                yield spec.launch, declared.catalog.own_arguments
    yield from ((launch, ()) for launch in over_nodes(FULL))


def over_nodes(launch: Launch) -> Iterator[Launch]:
    for nodes in (1, 2, 4):
        group = replace(launch, tp=nodes, nnodes=nodes, dist_init_addr="169.254.1.1:50000")
        yield group
        if nodes > 1:
            yield replace(group, rank=nodes - 1)
            yield replace(group, tp=nodes // 2, pp=2)
