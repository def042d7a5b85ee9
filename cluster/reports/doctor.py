"""What is wrong with a cluster, from all that was read of it: cause, evidence, cure.

`VERSION` grows when a field changes its meaning or goes; new fields may come at any time.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from shlex import quote
from typing import Literal

from cluster.engine.diagnosis import Diagnosis, End, diagnose
from cluster.engine.log import STOPPING, meaningful_lines, transport
from cluster.engine.symptoms import Weight
from cluster.findings import Finding, Level
from cluster.node.readings import NodeFacts, Rank
from cluster.printable import gigabytes
from cluster.reports.status import RankStatus, Status
from cluster.reports.watch import WatchdogStatus

VERSION = 1
# For cures; `name_inventory` puts the inventory's name in.
DEPLOY = "pyinfra INVENTORY deploy.py"
CHECK = "pyinfra INVENTORY deploys/check.py"


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing that is wrong.

    + level: an error keeps the group from serving as declared, or soon will; a warning does not
    + key: its stable name
    + where: node, or node and container; "" for the whole cluster
    + evidence: what shows it: a log's line, a program's words
    + cure: a command
    """

    level: Literal["error", "warning"]
    key: str
    cause: str
    where: str = ""
    evidence: str = ""
    cure: str = ""


@dataclass(frozen=True, kw_only=True)
class DoctorReport:
    """The document. ok: no error (there may be warnings); looked: what was looked at."""

    version: int = VERSION
    ok: bool
    state: str
    ailments: tuple[Problem, ...]
    looked: tuple[str, ...]


def doctor_report(
    status: Status, problems: Iterable[Problem], looked: Sequence[str]
) -> DoctorReport:
    """The document: errors first, nothing twice."""
    ordered = sorted(dict.fromkeys(problems), key=lambda problem: problem.level)
    return DoctorReport(
        ok=not any(problem.level == "error" for problem in ordered),
        state=status.state,
        ailments=tuple(ordered),
        looked=tuple(looked),
    )


def finding_problems(
    findings: Iterable[Finding], others: Sequence[Problem] = ()
) -> Iterator[Problem]:
    """What checks and probes found wrong. On a node whose Docker is among the other problems, the
    findings about Docker are left out: their keys begin with "docker-"."""
    without_docker = {p.where for p in others if p.key.startswith("docker-")}
    for finding in findings:
        repeated = finding.key.startswith("docker-") and finding.where in without_docker
        if finding.level is Level.OK or repeated:
            continue
        yield Problem(
            level="error" if finding.level is Level.ERROR else "warning",
            key=finding.key,
            cause=finding.what,
            where=finding.where,
            cure=finding.cure,
        )


def name_inventory(ailment: Problem, inventory: str) -> Problem:
    """The same with the inventory's name where a cure says INVENTORY."""
    return replace(ailment, cure=ailment.cure.replace("INVENTORY", inventory))


# ---- nodes, container engines, disks


# A disk that is full to this share will soon stop a log, a container's start, a download.
FULL_SHARE = 0.95
FULL_BYTES = 2 * 10**9


def unreachable_nodes(nodes: Mapping[str, str]) -> Iterator[Problem]:
    """Nodes that could not be reached: node → why."""
    for node, why in nodes.items():
        yield Problem(
            level="error",
            key="node-unreachable",
            cause="it cannot be reached by SSH: off, frozen, or cut off",
            where=node,
            evidence=why,
            cure=f"ssh {node} true; ping {node}; where it is off or frozen, power-cycle it",
        )


ENGINES = {
    "missing": ("docker-missing", "Docker is not installed", "sudo apt-get install docker.io"),
    "denied": (
        "docker-denied",
        "the login may not use Docker",
        "sudo usermod -aG docker $USER, and log in again",
    ),
    "stopped": (
        "docker-stopped",
        "the Docker daemon is not running",
        "sudo systemctl enable --now docker; journalctl -u docker shows why it stopped",
    ),
    "broken": (
        "docker-silent",
        "the Docker daemon does not respond",
        "sudo systemctl restart docker; journalctl -u docker and df -h /var/lib/docker show why",
    ),
}


def engine_problems(facts: Mapping[str, NodeFacts]) -> Iterator[Problem]:
    """Nodes whose container engine does not answer."""
    for node, reading in facts.items():
        blind = reading.unread.get("ranks", "")
        kind = reading.engine.error if reading.engine else ""
        if not kind and not blind:
            continue
        key, cause, cure = ENGINES.get(kind, ENGINES["broken"])
        detail = reading.engine.detail if reading.engine and kind else blind
        yield Problem(
            level="error", key=key, cause=cause, where=node, evidence=detail, cure=f"on it: {cure}"
        )


def disk_problems(facts: Mapping[str, NodeFacts]) -> Iterator[Problem]:
    """File systems that are nearly full."""
    for node, reading in facts.items():
        systems = {(d.total, d.free): d for d in reversed(reading.disks) if d.total}
        for disk in systems.values():
            used, short = (disk.total - disk.free) / disk.total, disk.free < FULL_BYTES
            if short or used > FULL_SHARE:
                yield Problem(
                    level="error" if short else "warning",
                    key="disk-nearly-full",
                    cause=f"the disk under {disk.path} is nearly full",
                    where=node,
                    evidence=f"{100 * used:.0f} % used, {gigabytes(disk.free)} free",
                    cure=f"on it: df -h {disk.path}; docker system df; docker image prune",
                )


# ---- the group


# A rank that has restarted this often by itself, and is younger than that, is in a loop.
LOOP_RESTARTS = 3
LOOP_SECONDS = 600


def group_problems(status: Status) -> Iterator[Problem]:
    """What the ranks' states say of the group as a whole."""
    yield from _missing_ranks(status)
    for rank in status.ranks:
        yield from _rank_problems(rank, status)
    if status.served and status.wanted not in status.served:
        yield Problem(
            level="error",
            key="another-model",
            cause=f"the group serves {', '.join(status.served)}, declared is {status.wanted}",
            evidence="/v1/models",
            cure=f"{DEPLOY}, or spark-cluster use {quote(status.served[0])}",
        )
    differences: dict[str, list[str]] = {}
    for reason in status.drift if status.ready else ():
        node, _, difference = reason.partition(": ")
        differences.setdefault(node, []).append(difference)
    for node in differences:
        yield Problem(
            level="warning",
            key="drift",
            cause="what runs is not what is declared: the next deploy restarts it",
            where=node,
            evidence="; ".join(differences[node]),
            cure=f"{DEPLOY}, or set the inventory to what runs",
        )
    if (holder := status.holder) and holder.stale:
        yield Problem(
            level="warning",
            key="stale-lease",
            cause="a run was killed and left its lease behind",
            evidence=f"{holder.owner}: {holder.command}, {holder.age:.0f} s ago",
            cure=f"{DEPLOY} takes over, and finishes or undoes the switch",
        )


def _missing_ranks(status: Status) -> Iterator[Problem]:
    """A group that should run, and of which some rank does not."""
    gone = [r for r in status.ranks if r.state in ("missing", "exited", "created", "dead")]
    runs = [r for r in status.ranks if r.state == "running"]
    if status.declared == "running" and gone:
        count = f"{len(runs)} of {len(status.ranks)} ranks run"
        yield Problem(
            level="error",
            key="half-group" if runs else "no-group",
            cause=f"{count}: a group serves whole or not at all" if runs else "no rank runs",
            evidence="; ".join(
                f"{r.node}: {f'{r.container} {r.state}' if r.container else 'no rank of the group'}"
                for r in gone
            ),
            cure=DEPLOY,
        )


def _rank_problems(rank: RankStatus, status: Status) -> Iterator[Problem]:
    """A rank that restarts over and over, is paused, or runs and does not serve."""
    where = f"{rank.node} {rank.container}".strip()
    young = rank.uptime is None or rank.uptime < LOOP_SECONDS
    if rank.state == "restarting" or (rank.restarts >= LOOP_RESTARTS and young):
        yield Problem(
            level="error",
            key="restart-loop",
            cause="the rank ends and restarts, over and over",
            where=where,
            evidence=f"{rank.state}, restarted {rank.restarts} times",
            cure=f"docker logs --tail 100 {quote(rank.container)} on it; then {DEPLOY}",
        )
    elif rank.state == "paused":
        yield Problem(
            level="error",
            key="paused",
            cause="the container is paused: somebody froze it by hand",
            where=where,
            evidence=rank.state,
            cure=f"docker unpause {quote(rank.container)} on {rank.node}",
        )
    elif rank.state == "running" and rank.health != 200:
        starting = status.state == "starting"
        yield Problem(
            level="warning" if starting else "error",
            key="starting" if starting else "unhealthy",
            cause=f"the rank is still starting: {rank.phase or 'no step reported yet'}"
            if starting
            else "the rank is running but does not serve",
            where=where,
            evidence=f"/health answers {rank.health}" if rank.health else "/health does not answer",
            cure="spark-cluster status --watch"
            if starting
            else f"{CHECK}; if the fabric is fine, {DEPLOY} restarts the group",
        )


# ---- watchdogs


# A watchdog writes every 5 s. What it did longer ago is not why the group is as it is.
WATCHDOG_SILENT = 60
WATCHDOG_RECENT = 3600
ENDED = {
    "memory-floor": "memory ran out: the watchdog ended the rank before the node froze",
    "silent-head": "the watchdog ended the rank, because its head did not answer",
    "group-restart": "the watchdog restarted the group, because it did not serve",
    "docker-killed": "dockerd was killed: the watchdog started the rank that went down with it",
}


def watchdog_problems(status: Status) -> Iterator[Problem]:
    """Watchdogs that have stopped, or that wait, and what they did within an hour."""
    for rank in status.ranks:
        if rank.watchdog:
            unit = f"spark-watchdog-{status.group}"
            yield from _watchdog_duty(rank.watchdog, rank.node, unit)
            yield from _watchdog_action(rank.watchdog, rank, unit)


def _watchdog_duty(dog: WatchdogStatus, node: str, unit: str) -> Iterator[Problem]:
    """Why a watchdog does nothing now."""
    if dog.age > WATCHDOG_SILENT:
        yield Problem(
            level="warning",
            key="watchdog-silent",
            cause="its watchdog has stopped: nobody restarts the group, or ends a rank in time",
            where=node,
            evidence=f"it last wrote {dog.age:.0f} s ago",
            cure=f"journalctl -u {unit} on it; pyinfra INVENTORY deploys/watchdog.py",
        )
    elif dog.duty == "limit":
        yield Problem(
            level="error",
            key="watchdog-limit",
            cause="the watchdog has restarted as often as it may within an hour, and waits",
            where=node,
            evidence=dog.why,
            cure=f"journalctl -u {unit} on it shows each; then {DEPLOY}",
        )
    elif dog.duty == "no address":
        yield Problem(
            level="error",
            key="watchdog-no-address",
            cause="the watchdog does nothing until the head's fabric address is there",
            where=node,
            evidence=dog.why,
            cure=f"ip addr on it; pyinfra INVENTORY deploys/network.py; then {DEPLOY}",
        )


def _watchdog_action(dog: WatchdogStatus, rank: RankStatus, unit: str) -> Iterator[Problem]:
    """What a watchdog did last, or failed to do, if that is less than an hour ago."""
    if dog.last_key not in ENDED or dog.last_age >= WATCHDOG_RECENT:
        return
    key, cause = dog.last_key, ENDED[dog.last_key]
    evidence = f"{dog.last_age / 60:.0f} min ago: {dog.last_why}"
    cure = f"journalctl -u {unit} on it; docker logs of the ranks before it"
    if dog.last_failed:
        key, cause = "watchdog-failed", f"the watchdog tried to {dog.last} the rank, and could not"
        evidence = f"{dog.last_age / 60:.0f} min ago: {dog.last_failed} ({dog.last_why})"
        cure = f"journalctl -u {unit} on it; then {DEPLOY}"
    elif key == "memory-floor":
        cure = f"{DEPLOY} --data mem_fraction=0.75 leaves more memory free"
    if dog.last == "stop" and not dog.last_failed:
        cause += ", for the third time, and left it stopped"
    yield Problem(
        level="warning" if rank.healthy else "error",
        key=key,
        cause=cause,
        where=rank.node,
        evidence=evidence,
        cure=cure,
    )


# ---- logs


# Of a failed rank's log: how many last lines are shown, and how many characters of each.
LAST_LINES = 3
LINE_LENGTH = 120


@dataclass(frozen=True)
class RankLogText:
    """A container's log, and how it ended.

    + lines: of its log; transport: NCCL's lines about what carries its traffic
    """

    node: str
    rank: Rank
    lines: Sequence[str] = ()
    transport: Sequence[str] = ()


def log_problems(logs: Sequence[RankLogText], *, ready: bool, rdma: bool) -> Iterator[Problem]:
    """What the ranks' logs say. In a group that serves they are warnings: it got over them.

    + rdma: the fabric was chosen for RDMA
    """
    diagnoses = [(log, d) for log in logs for d in _diagnose_log(log, ready)]
    # A rank that was stopped, by a deploy or by hand: that the others lost it follows.
    stopped = any(STOPPING in line for x in logs if not x.rank.running for line in x.lines)
    causes = stopped or any(d.weight <= Weight.FAILED for _, d in diagnoses)
    for log, diagnosis in sorted(diagnoses, key=lambda pair: pair[1].weight):
        follows = causes and diagnosis.weight >= Weight.PEER
        mild = ready or follows or diagnosis.weight is Weight.NOTE
        yield Problem(
            level="warning" if mild else "error",
            key=diagnosis.key,
            cause=diagnosis.cause,
            where=f"{log.node} {log.rank.called}",
            evidence=diagnosis.evidence,
            cure=diagnosis.cure,
        )
    for log in logs if rdma else ():
        nccl = transport(log.transport)
        if nccl.kind == "tcp" and log.rank.running:
            yield Problem(
                level="error",
                key="nccl-tcp",
                cause="NCCL carries the traffic over TCP, 10 to 20 times slower than RDMA",
                where=f"{log.node} {log.rank.called}",
                evidence=nccl.evidence,
                cure=f"{CHECK} shows what the fabric lacks; ibdev2netdev and rdma link on the node",
            )


def _diagnose_log(log: RankLogText, ready: bool) -> list[Diagnosis]:
    """The problems in a rank's log, without mere consequences. A rank that serves again has
    no end to explain."""
    end = End(log.rank.exit_code, log.rank.oom_killed, log.rank.restarts)
    diagnoses = diagnose(log.lines, end)
    why = any(d.weight < Weight.CONSEQUENCE for d in diagnoses)
    diagnoses = tuple(d for d in diagnoses if not (why and d.weight is Weight.CONSEQUENCE))
    return [d for d in diagnoses if not (ready and log.rank.running and d.key == "ended")]


def leftover_problems(status: Status, logs: Sequence[RankLogText]) -> Iterator[Problem]:
    """Containers of failed or interrupted switches, with the last lines of their logs."""
    by_container = {(log.node, log.rank.called): log for log in logs}
    switching = status.holder is not None and not status.holder.stale
    for left in status.leftovers:
        if left.kind == "stray" or (left.kind == "previous" and switching):
            continue
        evidence, name = left.state, quote(left.container)
        if log := by_container.get((left.node, left.container)):
            lines = meaningful_lines(log.lines, LAST_LINES)
            evidence = " / ".join(line[:LINE_LENGTH] for line in lines)
        failed = left.kind == "failed"
        yield Problem(
            level="warning",
            key=f"left-{left.kind}",
            cause="a failed rank was kept for inspection"
            if failed
            else "a switch was interrupted: the group before it is still set aside",
            where=f"{left.node} {left.container}",
            evidence=evidence,
            cure=f"docker logs {name} on it; the next deploy clears it"
            if failed
            else f"{DEPLOY} continues the switch",
        )
