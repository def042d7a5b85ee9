"""A group of ranks over its nodes' connections: start, wait, verify, keep, stop, explain."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import gevent
from pyinfra.api import Host
from pyinfra.context import ctx_host, ctx_state

from cluster.command import Command
from cluster.engine import readiness, serving
from cluster.engine.log import meaningful_lines, transport
from cluster.engine.nccl import Collectives
from cluster.findings import Finding, Level, error
from cluster.node.readings import Rank
from cluster.plan.phases import ORPHAN_SECONDS
from cluster.rank.runtime import Runtime
from cluster.rank.spec import Spec
from facts.serving import RankLook
from operations import outcome, shell

LAST_LINES = 12
# How many causes are logged: what follows the first ones is their consequence.
DIAGNOSES = 2
# One reading of a rank's health, seconds; a node that takes longer has not answered.
LOOK_SECONDS = 25
# Between two readings of all ranks, seconds; the first follow more closely.
PAUSE = 1.0


@dataclass(frozen=True)
class Group:
    """A group to bring up; mappings are by node name, rank 0 first.

    + url: where a rank serves, as its own node reaches it
    + start: its ranks are stopped and must be started (else they are starting already)
    + restarts: how often Docker has restarted each rank so far
    + fetch_answers: fetches the model's id and a completion from the head, each rank's health
    + rdma: whether the log should show NCCL on RDMA
    + collectives: what the NCCL that it loads is judged by; None: not at all
    + probe: sends the probes to the head and judges the answers: `verdict_findings`; None: none are
      sent
    + before_start: what every node runs right before its rank starts; it may fail
    + interrupted: the interrupt that ends the wait; None: there was none
    """

    hosts: Mapping[str, Host]
    specs: Mapping[str, Spec]
    runtime: Runtime
    model: str
    url: str
    limits: readiness.ReadyLimits
    stop_seconds: int
    start: bool
    restarts: Mapping[str, int]
    fetch_answers: Callable[[], serving.GroupAnswers]
    rdma: bool
    collectives: Collectives | None = None
    probe: Callable[[], tuple[Finding, ...]] | None = None
    before_start: Command | None = None
    interrupted: Callable[[], Finding | None] = lambda: None

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

    def called(self, names: Mapping[str, str]) -> Group:
        """The group under its containers' current names (node → name, or id)."""
        specs = {n: replace(spec, name=names.get(n, spec.name)) for n, spec in self.specs.items()}
        return replace(self, specs=specs)


def start_ranks(group: Group) -> tuple[Finding, ...]:
    """Start all ranks at once: a worker's start never waits for the head's readiness. Returns why
    some did not start."""

    def start(at: Host) -> shell.Output:
        if group.before_start:
            output = shell.run_command(at, group.before_start)
            if not output.ok:
                at.log_styled(f"the command before its start failed: {output.tail}", fg="yellow")
        return shell.run_command(at, group.runtime.start(group.specs[at.name]))

    outputs = shell.on_all(group.hosts.values(), start)
    failed = {node: output.text for node, output in outputs.items() if not output.ok}
    if not failed:
        return ()
    from cluster.engine.diagnosis import docker_failure  # a converged run does not need it

    causes = {node: docker_failure(text, group.specs[node].image) for node, text in failed.items()}
    return tuple(
        error(
            f"{group.specs[node].name} could not be started: {why}",
            node,
            cure,
            key="rank-not-started",
        )
        for node, (why, cure) in causes.items()
    )


def verify_model(group: Group, *, locked: bool = False) -> tuple[Finding, ...]:
    """Check that the model is served, by its id and one completion.

    Returns why it is not; () if it is, after logging the transport and how fast it answered.

    + locked: healthy ranks that require another API key than ours are proof enough
    """
    answers = group.fetch_answers()
    if locked and serving.locked(answers):
        group.head.log_styled(f"{group.model} requires a different API key than ours", fg="yellow")
        return ()
    if problems := serving.serving_problems(answers, group.nodes, group.model):
        return problems
    nccl = transport(answers.log)
    if group.rdma and nccl.kind in ("tcp", "unknown"):
        what = {
            "tcp": f"NCCL runs over TCP, 10-20 times slower than RDMA ({nccl.evidence})",
            "unknown": "the log does not say whether NCCL runs over RDMA (nccl_debug = INFO would)",
        }[nccl.kind]
        cure = "pyinfra -y INVENTORY deploys/check.py"
        group.head.log_styled(f"warning: {what} -> {cure}", fg="yellow")
    how = {"unknown": "", "local": ", NCCL within one machine"}.get(
        nccl.kind, f", NCCL over {nccl.kind}"
    )
    text = serving.completion_text(answers.completion)[:80]
    group.head.log_styled(
        f"serving {group.model} on {len(group.nodes)} node(s){how}; "
        f"it answered in {answers.seconds:.2f} s: {text!r}",
        fg="green",
    )
    return ()


def probe_model(group: Group) -> tuple[Finding, ...]:
    """Send the probes, if there are any, and log how they were answered.

    Returns why the group must not serve; () if it may. An interrupt ends the wait for answers.
    """
    if group.probe is None:
        return ()
    head, probe = group.head, group.probe

    def within() -> tuple[Finding, ...]:
        with ctx_state.use(head.state), ctx_host.use(head):
            return probe()

    asking = gevent.spawn(within)
    with shell.report_every(lambda seconds: head.log(f"probing the answers, {seconds:.0f} s")):
        while not asking.ready():
            if interrupt := group.interrupted():
                asking.kill(block=False)
                return (interrupt,)
            asking.join(PAUSE / 4)
    findings: tuple[Finding, ...] = asking.get()
    for finding in findings:
        if finding.level is Level.WARNING:
            head.log_styled(f"warning: {finding}", fg="yellow")
        elif finding.key == "probes":
            head.log(finding.what)
    return tuple(finding for finding in findings if finding.level is Level.ERROR)


def wait_until_ready(group: Group) -> tuple[Finding, ...]:
    """Read every rank's health until all are healthy (returns ()) or the wait has failed (returns
    why).

    Logs its progress soon, and then every REPORT_SECONDS, however long a reading takes.
    """
    begun = time.monotonic()
    watch = readiness.ReadinessWatch(group.limits, begun, group.restarts, group.collectives)
    healths = list[readiness.RankHealth]()

    def report() -> None:
        gevent.sleep(PAUSE)
        while True:
            states = "; ".join(map(str, healths)) or "no rank has answered yet"
            waited = time.monotonic() - begun
            group.head.log(
                f"waiting, {waited:.0f} of {group.limits.ready:.0f} s{group.limits.note}: {states}"
            )
            gevent.sleep(readiness.REPORT_SECONDS)

    reporter = gevent.spawn(report)
    try:
        while True:
            healths[:] = read_healths(group)
            now = time.monotonic()
            if all(health.healthy for health in healths):
                group.head.log(f"every rank is healthy after {now - begun:.0f} s")
                _log_nccl(group, healths)
                return watch.wrong_nccl(healths)
            if failures := watch.failures(healths, now):
                return failures
            if interrupt := group.interrupted():
                return (interrupt,)
            time.sleep(min(PAUSE, 0.1 + (now - begun) / 4))
    finally:
        reporter.kill()


def _log_nccl(group: Group, healths: Sequence[readiness.RankHealth]) -> None:
    """Log the NCCL that the ranks loaded, and what must be known of it."""
    loaded = {health.node: health.nccl for health in healths}
    if versions := sorted({v for of_rank in loaded.values() for v in of_rank}):
        group.head.log(f"NCCL {', '.join(versions)}")
    for finding in group.collectives.findings(loaded) if group.collectives else ():
        if finding.level is Level.WARNING:
            group.head.log_styled(f"warning: {finding}", fg="yellow")


def read_healths(group: Group) -> list[readiness.RankHealth]:
    """Every rank's health, in rank order."""

    def read(at: Host) -> readiness.RankHealth:
        spec, fact = group.specs[at.name], RankLook()
        script = fact.command(at.name, spec.runtime, spec.name, group.url)
        reading = shell.read_fact(at, fact, script, LOOK_SECONDS)
        return reading.value or readiness.RankHealth(at.name, lost=reading.why or "no answer")

    return list(shell.on_all(group.hosts.values(), read).values())


def keep_ranks(group: Group) -> None:
    """Turn restart policies on: from now on the ranks survive a reboot."""
    for node, at in group.hosts.items():
        spec = group.specs[node]
        if command := group.runtime.keep(spec.name, spec.restart_policy):
            output = shell.run_command(at, command)
            if not output.ok:
                at.log_styled(
                    "its restart policy could not be set, so it would not survive a reboot -> run "
                    f"this again: {output.text}",
                    fg="yellow",
                )


def stop_ranks(group: Group, living: Mapping[str, Rank]) -> None:
    """Stop these ranks (by node), policies first: the head, then the workers, which would ignore
    a stop while it lives."""
    patience = group.stop_seconds if group.nodes[0] in living else ORPHAN_SECONDS

    def stop(at: Host) -> None:
        if (rank := living.get(at.name)) is None:
            return
        for command in (group.runtime.release(rank.called), group.runtime.stop(rank, patience)):
            if command:
                shell.run_command(at, command)

    head, *workers = group.hosts.values()
    stop(head)
    shell.on_all(workers, stop)


def log_causes(group: Group, healths: Mapping[str, readiness.RankHealth]) -> None:
    """Log each rank's last lines, and what they mean. `healths` is by node."""
    from cluster.engine.diagnosis import End, group_diagnosis

    logs: dict[str, tuple[str, ...]] = {}
    for node in group.nodes:
        # The log since we started the rank. Docker may have restarted one that started before this
        # run: then also the log of its earlier lives.
        command = group.runtime.logs(group.specs[node].name, 400, earlier=not group.start)
        output = shell.run_command(group.hosts[node], command)
        logs[node] = (*output.out, *output.err)
    for health in healths.values():
        if health.lost:
            group.head.log_styled(
                f"{health.node}: does not answer ({health.lost}), its rank may still run -> "
                "run this again once it answers",
                fg="red",
            )

    def end(rank: Rank | None) -> End | None:
        if rank is None or rank.running:
            return None
        return End(rank.exit_code, rank.oom_killed, rank.restarts)

    ends = {node: (log, end(healths[node].rank)) for node, log in logs.items()}
    for node, diagnosis in group_diagnosis(ends)[:DIAGNOSES]:
        cause = error(diagnosis.cause, cure=diagnosis.cure, key=diagnosis.key)
        outcome.log_failure(group.hosts[node], cause)
        group.hosts[node].log(f"  {diagnosis.evidence}")
    for node, lines in logs.items():
        for line in meaningful_lines(lines, LAST_LINES):
            group.hosts[node].log(f"  {group.specs[node].name} | {line}")
