"""The one decision: what is declared and what was read give the plan, and what is wrong.

A deploy, its --dry, check, status, doctor and the listing all call `decide`. So what one of
them shows is what another does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from re import match

from cluster.catalog.models import Model
from cluster.engine import exposure, versions
from cluster.fabric import Fabric, FabricOptions, NodeOverrides, choose_fabric
from cluster.findings import Finding, Refused, error, warning
from cluster.node.readings import NodeFacts, Rank
from cluster.plan.plan import Plan, make_plan
from cluster.plan.previous_group import members, undo_interrupted_switch
from cluster.plan.specs import declared_specs, served_name
from cluster.rank.spec import Spec
from cluster.settings.declaration import Declaration
from cluster.settings.schema import Settings
from cluster.transfer.repository import WantedRepository

NO_FABRIC = Fabric((), "none", "")
NO_PLAN = Plan((), restart=False, policies={})


@dataclass(frozen=True)
class Readings:
    """What the nodes answered at one time.

    + nodes: node -> its reading, for every node that answered
    + silent: node -> why it did not answer
    + full: the nodes whose reading has what the checks need: GPUs, disks, ports, weights
    + version: SGLang's, as the head's image reports it; "" if the image was not read
    """

    nodes: Mapping[str, NodeFacts] = field(default_factory=dict)
    silent: Mapping[str, str] = field(default_factory=dict)
    full: frozenset[str] = frozenset()
    version: str = ""

    def updated(self, full: Mapping[str, NodeFacts]) -> Readings:
        """With full readings in place of these: a container may have come or gone since."""
        return replace(self, nodes={**self.nodes, **full}, full=self.full | frozenset(full))


@dataclass(frozen=True)
class Decision:
    """What follows from a declaration and readings.

    + facts: the readings as if an interrupted switch had not begun: the plan starts from them
    + fabric: `NO_FABRIC` if none could be chosen, or nothing should run
    + version: SGLang's, which the launch lines are written for; "" for the process runtime
    + specs: node -> its rank as declared, rank order; empty if nothing should run
    + plan: `NO_PLAN` if there is none; then `refusal` says why
    + findings: about the fabric, and about nodes that could not be read
    + refusal: why nothing can be planned; empty if there is a plan
    + undecided_image: the plan needs the version of SGLang, which only the head's image has
    """

    declaration: Declaration
    model: Model
    readings: Readings
    facts: Mapping[str, NodeFacts]
    fabric: Fabric = NO_FABRIC
    version: str = ""
    specs: Mapping[str, Spec] = field(default_factory=dict)
    plan: Plan = NO_PLAN
    findings: tuple[Finding, ...] = ()
    refusal: tuple[Finding, ...] = ()
    undecided_image: bool = False

    @property
    def settings(self) -> Settings:
        return self.declaration.common

    @property
    def running(self) -> bool:
        """Whether the group should run; otherwise it is stopped or absent."""
        return self.settings.state == "running"

    @property
    def model_name(self) -> str:
        """The id under which the declared model is served."""
        return served_name(self.settings, self.model)

    @property
    def repositories(self) -> tuple[WantedRepository, ...]:
        """What the ranks read: the model, and its draft model if there is one."""
        model, draft = self.model, self.declaration.catalog.draft
        first = WantedRepository(
            id=model.id,
            revision=self.settings.revision,
            weight_bytes=model.weight_bytes or 0,
            gated=model.gated,
        )
        if draft is None:
            return (first,)
        second = WantedRepository(
            id=draft.id,
            revision=draft.revision,
            weight_bytes=draft.weight_bytes or 0,
            gated=draft.gated,
            draft=True,
        )
        return first, second

    @property
    def running_ranks(self) -> dict[str, Rank]:
        """Node -> its running rank, rank order, as declared or not. Left out: nodes without one, or
        with one whose label is no spec of ours."""
        read = {
            n: self.readings.nodes[n] for n in self.declaration.names if n in self.readings.nodes
        }
        ranks = {}
        for node, facts in read.items():
            ours = (r for r in members(facts, self.settings.group) if r.running and r.spec)
            if rank := next(ours, None):
                ranks[node] = rank
        return ranks


def decide(
    declaration: Declaration, model: Model, readings: Readings, restart: str = ""
) -> Decision:
    """What a deploy would do now to every node, and why; nothing is raised.

    + declaration: with the catalog's values (`resolve`)
    + restart: a reason to restart a group whose ranks are as declared: it does not answer
    """
    settings = declaration.common
    decision = Decision(declaration, model, readings, readings.nodes)
    if settings.state != "running":
        return replace(
            decision,
            findings=unreadable_ranks(readings.nodes),
            plan=make_plan({}, readings.nodes, settings.state, group=settings.group),
        )
    if lost := [name for name in declaration.names if name not in readings.nodes]:
        return replace(
            decision,
            refusal=(error(f"{', '.join(lost)} could not be read", key="node-unreadable"),),
        )
    nodes = [readings.nodes[name] for name in declaration.names]
    idle = {n: facts for n, facts in readings.nodes.items() if n in declaration.idle}
    try:
        fabric = choose_fabric(nodes, fabric_options(declaration))
        findings = (*fabric.findings, *unreadable_ranks(idle))
        decision = replace(decision, fabric=fabric, findings=findings)
        version = engine_version(declaration, readings)
        if version is None:
            return replace(decision, undecided_image=True)
        wanted = declared_specs(declaration, model, fabric, readings.nodes, version)
        facts = undo_interrupted_switch(readings.nodes, wanted, settings.group)
        decision = replace(decision, version=version, specs=wanted, facts=facts)
        steps = make_plan(
            wanted,
            facts,
            "running",
            restart=restart,
            group=settings.group,
            rollback=settings.rollback,
        )
        return replace(decision, plan=steps)
    except Refused as refused:
        return replace(decision, refusal=refused.findings)


def engine_version(declaration: Declaration, readings: Readings) -> str | None:
    """SGLang's version, for the launch lines; None: it must be read from the head's image.

    The declared one; else that of a rank's label, if the rank was created from this very image;
    else what the image reports, or its name or entry states where it reports no release.
    Before the image is there these two decide: a deploy decides again once the image has come.
    """
    settings = declaration.common
    if settings.runtime == "process":
        return ""
    if settings.sglang_version != "auto":
        return settings.sglang_version
    head = readings.nodes[declaration.head]
    if head.image is None:
        return named_version(declaration) or versions.UNKNOWN
    made_of_it = (r.spec.sglang for r in head.ranks if r.image_id == head.image.id and r.spec)
    version = next(filter(None, made_of_it), "") or readings.version
    if version and not versions.names_release(version):
        return named_version(declaration) or version
    return version or None


def assumed_version(declaration: Declaration, readings: Readings) -> str:
    """The likeliest version if the image can't be read: that of any rank's label, or of the image's
    name."""
    group = declaration.common.group
    ours = (r for facts in readings.nodes.values() for r in members(facts, group) if r.spec)
    labeled = (rank.spec.sglang for rank in ours if rank.spec)
    return next(filter(None, labeled), "") or named_version(declaration) or versions.UNKNOWN


def named_version(declaration: Declaration) -> str:
    """SGLang's version as the image's name or its entry in the catalog states it; "": neither."""
    image = declaration.catalog.image
    stated = match(r"\d+\.\d+\.\d+(\.post\d+)?", image.sglang) if image else None
    named = versions.known_version(declaration.common.image) or (stated[0] if stated else "")
    return named if named and versions.names_release(named) else ""


def fabric_options(declaration: Declaration) -> FabricOptions:
    """What the settings say of the fabric."""
    overrides = {
        name: NodeOverrides(
            s.address, s.nccl_ib_hca, s.nccl_socket_ifname, s.gloo_socket_ifname, s.env
        )
        for name, s in declaration.nodes.items()
    }
    return FabricOptions(declaration.common.rdma, declaration.common.twins, overrides)


def unreadable_ranks(facts: Mapping[str, NodeFacts]) -> tuple[Finding, ...]:
    """Nodes whose ranks could not be read: no answer is never "nothing there"."""
    return tuple(
        error(
            f"its ranks could not be read: {reading.unread['ranks']}",
            node,
            "docker ps",
            key="docker-unreadable",
        )
        for node, reading in facts.items()
        if "ranks" in reading.unread
    )


def exposure_findings(
    decision: Decision, *, runs: bool, declared: bool = True
) -> tuple[Finding, ...]:
    """Who may use the API.

    + runs: as it runs now, by its rank's own label; declared: as the settings have it
    """
    declaration, settings = decision.declaration, decision.settings
    rank = decision.running_ranks.get(declaration.head) if runs else None
    apis = [exposure.running_access(rank.spec)] if rank and rank.spec else []
    if decision.running and (declared or not apis):
        version = decision.version or named_version(declaration)
        apis.append(exposure.declared_access(settings, len(declaration.names), version))
    return tuple(dict.fromkeys(f for api in apis for f in exposure.check_exposure(api, settings)))


def probes_off(settings: Settings) -> tuple[Finding, ...]:
    """That nothing proves the model's answers right, where the settings have it so."""
    if settings.probes != "off" or settings.state != "running":
        return ()
    what = "probes = 'off': the group counts as ready if it answers, however wrong its answers are"
    return (warning(what, cure="--data probes=auto", key="probes-off"),)
