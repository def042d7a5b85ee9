"""What the ranks' states say of the group as a whole."""

from __future__ import annotations

from collections.abc import Iterator
from shlex import quote

from cluster.doctor.report import CHECK, DEPLOY, Ailment
from cluster.status import RankStatus, Status

# A rank that has restarted this often by itself, and is younger than that, is in a loop.
LOOP_RESTARTS = 3
LOOP_SECONDS = 600


def group(status: Status) -> Iterator[Ailment]:
    """What the ranks' states say of the group as a whole."""
    yield from _half(status)
    for rank in status.ranks:
        yield from _rank(rank, status)
    if status.served and status.wanted not in status.served:
        yield _another(status)
    for reason in status.drift if status.ready else ():
        yield _drift(reason)
    yield from _lease(status)


def _half(status: Status) -> Iterator[Ailment]:
    gone = [r for r in status.ranks if r.state in ("missing", "exited", "created", "dead")]
    runs = [r for r in status.ranks if r.state == "running"]
    if status.declared != "running" or not gone:
        return
    count = f"{len(runs)} of {len(status.ranks)} ranks run"
    yield Ailment(
        level="error",
        key="half-group" if runs else "no-group",
        cause=f"{count}: a group serves whole or not at all" if runs else "no rank runs",
        evidence="; ".join(f"{r.node}: {_of(r)}" for r in gone),
        cure=DEPLOY,
    )


def _of(rank: RankStatus) -> str:
    return f"{rank.container} {rank.state}" if rank.container else "no rank of the group"


def _rank(rank: RankStatus, status: Status) -> Iterator[Ailment]:
    where = f"{rank.node} {rank.container}".strip()
    young = rank.uptime is None or rank.uptime < LOOP_SECONDS
    if rank.state == "restarting" or (rank.restarts >= LOOP_RESTARTS and young):
        yield Ailment(
            level="error",
            key="restart-loop",
            cause="the rank ends and is started again, over and over",
            where=where,
            evidence=f"{rank.state}, restarted {rank.restarts} times",
            cure=f"docker logs --tail 100 {quote(rank.container)} on it; then {DEPLOY}",
        )
    elif rank.state == "paused":
        yield Ailment(
            level="error",
            key="paused",
            cause="the container is paused: somebody froze it by hand",
            where=where,
            evidence=rank.state,
            cure=f"docker unpause {quote(rank.container)} on {rank.node}",
        )
    elif rank.state == "running" and rank.health != 200:
        yield _unhealthy(rank, where, status)


def _unhealthy(rank: RankStatus, where: str, status: Status) -> Ailment:
    said = f"/health answers {rank.health}" if rank.health else "/health does not answer"
    if status.state == "starting":
        return Ailment(
            level="warning",
            key="starting",
            cause=f"the rank is still starting: {rank.phase or 'no step told yet'}",
            where=where,
            evidence=said,
            cure="spark-cluster status --watch",
        )
    return Ailment(
        level="error",
        key="unhealthy",
        cause="the rank runs, and does not serve",
        where=where,
        evidence=said,
        cure=f"{CHECK}; if the fabric is well, {DEPLOY} restarts the group",
    )


def _another(status: Status) -> Ailment:
    return Ailment(
        level="error",
        key="another-model",
        cause=f"the group serves {', '.join(status.served)}, declared is {status.wanted}",
        evidence="/v1/models",
        cure=f"{DEPLOY}, or spark-cluster use {quote(status.served[0])}",
    )


def _drift(reason: str) -> Ailment:
    node, _, what = reason.partition(": ")
    return Ailment(
        level="warning",
        key="drift",
        cause="what runs is not what is declared: the next deploy restarts it",
        where=node,
        evidence=what,
        cure=f"{DEPLOY}, or set the inventory to what runs",
    )


def _lease(status: Status) -> Iterator[Ailment]:
    holder = status.holder
    if holder and holder.stale:
        yield Ailment(
            level="warning",
            key="stale-lease",
            cause="a run was killed in the middle, and left its lease",
            evidence=f"{holder.owner}: {holder.command}, {holder.age:.0f} s ago",
            cure=f"{DEPLOY} takes it over, and finishes or undoes what it began",
        )
