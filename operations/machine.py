"""Settings of a node's system."""

from collections.abc import Generator

from pyinfra import host
from pyinfra.api import StringCommand, operation

from cluster.command import Command
from cluster.node.host import as_root, enable_linger
from facts.fact import render


@operation()
def lingering(login: str, needed: bool) -> Generator[StringCommand, None, None]:
    """Let what the login runs, and its IPC objects, outlive its sessions.

    + needed: whether it is declared, and not so yet
    """
    if needed:
        yield render(Command(as_root(*enable_linger(login).bounded), 45, kill=False))
    else:
        host.noop(f"{login}'s processes already survive its sessions")
