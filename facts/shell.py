"""Pieces of POSIX sh that several facts share. Every value is quoted once, here or by the fact."""

from __future__ import annotations

from pyinfra.api import QuoteString, StringCommand


def joined(*bits: object) -> StringCommand:
    """The bits with nothing between them."""
    return StringCommand(*bits, _separator="")


def quoted(words: tuple[str, ...]) -> StringCommand:
    """A command from its words."""
    return StringCommand(*(QuoteString(word) for word in words))


def path(value: str) -> StringCommand:
    """A path as one word; a leading `~` is the login's home on the node."""
    if value == "~" or value.startswith("~/"):
        return joined('"$HOME"', QuoteString(value[1:]) if value[1:] else "")
    return StringCommand(QuoteString(value))


def told(command: object) -> StringCommand:
    """The command's output; where it fails all its words go to stderr (nvidia-smi uses stdout)."""
    return joined(
        "out=$(",
        command,
        " 2>&1) || { s=$?; printf '%s\\n' \"$out\" >&2; exit $s; }; printf '%s\\n' \"$out\"",
    )
