"""After a failed switch: the wanted ranks out of the way, the group before them serves again."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace

import gevent
from pyinfra.api import Host

from cluster.findings import Finding
from cluster.node.readings import Rank
from cluster.plan.previous_group import FAILED, PREVIOUS, Before
from facts.containers import Containers
from facts.fact import Fact
from facts.processes import Processes
from operations import group as ranks
from operations import outcome, shell
from operations.group import Group

# A node's engine is asked which ranks it has; its own limit comes first.
READ_SECONDS = 45
# For so long a node that refuses is asked again: its sshd or its dockerd may be restarting.
PATIENCE_SECONDS = 25
PAUSE_SECONDS = 2
Seen = Mapping[str, Mapping[str, Rank]]


def put_back(
    hosts: Mapping[str, Host],
    failed: Group,
    before: Group | None,
    known: Before | None,
    taken: Callable[[], bool],
) -> None:
    """End the wanted group, and start the one before it, where there is one.

    + hosts: every host of the run
    + failed: the wanted group
    + before, known: the group before it, to be waited for; and by its containers
    + taken: whether another run has the lease: then nothing more may change
    """
    seen = _read(hosts, failed)
    _end(failed, seen, known)
    at = next(iter(hosts.values()))
    if before is None or known is None:
        at.log_styled("every rank that could be reached is stopped, its logs are kept", fg="red")
        outcome.record.left = "nothing"
        return
    if missing := [n for n, rank in known.ranks.items() if not _there(before, seen, n, rank)]:
        at.log_styled(
            f"{before.model}, which served before, can't be put back: its rank on "
            f"{', '.join(missing)} is out of reach. It is kept as NAME{PREVIOUS} -> "
            "run this again once the node answers",
            fg="red",
        )
        outcome.record.left = "nothing"
        return
    kept = _out_of_the_way(failed, seen, known)
    outcome.record.left = "nothing"
    if _back(before, known, seen, at, taken):
        outcome.record.left = "previous"
        failure = f"; what failed is kept, stopped, as NAME{FAILED}" if kept else ""
        at.log_styled(f"{before.model} serves again, as before this run{failure}", fg="yellow")


def _read(hosts: Mapping[str, Host], group: Group) -> Seen:
    """Node → its ranks by id; a node that can't be asked is left out."""
    fact: Fact[list[Rank]] = Containers() if group.renames else Processes()
    script = fact.command()

    def one(at: Host) -> dict[str, Rank] | None:
        until = time.monotonic() + PATIENCE_SECONDS
        found = shell.read_fact(at, fact, script, READ_SECONDS)
        while found.value is None and time.monotonic() < until:
            gevent.sleep(PAUSE_SECONDS)
            found = shell.read_fact(at, fact, script, READ_SECONDS)
        return None if found.value is None else {rank.id: rank for rank in found.value}

    return {n: found for n, found in shell.on_all(hosts.values(), one).items() if found is not None}


def _wanted(failed: Group, seen: Seen, known: Before | None) -> dict[str, Rank]:
    """Node → the wanted group's own rank, as it is there now."""
    return {
        node: rank
        for node, spec in failed.specs.items()
        for rank in seen.get(node, {}).values()
        if rank.name == spec.name and not (known and known.holds(node, rank))
    }


def _end(failed: Group, seen: Seen, known: Before | None) -> None:
    wanted = _wanted(failed, seen, known)
    ranks.stop(failed, {node: rank for node, rank in wanted.items() if rank.alive})


def _there(before: Group, seen: Seen, node: str, rank: Rank) -> bool:
    """Whether the rank can be started again; a process can wherever its node answers."""
    return node in seen and (not before.renames or rank.id in seen[node])


def _out_of_the_way(failed: Group, seen: Seen, known: Before) -> bool:
    """What failed is kept for inspection, if any is; what an earlier failure of ours left goes."""
    wanted = _wanted(failed, seen, known) if failed.renames else {}
    for node, rank in wanted.items():
        name, group = f"{rank.name}{FAILED}", failed.specs[node].group
        if any(r.name == name and r.group == group for r in seen[node].values()):
            shell.run_command(failed.hosts[node], failed.runtime.remove(name))
        if command := failed.runtime.rename(rank.name, name):
            shell.run_command(failed.hosts[node], command)
    return bool(wanted)


def _back(before: Group, known: Before, seen: Seen, at: Host, taken: Callable[[], bool]) -> bool:
    """Whether it serves again."""
    at.log_styled(f"putting back {before.model}, which served before", fg="yellow")
    there = {n: seen[n][r.id] for n, r in known.ranks.items() if r.id in seen[n]}
    called = _under(before, {n: rank.name for n, rank in there.items()})
    whole = len(there) == len(known.ranks) and all(rank.running for rank in there.values())
    called = replace(called, restarts={n: r.restarts for n, r in there.items()} if whole else {})
    started = () if whole else _start(called, there)
    failures = started or ranks.wait(called) or ranks.prove(called, locked=True)
    if taken():
        at.log_styled("nothing more is changed by this run", fg="red")
        return False
    if failures:
        for finding in failures:
            at.log_styled(f"it does not come back: {finding}", fg="red")
        looks = {look.node: look for look in ranks.look(called)}
        ranks.explain(called, looks)
        ranks.stop(called, {n: x.seen for n, x in looks.items() if x.seen and x.seen.alive})
        at.log_styled(
            f"every rank that could be reached is stopped; it is kept as NAME{PREVIOUS}", fg="red"
        )
        return False
    _names_back(called, before)
    # By their ids: a name may have come back though its node did not say so, or not at all.
    ranks.keep(_under(before, {n: rank.id for n, rank in known.ranks.items()}))
    return True


def _start(called: Group, there: Mapping[str, Rank]) -> tuple[Finding, ...]:
    """All of it: a rank that runs can't go on without one that has ended."""
    ranks.stop(called, {node: rank for node, rank in there.items() if rank.alive})
    failures = ranks.start(called)
    if failures and called.renames:
        # Nothing else is left to serve. A container that has started is not started twice.
        gevent.sleep(PAUSE_SECONDS)
        failures = ranks.start(called)
    return failures


def _under(group: Group, names: Mapping[str, str]) -> Group:
    """The group by what its containers are called now."""
    specs = {n: replace(spec, name=names.get(n, spec.name)) for n, spec in group.specs.items()}
    return replace(group, specs=specs)


def _names_back(called: Group, group: Group) -> None:
    for node, spec in called.specs.items():
        command = group.runtime.rename(spec.name, group.specs[node].name)
        if command and spec.name != group.specs[node].name:
            answer = shell.run_command(group.hosts[node], command)
            if not answer.ok:
                said = f"{spec.name} may still be called so: {answer.text}; the next deploy does it"
                group.hosts[node].log_styled(said, fg="yellow")
