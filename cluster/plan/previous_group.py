"""The group that served before the wanted one: kept under other names until that one is ready,
found again after an interrupted switch, put back after a failed one.

A switch renames before it stops. So containers called NAME.previous tell of a switch that has begun
and not ended, and that their group served until then; unless a part of them is gone, or the group
after them has its restart policies: that one was proven first, and they are what is left to clear.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from cluster.node.readings import NodeFacts, Rank
from cluster.rank.spec import Spec

PREVIOUS = ".previous"
FAILED = ".failed"
# Ranks that differ in one of these can't have served together.
Member = tuple[str, Rank]
KIN = ("model_path", "served_model_name", "nnodes", "tp", "pp", "dist_init_addr", "port")


@dataclass(frozen=True)
class Before:
    """A whole group that served before: node → its rank, and what it ran; rank 0 first."""

    ranks: Mapping[str, Rank]
    specs: Mapping[str, Spec]

    @property
    def model(self) -> str:
        """The id under which it served."""
        return next(iter(self.specs.values())).launch.served_model_name

    def holds(self, node: str, rank: Rank | None) -> bool:
        """Whether this very container (or process) belongs to it."""
        own = self.ranks.get(node)
        return own is not None and rank is not None and own.id == rank.id


def members(facts: NodeFacts, group: str) -> tuple[Rank, ...]:
    """The node's ranks that carry our label and belong to this group."""
    return tuple(r for r in facts.ranks if r.group == group)


def standing(
    facts: Mapping[str, NodeFacts], specs: Mapping[str, Spec], group: str
) -> dict[str, NodeFacts]:
    """The nodes as if an interrupted switch had not begun, unless the wanted ranks all run: then
    it only lacks its end.

    A rank set aside gets its name back (`Rank.container` says what its container is called now);
    what has taken that name is unproven, and shown as NAME.failed.
    """
    found = before(facts, group)
    if found is None or _all_run(facts, specs):
        return dict(facts)
    return {
        node: replace(seen, ranks=tuple(_undone(seen.ranks, members(seen, group), kept)))
        for node, seen in facts.items()
        for kept in [found.ranks.get(node)]
    }


def _all_run(facts: Mapping[str, NodeFacts], specs: Mapping[str, Spec]) -> bool:
    return all(
        any(r.name == spec.name and r.running and r.label == spec.dump() for r in facts[node].ranks)
        for node, spec in specs.items()
    )


def _undone(ranks: tuple[Rank, ...], ours: tuple[Rank, ...], kept: Rank | None) -> Iterator[Rank]:
    if kept is None or not kept.name.endswith(PREVIOUS):
        yield from ranks
        return
    name = kept.name.removesuffix(PREVIOUS)
    for rank in ranks:
        if rank is kept:
            yield replace(rank, name=name, container=rank.name)
        elif rank in ours and rank.name == name:
            yield replace(rank, name=f"{rank.name}{FAILED}", container=rank.name)
        else:
            yield rank


def before(facts: Mapping[str, NodeFacts], group: str) -> Before | None:
    """The whole group that serves, or did until a switch began; None where there is none.

    + facts: as they were read, or as `standing` gives them
    """
    found = [(n, r) for n, s in facts.items() for r in members(s, group) if _may_serve(r)]
    aside = [(n, r) for n, r in found if r.called.endswith(PREVIOUS)]
    named = [(n, r) for n, r in found if (n, r) not in aside]
    alive = [(n, r) for n, r in found if r.alive]
    if not aside:
        return _whole(alive, found)
    proven = [(n, r) for n, r in named if r.running and r.restart_policy not in ("", "no")]
    # Where the switch had not come to yet, a rank still has its name; a new one has, too.
    started = [(n, r) for n, r in named if n not in dict(aside)]
    kept = _whole(proven, proven) or _whole(aside, [*aside, *started])
    return kept or _whole([x for x in alive if x in named], named)


def _may_serve(rank: Rank) -> bool:
    return not rank.called.endswith(FAILED)


def _whole(some: list[Member], pool: list[Member]) -> Before | None:
    """The group of one of these, where all of its ranks are in the pool, once each."""
    specs = {(n, r.id): found for n, r in pool if (found := r.spec)}
    for kin in [_kin(specs[n, r.id]) for n, r in some if (n, r.id) in specs]:
        own = [(n, r) for n, r in pool if (n, r.id) in specs and _kin(specs[n, r.id]) == kin]
        by_rank = {specs[n, r.id].rank: (n, r) for n, r in own}
        # Counted first: what a label tells of its group may be any number.
        count = kin["nnodes"]
        if len(own) == count == len(by_rank) and by_rank.keys() == set(range(count)):
            ranks = dict(by_rank[number] for number in range(count))
            return Before(ranks, {n: specs[n, r.id] for n, r in ranks.items()})
    return None


def _kin(spec: Spec) -> dict[str, Any]:
    """What all ranks of one group have in common."""
    return {name: getattr(spec.launch, name) for name in KIN}


def kept_name(rank: Rank) -> str:
    """What a rank's container is called while it is set aside."""
    return rank.called if rank.called.endswith(PREVIOUS) else f"{rank.name}{PREVIOUS}"
