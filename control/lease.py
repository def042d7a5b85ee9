"""The lease of a run: taken before anything is read, refreshed while it lives, released at its end.

pyinfra ends every run, whatever its outcome, by disconnecting its hosts; the lease is released
then, while SSH is still open. A run that is killed leaves its lease to go stale. At the prompt of a
run without -y nothing is refreshed: a run that waits there for long may be overtaken, and learns so
before it changes anything.
"""

import getpass
import os
import socket
import time
from dataclasses import dataclass, field
from uuid import uuid4

import gevent
from gevent.lock import RLock
from pyinfra import logger
from pyinfra.api import Host, State
from pyinfra.api.state import BaseStateCallback

from cluster import findings, lease
from cluster.command import Command
from cluster.lease import Lease, LeaseAnswer
from cluster.settings.declaration import Declaration
from control import inventory
from operations import shell

ASK_SECONDS = 20
# Seconds; less than the time between two refreshes.
REFRESH_WITHIN = 8
# Seconds: a dead head must not keep a run from ending.
RELEASE_WITHIN = 10
# The clock that keeps running while a laptop sleeps, on Linux and on macOS.
CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


@dataclass
class Held:
    """A lease that this run took.

    + confirmed: when it was last known to be ours, seconds of CLOCK
    + loss: why it is ours no longer; `taken`: another run has it
    """

    head: Host
    group: str
    lease: Lease
    confirmed: float = field(default_factory=lambda: time.clock_gettime(CLOCK))
    loss: findings.Finding | None = None
    taken: bool = False
    ended: bool = False
    lock: RLock = field(default_factory=RLock)

    @property
    def overdue(self) -> float:
        """Seconds since it was last known to be ours."""
        return time.clock_gettime(CLOCK) - self.confirmed


_held: dict[State, Held] = {}


def take(state: State, wanted: Declaration) -> None:
    """Hold the lease for this run; a run that only reads logs who holds it.

    Refused if another run does, or if the head can't be reached; a run with a --limit that leaves
    the head out goes on without a lease then.
    """
    head = next(h for h in inventory.all_hosts(state.inventory) if h.name == wanted.head)
    group = wanted.common.group
    if inventory.only_reads():
        other = holder(head, group)
        if other:
            logger.info(f"    the group {group} is held by another run: {other}")
        return
    hold(state, head, group, needed=state.is_host_in_limit(head))


def hold(state: State, head: Host, group: str, needed: bool = True) -> None:
    """Take the lease on the group, keep it fresh, and release it when the run ends.

    Once for a state. Refused if another run holds it, or it can't be taken; if it is not `needed`,
    a head that can't be reached is only a warning.
    """
    if state in _held:
        return
    held = Held(head, group, own_lease())
    answer = _ask(head, lease.acquire_lease(group, held.lease, ASK_SECONDS))
    there = lease.parse_lease_answer(answer.out) if answer.ok else None
    if answer.lost and not needed:
        logger.warning(f"    warning: without a lease: {head.name}: {answer.lost}")
        return
    if there is None:
        why = answer.tail or "it answered nothing"
        what = f"the lease on the group {group} can't be taken: {why}"
        raise findings.Refused(
            findings.error(what, head.name, f"ssh {head.name} true", key="lease-not-taken")
        )
    if there.how == "held":
        raise findings.Refused(lease.held_by_other(group, there, head.name))
    if there.how == "stale":
        logger.warning(
            f"    warning: {head.name}: the lease on the group {group} is taken over after "
            f"{there.age} s without a sign of life: {lease.describe_holder(there.lease)}"
        )
    _held[state] = held
    state.add_callback_handler(Release())  # type: ignore[no-untyped-call]

    def refresh() -> None:
        while not held.ended and held.loss is None:
            gevent.sleep(lease.REFRESH_SECONDS)
            _renew(held)
        if held.loss:
            logger.warning(f"    warning: {held.loss}")

    gevent.spawn(refresh)


def holder(head: Host, group: str) -> Lease | None:
    """Who holds the lease now; None if nobody does, or it is stale, or can't be read."""
    answer = _ask(head, lease.read_lease(group, ASK_SECONDS))
    there = lease.parse_lease_answer(answer.out) if answer.ok else None
    alive = there is not None and abs(there.age) < lease.STALE_SECONDS
    return there.lease if there and alive else None


def lost(state: State) -> findings.Finding | None:
    """Why this run may change nothing more, or None. Callers check it before each phase that
    changes something.

    Costs a round trip only if the last refresh is late.
    """
    held = _held.get(state)
    if held is None:
        return None
    if held.loss is None and held.overdue > 1.5 * lease.REFRESH_SECONDS:
        _renew(held)
    if held.loss is None and held.overdue > lease.LOST_SECONDS:
        return lease.lease_lost(held.group, None, held.head.name)
    return held.loss


def taken(state: State) -> bool:
    """Whether another run has the lease now: then this one may not even end its own ranks.

    A head that can't be reached is no proof: what this run began elsewhere is its own to end.
    """
    lost(state)
    held = _held.get(state)
    return held is not None and held.taken


class Release(BaseStateCallback):
    """Releases the lease when pyinfra disconnects the first host, which is the end of the run."""

    @staticmethod
    def host_disconnect(state: State, host: Host) -> None:
        held = _held.get(state)
        if held is None:
            return
        with held.lock:
            if not held.ended:
                held.ended = True
                _ask(held.head, lease.release_lease(held.group, held.lease.id, RELEASE_WITHIN))


def _renew(held: Held) -> None:
    """Refresh once; a head that does not answer is queried again later."""
    with held.lock:
        if held.ended or held.loss:
            return
        begun = time.clock_gettime(CLOCK)
        there = _request(held, lease.refresh_lease(held.group, held.lease.id, REFRESH_WITHIN))
        if there and there.how == "gone" and held.overdue < lease.LOST_SECONDS:
            # The head restarted: nobody can have had the lease since it was ours.
            there = _request(held, lease.acquire_lease(held.group, held.lease, REFRESH_WITHIN))
        if there and there.how in ("ours", "taken"):
            held.confirmed = begun
        elif there:
            held.taken = there.how == "held"
            held.loss = lease.lease_lost(held.group, there.lease, held.head.name)


def _request(held: Held, command: Command) -> LeaseAnswer | None:
    """The head's answer; None if there is none that can be read."""
    answer = _ask(held.head, command)
    if answer.late:
        # Slow is not broken: other commands run over this connection.
        held.head.connected = True
    return lease.parse_lease_answer(answer.out) if answer.ok else None


def _ask(head: Host, command: Command) -> shell.Output:
    return shell.on_all([head], lambda h: shell.run_command(h, command))[head.name]


def own_lease() -> Lease:
    """This run's own lease: who runs it, where, since when, and pyinfra's command line."""
    params = inventory.command_line()
    limits = [f"--limit {limit}" for limit in params.get("limit") or ()]
    words = ["pyinfra", str(params.get("inventory") or "")]
    words += [*(params.get("operations") or ()), *limits]
    data = dict(item.partition("=")[::2] for item in params.get("data") or ())
    command = lease.redacted_command([word for word in words if word], data)
    try:
        owner = getpass.getuser()
    except (KeyError, OSError):  # a user id without a name
        owner = str(os.getuid())
    return Lease(owner, socket.gethostname(), time.time(), command, uuid4().hex)
