"""The rows of a suite: what a case came to, which are worth having, and all as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from msgspec.structs import replace

from spark_bench.printable import cell
from spark_bench.results.suite_results import COLUMNS, CaseRow, Status
from spark_bench.suite.plan import Case

if TYPE_CHECKING:
    from spark_bench.results.schema import Result


class CaseFailure(NamedTuple):
    """What went wrong with a case, and why, in a few lines."""

    status: Status
    diagnosis: str


def case_row(
    case: Case, failure: CaseFailure | None, result: Result | None = None, **more: Any
) -> CaseRow:
    """The row of a case. failure: None: it is OK, and there is a result; more: of CaseRow's
    fields."""
    fields: dict[str, Any] = {
        "model": case.model,
        "model_short": case.short,
        "nodes": case.nodes or None,
        "tp": case.tp or None,
        "pp": case.pp or None,
        "name": case.name,
        "variant": case.variant,
        **more,
    }
    if result is not None:
        fields |= {
            "completed": result.summary.completed,
            "failed": result.summary.failed,
            "repeats": max(1, len(result.repeats)),
            "engine_version": result.provenance.server.version,
        }
        deployment = result.provenance.deployment
        if deployment and deployment.ranks:
            head, launch = deployment.ranks[0], deployment.launch
            fields |= {
                "nodes": len(deployment.ranks),
                "tp": launch.get("tp"),
                "pp": launch.get("pp"),
                "image": head.image,
                "engine_version": head.engine_version or fields["engine_version"],
                "revision": deployment.revision or None,
                "spec": head.spec,
            }
    if failure is None and result is not None:
        return CaseRow(**fields | _figures(result), status="OK")
    assert failure
    return CaseRow(**fields, status=failure.status, diagnosis=failure.diagnosis)


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


def mark_pareto(rows: Sequence[CaseRow]) -> list[CaseRow]:
    """The rows, with `pareto` set on those that are OK."""
    varied = any(row.variant for row in rows)
    figures = [
        (row.output_throughput, -row.ttft_ms, row.model if varied else "")
        if row.status == "OK" and row.output_throughput is not None and row.ttft_ms is not None
        else None
        for row in rows
    ]

    def is_dominated(mine: tuple[float, float, str]) -> bool:
        """By another one that is at least as good in both and better in one."""
        return any(
            each and each != mine
            and each[0] >= mine[0] and each[1] >= mine[1] and each[2] == mine[2]
            for each in figures
        )  # fmt: skip

    return [
        replace(row, pareto=not is_dominated(mine) if mine else None)
        for row, mine in zip(rows, figures, strict=True)
    ]


def rows_csv(rows: Sequence[CaseRow]) -> str:
    """results.csv's text, with a header; a missing figure is empty, and no text is a formula."""

    def plain(value: Any) -> Any:
        if isinstance(value, bool):
            return str(value).lower()
        return round(value, 3) if isinstance(value, float) else value

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([cell(plain(getattr(row, name))) for name in COLUMNS] for row in rows)
    return text.getvalue()
