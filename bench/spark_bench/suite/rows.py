"""One line of the results: a model, or one variant of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import Struct

from spark_bench.suite.plan import Cell
from spark_bench.suite.status import Failure, Status

if TYPE_CHECKING:
    from spark_bench.results.types import Result


class Row(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every name is a column of results.csv and a key in results.json, in this order.

    The first ten are those of the scripts that this replaces: means, in ms and tokens a second.
    Figures are there only where status is OK; those of several repeats are medians.

    name: of the files, unique
    variant: the settings that were tried here
    diagnosis: why it is not OK
    low, high: the 95 % interval of output_throughput, over repeats or within the run
    pareto: no other variant of the model (without variants: no other model) has both more
        output_throughput and less ttft_ms
    client: the verdict on the client's own exactness
    started: seconds since the Epoch
    startup_seconds, bench_seconds: what the deploy and the run took
    """

    model: str
    model_short: str
    nodes: int | None
    tp: int | None
    output_throughput: float | None = None
    total_throughput: float | None = None
    ttft_ms: float | None = None
    itl_ms: float | None = None
    e2e_ms: float | None = None
    status: Status
    name: str
    variant: str = ""
    diagnosis: str = ""
    pp: int | None = None
    low: float | None = None
    high: float | None = None
    median_ttft_ms: float | None = None
    p99_ttft_ms: float | None = None
    median_itl_ms: float | None = None
    p99_itl_ms: float | None = None
    tpot_ms: float | None = None
    p99_e2e_ms: float | None = None
    request_throughput: float | None = None
    completed: int | None = None
    failed: int | None = None
    repeats: int | None = None
    duration: float | None = None
    pareto: bool | None = None
    client: str | None = None
    image: str | None = None
    engine_version: str | None = None
    revision: str | None = None
    spec: str | None = None
    started: float | None = None
    startup_seconds: float | None = None
    bench_seconds: float | None = None
    file: str | None = None
    log: str | None = None


COLUMNS = Row.__struct_fields__


def row(cell: Cell, failure: Failure | None, result: Result | None = None, **known: Any) -> Row:
    """What came of a cell. known: more of Row's fields."""
    told = {**_plain(cell), **known}
    if result is not None:
        told |= _counts(result) | _deployed(result)
    if failure is None and result is not None:
        return Row(**told | _figures(result), status="OK")
    assert failure
    return Row(**told, status=failure.status, diagnosis=failure.diagnosis)


def skipped(cell: Cell) -> Row:
    """Of a cell that is not measured."""
    return row(cell, Failure("SKIPPED", cell.skip))


def _plain(cell: Cell) -> dict[str, Any]:
    return {
        "model": cell.model,
        "model_short": cell.short,
        "nodes": cell.nodes or None,
        "tp": cell.tp or None,
        "pp": cell.pp or None,
        "name": cell.name,
        "variant": cell.variant,
    }


def _figures(result: Result) -> dict[str, Any]:
    summary, interval = result.summary, result.intervals.get("output_throughput")
    return {
        "output_throughput": summary.output_throughput,
        "total_throughput": summary.total_throughput,
        "ttft_ms": summary.mean_ttft_ms,
        "itl_ms": summary.mean_itl_ms,
        "e2e_ms": summary.mean_e2e_latency_ms,
        "low": interval.low if interval else None,
        "high": interval.high if interval else None,
        "median_ttft_ms": summary.median_ttft_ms,
        "p99_ttft_ms": summary.p99_ttft_ms,
        "median_itl_ms": summary.median_itl_ms,
        "p99_itl_ms": summary.p99_itl_ms,
        "tpot_ms": summary.mean_tpot_ms,
        "p99_e2e_ms": summary.p99_e2e_latency_ms,
        "request_throughput": summary.request_throughput,
        "duration": summary.duration,
        "client": result.audit.verdict,
    }


def _counts(result: Result) -> dict[str, Any]:
    return {
        "completed": result.summary.completed,
        "failed": result.summary.failed,
        "repeats": max(1, len(result.repeats)),
    }


def _deployed(result: Result) -> dict[str, Any]:
    deployment = result.provenance.deployment
    if deployment is None or not deployment.ranks:
        return {"engine_version": result.provenance.server.version}
    head, launch = deployment.ranks[0], deployment.launch
    return {
        "nodes": len(deployment.ranks),
        "tp": launch.get("tp"),
        "pp": launch.get("pp"),
        "image": head.image,
        "engine_version": head.engine_version or result.provenance.server.version,
        "revision": deployment.revision or None,
        "spec": head.spec,
    }
