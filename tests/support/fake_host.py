"""A host of pyinfra's that is not there: a function of the test answers for its shell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from pyinfra.api import Config, StringCommand

from operations import shell

# A script and its stdin -> the lines that come back; OSError: the connection is lost.
Reply = Callable[[str, str], Sequence[str]]


def framed(*lines: str, status: int = 0) -> list[str]:
    """What comes back of a command that prints these lines, as the node marks them."""
    return [f"{shell.MARK}{line}" for line in (*lines, "", f"{shell.END}{status}")]


@dataclass
class FakeHost:
    """What `operations` and `control` use of a pyinfra host.

    + reply: answers its commands
    + data: the inventory's arguments for each command, such as _sudo
    + active: whether its SSH transport is alive after a command; None: it has none
    + scripts: every script that it was given; `arguments`: the last one's keyword arguments
    + logged: every line logged under its name
    """

    name: str
    reply: Reply = lambda script, stdin: framed()
    data: Any = field(default_factory=SimpleNamespace)
    active: bool | None = None
    connected: bool = True
    current_deploy_kwargs: None = None
    scripts: list[str] = field(default_factory=list)
    arguments: dict[str, Any] = field(default_factory=dict)
    logged: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.state = SimpleNamespace(config=Config(), print_output=False, print_input=False)
        client = SimpleNamespace(get_transport=self._transport)
        self.connector = SimpleNamespace(client=client)

    def _transport(self) -> Any:
        return None if self.active is None else SimpleNamespace(is_active=lambda: self.active)

    def connect(self, **_: Any) -> None:
        self.connected = True

    def run_shell_command(self, command: StringCommand, **arguments: Any) -> tuple[bool, Any]:
        script = command.get_raw_value().removeprefix(shell.BEFORE).removesuffix(shell.AFTER)
        self.scripts.append(script)
        self.arguments = arguments
        lines = self.reply(script, arguments.get("_stdin") or "")
        ok = any(line.endswith(f"{shell.END}0") for line in lines)
        return ok, SimpleNamespace(stdout_lines=list(lines), stderr_lines=[])

    def log(self, text: str) -> None:
        self.logged.append(text)

    def log_styled(self, text: str, **_: Any) -> None:
        self.logged.append(text)
