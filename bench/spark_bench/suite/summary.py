"""summary.txt: the matrix, the rankings, and what went wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from spark_bench.display.figures import digits, duration
from spark_bench.printable import printable
from spark_bench.suite.rows import Row
from spark_bench.suite.table import plain

HEAD = ("Model", "Nodes", "TP", "Output tok/s", "TTFT ms", "ITL ms", "E2E ms", "Status")


def summary(rows: Sequence[Row], load: str, when: str, seconds: float) -> str:
    """The whole text. load: in words; when: it began; seconds: it took."""
    return "\n\n".join(_parts(rows, load, when, seconds)) + "\n"


def lines(rows: Sequence[Row]) -> list[list[str]]:
    """The matrix, under HEAD; what there is no figure for is "-"."""
    return [
        [
            title(row),
            _count(row.nodes),
            _count(row.tp),
            digits(row.output_throughput),
            digits(row.ttft_ms),
            digits(row.itl_ms),
            digits(row.e2e_ms),
            row.status,
        ]
        for row in rows
    ]


def title(row: Row) -> str:
    """A row's model, with the variant where there is one."""
    return printable(f"{row.model_short} {row.variant}".strip())


def _parts(rows: Sequence[Row], load: str, when: str, seconds: float) -> Iterator[str]:
    done = sum(row.status == "OK" for row in rows)
    yield f"spark-bench all: {load}\nbegun {when}, {duration(seconds)}, {done} of {len(rows)} OK"
    yield f"Performance matrix\n\n{plain(HEAD, lines(rows))}"
    yield f"Throughput ranking (output tokens/s, most first)\n\n{_ranking(by_throughput(rows), 0)}"
    yield f"TTFT ranking (ms, least first)\n\n{_ranking(by_ttft(rows), 1)}"
    if any(row.variant for row in rows):
        yield from _variants(rows)
    if told := [[title(row), row.status, row.diagnosis] for row in rows if row.status != "OK"]:
        yield "Not measured, and why\n\n" + "\n".join(
            f"{a}: {b}: {printable(c)}" for a, b, c in told
        )


def by_throughput(rows: Sequence[Row]) -> list[Row]:
    """Most first; those without at the end, in their order."""
    return sorted(rows, key=lambda r: -r.output_throughput if r.output_throughput else 1.0)


def by_ttft(rows: Sequence[Row]) -> list[Row]:
    """Least first; those without at the end, in their order."""
    return sorted(rows, key=lambda r: r.ttft_ms if r.ttft_ms is not None else float("inf"))


def _ranking(rows: Sequence[Row], which: int) -> str:
    """which: 0 throughput, 1 TTFT."""
    table = []
    for place, row in enumerate(rows, start=1):
        figure = row.ttft_ms if which else row.output_throughput
        table.append([f"{place}." if figure is not None else "-", title(row), digits(figure)])
    width = max((len(line[1]) for line in table), default=0)
    return "\n".join(f"{a:>4}  {b.ljust(width)}  {c:>10}" for a, b, c in table)


def _variants(rows: Sequence[Row]) -> Iterator[str]:
    from spark_bench.suite.matrix import throughput

    yield f"Output tokens/s by variant\n\n{throughput(rows)}"
    front = sorted((r for r in rows if r.pareto), key=lambda r: (r.model, -(r.ttft_ms or 0.0)))
    table = [[title(r), digits(r.output_throughput), digits(r.ttft_ms)] for r in front]
    head = ("Variant", "Output tok/s", "TTFT ms")
    meaning = "no other variant of the model has more output tokens/s and a shorter TTFT"
    yield f"Pareto front ({meaning})\n\n{plain(head, table)}"


def _count(value: int | None) -> str:
    return "-" if value is None else str(value)
