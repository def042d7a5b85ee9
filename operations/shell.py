"""Run commands on nodes: quoted once, bounded in time and size, never an exception.

A login's shell may print text of its own (a ~/.bashrc, a banner, a trap, a job in the background)
on the same stream as an answer. So the node puts a mark in front of every line of an answer, and a
line without it is not part of one.
"""

import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import gevent
from gevent.pool import Pool
from paramiko import SSHException
from pyinfra.api import Host, StringCommand
from pyinfra.api.arguments import CONNECTOR_ARGUMENT_KEYS, pop_global_arguments
from pyinfra.api.exceptions import FactProcessError, PyinfraError
from pyinfra.context import ctx_host, ctx_state

from cluster.command import Command
from cluster.engine.readiness import REPORT_SECONDS
from cluster.findings import Finding, error, refuse_errors
from cluster.printable import tail
from facts.fact import Fact, render

# Seconds beyond a command's own limit, for the node to report that it was reached.
GRACE = 15
# Nodes worked on at once.
PARALLEL = 40
# Before each line of an answer.
MARK = "spark-serving| "
# On stderr, a line of its own before the command's words.
ERRORS = "spark-serving errors"
# The last line of an answer, before the command's exit status.
END = "spark-serving end "
# The longest answers are some 10 MB, of logs with long lines.
MOST_BYTES = 64 * 2**20
_ENDED = re.compile(f"{END}([0-9]{{1,3}})")
# The mark is nowhere in the command's own text, which a trap or a terminal may print. $? is the
# command's: a trap on EXIT in a ~/.bashrc may change the shell's.
BEFORE = "{ set +xv; } 2>/dev/null; mark=spark-serving; printf '\\n%s errors\\n' $mark >&2\n{ (\n"
AFTER = f"""
); printf '\\n{END}%s\\n' $?; }} | head -c {MOST_BYTES} | LC_ALL=C sed "s/^/$mark| /\""""
CURE = "put this first in the login's ~/.bashrc: [[ $- == *i* ]] || return"
T = TypeVar("T")


@dataclass(frozen=True)
class Output:
    """What a command printed on a node.

    + ok: it ended with exit code 0
    + lost: why there is no answer (no connection, too late, cut off); "" when there is one
    + late: it is lost because its time was over: the connection may be whole
    + noise: a line that the login's shell itself printed on stdout; "" where it did not
    """

    ok: bool
    out: tuple[str, ...] = ()
    err: tuple[str, ...] = ()
    lost: str = ""
    late: bool = False
    noise: str = ""

    @property
    def text(self) -> str:
        return "\n".join((*self.err, *self.out)) or self.lost

    @property
    def tail(self) -> str:
        """The end of the text, for a message."""
        return tail(self.text)


@dataclass(frozen=True)
class Reading(Generic[T]):
    """What a fact read on a node.

    + value: the fact's default where the node printed nothing; None where it could not be read
    + why: it could not be read (the end of what the node printed); "" where it could
    + noise: as in its Output
    """

    value: T | None = None
    why: str = ""
    noise: str = ""


def run_command(host: Host, command: Command) -> Output:
    """Run a command on a node, within its time limit."""
    seconds = command.seconds + (GRACE if command.kill else 0)
    return _run(host, render(command), seconds, command.stdin)


def _run(host: Host, script: StringCommand, seconds: int, stdin: str) -> Output:
    """Run a script; never raises. A lost connection is opened again by the next call."""
    # The inventory's sudo, shell and environment, as every operation gets them.
    given: Mapping[str, Any] = pop_global_arguments(host.state, host, {})[0]
    arguments = {key: given[key] for key in CONNECTOR_ARGUMENT_KEYS if key in given}
    if stdin:
        arguments["_stdin"] = stdin
    try:
        with gevent.Timeout(seconds, TimeoutError(f"no answer in {seconds} s")):
            if not host.connected:
                host.connect(show_errors=False, raise_exceptions=True)
            ok, output = host.run_shell_command(
                StringCommand(BEFORE, script, AFTER, _separator=""),
                print_output=host.state.print_output,
                print_input=host.state.print_input,
                **arguments,
            )
    except (OSError, EOFError, SSHException, PyinfraError) as e:
        host.connected = False
        lost = f"{type(e).__name__}: {e}" if str(e) else type(e).__name__
        return Output(ok=False, lost=lost, late=isinstance(e, TimeoutError))
    answer = parse_output(output.stdout_lines, output.stderr_lines)
    # When a connection has ended, paramiko makes up an exit status for its commands.
    client = getattr(host.connector, "client", None)
    transport = client.get_transport() if client else None
    broken = transport is not None and not transport.is_active()
    if answer.lost and not ok and broken:
        host.connected = False
        return Output(ok=False, lost="the connection broke off while it was answering")
    return answer


def parse_output(stdout: Iterable[str], stderr: Iterable[str]) -> Output:
    """The command's own lines and exit status, out of all that came back."""
    ours: list[str] = []
    foreign: list[str] = []
    for line in stdout:
        before, mark, rest = line.partition(MARK)
        if mark:
            ours.append(rest.rstrip("\r"))
        foreign += [before.rstrip("\r")] if before.strip() else []
    ends = [(n, end[1]) for n, line in enumerate(ours) if (end := _ENDED.fullmatch(line))]
    # A login's `exec 2>&1` puts stderr among the foreign lines.
    errors = [*foreign, *(line.rstrip("\r") for line in stderr)]
    begun = [n for n, line in enumerate(errors) if ERRORS in line]
    if not ends:
        return Output(ok=False, lost=_unanswered(ours, errors))
    if len(ends) > 1 and all(times % 2 == 0 for times in Counter(ours).values()):
        return Output(ok=False, lost=f"its shell prints every line twice ({CURE})")
    at, status = ends[-1]
    # The end begins a line of its own: an empty one stands before it, unless the answer's last line
    # had no end.
    out = ours[: at - 1] if at and not ours[at - 1] else ours[:at]
    err = tuple(errors[begun[-1] + 1 if begun else 0 :])
    noise = foreign[0][:200] if foreign and ERRORS not in foreign[0] else ""
    return Output(status == "0", tuple(out), err, noise=noise)


def _unanswered(ours: list[str], foreign: list[str]) -> str:
    """Why there is no whole answer."""
    if sum(map(len, ours)) > MOST_BYTES // 2:
        return f"its output is longer than {MOST_BYTES >> 20} MB"
    if ours:
        return "its output was cut off"
    words = "; ".join(line.strip() for line in foreign if line.strip())
    if not words:
        return f"its shell ended without running the command ({CURE})"
    return f"its shell did not run the command, and printed: {tail(words)} ({CURE})"


def read_fact(
    host: Host,
    fact: Fact[T],
    script: StringCommand | str,
    seconds: int,
    stdin: str = "",
    *,
    failed: bool = False,
) -> Reading[T]:
    """Run a fact's script on a node, and read what it prints; nothing that a node prints raises.

    + seconds: how long the node may take
    + failed: read the answer of a command that failed, too
    """
    answer = _run(host, StringCommand(script), seconds, stdin)
    if answer.lost or not (answer.ok or failed):
        return Reading(why=answer.tail or "its command failed without a message")
    try:
        value = fact.process(answer.out) if answer.out else fact.default()
        return Reading(value, noise=answer.noise)
    except FactProcessError as e:
        return Reading(why=str(e))


def require_all(
    readings: Mapping[str, Reading[T]], refuse: Callable[[str, str], Finding]
) -> dict[str, T]:
    """Each node's value; Refused with a finding for each node without one.

    + refuse: makes it, of the node's name and why it could not be read
    """
    refuse_errors(refuse(node, r.why) for node, r in readings.items() if r.value is None)
    return {node: r.value for node, r in readings.items() if r.value is not None}


def values_for_operations(readings: Mapping[str, Reading[T]], what: str) -> dict[str, T]:
    """Each node's value, for a deploy that goes on with pyinfra's own operations.

    Refused where `what` ("its network") could not be read, and where a login's shell prints of its
    own: pyinfra's operations, and SFTP, take that for their answers.
    """

    def unreadable(node: str, why: str) -> Finding:
        return error(
            f"{what} could not be read: {why or 'no answer'}",
            node,
            f"ssh {node} true",
            key="node-unreadable",
        )

    values = require_all(readings, unreadable)
    refuse_errors(
        error(
            f"its shell prints before each command's output: {reading.noise}",
            node,
            CURE,
            key="login-shell-prints",
        )
        for node, reading in readings.items()
        if reading.noise
    )
    return values


def on_all(hosts: Iterable[Host], do: Callable[[Host], T]) -> dict[str, T]:
    """Call `do` for every node at once; node name → result, in the order given."""
    named = {host.name: host for host in hosts}
    pool = Pool(PARALLEL)

    def within(host: Host) -> T:
        with ctx_state.use(host.state), ctx_host.use(host):
            return do(host)

    work = {name: pool.spawn(within, host) for name, host in named.items()}
    return {name: greenlet.get() for name, greenlet in work.items()}


@contextmanager
def report_every(log: Callable[[float], object]) -> Iterator[None]:
    """Call `log` every REPORT_SECONDS, with the seconds that have passed, until the block ends."""
    begun = time.monotonic()

    def report() -> None:
        while True:
            gevent.sleep(REPORT_SECONDS)
            log(time.monotonic() - begun)

    reporter = gevent.spawn(report)
    try:
        yield
    finally:
        reporter.kill()
