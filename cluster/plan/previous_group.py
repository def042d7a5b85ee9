"""The group that served before the declared one: kept under other names until that one is ready,
found again after an interrupted switch, put back after a failed one.

A switch renames before it stops. So containers called NAME.previous show that a switch has begun
and not ended, and that their group served until then. There are two exceptions: some of them are
gone, or the group after them has its restart policies. Then the new group has been proven, and they
are leftovers.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from cluster.node.readings import NodeFacts, Rank
from cluster.rank.spec import Spec

PREVIOUS = ".previous"
FAILED = ".failed"
# A node's name, and a rank on it.
Member = tuple[str, Rank]
# Ranks that differ in one of these can't have served together.
SHARED = ("model_path", "served_model_name", "nnodes", "tp", "pp", "dist_init_addr", "port")


@dataclass(frozen=True)
class PreviousGroup:
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
    """The node's ranks whose label names this group."""
    return tuple(rank for rank in facts.ranks if rank.group == group)


def kept_name(rank: Rank) -> str:
    """What a rank's container is called while it is set aside."""
    return rank.called if rank.called.endswith(PREVIOUS) else f"{rank.name}{PREVIOUS}"


def undo_interrupted_switch(
    facts: Mapping[str, NodeFacts], specs: Mapping[str, Spec], group: str
) -> dict[str, NodeFacts]:
    """The readings as if an interrupted switch had not begun, unless the declared ranks all run:
    then it only lacks its end.

    A rank set aside gets its name back (`Rank.container` is its container's name now);
    what has taken that name is unproven, and shown as NAME.failed.
    """
    previous = find_previous_group(facts, group)
    all_run = all(
        any(r.name == spec.name and r.running and r.label == spec.dump() for r in facts[node].ranks)
        for node, spec in specs.items()
    )
    if previous is None or all_run:
        return dict(facts)
    return {
        node: replace(f, ranks=tuple(_original_names(f, previous.ranks.get(node), group)))
        for node, f in facts.items()
    }


def _original_names(facts: NodeFacts, set_aside: Rank | None, group: str) -> Iterator[Rank]:
    name = ""
    if set_aside and set_aside.name.endswith(PREVIOUS):
        name = set_aside.name.removesuffix(PREVIOUS)
    for rank in facts.ranks:
        if name and rank is set_aside:
            yield replace(rank, name=name, container=rank.name)
        elif name and rank.name == name and rank.group == group:
            yield replace(rank, name=f"{rank.name}{FAILED}", container=rank.name)
        else:
            yield rank


def find_previous_group(facts: Mapping[str, NodeFacts], group: str) -> PreviousGroup | None:
    """The whole group that serves, or did until a switch began; None where there is none.

    + facts: as they were read, or as `undo_interrupted_switch` gives them
    """
    ranks = [(node, rank) for node, f in facts.items() for rank in members(f, group)]
    ranks = [(node, rank) for node, rank in ranks if not rank.called.endswith(FAILED)]
    aside = [(node, rank) for node, rank in ranks if rank.called.endswith(PREVIOUS)]
    named = [member for member in ranks if member not in aside]
    alive = [(node, rank) for node, rank in ranks if rank.alive]
    if not aside:
        return _whole_group(alive, ranks)
    proven = [(n, r) for n, r in named if r.running and r.restart_policy not in ("", "no")]
    # On nodes that the switch had not reached, the old rank still has its name; so does a new rank.
    untouched = [(node, rank) for node, rank in named if node not in dict(aside)]
    return (
        _whole_group(proven, proven)
        or _whole_group(aside, [*aside, *untouched])
        or _whole_group([member for member in alive if member in named], named)
    )


def _whole_group(some: list[Member], pool: list[Member]) -> PreviousGroup | None:
    """The group of the first rank in `some` whose ranks are all in the pool, once each; None if
    there is none."""
    specs = {(node, rank.id): rank.spec for node, rank in pool if rank.spec}
    for spec in [specs[node, rank.id] for node, rank in some if (node, rank.id) in specs]:
        shared = _group_identity(spec)
        by_rank = {}
        size = 0
        for node, rank in pool:
            other = specs.get((node, rank.id))
            if other is not None and _group_identity(other) == shared:
                size += 1
                by_rank[other.rank] = (node, rank)
        count = spec.launch.nnodes
        if size == count == len(by_rank) and by_rank.keys() == set(range(count)):
            ranks = dict(by_rank[number] for number in range(count))
            return PreviousGroup(ranks, {n: specs[n, r.id] for n, r in ranks.items()})
    return None


def _group_identity(spec: Spec) -> tuple[object, ...]:
    """What all ranks of one group have in common."""
    return tuple(getattr(spec.launch, name) for name in SHARED)
