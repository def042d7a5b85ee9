"""Tables in plain text and in Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from spark_bench.printable import markdown as escaped

Cells = Sequence[Sequence[str]]


def plain(head: Sequence[str], rows: Cells, left: int = 1) -> str:
    """Columns two blanks apart; the first `left` are flush left, and so is the last."""
    widths = [max(len(line[n]) for line in (head, *rows)) for n in range(len(head))]

    def one(line: Sequence[str]) -> str:
        last = len(line) - 1
        cells = (
            text.ljust(width) if n < left or n == last else text.rjust(width)
            for n, (text, width) in enumerate(zip(line, widths, strict=True))
        )
        return "  ".join(cells).rstrip()

    return "\n".join([one(head), "  ".join("-" * width for width in widths), *map(one, rows)])


def markdown(head: Sequence[str], rows: Cells, left: int = 1) -> str:
    """As GitHub shows it; figures are flush right."""
    rule = ["---" if n < left else "---:" for n in range(len(head))]
    return "\n".join(
        f"| {' | '.join(line)} |"
        for line in (map(escaped, head), rule, *(map(escaped, row) for row in rows))
    )
