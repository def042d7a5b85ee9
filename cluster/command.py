"""A command for a node: arguments, a time limit, and what goes to stdin.

Longer scripts are .sh files beside the modules that send them, so that shellcheck reads them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

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


def load_script(module: str, name: str) -> str:
    """A POSIX sh script as it is sent to a node: without its comment lines.

    + module: the sender's `__file__`
    + name: the script, relative to the sender's folder
    """
    lines = (Path(module).parent / name).read_text().splitlines()
    return "\n".join(line for line in lines if not line.lstrip().startswith("#"))
