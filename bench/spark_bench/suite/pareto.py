"""Which variants are worth having: more throughput, or a shorter time to the first token."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from spark_bench.suite.rows import Row


def marked(rows: Sequence[Row]) -> list[Row]:
    """The rows, with `pareto` set on those that are OK."""
    varied = any(row.variant for row in rows)
    return [
        replace(row, pareto=not _dominated(row, rows, varied) if _measured(row) else None)
        for row in rows
    ]


def _measured(row: Row) -> bool:
    return row.status == "OK" and row.output_throughput is not None and row.ttft_ms is not None


def _dominated(row: Row, rows: Sequence[Row], varied: bool) -> bool:
    """By another one that is at least as good in both and better in one."""
    mine = _goodness(row)
    return any(
        other != mine and other[0] >= mine[0] and other[1] >= mine[1]
        for each in rows
        if _measured(each) and (not varied or each.model == row.model)
        for other in [_goodness(each)]
    )


def _goodness(row: Row) -> tuple[float, float]:
    assert row.output_throughput is not None
    assert row.ttft_ms is not None
    return row.output_throughput, -row.ttft_ms
