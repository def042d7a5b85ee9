"""What each phase of a plan says to one node: lists of command words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from cluster import docker, process
from cluster.node import Rank
from cluster.plan import Plan, Step
from cluster.spec import Spec

Words = tuple[str, ...]
NOTHING: Words = ()
# For a rank that will not end by itself.
ORPHAN_SECONDS = 1


class Runtime(Protocol):
    """How ranks are run: command words for each verb, NOTHING where a runtime has no such verb."""

    def create(self, spec: Spec) -> Words: ...
    def start(self, spec: Spec) -> Words: ...
    def keep(self, name: str, policy: str) -> Words: ...
    def release(self, name: str) -> Words: ...
    def stop(self, rank: Rank, seconds: int) -> Words: ...
    def remove(self, name: str) -> Words: ...
    def logs(self, name: str, lines: int, *, earlier: bool = False) -> Words: ...


def runtime(name: str) -> Runtime:
    """The runtime that the setting `runtime` names."""
    return {"docker": docker, "process": process}[name]


def release(run: Runtime, plan: Plan, node: str) -> list[Words]:
    """Restart policies off, on every rank that is about to end."""
    return _said(
        run.release(step.name)
        for step in _touched(plan, node)
        if step.seen and step.seen.restart_policy not in ("", "no")
    )


def stop(run: Runtime, plan: Plan, node: str, seconds: int, *, head: bool) -> list[Words]:
    """Rank 0, or all the others: SGLang's workers only end with their head.

    Where no head is left, nothing tells the others to end, and they are not waited for.
    """
    heads = any(step.stop and step.is_head for step in plan.steps)
    patience = seconds if head or heads else ORPHAN_SECONDS
    return _said(
        run.stop(step.seen, patience)
        for step in _touched(plan, node)
        if step.seen and step.stop and step.is_head == head
    )


def replace(run: Runtime, plan: Plan, node: str) -> list[Words]:
    """Remove what must go, create what must come; nothing starts."""
    touched = list(_touched(plan, node))
    gone = [s for s in touched if s.remove or (s.recreate and s.seen)]
    new = [s.spec for s in touched if s.recreate and s.spec]
    return _said([*(run.remove(s.name) for s in gone), *(run.create(spec) for spec in new)])


def keep(run: Runtime, plan: Plan, node: str) -> list[Words]:
    """The restart policy that a rank should have, where only that is wrong."""
    if node not in plan.policies:
        return []
    names = [step.name for step in plan.of(node) if step.spec]
    return _said(run.keep(name, plan.policies[node]) for name in names)


def _touched(plan: Plan, node: str) -> Iterator[Step]:
    return (step for step in plan.of(node) if plan.restart or step.reasons)


def _said(orders: Iterable[Words]) -> list[Words]:
    return [words for words in orders if words]
