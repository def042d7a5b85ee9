"""The group that served before the wanted one: kept under other names until that one is ready,
found again after an interrupted switch, put back after a failed one.

A switch renames before it stops. So a container called NAME.previous is proof that a switch has
begun and not ended, and that its rank served until then.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from cluster.node import NodeFacts, Rank
from cluster.spec import Spec, label

PREVIOUS = ".previous"
FAILED = ".failed"
# Ranks that differ in one of these can't have served together.
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
    return tuple(r for r in facts.ranks if r.spec is not None and label(r).get("group") == group)


def standing(
    facts: Mapping[str, NodeFacts], specs: Mapping[str, Spec], group: str
) -> dict[str, NodeFacts]:
    """The nodes as if an interrupted switch had not begun, unless the wanted ranks all run: then
    it only lacks its end.

    A rank set aside gets its name back (`Rank.container` says what its container is called now);
    what has taken that name is unproven, and shown as NAME.failed.
    """
    if _all_run(facts, specs):
        return dict(facts)
    return {
        node: replace(seen, ranks=tuple(_undone(seen.ranks, members(seen, group))))
        for node, seen in facts.items()
    }


def _all_run(facts: Mapping[str, NodeFacts], specs: Mapping[str, Spec]) -> bool:
    return all(
        any(r.name == spec.name and r.running and r.spec == spec.dump() for r in facts[node].ranks)
        for node, spec in specs.items()
    )


def _undone(ranks: tuple[Rank, ...], ours: tuple[Rank, ...]) -> Iterator[Rank]:
    kept = {r.name.removesuffix(PREVIOUS) for r in ours if r.name.endswith(PREVIOUS)}
    for rank in ranks:
        if rank not in ours:
            yield rank
        elif rank.name.endswith(PREVIOUS):
            yield replace(rank, name=rank.name.removesuffix(PREVIOUS), container=rank.name)
        elif rank.name in kept:
            yield replace(rank, name=f"{rank.name}{FAILED}", container=rank.name)
        else:
            yield rank


def before(facts: Mapping[str, NodeFacts], group: str) -> Before | None:
    """The whole group that serves, or did until a switch began; None where there is none.

    + facts: as `standing` gives them
    """
    found = [(node, rank) for node, seen in facts.items() for rank in members(seen, group)]
    aside = [(n, r) for n, r in found if r.called.endswith(PREVIOUS)]
    served = aside or [(n, r) for n, r in found if r.alive]
    if not served:
        return None
    kin = _kin(served[0][1])
    pool = [(n, r) for n, r in found if _kin(r) == kin and not r.called.endswith(FAILED)]
    if aside:
        # Where the switch had not come to yet, the rank still has its name; a new one has, too.
        pool = [(n, r) for n, r in pool if (n, r) in aside or n not in dict(aside)]
    by_rank = {label(r).get("rank"): (n, r) for n, r in pool}
    whole = list(range(kin.get("nnodes", 0)))
    if sorted(by_rank, key=str) != whole or len(pool) != len(whole):
        return None
    return _known(dict(by_rank[number] for number in whole))


def _kin(rank: Rank) -> dict[str, Any]:
    """What all ranks of one group have in common."""
    launch = label(rank).get("launch")
    return {k: launch.get(k) for k in KIN} if isinstance(launch, dict) else {}


def _known(ranks: dict[str, Rank]) -> Before | None:
    """None where a label can't be read as a spec: what it ran could not be waited for."""
    try:
        specs = {n: msgspec.json.decode(r.spec or "", type=Spec) for n, r in ranks.items()}
    except msgspec.DecodeError:
        return None
    return Before(ranks, specs)


def kept_name(rank: Rank) -> str:
    """What a rank's container is called while it is set aside."""
    return rank.called if rank.called.endswith(PREVIOUS) else f"{rank.name}{PREVIOUS}"


def urls(specs: Mapping[str, Spec]) -> list[str]:
    """Where each rank of a group serves, as its head reaches it, rank 0 first."""
    head, *workers = specs.values()
    own = "127.0.0.1" if head.launch.host == "0.0.0.0" else head.launch.host
    hosts = [own, *(w.env.get("SGLANG_HOST_IP", "") for w in workers)]
    return [f"http://{host}:{head.launch.port}" for host in hosts]
