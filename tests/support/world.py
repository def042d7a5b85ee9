"""A model of a few nodes: containers, and a Docker that runs its commands, until it is cut."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import count

from samples import IMAGE_ID

from cluster.command import Command
from cluster.node.readings import NodeFacts, Rank
from cluster.plan.phases import Phases
from cluster.plan.plan import Plan
from cluster.rank import docker
from cluster.rank.spec import Spec


class Killed(Exception):
    """The controller died."""


@dataclass
class World:
    """Nodes with containers.

    + patience: how many commands come through until the controller dies; -1: all
    + stopped, touched: (node, container's name), in their order
    """

    facts: dict[str, NodeFacts]
    patience: int = -1
    stopped: list[tuple[str, str]] = field(default_factory=list)
    touched: list[tuple[str, str]] = field(default_factory=list)
    commands_run: int = 0
    # What `docker create` will find by its reference.
    image_id: str = IMAGE_ID
    ids: count[int] = field(default_factory=count)

    def switch(self, plan: Plan, specs: Mapping[str, Spec]) -> None:
        """All phases of a switch that succeeds."""
        self.carry_out(plan)
        self.start_and_keep(plan, specs)
        self.forget(plan)

    def carry_out(self, plan: Plan) -> None:
        """The phases before anything starts, every node through one before the next."""
        phases = Phases(docker, plan, 30)
        self.phase(phases.prepare)
        self.phase(phases.clear_old_names)
        self.phase(phases.set_aside)
        self.phase(phases.release)
        self.phase(phases.stop_head)
        self.phase(phases.stop_workers)
        self.phase(phases.create_containers)

    def start_and_keep(self, plan: Plan, specs: Mapping[str, Spec]) -> None:
        """The wanted group starts, gets ready, and must survive a reboot."""
        if plan.restart:
            self.phase(lambda n: [docker.start(specs[n])] if n in specs else [])
            self.phase(
                lambda n: (
                    [docker.keep(specs[n].name, specs[n].restart_policy)] if n in specs else []
                )
            )
        self.phase(Phases(docker, plan, 30).keep)

    def forget(self, plan: Plan) -> None:
        self.phase(Phases(docker, plan, 30).remove_previous)
        self.phase(Phases(docker, plan, 30).note_served)

    def phase(self, commands_of: Callable[[str], list[Command]]) -> None:
        for node in self.facts:
            for command in commands_of(node):
                if self.commands_run == self.patience:
                    raise Killed
                self.commands_run += 1
                if command.argv[0] == "docker":  # not the folders of compile caches
                    self.docker(node, *command.argv[1:])

    def docker(self, node: str, verb: str, *words: str) -> None:
        ranks = {rank.name: rank for rank in self.facts[node].ranks}
        at = {"create": 1 + words.index("--name") if verb == "create" else 0, "rename": 0}
        name = words[at.get(verb, -1)]
        if verb == "create":
            assert name not in ranks, f"{name} is in use"
            label = words[words.index("--label") + 1].partition("=")[2]
            id_ = f"new-{next(self.ids)}"
            ranks[name] = Rank(name, id_, "created", self.image_id, label, restart_policy="no")
        else:
            self.touched.append((node, name))
            after = self.after(verb, words, node, ranks.pop(name))
            if after is not None:
                assert after.name not in ranks, f"{after.name} is in use"
                ranks[after.name] = after
        self.facts[node] = replace(self.facts[node], ranks=tuple(ranks.values()))

    def after(self, verb: str, words: tuple[str, ...], node: str, rank: Rank) -> Rank | None:
        if verb == "rename":
            return replace(rank, name=words[1])
        if verb == "start":
            others = [r for r in self.facts[node].ranks if _loaded(r) and r.id != rank.id]
            assert not others, "two groups' ranks would share the memory"
            return replace(rank, status="running")
        if verb == "stop":
            self.stopped.append((node, rank.name))
            assert rank.restart_policy == "no", "Docker would bring it back"
            return replace(rank, status="exited", exit_code=0)
        if verb == "update":
            return replace(rank, restart_policy=words[1])
        assert verb == "rm", verb
        assert rank.status in ("exited", "created", "dead"), "removed while it runs"
        return None


def _loaded(rank: Rank) -> bool:
    return rank.alive and rank.group == "sglang"
