"""What one run knows of the whole cluster, and the questions that its operations ask."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from pyinfra.api import Host

from cluster.catalog.models import Model
from cluster.engine import readiness, serving
from cluster.fabric import Fabric
from cluster.findings import Finding, Level
from cluster.node.readings import NodeFacts
from cluster.plan.plan import Plan
from cluster.plan.specs import served_name
from cluster.rank.runtime import Runtime, runtime_of
from cluster.rank.spec import Spec, group_urls
from cluster.settings.declaration import Declaration
from cluster.settings.schema import Settings
from cluster.transfer import images
from cluster.transfer.weights import TIKTOKEN


@dataclass
class Deployment:
    """Everything that one run knows: what was declared, what was read, what follows from both.

    `converge` fills it, and once more when an image has come; it is asked by every operation.

    + hosts: every host of the run, rank order, those that serve nothing last
    + version: SGLang's, that the launch lines are written for; "" for the process runtime
    + restart: why a group whose ranks are as wanted must restart all the same, or ""
    + served: what a group answered that needs no change; None where it needs one
    + reported: findings that the user has been told of
    + left_out: hosts that `--limit` leaves out
    """

    hosts: dict[str, Host]
    wanted: Declaration
    model: Model
    facts: dict[str, NodeFacts] = field(default_factory=dict)
    full: dict[str, NodeFacts] = field(default_factory=dict)
    version: str = ""
    fabric: Fabric = field(default_factory=lambda: Fabric((), "none", ""))
    specs: dict[str, Spec] = field(default_factory=dict)
    plan: Plan = field(default_factory=lambda: Plan((), restart=False, policies={}))
    restart: str = ""
    findings: tuple[Finding, ...] = ()
    reported: set[Finding] = field(default_factory=set)
    served: serving.GroupAnswers | None = None
    left_out: dict[str, Host] = field(default_factory=dict)

    @property
    def settings(self) -> Settings:
        return self.wanted.common

    def settings_of(self, host: Host) -> Settings:
        """The node's own settings."""
        return self.wanted.nodes.get(host.name) or self.wanted.idle[host.name]

    @property
    def running(self) -> bool:
        """Whether the group shall run; else it is stopped or absent."""
        return self.settings.state == "running"

    @cached_property
    def runtime(self) -> Runtime:
        return runtime_of(self.settings.runtime)

    @property
    def serving(self) -> dict[str, Host]:
        """The hosts of the group, rank 0 first."""
        return {name: self.hosts[name] for name in self.wanted.names}

    @property
    def model_name(self) -> str:
        """The id under which the model is served."""
        return served_name(self.settings, self.model)

    @property
    def ready_seconds(self) -> float:
        return readiness.ready_seconds(self.settings.ready_timeout, len(self.wanted.names))

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
        if not self.running or self.settings.runtime != "docker":
            return False
        found = {name: self.facts[name].image for name in self.wanted.names}
        restart = self.plan.restart
        return images.needs_delivery(
            self.settings.image, found, self.settings.pull, restart=restart
        )

    def vocabularies(self, host: Host) -> dict[str, str]:
        """tiktoken files that this node lacks, or holds damaged: name → SHA-256 they must have."""
        if not self.plan.restart or not self.model.tiktoken or not self._docker(host):
            return {}
        seen = self.full[host.name].tiktoken
        return {name: sha for name, sha in TIKTOKEN.items() if seen.get(name) != sha}

    @property
    def fetches(self) -> bool:
        """Whether anything comes to any node before ranks change."""
        lacking = self.plan.restart and not all(map(self._has_weights, self.specs))
        comes = self.pulls or any(self.vocabularies(h) for h in self.serving.values())
        return comes or (lacking and self.settings.runtime == "docker")

    def _docker(self, host: Host) -> bool:
        return self.running and self.settings.runtime == "docker" and host.name in self.specs

    def _has_weights(self, node: str) -> bool:
        weights = self.full[node].weights if node in self.full else None
        return weights is not None and weights.complete

    def restarts(self) -> dict[str, int]:
        names = {node: spec.name for node, spec in self.specs.items()}
        return {
            node: rank.restarts
            for node, name in names.items()
            for rank in self.facts[node].ranks
            if rank.name == name
        }

    def is_head(self, host: Host) -> bool:
        return host.name == self.wanted.head

    def is_lead(self, host: Host) -> bool:
        """Whether this host's operations work on all nodes: the first one of the run."""
        return host.name == next(iter(self.hosts))

    def errors(self) -> list[Finding]:
        return [f for f in self.findings if f.level is Level.ERROR]
