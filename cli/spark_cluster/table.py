"""A table on a terminal or in a pipe: columns as wide as they must be, nothing cut."""

from collections.abc import Sequence

import click


def table(head: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = ()) -> str:
    """Aligned columns under their heads; those named in `right` to the right."""
    widths = [max(map(len, map(click.unstyle, cells))) for cells in zip(head, *rows, strict=True)]
    to_right = [name in right for name in head]

    def line(cells: Sequence[str]) -> str:
        padded = []
        for cell, width, is_right in zip(cells, widths, to_right, strict=True):
            space = " " * (width - len(click.unstyle(cell)))
            padded.append(space + cell if is_right else cell + space)
        return "  ".join(padded).rstrip()

    return "\n".join([click.style(line(head), bold=True), *map(line, rows)])
