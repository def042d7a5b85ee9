"""A node's addresses, changed so that they change back by themselves unless the node answers."""

import time
from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass

import gevent
from pyinfra import host
from pyinfra.api import FunctionCommand, Host, State, StringCommand, operation

from cluster.command import Command, load_script
from cluster.findings import Finding, error
from cluster.node.host import as_root
from cluster.node.netplan import FILE, GUARD, Halves, ping_arguments, unanswered_pings
from facts.fact import render
from operations import shell

# Seconds until a node reverts by itself: longer than everything that precedes the confirmation.
GUARD_SECONDS = 180
APPLY_SECONDS = 60
PROBE_SECONDS = 20
# To log in anew.
LOGIN_SECONDS = 30

_REVERT = load_script(__file__, "scripts/network_revert.sh")

_ARM = load_script(__file__, "scripts/network_arm.sh")

_APPLY = load_script(__file__, "scripts/network_apply.sh")

_HOLD = 'cd "$1" && mv armed held && systemctl stop "$(cat unit)"'
_DONE = '[ ! -d "$1" ] || { systemctl stop "$(cat "$1/unit")" 2>/dev/null; rm -rf "$1"; }'
# Reverts whether the change is held or not; if the guard is doing so already, waits for it.
_REVERT_NOW = f"""
[ ! -e "$1/held" ] || mv "$1/held" "$1/armed"
(
{_REVERT}
)
while [ -e "$1/reverting" ]; do sleep 0.2; done
{_DONE}
""".strip()

_PROBE = load_script(__file__, "scripts/network_probe.sh")


@dataclass(frozen=True)
class NetworkChange:
    """The network of all nodes, changed together.

    + hosts: of every node, rank order
    + wanted: node → its halves
    + changing: the nodes that change; the others only answer
    """

    hosts: Mapping[str, Host]
    wanted: Mapping[str, Halves]
    changing: tuple[str, ...]


@operation()
def armed(halves: Halves, needed: bool) -> Generator[StringCommand, None, None]:
    """Have the node revert after GUARD_SECONDS, even if the connection to it is lost."""
    if needed:
        yield render(arm(halves, GUARD_SECONDS))
    else:
        host.noop("the network is already configured")


@operation()
def applied(change: NetworkChange | None) -> Generator[FunctionCommand, None, None]:
    """Apply the file on every node that changes, and put all back unless all nodes answer."""
    if change and change.changing:
        yield FunctionCommand(_apply, (change,), {})


def arm(halves: Halves, seconds: int) -> Command:
    """Have the node change back after so many seconds."""
    netdevs = (half.netdev for half in halves)
    guard = (GUARD, FILE, str(seconds), f'sleep "$3"\n{_REVERT}')
    return Command(as_root("sh", "-c", _ARM, "sh", *guard, *netdevs), 30)


def apply(halves: Halves) -> Command:
    pairs = (word for half in halves for word in (half.netdev, half.address))
    script = Command(("sh", "-c", _APPLY, "sh", *pairs), APPLY_SECONDS)
    return Command(as_root(*script.bounded), APPLY_SECONDS + 10)


def hold_change() -> Command:
    """Call the guard off, but keep what it needs; fails where it has changed back already."""
    return Command(as_root("sh", "-c", _HOLD, "sh", GUARD), 30)


def finish_change() -> Command:
    return Command(as_root("sh", "-c", _DONE, "sh", GUARD), 30)


def revert() -> Command:
    """Change back now, held or not."""
    return Command(as_root("sh", "-c", _REVERT_NOW, "sh", GUARD, FILE), 100)


def ping_peers(words: tuple[str, ...]) -> Command:
    argv = ("sh", "-c", _PROBE, "sh", str(PROBE_SECONDS), *words)
    return Command(as_root(*argv), PROBE_SECONDS + 10)


def _apply(state: State, host: Host, change: NetworkChange) -> bool:
    """Apply the change.

    If any step fails, every node is reverted: at once if it can be reached, else by its own guard.
    """
    failed = _failures(change)
    if not failed:
        _run_everywhere([change.hosts[name] for name in change.changing], finish_change())
        return True
    for finding in failed:
        host.log_styled(f"{finding}", fg="red")
    begun = time.monotonic()
    waiting = {name: change.hosts[name] for name in change.changing}
    while waiting and time.monotonic() - begun < GUARD_SECONDS + 2 * APPLY_SECONDS:
        outputs = _run_everywhere(waiting.values(), revert())
        lost = {name: answer for name, answer in outputs.items() if answer.lost}
        for name in waiting.keys() - lost.keys():
            host.log(f"{name}: network restored")
        waiting = {name: change.hosts[name] for name in lost}
        if waiting:
            host.log(f"{', '.join(waiting)} can't be reached: will revert by itself")
            gevent.sleep(5)
    for name in waiting:
        host.log_styled(f"{name} does not answer: check it from its own console", fg="red")
    return False


def _failures(change: NetworkChange) -> list[Finding]:
    """Apply, log in anew, ping, confirm: each on all nodes at once. Returns what the first step
    that fails has found; [] if none does."""
    changing = [change.hosts[name] for name in change.changing]

    def over_new_connection(host: Host) -> shell.Output:
        if client := getattr(host.connector, "client", None):
            client.close()
        host.disconnect()
        host.connected = False
        return shell.run_command(host, Command(("true",), LOGIN_SECONDS, kill=False))

    outputs = shell.on_all(changing, lambda h: shell.run_command(h, apply(change.wanted[h.name])))
    # A connection that was lost proves nothing yet: the next step opens a new one.
    answered = {name: answer for name, answer in outputs.items() if not answer.lost}
    if failed := _failures_of(answered, "netplan apply failed", "sudo netplan --debug apply"):
        return failed
    outputs = shell.on_all(changing, over_new_connection)
    what, cure = "it does not accept a new SSH connection", "check its management network"
    if failed := _failures_of(outputs, what, cure):
        return failed
    outputs = shell.on_all(
        change.hosts.values(),
        lambda h: shell.run_command(h, ping_peers(ping_arguments(change.wanted, h.name))),
    )
    for node, answer in outputs.items():
        if answer.ok:
            failed += unanswered_pings(change.wanted, node, answer.out)
        else:
            failed.append(
                error(f"it could not ping its peers: {answer.tail}", node, key="peer-unreachable")
            )
    return failed or _failures_of(
        _run_everywhere(changing, hold_change()), "it reverted by itself", "run this again"
    )


def _failures_of(outputs: Mapping[str, shell.Output], what: str, cure: str) -> list[Finding]:
    return [
        error(f"{what}: {a.tail}", n, cure, key="network-not-changed")
        for n, a in outputs.items()
        if not a.ok
    ]


def _run_everywhere(hosts: Iterable[Host], command: Command) -> dict[str, shell.Output]:
    return shell.on_all(hosts, lambda host: shell.run_command(host, command))
