"""The commands of each phase of a switch for one node. Their order: operations/switch.py."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from cluster.command import Command
from cluster.node.readings import Rank
from cluster.plan.plan import Plan, RankStep
from cluster.plan.previous_group import kept_name
from cluster.rank import compile_caches
from cluster.rank.runtime import Runtime

# Seconds before SIGKILL for a rank that will not end by itself.
ORPHAN_SECONDS = 1


@dataclass(frozen=True)
class Phases:
    """A plan's commands for one node, one method per phase; a runtime that lacks a verb has none.

    + stop_seconds: how long a rank may take to end before it is killed
    """

    runtime: Runtime
    plan: Plan
    stop_seconds: int

    def clear_old_names(self, node: str) -> list[Command]:
        """Remove our own container of an earlier switch whose name a rank is about to take."""
        return [
            self.runtime.remove(step.current.called) for step in self._cleared(node) if step.current
        ]

    def prepare(self, node: str) -> list[Command]:
        """Create the folders that new containers mount."""
        return _present(
            compile_caches.create_folder(step.spec, step.image_id)
            for step in self.plan.of(node)
            if step.recreate and step.spec
        )

    def set_aside(self, node: str) -> list[Command]:
        """Rename the rank that is kept until the declared group is ready; it goes on serving."""
        rank = self._previous(node)
        if rank is None or rank.called == kept_name(rank):
            return []
        return _present([self.runtime.rename(rank.called, kept_name(rank))])

    def release(self, node: str) -> list[Command]:
        """Turn the restart policy off on every rank that is about to end."""
        return _present(
            self.runtime.release(step.current.called)
            for step in self._touched(node)
            if step.current and step.current.restart_policy not in ("", "no")
        )

    def stop_head(self, node: str) -> list[Command]:
        """Stop rank 0: SGLang's workers end only with their head."""
        return self._stop(node, self.stop_seconds, head=True)

    def stop_workers(self, node: str) -> list[Command]:
        """Stop the other ranks. Without a head they never end by themselves: no use in waiting."""
        headed = any(step.stop and step.is_head for step in self._plan.steps)
        return self._stop(node, self.stop_seconds if headed else ORPHAN_SECONDS, head=False)

    def create_containers(self, node: str) -> list[Command]:
        """Remove what must go, give names back, create what must come. Nothing starts."""
        steps = list(self._touched(node))
        renamed = [rank for at, rank in self._plan.renames.items() if at == node]
        return _present(
            [
                *(
                    self.runtime.remove(step.current.called)
                    for step in steps
                    if step.current and (step.remove or step.recreate)
                    if not self._keeps(node, step.current)
                ),
                *(self.runtime.rename(rank.called, rank.name) for rank in renamed),
                *(
                    self.runtime.create(step.spec, cdi=step.cdi, image_id=step.image_id)
                    for step in steps
                    if step.recreate and step.spec
                ),
            ]
        )

    def keep(self, node: str) -> list[Command]:
        """Set the restart policy that a rank should have, where only that is wrong."""
        if node not in self.plan.policies:
            return []
        names = [step.name for step in self.plan.of(node) if step.spec]
        return _present(self.runtime.keep(name, self.plan.policies[node]) for name in names)

    def note_served(self, node: str) -> list[Command]:
        """Note beside what the ranks have compiled that their model has served."""
        starts = (step.starts for step in self.plan.of(node))
        return _present(compile_caches.note_served(*started) for started in starts if started)

    def remove_previous(self, node: str) -> list[Command]:
        """Remove the kept rank: the group after it serves."""
        rank = self._previous(node)
        # A runtime that can't rename keeps nothing.
        if rank is None or not self.runtime.rename(rank.name, kept_name(rank)):
            return []
        return [self.runtime.remove(kept_name(rank))]

    @cached_property
    def _plan(self) -> Plan:
        """The plan once the kept ranks have been renamed."""
        steps = (s for s in self.plan.steps if s not in self._cleared(s.node))
        return replace(self.plan, steps=tuple(map(self._renamed, steps)))

    def _renamed(self, step: RankStep) -> RankStep:
        if step.current is None or not self._keeps(step.node, step.current):
            return step
        return replace(step, current=replace(step.current, container=kept_name(step.current)))

    def _previous(self, node: str) -> Rank | None:
        return self.plan.previous.ranks.get(node) if self.plan.previous else None

    def _keeps(self, node: str, rank: Rank) -> bool:
        return self.plan.previous is not None and self.plan.previous.holds(node, rank)

    def _cleared(self, node: str) -> list[RankStep]:
        rank = self._previous(node)
        if rank is None or rank.called == kept_name(rank):
            return []
        name = kept_name(rank)
        return [
            s for s in self.plan.of(node) if s.remove and s.current and s.current.called == name
        ]

    def _touched(self, node: str) -> Iterator[RankStep]:
        return (step for step in self._plan.of(node) if self._plan.restart or step.reasons)

    def _stop(self, node: str, seconds: int, *, head: bool) -> list[Command]:
        return _present(
            self.runtime.stop(step.current, seconds)
            for step in self._touched(node)
            if step.current and step.stop and step.is_head == head
        )


def _present(commands: Iterable[Command | None]) -> list[Command]:
    return [command for command in commands if command]
