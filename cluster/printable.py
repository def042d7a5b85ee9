"""Text that came from outside (nodes, servers, hubs, logs, files), as it may be shown.

`spark_bench` and `spark_cluster` install alone: each has the same function, held to the same test.
"""

import json
import logging
import re

# Whole sequences of a terminal (ECMA-48): CSI; then OSC, DCS, PM, APC and SOS up to their end; and
# letters that are blank (hangul fillers and the like), which `str.isprintable` lets pass.
_SEQUENCE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x90\x98\x9c-\x9f]*(?:\x07|\x1b\\|\x9c)"
    r"|[\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0]"
)
# What click.style makes: bold, dim, a color, and the end of it.
_COLOR = re.compile(r"(\x1b\[(?:[012]|[39][0-7])m)")


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
    return "".join(
        c if c.isprintable() or c in allowed else " " if c.isspace() else "" if c < "\xa0" else "?"
        for c in shown
    )


def colored(text: str) -> str:
    """One of our own lines as pyinfra colors it: `printable`, but with its line ends and colors."""
    parts = _COLOR.split(text)
    return "".join(c if i % 2 else printable(c, lines=True) for i, c in enumerate(parts))


def printable_record(record: logging.LogRecord) -> bool:
    """A filter of pyinfra's logger that makes every record `colored`, and lets it pass."""
    record.msg, record.args = colored(record.getMessage()), ()
    return True


def tail(text: str, characters: int = 500) -> str:
    """The end of a long output, where the reason for a failure is."""
    return text.strip()[-characters:]


def json_text(document: bytes) -> str:
    """An encoded JSON document as text: the same data, unprintable characters as JSON escapes."""
    return "".join(
        c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in document.decode()
    )


def short_image_id(image_id: str) -> str:
    """The first 12 digits of an image's id, "sha256:…"."""
    return image_id.removeprefix("sha256:")[:12]


def gigabytes(count: float, digits: int = 1, *, of: float | None = None) -> str:
    """Bytes as "12.3 GB", or "12.3 of 65.2 GB": disks, weights, downloads."""
    return _size(1e9, "GB", digits, count, of)


def gibibytes(count: float, digits: int = 1, *, of: float | None = None) -> str:
    """Bytes as "12.3 GiB", or "12.3 of 65.2 GiB": memory, images."""
    return _size(2**30, "GiB", digits, count, of)


def _size(scale: float, unit: str, digits: int, count: float, whole: float | None) -> str:
    numbers = (f"{n / scale:.{digits}f}" for n in (count, whole) if n is not None)
    return f"{' of '.join(numbers)} {unit}"
