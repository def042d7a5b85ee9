"""Words to a node, answers back: quoted once, bounded in time, never an exception."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import gevent
from gevent.pool import Pool
from paramiko import SSHException
from pyinfra.api import Host, QuoteString, State, StringCommand
from pyinfra.api.arguments import CONNECTOR_ARGUMENT_KEYS, pop_global_arguments
from pyinfra.api.exceptions import ConnectError
from pyinfra.context import ctx_host, ctx_state

# Nodes worked on at once.
PARALLEL = 40
T = TypeVar("T")


@dataclass(frozen=True)
class Answer:
    """What a node said. `lost`: why it could not be asked, "" when it answered."""

    ok: bool
    out: tuple[str, ...] = ()
    err: tuple[str, ...] = ()
    lost: str = ""

    @property
    def text(self) -> str:
        return "\n".join((*self.err, *self.out)) or self.lost


def command(words: Iterable[str]) -> StringCommand:
    """A command of which every word is quoted, here and nowhere else.

    TypeError for a string: its letters would count as words.
    """
    if isinstance(words, str):
        raise TypeError(f"words are asked for, not the string {words[:40]!r}")
    return StringCommand(*(QuoteString(word) for word in words))


def ask(host: Host, what: StringCommand | Iterable[str], seconds: int, stdin: str = "") -> Answer:
    """Run a command on a node, however its connection fares; a lost connection is made again."""
    words = what if isinstance(what, StringCommand) else command(what)
    arguments = _connector_arguments(host)
    if stdin:
        arguments["_stdin"] = stdin
    try:
        with gevent.Timeout(seconds, TimeoutError(f"no answer in {seconds} s")):
            _reconnect(host)
            ok, output = host.run_shell_command(
                words,
                print_output=host.state.print_output,
                print_input=host.state.print_input,
                **arguments,
            )
    except (OSError, EOFError, SSHException, ConnectError) as e:
        host.connected = False
        return Answer(ok=False, lost=f"{type(e).__name__}: {e}" if str(e) else type(e).__name__)
    if not ok and _broken(host):
        host.connected = False
        return Answer(ok=False, lost="the connection broke off while it was answering")
    return Answer(ok, tuple(output.stdout_lines), tuple(output.stderr_lines))


def on_all(hosts: Iterable[Host], do: Callable[[Host], T]) -> dict[str, T]:
    """The same for every node at once: node name → result, in the order given."""
    named = {host.name: host for host in hosts}
    pool = Pool(PARALLEL)
    work = {name: pool.spawn(_within, host.state, host, do) for name, host in named.items()}
    return {name: greenlet.get() for name, greenlet in work.items()}


def _within(state: State, host: Host, do: Callable[[Host], T]) -> T:
    with ctx_state.use(state), ctx_host.use(host):
        return do(host)


def _broken(host: Host) -> bool:
    """Whether the connection has ended: paramiko then makes up an exit status for its commands."""
    client = getattr(host.connector, "client", None)
    transport = client.get_transport() if client else None
    return transport is not None and not transport.is_active()


def _reconnect(host: Host) -> None:
    if not host.connected:
        host.connect(show_errors=False, raise_exceptions=True)


def _connector_arguments(host: Host) -> dict[str, Any]:
    """What the inventory says of sudo, shell and environment, as every operation gets it."""
    arguments: Mapping[str, Any] = pop_global_arguments(host.state, host, {})[0]
    return {key: arguments[key] for key in CONNECTOR_ARGUMENT_KEYS if key in arguments}
