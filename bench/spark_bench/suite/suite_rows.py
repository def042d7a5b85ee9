"""The rows of a suite: what each case came to, and which of them are the best or can't be used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from msgspec import UNSET
from msgspec.structs import replace

from spark_bench.compare.scores import ScorePart, proven_losses, why_unusable
from spark_bench.results.suite_results import MEASURED, CaseRow, Status
from spark_bench.suite.plan import Case

if TYPE_CHECKING:
    from spark_bench.results.schema import Result


class CaseFailure(NamedTuple):
    """Why a case is not OK, in a few lines."""

    status: Status
    diagnosis: str


def case_row(
    case: Case, failure: CaseFailure | None, result: Result | None = None, **more: Any
) -> CaseRow:
    """The row of a case.

    failure: what went wrong; None: the case is OK, and there is a result
    more: further fields of CaseRow
    """
    fields: dict[str, Any] = {
        "model": case.model,
        "model_short": case.short,
        "nodes": case.nodes or None,
        "tp": case.tp or None,
        "pp": case.pp or None,
        "name": case.name,
        "variant": case.variant,
        "served_variant": case.served_variant,
        **dict.fromkeys(STREAMS),
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


# What the streams show, in results.csv only if some row has it.
STREAMS = ("slots", "queue_ms", "prompts_p99_share")
# The figures of a row, and what a result calls them.
FIGURES = {
    "output_throughput": "output_throughput",
    "total_throughput": "total_throughput",
    "ttft_ms": "mean_ttft_ms",
    "itl_ms": "mean_itl_ms",
    "e2e_ms": "mean_e2e_latency_ms",
    "median_ttft_ms": "median_ttft_ms",
    "p99_ttft_ms": "p99_ttft_ms",
    "median_itl_ms": "median_itl_ms",
    "p99_itl_ms": "p99_itl_ms",
    "tpot_ms": "mean_tpot_ms",
    "p99_e2e_ms": "p99_e2e_latency_ms",
    "request_throughput": "request_throughput",
    "duration": "duration",
}


def _figures(result: Result) -> dict[str, Any]:
    interval, queue = result.intervals.get("output_throughput"), result.queue
    shares = [
        each.stalls.prefills.p99_share
        for each in result.repeats or (result,)
        if each.stalls and each.stalls.prefills
    ]
    values = [share for share in shares if share is not None]
    bounds = result.bounds or {}
    return {
        **{name: getattr(result.summary, key) for name, key in FIGURES.items()},
        "low": interval.low if interval else None,
        "high": interval.high if interval else None,
        "client": result.audit.verdict,
        "slots": UNSET if queue is UNSET else queue.slots,
        "queue_ms": UNSET if queue is UNSET else queue.wait_ms,
        "prompts_p99_share": UNSET if not shares else median(values) if values else None,
        "bounds": {
            **{
                name: (bounds[key].low, bounds[key].high)
                for name, key in FIGURES.items()
                if key in bounds
            },
            **({} if queue is UNSET else {"queue_ms": (queue.wait_low_ms, queue.wait_high_ms)}),
        }
        or UNSET,
    }


def mark_pareto(rows: Sequence[CaseRow]) -> list[CaseRow]:
    """The rows, with `pareto` set where the status is OK."""
    varied = any(row.variant for row in rows)
    figures = [
        (row.output_throughput, -row.ttft_ms, row.model if varied else "")
        if row.status == "OK" and row.output_throughput is not None and row.ttft_ms is not None
        else None
        for row in rows
    ]

    def is_dominated(mine: tuple[float, float, str]) -> bool:
        """Whether another row is at least as good in both figures and better in one."""
        return any(
            each and each != mine
            and each[0] >= mine[0] and each[1] >= mine[1] and each[2] == mine[2]
            for each in figures
        )  # fmt: skip

    return [
        replace(row, pareto=not is_dominated(mine) if mine else None)
        for row, mine in zip(rows, figures, strict=True)
    ]


def mark_wrong(
    rows: Sequence[CaseRow], answers: Mapping[tuple[str, str], ScorePart], loss: float
) -> list[CaseRow]:
    """The measured rows with the status that their answers give them, OK or WRONG_ANSWERS.

    answers: by the row's name and the task; loss: points that a variant may lose
    """
    measured = [row for row in rows if row.status in MEASURED and row.by_task]
    problems: dict[str, list[str]] = {}
    for (name, _), part in answers.items():
        if problem := why_unusable(part):
            problems.setdefault(name, []).append(problem)
    for model in dict.fromkeys(row.model for row in measured):
        same = {r.variant or r.name: r for r in measured if r.model == model}
        variants = {
            title: [answers[row.name, task] for task in row.by_task] for title, row in same.items()
        }
        for title, sentence in proven_losses(variants, loss).items():
            problems.setdefault(same[title].name, []).append(sentence)

    def judged(row: CaseRow) -> CaseRow:
        if row.status not in MEASURED or not row.by_task:
            return row
        wrong = problems.get(row.name, [])
        status: Status = "WRONG_ANSWERS" if wrong else "OK"
        return replace(row, status=status, diagnosis="; ".join(wrong))

    return [judged(row) for row in rows]


def score_tasks(rows: Sequence[CaseRow]) -> list[str]:
    """The tasks that any row has a score of."""
    return list(dict.fromkeys(task for row in rows for task in row.by_task))
