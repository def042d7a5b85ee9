"""One run's cluster: its hosts, the decision as it stands now, what operations need of both; and
the readings of its nodes: one remote command a node for each, all nodes at once."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from pyinfra.api import Host

from cluster.catalog.models import Model
from cluster.engine import readiness, serving
from cluster.fabric import Fabric
from cluster.findings import Finding, Refused, error
from cluster.node.readings import IMAGE_FOLDERS, NodeFacts
from cluster.plan.decide import Decision, Readings
from cluster.plan.plan import Plan
from cluster.plan.specs import cache_root, expand, rank_names
from cluster.rank import compile_caches
from cluster.rank.runtime import Runtime, runtime_of
from cluster.rank.spec import Spec, group_urls
from cluster.settings.declaration import Declaration
from cluster.settings.schema import Settings
from cluster.transfer import images
from cluster.transfer.weights import TIKTOKEN
from control import secrets
from facts.containers import SglangVersion
from facts.node import NodeReading
from facts.serving import Served
from operations import shell

# For starting Python in an image that is not in the page cache.
VERSION_SECONDS = 90
# A reading's own parts give up after 30 s each; this is for a node that has gone silent.
READING_SECONDS = 120


@dataclass
class Deployment:
    """What one run works on. Only its decision changes, and always as a whole: `control.converge`
    decides again when an image or weights have come, and operations read it when their turn comes.

    + hosts: every host of the run, rank order, those that serve nothing last
    + left_out: hosts that `--limit` leaves out
    + served: the answers of a group that needs no change; None if it needs one
    + findings: of the decision, and of the checks before a change
    + reported: findings that have been logged
    + described: the model with what its repository states of it, if no entry does
    """

    hosts: Mapping[str, Host]
    left_out: Mapping[str, Host]
    decision: Decision
    served: serving.GroupAnswers | None = None
    findings: tuple[Finding, ...] = ()
    reported: set[Finding] = field(default_factory=set)
    described: Model | None = None

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
        """Whether the group should run; otherwise it is stopped or absent."""
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
        """Whether the group should run in containers."""
        return self.running and self.settings.runtime == "docker"

    @property
    def ready_limits(self) -> readiness.ReadyLimits:
        """How long the declared group may take; without full readings, as long as a first start."""
        first = self.docker and self.settings.gpus != "none" and not self._compiled
        names = self.declaration.names
        limits = readiness.ready_limits(self.settings.ready_timeout, len(names), first=first)
        return limits if self.readings.full.issuperset(names) else replace(limits, note="")

    @property
    def _compiled(self) -> bool:
        """Whether the model has served on every node with what its rank compiled there."""
        starts = {s.node: s.starts for s in self.plan.steps if s.spec}
        return all(
            (mark := compile_caches.served_mark(*started)) and mark in self.facts[node].served
            for node, started in starts.items()
            if started
        )

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
        """The head's address on the fabric, from which the others copy; "" for a single node."""
        return self.fabric.nodes[0].address if self.fabric.nodes else ""

    @property
    def pulls(self) -> bool:
        """Whether an image is copied or pulled to a node, or a registry is queried for it."""
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
        """Whether anything is brought to any node before ranks change."""
        read = [self.facts[name] for name in self.specs if name in self.readings.full]
        weights = [node.weights_of(r) for node in read for r in self.decision.repositories]
        whole = len(read) == len(self.specs) and all(w and w.complete for w in weights)
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


# ---- readings of nodes


def read_light(hosts: Mapping[str, Host], declaration: Declaration) -> dict[str, NodeFacts]:
    """What a converged run needs to know."""
    return _read_nodes(hosts, lambda host: reading_options(host.name, declaration))


def read_full(hosts: Mapping[str, Host], decision: Decision) -> dict[str, NodeFacts]:
    """What the checks before a change need: GPUs, disks, ports, weights, vocabularies too."""
    declaration = decision.declaration
    model, *drafts = decision.repositories

    def options(host: Host) -> dict[str, Any]:
        facts, settings = decision.facts[host.name], declaration.nodes[host.name]
        cache = expand(settings.hf_cache, facts)
        docker = settings.runtime == "docker"
        return reading_options(host.name, declaration) | {
            "disks": [cache, *IMAGE_FOLDERS] if docker else [],
            "weights": model.id,
            # Of a model that no entry describes.
            "config": not decision.model.alias,
            "hf_cache": cache,
            "cache_root": cache_root(settings, facts),
            "revision": model.revision,
            "drafts": [(draft.id, draft.revision) for draft in drafts],
            "tiktoken": expand(settings.tiktoken_dir, facts) if decision.model.tiktoken else None,
            "full": True,
        }

    return _read_nodes(hosts, options)


def _read_nodes(
    hosts: Mapping[str, Host], options: Callable[[Host], Mapping[str, Any]]
) -> dict[str, NodeFacts]:
    readings = shell.on_all(
        hosts.values(), lambda host: read_node(host, options(host), READING_SECONDS)
    )
    return shell.require_all(
        readings,
        lambda node, why: error(
            f"it could not be read: {why}", node, f"ssh {node} true", key="node-unreadable"
        ),
    )


def read_node(host: Host, options: Mapping[str, Any], seconds: int) -> shell.Reading[NodeFacts]:
    """One node's NodeReading; `options`: the arguments of its command."""
    fact = NodeReading()
    reading = shell.read_fact(host, fact, fact.command(**options), seconds)
    if reading.value is None:
        return shell.Reading(why=reading.why or "it printed nothing")
    # The output may have any name.
    return shell.Reading(replace(reading.value, name=host.name))


def reading_options(node: str, declaration: Declaration) -> dict[str, Any]:
    """The arguments that every reading of a node has."""
    settings = declaration.nodes.get(node) or declaration.idle[node]
    image = settings.image if settings.runtime == "docker" else None
    names = [name for at, name in rank_names(declaration).items() if at == node]
    return {"node": node, "runtime": settings.runtime, "names": names, "image": image}


def read_image_version(head: Host, image: str, seconds: int = VERSION_SECONDS) -> str:
    """The version of SGLang in an image on the head; Refused if the image does not say it."""
    fact = SglangVersion()
    reading = shell.read_fact(head, fact, fact.command(image), seconds)
    if not reading.value:
        raise Refused(
            error(
                f"image {image} does not reveal its SGLang version: {reading.why}",
                head.name,
                "--data sglang_version=0.5.3.post3 (the image's version)",
                key="sglang-version-unknown",
            )
        )
    return reading.value


# ---- a group


def read_answers(
    deployment: Deployment,
    urls: Sequence[str],
    model: str,
    rank: str = "",
    *,
    head: str = "",
    keyed: bool = True,
) -> serving.GroupAnswers:
    """A group's answers, requested on its head.

    + urls: of its ranks, rank 0 first, as the head reaches them
    + model: the id that it must serve
    + rank: rank 0's name, to look into its log for NCCL's transport; "" leaves that out
    + head: its node, if that is not the declared group's
    + keyed: the API key is sent, if there is one, and a request without it must be rejected
    """
    settings = deployment.settings
    key = secrets.find_api_key(settings.api_key_file) if keyed else ""
    fact = Served()
    command = fact.command(
        urls=urls, model=model, runtime=settings.runtime, rank=rank, keyed=bool(key)
    )
    at = deployment.hosts[head] if head else deployment.head
    reading = shell.read_fact(at, fact, command, 300, stdin=f"{key}\n" if key else "")
    silent = tuple(serving.EndpointReply(0) for _ in urls)
    return reading.value or serving.GroupAnswers(
        silent, serving.EndpointReply(0), serving.EndpointReply(0, reading.why)
    )
