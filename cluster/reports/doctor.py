"""What is wrong with a cluster, from all that was read of it: cause, evidence, cure.

`VERSION` grows when a field changes its meaning or goes; new fields may come at any time.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from shlex import quote
from typing import Literal

from cluster.engine.diagnosis import Diagnosis, End, diagnose
from cluster.engine.log import STOPPING, last_words, transport
from cluster.engine.symptoms import Weight
from cluster.findings import Finding, Level
from cluster.node.readings import DiskReading, NodeFacts, Rank
from cluster.printable import gigabytes
from cluster.reports.status import RankStatus, Status

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
    """The document: the most telling first, nothing twice."""
    told = sorted(dict.fromkeys(problems), key=lambda a: a.level)
    return DoctorReport(
        ok=not any(a.level == "error" for a in told),
        state=status.state,
        ailments=tuple(told),
        looked=tuple(looked),
    )


def check_problems(findings: Iterable[Finding], others: Sequence[Problem]) -> Iterator[Problem]:
    """The checks' findings. On a node whose Docker is among the other problems, those about Docker
    are left out: their keys begin with "docker-"."""
    without_docker = {p.where for p in others if p.key.startswith("docker-")}
    for finding in findings:
        repeated = finding.key.startswith("docker-") and finding.where in without_docker
        if finding.level is Level.OK or repeated:
            continue
        yield Problem(
            level="error" if finding.level is Level.ERROR else "warning",
            key="check",
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
    """Nodes that could not be asked: node → why."""
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
    """Nodes whose container engine can't be asked."""
    for node, seen in facts.items():
        blind = seen.unread.get("ranks", "")
        kind = seen.engine.error if seen.engine else ""
        if not kind and not blind:
            continue
        key, cause, cure = ENGINES.get(kind, ENGINES["broken"])
        detail = seen.engine.detail if seen.engine and seen.engine.error else blind
        yield Problem(
            level="error", key=key, cause=cause, where=node, evidence=detail, cure=f"on it: {cure}"
        )


def disk_problems(facts: Mapping[str, NodeFacts]) -> Iterator[Problem]:
    """File systems that are nearly full."""
    for node, seen in facts.items():
        systems = {(d.total, d.free): d for d in reversed(seen.disks) if d.total}
        yield from (_full(node, d) for d in systems.values() if _nearly_full(d))


def _nearly_full(disk: DiskReading) -> bool:
    return disk.free < FULL_BYTES or disk.total - disk.free > FULL_SHARE * disk.total


def _full(node: str, disk: DiskReading) -> Problem:
    share = 100 * (disk.total - disk.free) / disk.total
    return Problem(
        level="error" if disk.free < FULL_BYTES else "warning",
        key="disk-nearly-full",
        cause=f"the disk under {disk.path} is nearly full",
        where=node,
        evidence=f"{share:.0f} % used, {gigabytes(disk.free)} free",
        cure=f"on it: df -h {disk.path}; docker system df; docker image prune",
    )


# ---- the group


# A rank that has restarted this often by itself, and is younger than that, is in a loop.
LOOP_RESTARTS = 3
LOOP_SECONDS = 600


def group_problems(status: Status) -> Iterator[Problem]:
    """What the ranks' states say of the group as a whole."""
    yield from _half(status)
    for rank in status.ranks:
        yield from _rank(rank, status)
    if status.served and status.wanted not in status.served:
        yield _another(status)
    if status.ready:
        yield from _drift(status.drift)
    yield from _lease(status)


def _half(status: Status) -> Iterator[Problem]:
    gone = [r for r in status.ranks if r.state in ("missing", "exited", "created", "dead")]
    runs = [r for r in status.ranks if r.state == "running"]
    if status.declared != "running" or not gone:
        return
    count = f"{len(runs)} of {len(status.ranks)} ranks run"
    yield Problem(
        level="error",
        key="half-group" if runs else "no-group",
        cause=f"{count}: a group serves whole or not at all" if runs else "no rank runs",
        evidence="; ".join(f"{r.node}: {_of(r)}" for r in gone),
        cure=DEPLOY,
    )


def _of(rank: RankStatus) -> str:
    return f"{rank.container} {rank.state}" if rank.container else "no rank of the group"


def _rank(rank: RankStatus, status: Status) -> Iterator[Problem]:
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
        yield _unhealthy(rank, where, status)


def _unhealthy(rank: RankStatus, where: str, status: Status) -> Problem:
    said = f"/health answers {rank.health}" if rank.health else "/health does not answer"
    if status.state == "starting":
        return Problem(
            level="warning",
            key="starting",
            cause=f"the rank is still starting: {rank.phase or 'no step reported yet'}",
            where=where,
            evidence=said,
            cure="spark-cluster status --watch",
        )
    return Problem(
        level="error",
        key="unhealthy",
        cause="the rank is running but does not serve",
        where=where,
        evidence=said,
        cure=f"{CHECK}; if the fabric is fine, {DEPLOY} restarts the group",
    )


def _another(status: Status) -> Problem:
    return Problem(
        level="error",
        key="another-model",
        cause=f"the group serves {', '.join(status.served)}, declared is {status.wanted}",
        evidence="/v1/models",
        cure=f"{DEPLOY}, or spark-cluster use {quote(status.served[0])}",
    )


def _drift(reasons: Sequence[str]) -> Iterator[Problem]:
    """One problem a node; `reasons` are "node: what differs"."""
    by_node: dict[str, list[str]] = {}
    for reason in reasons:
        node, _, difference = reason.partition(": ")
        by_node.setdefault(node, []).append(difference)
    for node, differences in by_node.items():
        yield Problem(
            level="warning",
            key="drift",
            cause="what runs is not what is declared: the next deploy restarts it",
            where=node,
            evidence="; ".join(differences),
            cure=f"{DEPLOY}, or set the inventory to what runs",
        )


def _lease(status: Status) -> Iterator[Problem]:
    holder = status.holder
    if holder and holder.stale:
        yield Problem(
            level="warning",
            key="stale-lease",
            cause="a run was killed and left its lease behind",
            evidence=f"{holder.owner}: {holder.command}, {holder.age:.0f} s ago",
            cure=f"{DEPLOY} takes over, and finishes or undoes the switch",
        )


# ---- logs


# Of a failed rank that was kept: its last lines, and how much of each.
LAST_LINES = 3
LINE_LENGTH = 120


@dataclass(frozen=True)
class RankLogText:
    """What a container said, and how it ended.

    + lines: of its log; transport: NCCL's lines that tell what carries its traffic
    """

    node: str
    rank: Rank
    lines: Sequence[str] = ()
    transport: Sequence[str] = ()


def log_problems(words: Sequence[RankLogText], *, ready: bool, rdma: bool) -> Iterator[Problem]:
    """What the ranks' own words say. In a group that serves they are warnings: it got over them.

    + rdma: the fabric was chosen for RDMA
    """
    found = [(w, d) for w in words for d in _telling(w, ready)]
    causes = any(d.weight <= Weight.FAILED for _, d in found) or any(map(_asked_to_end, words))
    for said, diagnosis in sorted(found, key=lambda pair: pair[1].weight):
        follows = causes and diagnosis.weight >= Weight.PEER
        mild = ready or follows or diagnosis.weight is Weight.NOTE
        yield _said(said, diagnosis, "warning" if mild else "error")
    if rdma:
        yield from _slow(words)


def _asked_to_end(words: RankLogText) -> bool:
    """Whether the rank was stopped, by a deploy or by hand: that the others lost it follows."""
    return not words.rank.running and any(STOPPING in line for line in words.lines)


def _telling(words: RankLogText, ready: bool) -> list[Diagnosis]:
    """What a rank's log tells, without what only follows from the rest of it; one that serves again
    has no end to explain."""
    told = diagnose(words.lines, _end(words.rank))
    why = any(d.weight < Weight.CONSEQUENCE for d in told)
    told = tuple(d for d in told if not (why and d.weight is Weight.CONSEQUENCE))
    return [d for d in told if not (ready and words.rank.running and d.key == "ended")]


def _end(rank: Rank) -> End:
    return End(rank.exit_code, rank.oom_killed, rank.restarts)


def _said(words: RankLogText, d: Diagnosis, level: Literal["error", "warning"]) -> Problem:
    return Problem(
        level=level,
        key=d.key,
        cause=d.cause,
        where=f"{words.node} {words.rank.called}",
        evidence=d.evidence,
        cure=d.cure,
    )


def _slow(words: Sequence[RankLogText]) -> Iterator[Problem]:
    for said in words:
        told = transport(said.transport)
        if told.kind == "tcp" and said.rank.running:
            yield Problem(
                level="error",
                key="nccl-tcp",
                cause="NCCL carries the traffic over TCP, 10 to 20 times slower than RDMA",
                where=f"{said.node} {said.rank.called}",
                evidence=told.evidence,
                cure=f"{CHECK} shows what the fabric lacks; ibdev2netdev and rdma link on the node",
            )


def leftover_problems(status: Status, words: Sequence[RankLogText]) -> Iterator[Problem]:
    """Containers of failed or interrupted switches, with their last words."""
    said = {(w.node, w.rank.called): w for w in words}
    switching = status.holder is not None and not status.holder.stale
    for left in status.leftovers:
        if left.kind == "stray" or (left.kind == "previous" and switching):
            continue
        found = said.get((left.node, left.container))
        yield Problem(
            level="warning",
            key=f"left-{left.kind}",
            cause="a failed rank was kept for inspection"
            if left.kind == "failed"
            else "a switch was interrupted: the group before it is still set aside",
            where=f"{left.node} {left.container}",
            evidence=_last(found) if found else left.state,
            cure=f"docker logs {quote(left.container)} on it; the next deploy clears it"
            if left.kind == "failed"
            else f"{DEPLOY} continues the switch",
        )


def _last(words: RankLogText) -> str:
    return " / ".join(line[:LINE_LENGTH] for line in last_words(words.lines, LAST_LINES))
