"""Make text from outside (servers, files, nodes) safe to show or write.

The project's `cluster/printable.py` has the same functions and must pass the same test. They are
here again because this package can be installed alone.
"""

import json
import re
from typing import Any

# Complete escape sequences (ECMA-48): CSI; then OSC, DCS, PM, APC and SOS up to their terminator;
# and letters that look blank (Hangul fillers and the like), which `str.isprintable` accepts.
_SEQUENCE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x90\x98\x9c-\x9f]*(?:\x07|\x1b\\|\x9c)"
    r"|[\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0]"
)
# Characters that start a formula in a spreadsheet; some programs accept the full-width ones too.
_FORMULA = tuple("=+-@＝＋－＠")  # noqa: RUF001
# What Markdown would interpret, and what GitHub turns into links. (`markdown` escapes & < >.)
_MARKS = re.compile(r"[\\`*\[\]|~#!@]|(?<![^\W_])_|_(?![^\W_])|:(?=//)|(?<=www)\.")


def printable(text: str, *, lines: bool = False) -> str:
    """The text on one line, without anything that controls a terminal or hides what it says.

    Escape sequences and control characters are removed, white space becomes a blank, and anything
    else that isn't printable (bidirectional and zero-width characters, lone surrogates) becomes
    "?".

    lines: keep line ends
    """
    shown = _SEQUENCE.sub("", text)
    if shown.isprintable():
        return shown
    allowed = "\n" if lines else ""
    return "".join(
        c if c.isprintable() or c in allowed else " " if c.isspace() else "" if c < "\xa0" else "?"
        for c in shown
    )


def json_text(document: bytes) -> str:
    """A JSON document as text, with unprintable characters as JSON escapes: the same data."""
    return "".join(
        c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in document.decode()
    )


def cell(value: Any) -> Any:
    """A value for CSV; text that a spreadsheet would take for a formula gets a leading '."""
    if not isinstance(value, str):
        return value
    text = printable(value, lines=True)
    return f"'{text}" if text.lstrip().startswith(_FORMULA) else text


def markdown(text: str) -> str:
    """Escape a text so that Markdown shows it literally."""
    marked = _MARKS.sub(r"\\\g<0>", printable(text))
    return marked.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def code(text: str) -> str:
    """A name as inline code in Markdown, or as escaped text if it is blank or contains a character
    that could end the code, a table cell or a tag."""
    shown = printable(text)
    return markdown(text) if set(shown) & set("`|<>&") or not shown.strip() else f"`{shown}`"
