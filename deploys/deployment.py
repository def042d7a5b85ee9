"""One run: what is wanted, what is true, what must change. Made once, for the whole cluster."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from pyinfra import logger
from pyinfra.api import Host, State

from cluster import models, orders, readiness, serving, settings
from cluster.fabric import Fabric, FabricWishes, NodeWishes, choose
from cluster.findings import Finding, Level, Refused
from cluster.models import Model
from cluster.node import NodeFacts
from cluster.plan import Plan, plan
from cluster.readiness import Limits
from cluster.settings import Settings, Wanted
from cluster.spec import Spec, expand, served_name, specs
from cluster.weights import TIKTOKEN, hub_folder
from deploys import declared, gather, secrets
from deploys.once import once
from operations.serving import Group


@dataclass
class Deployment:
    """Everything that one run knows. `facts`, `fabric`, `specs` and `plan` are made again when an
    image or weights have come (`refresh`); the rest stays as it was declared.

    + hosts: every host of the run, rank order, those that serve nothing last
    + version: SGLang's, that the launch lines are written for; "" for the process runtime
    + served: what a group answered that needs no change; None where it needs one
    """

    hosts: dict[str, Host]
    wanted: Wanted
    model: Model
    facts: dict[str, NodeFacts] = field(default_factory=dict)
    full: dict[str, NodeFacts] = field(default_factory=dict)
    version: str = ""
    fabric: Fabric = field(default_factory=lambda: Fabric((), "none", ""))
    specs: dict[str, Spec] = field(default_factory=dict)
    plan: Plan = field(default_factory=lambda: Plan((), restart=False, policies={}))
    findings: tuple[Finding, ...] = ()
    served: serving.Served | None = None

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
    def runtime(self) -> orders.Runtime:
        return orders.runtime(self.settings.runtime)

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

    def pulls(self, host: Host) -> bool:
        """Whether this node shall ask the registry for the image."""
        if not self.plan.restart and self.settings.pull != "always":
            return False
        absent = self.facts[host.name].image is None
        always = self.settings.pull == "always"
        return self._docker(host) and (always or absent)

    def vocabularies(self, host: Host) -> dict[str, str]:
        """tiktoken files that this node lacks, or holds damaged: name → SHA-256 they must have."""
        if not self.plan.restart or not self.model.tiktoken or not self._docker(host):
            return {}
        seen = self.full[host.name].tiktoken
        return {name: sha for name, sha in TIKTOKEN.items() if seen.get(name) != sha}

    def needs_token(self, host: Host) -> bool:
        """Whether this node's rank will download, and there is a token to do it with."""
        if not self.plan.restart or not self._docker(host) or self._has_weights(host.name):
            return False
        return bool(secrets.find_token(self.settings.hf_token_file))

    @property
    def fetches(self) -> bool:
        """Whether anything comes to any node before ranks change."""
        return any(self.pulls(h) or self.vocabularies(h) for h in self.serving.values())

    def group(self) -> Group | None:
        """The group to bring up and to verify; None where it serves already, or shall not run."""
        if not self.running or self.served is not None:
            return None
        return Group(
            hosts=self.serving,
            specs=self.specs,
            runtime=self.runtime,
            model=self.model_name,
            url=gather.own_url(self),
            limits=Limits(self.ready_seconds, self.settings.download_stall_timeout),
            stop_seconds=self.settings.stop_timeout,
            start=self.plan.restart,
            restarts={} if self.plan.restart else self._restarts(),
            weights=self._coming(),
            ask=lambda: gather.served(self, log=True),
            rdma=self.fabric.transport == "rdma",
        )

    def _docker(self, host: Host) -> bool:
        return self.running and self.settings.runtime == "docker" and host.name in self.specs

    def _has_weights(self, node: str) -> bool:
        weights = self.full[node].weights if node in self.full else None
        return weights is not None and weights.complete

    def _coming(self) -> dict[str, str]:
        """Folders that ranks download to."""
        if self.settings.runtime == "process" or self.model.local or not self.full:
            return {}
        lacking = [name for name in self.specs if not self._has_weights(name)]
        return {
            name: hub_folder(
                expand(self.wanted.nodes[name].hf_cache, self.facts[name]), self.model.id
            )
            for name in lacking
        }

    def _restarts(self) -> dict[str, int]:
        names = {node: spec.name for node, spec in self.specs.items()}
        return {
            node: rank.restarts
            for node, name in names.items()
            for rank in self.facts[node].ranks
            if rank.name == name
        }

    def is_head(self, host: Host) -> bool:
        return host.name == self.wanted.head

    def refresh(self) -> None:
        """Read every node, decide the fabric, the specs and the plan."""
        self.facts = gather.light(self.hosts, self.wanted)
        self.findings = ()
        if not self.running:
            self.findings = gather.unreadable(self.facts)
            self.plan = plan({}, self.facts, self.settings.state, group=self.settings.group)
            return
        ranks = [self.facts[name] for name in self.wanted.names]
        self.fabric = choose(ranks, wishes(self.wanted))
        self.findings = self.fabric.findings
        self.version = gather.sglang_version(self.serving, self.facts, self.settings)
        self.specs = specs(self.wanted, self.model, self.fabric, self.facts, self.version)
        self.plan = self._planned()

    def judge(self) -> None:
        """A group that needs no change must also serve: if it does not, and is not just starting,
        it restarts."""
        if not self.running or self.plan.changes:
            return
        self.served = gather.served(self)
        wrong = serving.problems(self.served, self.wanted.names, self.model_name)
        if wrong and not gather.starting(self.facts, self.settings.group, self.ready_seconds):
            self.served = None
            self.plan = self._planned(restart=str(wrong[0]))
        elif wrong:
            self.served = None
            self.full = gather.full(self.serving, self)

    def _planned(self, restart: str = "") -> Plan:
        group = self.settings.group
        return plan(self.specs, self.facts, "running", restart=restart, group=group)

    def check(self) -> None:
        """Everything that can be refused, before the first change."""
        from deploys import preflight  # a converged run does without

        findings, self.full = preflight.preflight(self)
        self.findings = tuple(
            dict.fromkeys([*self.findings, *findings, *preflight.image_differs(self.full)])
        )

    def again(self) -> None:
        """Read, plan and check, now or once more; Refused before anything stops."""
        self.refresh()
        self.judge()
        if self.running and self.plan.changes:
            self.check()
        if self.errors():
            raise Refused(*self.findings)

    def errors(self) -> list[Finding]:
        return [f for f in self.findings if f.level is Level.ERROR]


def wishes(wanted: Wanted) -> FabricWishes:
    """What the settings say of the fabric."""
    common = wanted.common
    by_node = {
        name: NodeWishes(s.address, s.nccl_ib_hca, s.nccl_socket_ifname, s.gloo_socket_ifname)
        for name, s in wanted.nodes.items()
    }
    return FabricWishes(common.rdma, common.twins, by_node)


def deployment(host: Host) -> Deployment:
    """The run's deployment, one for all hosts; DeployError where it is refused."""
    return once(host.state, _make)


def _make(state: State) -> Deployment:
    made = declaration(state)
    made.again()
    report(made)
    return made


def declaration(state: State) -> Deployment:
    """What is wanted, before any node is read."""
    everyone = declared.hosts(state.inventory)
    wanted = settings.wanted([declared.declared(host) for host in everyone])
    if wanted.common.state == "running":
        declared.refuse_split(state, [h for h in everyone if h.name in wanted.nodes])
    return Deployment(
        hosts={h.name: h for h in everyone if state.is_host_in_limit(h)},
        wanted=wanted,
        model=models.find(wanted.common.model),
    )


def report(made: Deployment) -> None:
    """Tell, once, what was found and what will change."""
    for finding in made.findings:
        if finding.level is Level.WARNING:
            logger.warning(f"    warning: {finding}")
    if made.fabric.summary:
        logger.info(f"    fabric: {made.fabric.summary}")
    for line in made.plan.lines():
        logger.info(f"    plan: {line}")
    if made.served:
        logger.info(
            f"    serving: {made.model_name} on {len(made.wanted.names)} node(s), "
            f"answered in {made.served.seconds:.2f} s"
        )
