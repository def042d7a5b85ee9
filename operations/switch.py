"""From the group that runs to the declared one, phase by phase, and back again where one fails.

All of it is one operation over all nodes' connections: pyinfra ends a run at the first operation
that fails, and half a switch must not be the end. A phase begins once the one before it is done on
every node. `state=stopped` and `state=absent` are the same phases with no group to bring up.

phase                what it does on a node                          undone, should a later one fail
prepare              creates the folders for compile caches          not undone
clear old names      removes leftovers of an earlier switch          not undone
set aside            renames the rank that serves to NAME.previous   it gets its name back
release              turns restart policies off                      turned on again, at the end
stop head, workers   stops rank 0, then the others                   started again
create containers    removes old containers, creates new ones        kept as NAME.failed, stopped
start                starts all ranks at once                        stopped
wait until ready     waits until every rank is healthy
verify               fetches the model's id and a completion; then the probes' answers
keep                 turns restart policies on                       nothing is undone from here on
note served          notes that the kernels are compiled
remove previous      removes NAME.previous
"""

import signal
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

import gevent
from pyinfra import host
from pyinfra.api import FunctionCommand, Host, State, operation

from cluster.command import Command
from cluster.findings import Finding, Refused, error
from cluster.node.readings import Rank
from cluster.plan.phases import Phases
from cluster.plan.plan import Plan
from cluster.plan.previous_group import FAILED, PREVIOUS, PreviousGroup
from cluster.rank.runtime import Runtime
from facts.containers import Containers, Processes
from facts.fact import Fact
from operations import group as groups, outcome, shell

# Ctrl-C, a plain `kill`, a terminal that is closed.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# One reading of a node's ranks; the engine's own limit is shorter.
READ_SECONDS = 45
# A node that does not answer is read again for this long: its sshd or dockerd may be restarting.
PATIENCE_SECONDS = 25
PAUSE_SECONDS = 2
# Node name → its ranks by id.
RanksById = Mapping[str, Mapping[str, Rank]]


@dataclass(frozen=True)
class Switch:
    """The work on all nodes.

    + hosts: every host of the run, those that will serve nothing too
    + group: to bring up; None where its ranks serve already, or none are to
    + previous: the group to put back after a failure, `plan.previous`; None: there is none
    + lost: why this run may change nothing more (its lease may be another's), else None
    + taken: whether another run has that lease: then nothing may even be undone
    """

    hosts: Mapping[str, Host]
    runtime: Runtime
    plan: Plan
    stop_seconds: int
    group: groups.Group | None
    previous: groups.Group | None
    lost: Callable[[], Finding | None]
    taken: Callable[[], bool]

    @property
    def at(self) -> Host:
        """The host under whose name lines about the whole group are logged."""
        return next(iter(self.hosts.values()))


class PhaseFailed(Exception):
    """A phase that failed; `started`: ranks of the declared group have been started."""

    def __init__(self, findings: Iterable[Finding], started: bool = False) -> None:
        self.findings, self.started = tuple(findings), started
        super().__init__(*self.findings)


# ---- what deploy.py calls


@operation()
def plan_checked(again: Callable[[], None], needed: bool) -> Generator[FunctionCommand, None, None]:
    """Read, plan and check everything again, after an image, weights or vocabularies have come.

    + again: does that; raises Refused, which ends the run before anything stops
    + needed: whether anything has come
    """
    if needed:

        def check(state: State, host: Host) -> bool:
            outcome.begin_step("recheck")
            try:
                again()
            except Refused as refused:
                host.log_styled(
                    "refused; what was transferred is kept, and no rank was touched:", fg="red"
                )
                for finding in refused.findings:
                    host.log(f"  {finding}")
                outcome.note("refused", refused.findings)
                return False
            return True

        yield FunctionCommand(check, (), {})


@operation()
def containers_switched(
    switch: Callable[[], Switch | None],
) -> Generator[FunctionCommand, None, None]:
    """Create, start and stop containers (or processes) until they are as the plan has them.

    What served before is kept until the new group has answered, and put back after a failure.

    + switch: what to do, as the plan is now; None: nothing
    """
    if switch() is None:
        host.noop("every rank already matches the plan")
    else:

        def carry_out_now(state: State, host: Host) -> bool:
            outcome.begin_step("switch")
            planned = switch()
            return planned is None or carry_out(planned)

        yield FunctionCommand(carry_out_now, (), {})


# ---- the phases, in their order


def carry_out(switch: Switch) -> bool:
    """Do every phase. False: one failed, which is logged, and undone as far as it can be."""
    outcome.record.left = "unknown"
    with defer_interrupts(switch.at) as interrupted:
        group = replace(switch.group, interrupted=interrupted) if switch.group else None
        lost = switch.lost
        switch = replace(switch, group=group, lost=lambda: lost() or interrupted())
        phases = Phases(switch.runtime, switch.plan, switch.stop_seconds)
        try:
            _switch_over(switch, phases)
        except PhaseFailed as failed:
            _undo(switch, failed)
            return False
        except Exception as e:  # whatever goes wrong here, half a group must not keep running
            broken = error(
                f"unexpected error during the switch: {type(e).__name__}: {e}", key="switch-error"
            )
            _undo(switch, PhaseFailed([broken], started=True))
            return False
        _keep(switch, phases)
        return True


def _switch_over(switch: Switch, phases: Phases) -> None:
    """The phases up to a group that serves; PhaseFailed at the first that does not come through."""
    _do(switch, "create the folder for its compile caches", phases.prepare)
    _do(switch, "remove a container that an earlier switch has kept", phases.clear_old_names)
    _do(switch, "set the old rank aside", phases.set_aside)
    _do(switch, "turn off its restart policy", phases.release)
    _do(switch, "stop its rank", phases.stop_head)
    _do(switch, "stop its rank", phases.stop_workers)
    _do(switch, "replace its container", phases.create_containers)
    if (group := switch.group) is None:
        return
    if group.start and (lost := switch.lost()):
        raise PhaseFailed([lost])
    failures = groups.start_ranks(group) if group.start else ()
    failures = failures or groups.wait_until_ready(group) or groups.verify_model(group)
    failures = failures or groups.probe_model(group)
    if failures:
        raise PhaseFailed(failures, started=True)
    if switch.taken():
        raise PhaseFailed(filter(None, [switch.lost()]))


def _keep(switch: Switch, phases: Phases) -> None:
    """From now on the group survives a reboot, and the one before it is removed. Cleaning up may
    fail: the next deploy does it."""
    if switch.group is not None:
        groups.keep_ranks(switch.group)
    try:
        _do(switch, "set its restart policy", phases.keep)
        _do(switch, "remove the previous rank", phases.remove_previous)
        _do(switch, "note that its model has served", phases.note_served)
    except PhaseFailed as failed:
        for finding in failed.findings:
            switch.at.log_styled(f"{finding}; the next deploy does it", fg="yellow")


def _do(switch: Switch, action: str, phase: Callable[[str], list[Command]]) -> None:
    """One phase on all nodes at once; PhaseFailed unless it comes through on every one of them.

    + action: what a node could not do, for the message
    """
    commands = {node: todo for node in switch.hosts if (todo := phase(node))}
    if commands and (lost := switch.lost()):
        raise PhaseFailed([lost])

    def run(at: Host) -> str:
        """The output of the first command that failed; "" where none did."""
        for command in commands[at.name]:
            output = shell.run_command(at, command)
            if not output.ok:
                return output.text or f"{' '.join(command.argv[:6])} failed"
        return ""

    errors = shell.on_all([switch.hosts[node] for node in commands], run)
    if failed := {node: text for node, text in errors.items() if text}:
        from cluster.engine.diagnosis import docker_failure  # a converged run does not need it

        causes = {node: docker_failure(text) for node, text in failed.items()}
        raise PhaseFailed(
            error(f"could not {action}: {why}", node, cure, key="switch-phase")
            for node, (why, cure) in causes.items()
        )


# ---- how they are undone


def _undo(switch: Switch, failed: PhaseFailed) -> None:
    """Say why, end what has started, put back what served before."""
    outcome.note("failed", failed.findings)
    for finding in failed.findings:
        switch.at.log_styled(str(finding), fg="red")
    if switch.taken():
        switch.at.log_styled("this run changes nothing more", fg="red")
        return
    group = switch.group
    if group is None or (group.interrupted() and not group.start):
        switch.at.log_styled("what runs was left as it is; the next deploy resumes", fg="red")
        # A group that was to end may have ended in part.
        declared = any(step.spec for step in switch.plan.steps)
        outcome.record.left = "untouched" if declared else "unknown"
        return
    try:
        if failed.started:
            healths = groups.read_healths(group)
            groups.log_causes(group, {health.node: health for health in healths})
    except Exception as e:  # the previous group matters more than why this one failed
        switch.at.log_styled(f"could not explain the failure: {type(e).__name__}: {e}", fg="red")
    try:
        _put_back(switch, group)
    except Exception as e:
        broken = f"could not put back what served before: {type(e).__name__}: {e} -> run this again"
        switch.at.log_styled(broken, fg="red")


def _put_back(switch: Switch, failed: groups.Group) -> None:
    """End the declared group, and start the one before it, where there is one."""
    at, group, previous = switch.at, switch.previous, switch.plan.previous
    ranks = read_ranks(switch.hosts, failed)
    created = {
        node: rank
        for node, spec in failed.specs.items()
        for rank in ranks.get(node, {}).values()
        if rank.name == spec.name and not (previous and previous.holds(node, rank))
    }
    groups.stop_ranks(failed, {node: rank for node, rank in created.items() if rank.alive})
    outcome.record.left = "nothing"
    if group is None or previous is None:
        at.log_styled("every rank that could be reached is stopped; the logs are kept", fg="red")
        return
    # A process can be started wherever its node answers.
    missing = [
        node
        for node, rank in previous.ranks.items()
        if node not in ranks or (group.renames and rank.id not in ranks[node])
    ]
    if missing:
        at.log_styled(
            f"{group.model}, which served before, can't be put back: its rank on "
            f"{', '.join(missing)} is out of reach. It is kept as NAME{PREVIOUS} -> "
            "run this again once the node answers",
            fg="red",
        )
        return
    inspectable = created if failed.renames else {}
    _keep_failed(failed, inspectable, ranks)
    if _serve_again(switch, group, previous, ranks):
        outcome.record.left = "previous"
        failure = f"; what failed is kept, stopped, as NAME{FAILED}" if inspectable else ""
        at.log_styled(f"{group.model} serves again, as before this run{failure}", fg="yellow")


def read_ranks(hosts: Mapping[str, Host], group: groups.Group) -> RanksById:
    """Every node's ranks; a node that can't be read is left out."""
    fact: Fact[list[Rank]] = Containers() if group.renames else Processes()
    script = fact.command()

    def read(at: Host) -> dict[str, Rank] | None:
        until = time.monotonic() + PATIENCE_SECONDS
        reading = shell.read_fact(at, fact, script, READ_SECONDS)
        while reading.value is None and time.monotonic() < until:
            gevent.sleep(PAUSE_SECONDS)
            reading = shell.read_fact(at, fact, script, READ_SECONDS)
        return None if reading.value is None else {rank.id: rank for rank in reading.value}

    readings = shell.on_all(hosts.values(), read)
    return {node: ranks for node, ranks in readings.items() if ranks is not None}


def _keep_failed(failed: groups.Group, created: Mapping[str, Rank], ranks: RanksById) -> None:
    """Rename what failed to NAME.failed, for inspection; what an earlier failure left goes."""
    for node, rank in created.items():
        name, group = f"{rank.name}{FAILED}", failed.specs[node].group
        if any(r.name == name and r.group == group for r in ranks[node].values()):
            shell.run_command(failed.hosts[node], failed.runtime.remove(name))
        if command := failed.runtime.rename(rank.name, name):
            shell.run_command(failed.hosts[node], command)


def _serve_again(
    switch: Switch, group: groups.Group, previous: PreviousGroup, ranks: RanksById
) -> bool:
    """Start the previous group, wait for it, and give it its names back."""
    at = switch.at
    at.log_styled(f"putting back {group.model}, which served before", fg="yellow")
    there = {n: ranks[n][r.id] for n, r in previous.ranks.items() if r.id in ranks[n]}
    whole = len(there) == len(previous.ranks) and all(rank.running for rank in there.values())
    renamed = replace(
        group.called({node: rank.name for node, rank in there.items()}),
        restarts={node: rank.restarts for node, rank in there.items()} if whole else {},
    )
    failures = () if whole else _start_again(renamed, there)
    failures = failures or groups.wait_until_ready(renamed)
    failures = failures or groups.verify_model(renamed, locked=True)
    if switch.taken():
        at.log_styled("this run changes nothing more", fg="red")
        return False
    if failures:
        for finding in failures:
            at.log_styled(f"it did not come back: {finding}", fg="red")
        healths = {health.node: health for health in groups.read_healths(renamed)}
        groups.log_causes(renamed, healths)
        alive = {node: h.rank for node, h in healths.items() if h.rank and h.rank.alive}
        groups.stop_ranks(renamed, alive)
        at.log_styled(
            f"every rank that could be reached is stopped; it is kept as NAME{PREVIOUS}", fg="red"
        )
        return False
    for node, spec in renamed.specs.items():
        name = group.specs[node].name
        command = group.runtime.rename(spec.name, name)
        if command and spec.name != name:
            output = shell.run_command(group.hosts[node], command)
            if not output.ok:
                text = f"could not rename {spec.name} to {name}: {output.text}"
                group.hosts[node].log_styled(f"{text}; the next deploy does it", fg="yellow")
    # By id: a container may have its name back without an answer from its node, or not at all.
    groups.keep_ranks(group.called({node: rank.id for node, rank in previous.ranks.items()}))
    return True


def _start_again(group: groups.Group, there: Mapping[str, Rank]) -> tuple[Finding, ...]:
    """Start all of its ranks anew: one that still runs is of no use without one that has ended."""
    groups.stop_ranks(group, {node: rank for node, rank in there.items() if rank.alive})
    failures = groups.start_ranks(group)
    if failures and group.renames:
        # Try again, as nothing else is left to serve. A container that runs is not started twice.
        gevent.sleep(PAUSE_SECONDS)
        failures = groups.start_ranks(group)
    return failures


@contextmanager
def defer_interrupts(at: Host) -> Iterator[Callable[[], Finding | None]]:
    """Defer Ctrl-C, SIGTERM and SIGHUP: half a switch serves nobody, so it is undone first.

    The function that this yields returns the interrupt; None as long as there is none. A second
    Ctrl-C works as usual. A signal that was ignored still is: that is what `nohup` is for.

    + at: the host under whose name it is logged
    """
    now = {number: signal.getsignal(number) for number in SIGNALS}
    usual = {number: how for number, how in now.items() if how not in (None, signal.SIG_IGN)}
    interrupts = list[Finding]()

    def note(number: int, _: object) -> None:
        if signal.SIGINT in usual:
            signal.signal(signal.SIGINT, usual[signal.SIGINT])
        outcome.record.interrupted = True
        if not interrupts:
            interrupts.append(
                error(f"interrupted by {signal.Signals(number).name}", key="interrupted")
            )
            text = "Interrupted: rolling back. Press Ctrl-C again to leave everything as it is."
            at.log_styled(text, fg="yellow")

    for number in usual:
        signal.signal(number, note)
    try:
        yield lambda: next(iter(interrupts), None)
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)
