"""What a client reports about a run, under common names. Times are milliseconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

METRICS = ("ttft", "itl")
FIGURES = ("mean", "p50", "p99")


@dataclass(frozen=True)
class Reported:
    """A client's own figures; None if it doesn't report one.

    ttft, itl: by FIGURES
    by_chunk: whether it defines ITL as the time from chunk to chunk, however many tokens they have
    tpot: the mean over requests
    throughput: output tokens per second
    counting: how it knows the number of tokens in an event, on which its ITL is based
    """

    completed: int
    tokens: int
    throughput: float
    ttft: dict[str, float]
    itl: dict[str, float]
    tpot: float | None
    by_chunk: bool = False
    counting: str = "one an event"


def from_sglang(result: Mapping[str, Any]) -> Reported:
    """Read a result with the keys of sglang.benchmark.serving; vLLM's and ours are the same."""
    return Reported(
        completed=result["completed"],
        tokens=result["total_output_tokens"],
        throughput=result["output_throughput"] or 0.0,
        ttft=_sglang_figures(result, "ttft"),
        itl=_sglang_figures(result, "itl"),
        tpot=result.get("mean_tpot_ms"),
    )


def from_ours(summary: Mapping[str, Any]) -> Reported:
    """Read our summary, which also says for what share of tokens each way of counting was used."""
    shares = sorted(summary["itl_source"].items(), key=lambda each: -float(each[1]))
    words = [source if share == 1 else f"{share:.0%} {source}" for source, share in shares]
    return replace(from_sglang(summary), counting=", ".join(words))


def from_aiperf(result: Mapping[str, Any]) -> Reported:
    """Read profile_export_aiperf.json. Its "inter token latency" is what others call TPOT; the
    gaps are its "inter chunk latency"."""
    return Reported(
        completed=round(_average(result, "request_count")),
        tokens=round(_average(result, "total_output_tokens")),
        throughput=_average(result, "output_token_throughput"),
        ttft=_aiperf_figures(result, "time_to_first_token"),
        itl=_aiperf_figures(result, "inter_chunk_latency"),
        tpot=_average(result, "inter_token_latency") or None,
        by_chunk=True,
    )


def _sglang_figures(result: Mapping[str, Any], metric: str) -> dict[str, float]:
    keys = {"mean": "mean", "p50": "median", "p99": "p99"}
    values = {figure: result.get(f"{key}_{metric}_ms") for figure, key in keys.items()}
    return {figure: float(value) for figure, value in values.items() if value is not None}


def _aiperf_figures(result: Mapping[str, Any], metric: str) -> dict[str, float]:
    values = result.get(metric, {})
    keys = {"mean": "avg", "p50": "p50", "p99": "p99"}
    return {figure: float(values[key]) for figure, key in keys.items() if key in values}


def _average(result: Mapping[str, Any], metric: str) -> float:
    return float(result.get(metric, {}).get("avg", 0.0))
