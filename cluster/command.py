"""What a node is told to run: arguments, a time limit, and what goes to stdin."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

Argv = tuple[str, ...]


@dataclass(frozen=True)
class Command:
    """A program for a node to run. Only facts/fact.py and operations/shell.py turn it into text.

    + argv: the program and its arguments, not quoted
    + seconds: how long it may run
    + stdin: what it reads; secrets go this way, so it is not shown
    + kill: the node ends the command after that time (pyinfra's own limit leaves it running);
      False: the node has no `timeout`, or must not: only the caller stops waiting
    """

    argv: Argv
    seconds: int
    stdin: str = field(default="", repr=False)
    kill: bool = True

    @property
    def bounded(self) -> Argv:
        """The arguments as the node runs them, within the limit."""
        limit = ("timeout", "--kill-after=5", str(self.seconds)) if self.kill else ()
        return (*limit, *self.argv)

    def with_stdin(self, text: str) -> Command:
        return replace(self, stdin=text)
