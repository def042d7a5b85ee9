"""From the group that runs to the wanted one, and back again where that one does not get ready.

All of it is one operation over all nodes' connections: pyinfra ends a run at the first operation
that fails, and half a switch must not be the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from pyinfra.api import Host

from cluster.command import Command
from cluster.findings import Finding, error
from cluster.plan import phases
from cluster.plan.plan import Plan
from cluster.rank.runtime import Runtime
from operations import group as ranks
from operations import outcome, shell
from operations.group import Group
from operations.interrupt import held_off
from operations.put_back import put_back


@dataclass(frozen=True)
class Switch:
    """What is to be done to all nodes.

    + hosts: every host of the run, those that shall serve nothing too
    + group: to bring up; None where the wanted ranks serve, and only leftovers must go
    + before: the group to put back after a failure, of `plan.before`; None: there is none
    + lost: why this run may change nothing more (its lease is not surely its own), else None
    + taken: whether another run has that lease: then nothing may even be undone
    """

    hosts: Mapping[str, Host]
    runtime: Runtime
    plan: Plan
    stop_seconds: int
    group: Group | None
    before: Group | None
    lost: Callable[[], Finding | None]
    taken: Callable[[], bool]

    @property
    def at(self) -> Host:
        """Where the whole group's lines are told."""
        return next(iter(self.hosts.values()))


class _Failed(Exception):
    """A phase that failed; `begun`: ranks of the wanted group have been started."""

    def __init__(self, findings: Iterable[Finding], begun: bool = False) -> None:
        self.findings, self.begun = tuple(findings), begun
        super().__init__(*self.findings)


def carry_out(switch: Switch) -> bool:
    """Whether the wanted group serves; if not, all is told, and undone what can be."""
    outcome.record.left = "unknown"
    with held_off(switch.at) as given_up:
        group = replace(switch.group, given_up=given_up) if switch.group else None
        lost = switch.lost
        return _carry_out(replace(switch, group=group, lost=lambda: lost() or given_up()))


def _carry_out(switch: Switch) -> bool:
    try:
        _bring(switch)
    except _Failed as failed:
        return _undo(switch, failed)
    except Exception as e:  # whatever goes wrong here, no half of a group may go on running
        broken = error(f"the switch broke off: {type(e).__name__}: {e}")
        return _undo(switch, _Failed([broken], begun=True))
    return _settle(switch)


def _bring(switch: Switch) -> None:
    """Every phase in its order; _Failed where one does not come through on every node."""
    run, plan, seconds = switch.runtime, phases.aside(switch.plan), switch.stop_seconds
    _everywhere(switch, "made way for", lambda node: phases.clear(run, switch.plan, node))
    _everywhere(switch, "set aside", lambda node: phases.set_aside(run, switch.plan, node))
    _everywhere(switch, "released", lambda node: phases.release(run, plan, node))
    _everywhere(switch, "stopped", lambda n: phases.stop(run, plan, n, seconds, head=True))
    _everywhere(switch, "stopped", lambda n: phases.stop(run, plan, n, seconds, head=False))
    _everywhere(switch, "replaced", lambda node: phases.replace(run, plan, node))
    if switch.group is not None:
        _up(switch, switch.group)


def _up(switch: Switch, group: Group) -> None:
    if group.start and (lost := switch.lost()):
        raise _Failed([lost])
    failures = (ranks.start(group) if group.start else ()) or ranks.wait(group)
    if failures := failures or ranks.prove(group):
        raise _Failed(failures, begun=True)
    if switch.taken():
        raise _Failed(filter(None, [switch.lost()]))


def _everywhere(switch: Switch, done: str, said: Callable[[str], list[Command]]) -> None:
    """One phase on all nodes at once; the next must find it done on every one of them."""
    words = {node: spoken for node in switch.hosts if (spoken := said(node))}
    if words and (lost := switch.lost()):
        raise _Failed([lost])
    answers = shell.on_all(
        [switch.hosts[node] for node in words], lambda h: _say(switch, h, words[h.name])
    )
    if failures := [_not_done(node, done, text) for node, text in answers.items() if text]:
        raise _Failed(failures)


def _say(switch: Switch, host: Host, spoken: list[Command]) -> str:
    """What the first command said that failed; "" where all went well."""
    for command in spoken:
        answer = shell.run_command(host, command)
        if not answer.ok:
            return answer.text or f"{' '.join(command.argv[:6])} failed"
    return ""


def _not_done(node: str, done: str, said: str) -> Finding:
    from cluster.engine.diagnosis import docker_failure  # a converged run does without

    why, cure = docker_failure(said)
    return error(f"its rank could not be {done}: {why}", node, cure)


def _settle(switch: Switch) -> bool:
    """The wanted group serves: it survives a reboot from now on, and what was kept for it goes."""
    run, plan = switch.runtime, switch.plan
    if switch.group is not None:
        ranks.keep(switch.group)
    try:
        _everywhere(switch, "kept", lambda node: phases.keep(run, plan, node))
        _everywhere(switch, "cleared away", lambda node: phases.forget(run, plan, node))
    except _Failed as failed:
        for finding in failed.findings:
            switch.at.log_styled(f"{finding}; the next deploy does it", fg="yellow")
    return True


def _undo(switch: Switch, failed: _Failed) -> bool:
    """Say why, end what was begun, put back what served before. False: the switch has failed."""
    outcome.note("failed", failed.findings)
    for finding in failed.findings:
        switch.at.log_styled(str(finding), fg="red")
    if switch.taken():
        switch.at.log_styled("nothing more is changed by this run", fg="red")
        return False
    group = switch.group
    if group is None or (group.given_up() and not group.start):
        switch.at.log_styled("what runs was left as it is; the next deploy goes on", fg="red")
        outcome.record.left = "untouched"
        return False
    try:
        if failed.begun:
            ranks.explain(group, {look.node: look for look in ranks.look(group)})
    except Exception as e:  # no words about a failure are worth what served before
        switch.at.log_styled(f"it can't be explained: {type(e).__name__}: {e}", fg="red")
    try:
        put_back(switch.hosts, group, switch.before, switch.plan.before, switch.taken)
    except Exception as e:
        broken = f"putting back broke off: {type(e).__name__}: {e} -> run this again"
        switch.at.log_styled(broken, fg="red")
    return False
