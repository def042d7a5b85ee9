"""What is said to a node: command words, quoted nowhere but in operations/shell.py."""

from __future__ import annotations

Words = tuple[str, ...]


def bounded(seconds: int, *words: str) -> Words:
    """The words under `timeout`: pyinfra's own leaves the remote process running."""
    return ("timeout", "--kill-after=5", str(seconds), *words)
