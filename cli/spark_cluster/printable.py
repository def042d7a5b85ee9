"""Text that came from outside (nodes, servers, logs, files), as it may be shown; sizes, and tables.

The project's `cluster/printable.py` has the same function, held to the same test: this package
installs alone.
"""

import re
from collections.abc import Sequence
from typing import Any

import click

# Whole sequences of a terminal (ECMA-48): CSI; then OSC, DCS, PM, APC and SOS up to their end; and
# letters that are blank (hangul fillers and the like), which `str.isprintable` lets pass.
_SEQUENCE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x90\x98\x9c-\x9f]*(?:\x07|\x1b\\|\x9c)"
    r"|[\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0]"
)


def printable(text: str, *, lines: bool = False) -> str:
    """The text without anything that steers a terminal or hides what it says, on one line.

    Terminal sequences and control characters are left out; white space is a blank; whatever else is
    not printable (bidirectional and zero-width characters, half surrogates) is "?".

    + lines: line ends stay
    """
    shown = _SEQUENCE.sub("", text)
    if shown.isprintable():
        return shown
    allowed = "\n" if lines else ""
    parts = []
    for c in shown:
        if c.isprintable() or c in allowed:
            parts.append(c)
        else:
            parts.append(" " if c.isspace() else "" if c < "\xa0" else "?")
    return "".join(parts)


def all_printable(document: Any) -> Any:
    """The same document with each text in it printable: for people, never for programs."""
    if isinstance(document, str):
        return printable(document)
    if isinstance(document, dict):
        return {all_printable(name): all_printable(value) for name, value in document.items()}
    if isinstance(document, list | tuple):
        return [all_printable(each) for each in document]
    return document


UNKNOWN = "unknown"


def gigabytes(count: float | None) -> str:
    """Bytes on a disk or in memory: "12.3 GB", a small model's "45 MB", or "unknown"."""
    if count is None:
        return UNKNOWN
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.0f} MB"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = ()) -> str:
    """Columns under their heads, as wide as they must be; those in `right` are right-aligned."""
    widths = [max(map(len, map(click.unstyle, cells))) for cells in zip(head, *rows, strict=True)]
    to_right = [name in right for name in head]

    def line(cells: Sequence[str]) -> str:
        padded = []
        for cell, width, is_right in zip(cells, widths, to_right, strict=True):
            space = " " * (width - len(click.unstyle(cell)))
            padded.append(space + cell if is_right else cell + space)
        return "  ".join(padded).rstrip()

    return "\n".join([click.style(line(head), bold=True), *map(line, rows)])
