"""Is what answers now what was wanted? A deploy says so; here it is looked at from outside."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from spark_bench.project import Listing
from spark_bench.protocol.models import models as listed
from spark_bench.suite.plan import Cell

if TYPE_CHECKING:
    from spark_bench.secret import Secret

# Settings that a rank's listing tells, by the name that it has there.
LAUNCH = {
    "tensor_parallel": "tp",
    "pipeline_parallel": "pp",
    **{
        name: name
        for name in (
            *("mem_fraction", "context_length", "reasoning_parser", "tool_call_parser"),
            *("trust_remote_code", "disable_cuda_graph", "enable_dp_attention", "enable_metrics"),
        )
    },
}
SECONDS = 30.0
# Of the list of models.
MOST_BYTES = 16 * 1024 * 1024


def problem(cell: Cell, listing: Listing, names: Sequence[str]) -> str:
    """What is wrong with what is served; "": nothing. names: the ids in /v1/models."""
    head = listing.head
    if head is None:
        return f"nothing runs, wanted is {cell.model}"
    if head.model != cell.model:
        return f"serves {head.model}, wanted is {cell.model}"
    if names and cell.served not in names:
        return f"serves {', '.join(names)}, wanted is {cell.served}"
    if not names:
        return f"{listing.url}/v1/models lists nothing, wanted is {cell.served}"
    for name, value in cell.settings.items():
        there = head.launch.get(LAUNCH.get(name, ""), value)
        if value not in ("auto", there) and not (value == "none" and not there):
            return f"serves {cell.model} with {name} = {there}, wanted is {value}"
    return ""


def models(url: str, key: Secret | None) -> list[str]:
    """The ids in /v1/models; none where nothing answers so."""
    import httpx

    headers = {"accept-encoding": "identity"}
    if key:
        headers["authorization"] = f"Bearer {key.reveal()}"
    body = b""
    with (
        suppress(httpx.HTTPError, httpx.InvalidURL),
        httpx.stream(
            "GET", f"{url}/v1/models", headers=headers, timeout=SECONDS, trust_env=False
        ) as answer,
    ):
        for piece in answer.iter_raw():
            body += piece
            if len(body) > MOST_BYTES:
                return []
        return [model.id for model in listed(body)] if answer.is_success else []
    return []
