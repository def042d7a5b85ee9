"""Text that came from outside (servers, files, nodes), as it may be shown or written.

The project's `cluster/printable.py` has the same functions, held to the same test: this package
installs alone.
"""

import json
import re
from typing import Any

# Whole sequences of a terminal (ECMA-48): CSI; then OSC, DCS, PM, APC and SOS up to their end; and
# letters that are blank (hangul fillers and the like), which `str.isprintable` lets pass.
_SEQUENCE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x90\x98\x9c-\x9f]*(?:\x07|\x1b\\|\x9c)"
    r"|[\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0]"
)
# Signs with which table programs begin a formula; the wide ones count in some of them.
_FORMULA = tuple("=+-@＝＋－＠")  # noqa: RUF001
# What Markdown reads as more than text: its signs, tags and entities, and what GitHub makes links.
_MARKS = re.compile(r"[\\`*\[\]|~#!@]|(?<![^\W_])_|_(?![^\W_])|:(?=//)|(?<=www)\.")


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
    return "".join(c if c.isprintable() or c in allowed else _instead(c) for c in shown)


def _instead(c: str) -> str:
    return " " if c.isspace() else "" if c < "\xa0" else "?"


def json_text(document: bytes) -> str:
    """An encoded JSON document, the same data, with what is not printable as JSON's escapes."""
    return "".join(
        c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in document.decode()
    )


def cell(value: Any) -> Any:
    """A value for CSV: a text that a table program would take for a formula has a ' before it."""
    if not isinstance(value, str):
        return value
    text = printable(value, lines=True)
    return f"'{text}" if text.lstrip().startswith(_FORMULA) else text


def markdown(text: str) -> str:
    """A text in Markdown, where it is shown as it stands."""
    marked = _MARKS.sub(r"\\\g<0>", printable(text))
    return marked.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def code(text: str) -> str:
    """A name as code in Markdown; as text where it holds what ends code, a cell or a tag."""
    shown = printable(text)
    return markdown(text) if set(shown) & set("`|<>&") or not shown.strip() else f"`{shown}`"
