"""One run's cluster: its hosts, the decision as it stands now, and what operations ask of both."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from pyinfra.api import Host

from cluster.catalog.models import Model
from cluster.engine import readiness, serving
from cluster.fabric import Fabric
from cluster.findings import Finding
from cluster.node.readings import NodeFacts
from cluster.plan.decide import Decision, Readings
from cluster.plan.plan import Plan
from cluster.rank.runtime import Runtime, runtime_of
from cluster.rank.spec import Spec, group_urls
from cluster.settings.declaration import Declaration
from cluster.settings.schema import Settings
from cluster.transfer import images
from cluster.transfer.weights import TIKTOKEN


@dataclass
class Deployment:
    """What one run works on. Only its decision changes, and always as a whole: `control.converge`
    decides again when an image or weights have come, and operations ask when their turn comes.

    + hosts: every host of the run, rank order, those that serve nothing last
    + left_out: hosts that `--limit` leaves out
    + served: what a group answered that needs no change; None if it needs one
    + findings: of the decision, and of the checks before a change
    + reported: findings that the user has seen
    """

    hosts: Mapping[str, Host]
    left_out: Mapping[str, Host]
    decision: Decision
    served: serving.GroupAnswers | None = None
    findings: tuple[Finding, ...] = ()
    reported: set[Finding] = field(default_factory=set)

    # ---- the decision's

    @property
    def declaration(self) -> Declaration:
        return self.decision.declaration

    @property
    def settings(self) -> Settings:
        return self.decision.settings

    @property
    def model(self) -> Model:
        return self.decision.model

    @property
    def model_name(self) -> str:
        """The id under which the model is served."""
        return self.decision.model_name

    @property
    def running(self) -> bool:
        """Whether the group shall run; else it is stopped or absent."""
        return self.decision.running

    @property
    def readings(self) -> Readings:
        return self.decision.readings

    @property
    def facts(self) -> Mapping[str, NodeFacts]:
        """The nodes as if an interrupted switch had not begun."""
        return self.decision.facts

    @property
    def fabric(self) -> Fabric:
        return self.decision.fabric

    @property
    def specs(self) -> Mapping[str, Spec]:
        return self.decision.specs

    @property
    def plan(self) -> Plan:
        return self.decision.plan

    # ---- hosts

    @property
    def serving(self) -> dict[str, Host]:
        """The hosts of the group, rank 0 first."""
        return {name: self.hosts[name] for name in self.declaration.names}

    @property
    def head(self) -> Host:
        return self.hosts[self.declaration.head]

    def is_head(self, host: Host) -> bool:
        return host.name == self.declaration.head

    def is_lead(self, host: Host) -> bool:
        """Whether this host's operations work on all nodes: the first one of the run."""
        return host.name == next(iter(self.hosts))

    def settings_of(self, host: Host) -> Settings:
        """The node's own settings."""
        return self.declaration.nodes.get(host.name) or self.declaration.idle[host.name]

    # ---- what follows

    @cached_property
    def runtime(self) -> Runtime:
        return runtime_of(self.settings.runtime)

    @property
    def docker(self) -> bool:
        """Whether the group shall run in containers."""
        return self.running and self.settings.runtime == "docker"

    @property
    def ready_seconds(self) -> float:
        return readiness.ready_seconds(self.settings.ready_timeout, len(self.declaration.names))

    @property
    def own_url(self) -> str:
        """Where a rank serves, as its own node reaches it."""
        return next(iter(self.specs.values())).url

    @property
    def urls(self) -> list[str]:
        """Where each rank serves, as its head reaches it, rank 0 first."""
        return group_urls(self.specs)

    @property
    def address(self) -> str:
        """The head's, on the fabric, from which the others get what it has; "" of a lone node."""
        return self.fabric.nodes[0].address if self.fabric.nodes else ""

    @property
    def pulls(self) -> bool:
        """Whether the image is to come to a node, or a registry to be asked for it."""
        if not self.docker:
            return False
        there = {name: self.facts[name].image for name in self.declaration.names}
        restart = self.plan.restart
        return images.needs_delivery(
            self.settings.image, there, self.settings.pull, restart=restart
        )

    def vocabularies(self, host: Host) -> dict[str, str]:
        """tiktoken files that this node lacks, or holds damaged: name -> SHA-256 they must have."""
        if not (self.plan.restart and self.model.tiktoken and self.docker):
            return {}
        if host.name not in self.specs:
            return {}
        there = self.facts[host.name].tiktoken
        return {name: sha for name, sha in TIKTOKEN.items() if there.get(name) != sha}

    @property
    def fetches(self) -> bool:
        """Whether anything comes to any node before ranks change."""
        weights = [self.facts[n].weights for n in self.specs if n in self.readings.full]
        whole = len(weights) == len(self.specs) and all(w and w.complete for w in weights)
        comes = self.pulls or any(self.vocabularies(h) for h in self.serving.values())
        return comes or (self.docker and self.plan.restart and not whole)

    def restarts(self) -> dict[str, int]:
        """Node -> how often Docker has restarted its rank."""
        return {
            node: rank.restarts
            for node, spec in self.specs.items()
            for rank in self.facts[node].ranks
            if rank.name == spec.name
        }
