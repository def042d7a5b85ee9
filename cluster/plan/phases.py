"""What each phase of a plan says to one node: lists of commands."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

from cluster.command import Command
from cluster.node.readings import Rank
from cluster.plan.plan import Plan, Step
from cluster.plan.previous_group import kept_name
from cluster.rank.runtime import Runtime

# For a rank that will not end by itself.
ORPHAN_SECONDS = 1


def release(run: Runtime, plan: Plan, node: str) -> list[Command]:
    """Restart policies off, on every rank that is about to end."""
    return _commands(
        run.release(step.seen.called)
        for step in _touched(plan, node)
        if step.seen and step.seen.restart_policy not in ("", "no")
    )


def stop(run: Runtime, plan: Plan, node: str, seconds: int, *, head: bool) -> list[Command]:
    """Rank 0, or all the others: SGLang's workers only end with their head.

    Where no head is left, nothing tells the others to end, and they are not waited for.
    """
    heads = any(step.stop and step.is_head for step in plan.steps)
    patience = seconds if head or heads else ORPHAN_SECONDS
    return _commands(
        run.stop(step.seen, patience)
        for step in _touched(plan, node)
        if step.seen and step.stop and step.is_head == head
    )


def replace(run: Runtime, plan: Plan, node: str) -> list[Command]:
    """Remove what must go, create what must come; nothing starts."""
    touched = list(_touched(plan, node))
    gone = [
        s.seen
        for s in touched
        if s.seen and (s.remove or s.recreate) and not _keeps(plan, node, s.seen)
    ]
    new = [(s.spec, s.cdi) for s in touched if s.recreate and s.spec]
    names = [rank for at, rank in plan.renames.items() if at == node]
    return _commands(
        [
            *(run.remove(rank.called) for rank in gone),
            *(run.rename(rank.called, rank.name) for rank in names),
            *(run.create(spec, cdi=cdi) for spec, cdi in new),
        ]
    )


def clear(run: Runtime, plan: Plan, node: str) -> list[Command]:
    """Remove what has the name that a rank shall be kept under: ours, of a switch long over."""
    return _commands(run.remove(step.seen.called) for step in _cleared(plan, node) if step.seen)


def _cleared(plan: Plan, node: str) -> list[Step]:
    rank = plan.before.ranks.get(node) if plan.before else None
    if rank is None or rank.called == kept_name(rank):
        return []
    return [s for s in plan.of(node) if s.remove and s.seen and s.seen.called == kept_name(rank)]


def set_aside(run: Runtime, plan: Plan, node: str) -> list[Command]:
    """Rename the rank that is kept until the wanted group is ready; it goes on serving."""
    rank = plan.before.ranks.get(node) if plan.before else None
    if rank is None or rank.called == kept_name(rank):
        return []
    return _commands([run.rename(rank.called, kept_name(rank))])


def aside(plan: Plan) -> Plan:
    """The plan once the kept ranks have been renamed."""
    if plan.before is None:
        return plan
    steps = (step for step in plan.steps if step not in _cleared(plan, step.node))
    return dataclasses.replace(plan, steps=tuple(_renamed(plan, step) for step in steps))


def _renamed(plan: Plan, step: Step) -> Step:
    if step.seen is None or not _keeps(plan, step.node, step.seen):
        return step
    return dataclasses.replace(
        step, seen=dataclasses.replace(step.seen, container=kept_name(step.seen))
    )


def forget(run: Runtime, plan: Plan, node: str) -> list[Command]:
    """Remove the kept rank: the group after it serves."""
    rank = plan.before.ranks.get(node) if plan.before else None
    # A runtime that can't rename has kept nothing.
    kept = rank is not None and run.rename(rank.name, kept_name(rank))
    return [run.remove(kept_name(rank))] if rank is not None and kept else []


def _keeps(plan: Plan, node: str, rank: Rank) -> bool:
    return plan.before is not None and plan.before.holds(node, rank)


def keep(run: Runtime, plan: Plan, node: str) -> list[Command]:
    """The restart policy that a rank should have, where only that is wrong."""
    if node not in plan.policies:
        return []
    names = [step.name for step in plan.of(node) if step.spec]
    return _commands(run.keep(name, plan.policies[node]) for name in names)


def _touched(plan: Plan, node: str) -> Iterator[Step]:
    return (step for step in plan.of(node) if plan.restart or step.reasons)


def _commands(commands: Iterable[Command | None]) -> list[Command]:
    return [command for command in commands if command]
