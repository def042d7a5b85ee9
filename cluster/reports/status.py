"""How a group stands, as one document: what was read of its nodes, judged.

`VERSION` grows when a field changes its meaning or goes; new fields may come at any time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from hashlib import sha256
from typing import Literal

from cluster.lease import MOST_SHOWN, STALE_SECONDS, LeaseAnswer
from cluster.node.readings import NodeFacts, Rank, Shown
from cluster.plan import decide, previous_group
from cluster.printable import short_image_id
from cluster.reports.watch import Watch, WatchdogStatus

VERSION = 1

LeftoverKind = Literal["previous", "failed", "stray"]
GroupState = Literal["ready", "starting", "degraded", "down", "stopped", "absent", "unknown"]


@dataclass(frozen=True)
class ServerLoad(Shown):
    """A server's own figures at /metrics; None where it reports none.

    + model: the id that it serves, as its metrics are labelled
    + running, queued: requests
    + tokens_per_second: generated, over all requests, at its last look
    + kv_cache, cache_hits: shares, 0 to 1
    """

    model: str = ""
    running: float | None = None
    queued: float | None = None
    tokens_per_second: float | None = None
    kv_cache: float | None = None
    cache_hits: float | None = None


@dataclass(frozen=True, kw_only=True)
class RankStatus:
    """One rank of the group: how it is, and what a deploy would change.

    + lost: why its node, or its container engine, could not be read; "" where both answered
    + container: its name; "" where there is none
    + state: Docker's word; "missing", or "unknown" where its engine could not be read
    + health: HTTP status of /health, 0 where nothing answered
    + phase: the step that its log shows
    + nccl: the versions of NCCL that its log names, the oldest first; () where it names none
    + uptime: seconds since it started, None where it does not run
    + image: id, 12 digits; spec: of the SHA-256 of its label, 12 digits
    + drift: what a deploy would change, one difference each
    + memory_used, memory_total: the node's, bytes; gpu_watts: of all its GPUs
    + watchdog: its node's; None: there is none, or it could not be read
    """

    rank: int
    node: str
    lost: str = ""
    container: str = ""
    state: str = "unknown"
    health: int = 0
    phase: str = ""
    nccl: tuple[str, ...] = ()
    uptime: float | None = None
    restarts: int = 0
    exit_code: int | None = None
    oom_killed: bool = False
    image: str = ""
    spec: str = ""
    drift: tuple[str, ...] = ()
    memory_used: int | None = None
    memory_total: int | None = None
    gpu_watts: float | None = None
    watchdog: WatchdogStatus | None = None

    @property
    def healthy(self) -> bool:
        return self.health == 200 and self.state in ("running", "unknown")


@dataclass(frozen=True, kw_only=True)
class Leftover:
    """A container of ours beside the group.

    + kind: "previous": set aside while the group after it comes up; "failed": there for inspection;
      "stray": under a name that is no longer part of the group
    """

    node: str
    container: str
    state: str
    kind: LeftoverKind


@dataclass(frozen=True, kw_only=True)
class LeaseHolder:
    """Who changes the group right now; `age`: seconds since that run last refreshed its lease."""

    owner: str
    command: str = ""
    age: float = 0.0
    stale: bool = False


@dataclass(frozen=True, kw_only=True)
class Status:
    """The document.

    + ok: ready, no drift and no error: exit code 0
    + state: "ready": every rank healthy and the wanted model served; "starting": a rank loads;
      "degraded": some ranks run; "down": none does; "stopped", "absent": as declared; "unknown":
      the head could not be read
    + wanted: the model as declared; served: the ids that the head really serves
    + drift: of the whole group; `unsure`: why it could not be determined, "" where it could
    + unread: what could not be read, a sentence each
    + watch: what watches the group; None: nothing does, or the head could not be read
    + errors, warnings: what is wrong with the NCCL that the ranks loaded, who may use the API,
      where that is anybody, and that no probes are sent
    """

    version: int = VERSION
    group: str
    ok: bool
    ready: bool
    state: GroupState
    declared: str
    wanted: str
    served: tuple[str, ...]
    url: str = ""
    load: ServerLoad = field(default_factory=ServerLoad)
    ranks: tuple[RankStatus, ...] = ()
    leftovers: tuple[Leftover, ...] = ()
    drift: tuple[str, ...] = ()
    unsure: str = ""
    holder: LeaseHolder | None = None
    watch: Watch | None = None
    unread: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def rank_status(
    number: int,
    node: str,
    facts: NodeFacts | None,
    rank: Rank | None,
    *,
    lost: str = "",
    health: int = 0,
    phase: str = "",
    nccl: tuple[str, ...] = (),
    age: float | None = None,
    drift: Sequence[str] = (),
    watchdog: WatchdogStatus | None = None,
) -> RankStatus:
    """How one rank is, from what was read of its node; facts: None where nothing could be.

    + age: of a process; a container's follows from its start and the node's clock
    """
    if facts is None:
        return RankStatus(rank=number, node=node, lost=lost)
    blind = facts.unread.get("ranks", "")
    memory = facts.memory
    watts = [gpu.power_watts for gpu in facts.gpus if gpu.power_watts is not None]
    if rank is None:
        place = RankStatus(rank=number, node=node)
    else:
        begun = start_time(rank)
        if age is None and rank.alive and begun is not None and facts.clock:
            age = max(0.0, facts.clock - begun)
        place = RankStatus(
            rank=number,
            node=node,
            container=rank.called,
            uptime=age,
            restarts=rank.restarts,
            exit_code=rank.exit_code,
            oom_killed=rank.oom_killed,
            image=short_image_id(rank.image_id),
            spec=sha256((rank.label or "").encode()).hexdigest()[:12],
        )
    return replace(
        place,
        lost=f"Docker does not respond: {blind}" if blind else lost,
        state=rank.status if rank else "unknown" if blind else "missing",
        health=health,
        phase=phase if rank and rank.running else "",
        nccl=nccl if rank and rank.running else (),
        drift=tuple(drift),
        memory_used=memory.total - memory.available if memory else None,
        memory_total=memory.total if memory else None,
        gpu_watts=sum(watts) if watts else None,
        watchdog=watchdog,
    )


def start_time(rank: Rank) -> float | None:
    """Unix time of a container's start; None for a process, which counts in ticks since boot."""
    try:
        return datetime.fromisoformat(rank.started_at[:19] + "+00:00").timestamp()
    except ValueError:
        return None


def lease_holder(answer: LeaseAnswer) -> LeaseHolder:
    """Who changes the group, as the head's lease file says; any login may have written that."""
    lease, age, stale = answer.lease, answer.age, abs(answer.age) >= STALE_SECONDS
    if lease is None:
        return LeaseHolder(owner="an unidentified run", age=age, stale=stale)
    owner, command = f"{lease.owner}@{lease.host}"[:MOST_SHOWN], lease.command[:MOST_SHOWN]
    return LeaseHolder(owner=owner, command=command, age=age, stale=stale)


def group_state(
    declared: str, ranks: Sequence[RankStatus], served: Sequence[str], wanted: str
) -> GroupState:
    """How the group stands, by its ranks (rank 0 first) and what its head serves."""
    alive = [r for r in ranks if r.state in ("running", "paused", "restarting") or r.healthy]
    if declared != "running" and not alive and not any(r.lost for r in ranks):
        there = any(r.container for r in ranks)
        return "stopped" if there else "absent"
    if all(r.healthy for r in ranks) and wanted in served:
        return "ready"
    if ranks[0].lost and not ranks[0].health:
        return "unknown"
    # On its way to ready: a rank that was ready once, and no longer answers, is not.
    loading = [r for r in ranks if r.state == "running" and not r.lost and r.phase != "ready"]
    if len(alive) == len(ranks) and all(r.healthy or r in loading for r in ranks):
        return "degraded" if served and wanted not in served else "starting"
    return "degraded" if alive or any(r.lost for r in ranks) else "down"


def find_leftovers(node: str, ranks: Sequence[Rank], own: Rank | None) -> tuple[Leftover, ...]:
    """The group's containers on a node, except its rank."""
    kinds: dict[str, LeftoverKind] = {
        previous_group.PREVIOUS: "previous",
        previous_group.FAILED: "failed",
    }
    return tuple(
        Leftover(
            node=node,
            container=r.called,
            state=r.status,
            kind=next((kind for end, kind in kinds.items() if r.called.endswith(end)), "stray"),
        )
        for r in ranks
        if own is None or r.id != own.id
    )


def drift_by_node(decision: decide.Decision) -> dict[str, tuple[str, ...]]:
    """Node -> what a deploy would change at its rank; nothing for a node whose ranks were not read.

    What a deploy removes beside the group's own ranks is in `Status.leftovers`.
    """
    blind = {node for node, facts in decision.facts.items() if "ranks" in facts.unread}
    drift: dict[str, tuple[str, ...]] = {}
    for step in decision.plan.steps:
        if (step.spec is not None or not decision.running) and step.node not in blind:
            drift[step.node] = (*drift.get(step.node, ()), *step.reasons)
    for node, policy in decision.plan.policies.items():
        drift[node] = (*drift.get(node, ()), f"restart policy -> {policy}")
    return drift


def describe_drift(
    by_rank: Mapping[str, Sequence[str]], leftover: Sequence[Leftover]
) -> tuple[str, ...]:
    """What a deploy would change, each with its node. What a switch has set aside is no drift."""
    own = [f"{node}: {reason}" for node, reasons in by_rank.items() for reason in reasons]
    strays = [
        f"{x.node}: {x.container} is no longer part of the group"
        for x in leftover
        if x.kind == "stray"
    ]
    return (*own, *strays)
