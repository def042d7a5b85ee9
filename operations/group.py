"""A group of ranks over its nodes' connections: started, waited for, proven, explained, stopped."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import gevent
from pyinfra.api import Host

from cluster.command import Command
from cluster.engine import serving
from cluster.engine.log import last_words, transport
from cluster.engine.readiness import REPORT_SECONDS, Limits, Look, Watch
from cluster.findings import Finding, error
from cluster.node.readings import Rank
from cluster.plan import phases
from cluster.rank.runtime import Runtime
from cluster.rank.spec import Spec
from facts.serving import RankLook
from operations import outcome, shell

if TYPE_CHECKING:
    from cluster.engine.diagnosis import Diagnosis

LAST_LINES = 12
# What follows the first causes is their consequence.
DIAGNOSES = 2
# One look at one rank, seconds; a node that takes longer has not answered.
LOOK_SECONDS = 25
# Between two looks at all ranks, seconds; the first follow more closely.
PAUSE = 1.0


@dataclass(frozen=True)
class Group:
    """A group to bring up; mappings are by node name, rank 0 first.

    + start: its ranks are stopped and must be started (else they are starting already)
    + restarts: how often Docker has restarted each rank so far
    + url: where a rank serves, as its own node reaches it
    + ask: puts the questions of `Served` to the head
    + rdma: whether NCCL must be seen on RDMA
    + given_up: why nobody wants to wait for it any longer, or None
    + first: what every node is told right before its rank starts; it may fail
    """

    hosts: Mapping[str, Host]
    specs: Mapping[str, Spec]
    runtime: Runtime
    model: str
    url: str
    limits: Limits
    stop_seconds: int
    start: bool
    restarts: Mapping[str, int]
    ask: Callable[[], serving.GroupAnswers]
    rdma: bool
    first: Command | None = None
    given_up: Callable[[], Finding | None] = lambda: None

    @property
    def nodes(self) -> tuple[str, ...]:
        return tuple(self.specs)

    @property
    def head(self) -> Host:
        return self.hosts[self.nodes[0]]

    @property
    def renames(self) -> bool:
        """Whether its runtime gives ranks names that can change: containers, not processes."""
        return bool(self.runtime.rename("a", "b"))


def start(group: Group) -> tuple[Finding, ...]:
    """Start all ranks at once: a worker's start never waits for the head's readiness."""
    answers = shell.on_all(group.hosts.values(), lambda h: _start(group, h))
    return tuple(
        _not_started(node, group.specs[node], answer.text)
        for node, answer in answers.items()
        if not answer.ok
    )


def _start(group: Group, at: Host) -> shell.Output:
    if group.first:
        prepared = shell.run_command(at, group.first)
        if not prepared.ok:
            at.log_styled(f"before its start: {prepared.tail}", fg="yellow")
    return shell.run_command(at, group.runtime.start(group.specs[at.name]))


def _not_started(node: str, spec: Spec, said: str) -> Finding:
    from cluster.engine.diagnosis import docker_failure  # a converged run does without

    why, cure = docker_failure(said, spec.image)
    return error(f"{spec.name} could not be started: {why}", node, cure)


def prove(group: Group, *, locked: bool = False) -> tuple[Finding, ...]:
    """Why the model is not served: its id, one completion; nothing where it is.

    + locked: healthy ranks that ask for another API key than ours are proof enough
    """
    served = group.ask()
    if locked and serving.locked(served):
        group.head.log_styled(f"{group.model} asks for another API key than ours", fg="yellow")
        return ()
    wrong = serving.serving_problems(served, group.nodes, group.model)
    if not wrong:
        tell(group, served)
    return wrong


def wait(group: Group) -> tuple[Finding, ...]:
    """Look at every rank until all are healthy (then nothing) or the wait has failed (then why)."""
    begun = time.monotonic()
    watch = Watch(group.limits, begun, group.restarts)
    seen = list[Look]()
    ticker = gevent.spawn(_tick, group, begun, seen)
    try:
        while True:
            seen[:] = look(group)
            now = time.monotonic()
            if all(look.healthy for look in seen):
                group.head.log(f"every rank is healthy after {now - begun:.0f} s")
                return ()
            if failures := watch.failures(seen, now):
                return failures
            if given_up := group.given_up():
                return (given_up,)
            time.sleep(min(PAUSE, 0.1 + (now - begun) / 4))
    finally:
        ticker.kill()


def _tick(group: Group, begun: float, seen: Sequence[Look]) -> None:
    """A progress line soon, and every REPORT_SECONDS, however long a look takes."""
    gevent.sleep(PAUSE)
    while True:
        states = "; ".join(map(str, seen)) or "no rank has been seen yet"
        waited = time.monotonic() - begun
        group.head.log(f"waiting, {waited:.0f} of {group.limits.ready:.0f} s: {states}")
        gevent.sleep(REPORT_SECONDS)


def look(group: Group) -> list[Look]:
    def one(at: Host) -> Look:
        spec = group.specs[at.name]
        fact = RankLook()
        asked = fact.command(at.name, spec.runtime, spec.name, group.url)
        found = shell.read_fact(at, fact, asked, LOOK_SECONDS)
        return found.value or Look(at.name, lost=found.why or "no answer")

    return list(shell.on_all(group.hosts.values(), one).values())


def keep(group: Group) -> None:
    """From now on the ranks survive a reboot."""
    for node, at in group.hosts.items():
        spec = group.specs[node]
        if command := group.runtime.keep(spec.name, spec.restart_policy):
            answer = shell.run_command(at, command)
            if not answer.ok:
                at.log_styled(
                    "its restart policy could not be set, it would not survive a reboot -> run "
                    f"this again: {answer.text}",
                    fg="yellow",
                )


def tell(group: Group, served: serving.GroupAnswers) -> None:
    """What is served, how fast it answered, and over which transport."""
    seen = transport(served.log)
    if group.rdma and seen.kind in ("tcp", "unknown"):
        what = {
            "tcp": f"NCCL runs over TCP, 10-20 times slower than RDMA ({seen.evidence})",
            "unknown": "the log does not say whether NCCL runs over RDMA (nccl_debug = INFO would)",
        }[seen.kind]
        group.head.log_styled(
            f"warning: {what} -> pyinfra -y INVENTORY deploys/check.py", fg="yellow"
        )
    how = {"unknown": "", "local": ", NCCL within one machine"}.get(
        seen.kind, f", NCCL over {seen.kind}"
    )
    group.head.log_styled(
        f"serving {group.model} on {len(group.nodes)} node(s){how}; "
        f"it answered in {served.seconds:.2f} s: "
        f"{serving.completion_text(served.completion)[:80]!r}",
        fg="green",
    )


def explain(group: Group, looks: Mapping[str, Look]) -> None:
    """Each rank's last words, and what they mean."""
    logs = {node: _log(group, node) for node in group.nodes}
    for look in looks.values():
        if look.lost:
            group.head.log_styled(
                f"{look.node}: cannot be asked ({look.lost}), its rank may still run -> "
                "run this again once it answers",
                fg="red",
            )
    for node, diagnosis in _diagnoses(logs, looks)[:DIAGNOSES]:
        cause = error(diagnosis.cause, cure=diagnosis.cure, key=diagnosis.key)
        outcome.log_failure(group.hosts[node], cause)
        group.hosts[node].log(f"  {diagnosis.evidence}")
    for node, lines in logs.items():
        for line in last_words(lines, LAST_LINES):
            group.hosts[node].log(f"  {group.specs[node].name} | {line}")


def _log(group: Group, node: str) -> tuple[str, ...]:
    """What the rank said since we started it; of one that started before us, earlier lives too:
    Docker may have restarted it."""
    command = group.runtime.logs(group.specs[node].name, 400, earlier=not group.start)
    answer = shell.run_command(group.hosts[node], command)
    return (*answer.out, *answer.err)


def _diagnoses(
    logs: Mapping[str, tuple[str, ...]], looks: Mapping[str, Look]
) -> Sequence[tuple[str, Diagnosis]]:
    from cluster.engine.diagnosis import End, group_diagnosis

    def end(seen: Rank | None) -> End | None:
        ended = seen is not None and not seen.running
        return End(seen.exit_code, seen.oom_killed, seen.restarts) if seen and ended else None

    return group_diagnosis({node: (log, end(looks[node].seen)) for node, log in logs.items()})


def stop(group: Group, living: Mapping[str, Rank]) -> None:
    """End these ranks, policies first: the head, then the workers, whose end it is: without it
    they ignore a wanted stop."""
    patience = group.stop_seconds if group.nodes[0] in living else phases.ORPHAN_SECONDS

    def end(at: Host) -> None:
        if (rank := living.get(at.name)) is None:
            return
        for command in (group.runtime.release(rank.called), group.runtime.stop(rank, patience)):
            if command:
                shell.run_command(at, command)

    head, *workers = group.hosts.values()
    end(head)
    shell.on_all(workers, end)
