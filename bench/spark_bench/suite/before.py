"""What was served before, and the deploy that brings it back."""

from __future__ import annotations

from typing import Any

from spark_bench.project import Listing
from spark_bench.suite.asked import Settings
from spark_bench.suite.job import Before

# A rank's launch as settings of the project. The rest of a rank's specification (paths, network,
# container) is the inventory's.
SAME = (
    *("mem_fraction", "context_length", "dist_timeout", "trust_remote_code", "disable_cuda_graph"),
    *("enable_dp_attention", "enable_metrics", "host", "port"),
)


def before(listing: Listing) -> Before | None:
    """What runs now; None: nothing."""
    head = listing.head
    if head is None:
        return None
    specs = tuple(rank.spec for rank in listing.ranks)
    return Before(model=head.model, data=_data(listing, head.launch), specs=specs)


def _data(listing: Listing, launch: dict[str, Any]) -> Settings:
    head = listing.ranks[0]
    alone = launch.get("nnodes") == 1 and len(listing.nodes) > 1
    spread = {"tensor_parallel": launch.get("tp"), "pipeline_parallel": launch.get("pp")}
    data: Settings = {
        "model": head.model,
        **({"head_only": True} if alone else spread),
        **{name: launch.get(name) for name in SAME},
        **{
            name: launch.get(name, "") or "none"
            for name in ("reasoning_parser", "tool_call_parser")
        },
        "extra_args": launch.get("extra_args") or None,
        "image": head.image or None,
    }
    if launch.get("served_model_name") != head.model:
        data["served_model_name"] = launch.get("served_model_name") or None
    return {name: value for name, value in data.items() if value is not None}
