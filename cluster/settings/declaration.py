"""What an inventory declares for the whole cluster, validated at once."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cluster.catalog.entry import DraftModel, EngineImage, Evidence
from cluster.engine.versions import known_version
from cluster.findings import Finding, Refused, error
from cluster.settings import parse, schema

# Data of pyinfra and its connectors; everything else must be one of our settings.
FOREIGN = ("_", "ssh_", "fake_", "local_", "docker_", "podman_", "winrm_")


@dataclass(frozen=True)
class HostData:
    """One host of an inventory, with its data.

    + data: the value of each key that counts (pyinfra's order: --data, host, groups, all)
    + env_layers: every `env` given for the host, weakest first; pyinfra itself would keep only one
    + overridden: the keys whose value comes from --data
    """

    name: str
    groups: tuple[str, ...]
    data: Mapping[str, Any]
    env_layers: Sequence[Any] = ()
    overridden: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class CatalogValues:
    """What the model's entry in the catalog adds to a declaration (`resolve`).

    + variant: its name; "" where the entry has none
    + evidence: whose word the variant is; None without one
    + image: the entry's, where the declaration names no other
    + env: environment variables of the engine, where the declaration sets none of that name
    + arguments: options of SGLang, each with its values
    + draft: the second repository that speculative decoding needs, where it does
    + offloaded_bytes: of the weights that stay on the node's disk
    + sources: setting → where its value comes from: "model", "variant NAME", or a reason
    """

    variant: str = ""
    evidence: Evidence | None = None
    image: EngineImage | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()
    draft: DraftModel | None = None
    offloaded_bytes: int = 0
    sources: Mapping[str, str] = field(default_factory=dict)

    @property
    def own_arguments(self) -> tuple[str, ...]:
        """The arguments that the image must know by the entry's word, as it is no release."""
        image = self.image
        released = image and not image.third_party and known_version(image.reference)
        return () if released or not image else self.arguments


@dataclass(frozen=True)
class Declaration:
    """The whole declaration: the serving nodes in rank order, and the nodes that serve nothing.

    + nodes: node name → its settings, rank 0 first
    + idle: workers that head_only leaves out, whose ranks are removed
    + catalog: what the catalog adds; empty before `resolve`
    """

    nodes: Mapping[str, schema.Settings]
    idle: Mapping[str, schema.Settings]
    catalog: CatalogValues = CatalogValues()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.nodes)

    @property
    def head(self) -> str:
        return self.names[0]

    @property
    def common(self) -> schema.Settings:
        """The head's settings: all but those in PER_NODE apply to every node."""
        return self.nodes[self.head]


def parse_declaration(declared: Sequence[HostData]) -> Declaration:
    """The settings of a whole inventory. Raises Refused with every mistake at once.

    + declared: its hosts, in the inventory's order
    """
    findings, settings = list(_group_errors(declared)), {}
    for host in declared:
        try:
            settings[host.name] = parse_settings(host)
        except Refused as refusal:
            findings += refusal.findings
    findings += _disagreements(settings)
    if findings:
        raise Refused(*dict.fromkeys(findings))
    given = {
        name: "--data" if any(name in host.overridden for host in declared) else "inventory"
        for host in declared
        for name in host.data
        if name in schema.NAMES
    }
    ordered = sorted(declared, key=lambda h: "head" not in h.groups)
    serving = ordered[:1] if settings[ordered[0].name].head_only else ordered
    return Declaration(
        nodes={h.name: settings[h.name] for h in serving},
        idle={h.name: settings[h.name] for h in ordered if h not in serving},
        catalog=CatalogValues(sources=given),
    )


def parse_monitor(declared: Sequence[HostData], serving: Declaration) -> dict[str, schema.Settings]:
    """The host that only monitors → its settings: the head's, but for those in PER_NODE. {} if
    there is none. Raises Refused with what is wrong with it.

    + declared: the hosts in the group `monitor`
    """
    findings, settings = [], {}
    if len(declared) > 1:
        names = ", ".join(host.name for host in declared)
        what = f"the group `monitor` has {len(declared)} hosts ({names}): it must have at most one"
        findings.append(
            error(what, cure='monitor = ["watcher"] in the inventory', key="monitor-group")
        )
    for host in declared:
        if serves := [group for group in ("head", "workers") if group in host.groups]:
            what = f"{host.name} is in both `{serves[0]}` and `monitor`"
            cure = "remove the group `monitor`: Prometheus runs on the head then"
            findings.append(error(what, cure=cure, key="monitor-group"))
            continue
        own = parse_settings(host)
        common = {n: getattr(serving.common, n) for n in schema.NAMES if n not in schema.PER_NODE}
        findings += _disagreements(
            {
                serving.head: serving.common,
                host.name: replace(own, **{n: common[n] for n in common if n not in host.data}),
            }
        )
        settings[host.name] = replace(own, **common)
    if findings:
        raise Refused(*findings)
    return settings


def parse_settings(host: HostData) -> schema.Settings:
    """One host's settings. Raises Refused with every unknown name and wrong value."""
    values: dict[str, Any] = {}
    findings: list[Finding] = []
    for name, value in host.data.items():
        if name.startswith(FOREIGN):
            continue
        try:
            layers = host.env_layers or [value]
            values[name] = parse.merged_env(layers) if name == "env" else parse.convert(name, value)
        except Refused as refusal:
            findings += refusal.findings
    if findings:
        raise Refused(*findings)
    return schema.Settings(**values)


def _group_errors(declared: Sequence[HostData]) -> Iterable[Finding]:
    heads = [h.name for h in declared if "head" in h.groups]
    workers = [h.name for h in declared if "workers" in h.groups]
    if len(heads) != 1:
        count = f"{len(heads)} hosts ({', '.join(heads)})" if heads else "no host"
        yield error(
            f"the group `head` has {count}: it must have exactly one",
            cure='head = ["spark-1"]; workers = ["spark-2"] in the inventory',
            key="inventory-groups",
        )
    for name in sorted(set(heads) & set(workers)):
        yield error(
            f"{name} is in both `head` and `workers`",
            cure="list each node once, in one group",
            key="inventory-groups",
        )
    for host in declared:
        # pyinfra itself lists a connector's host (@local) twice.
        twice = any(host.groups.count(group) > 1 for group in ("head", "workers"))
        if twice and not host.name.startswith("@"):
            yield error(
                f"{host.name} is listed twice in one group",
                cure="list each node once",
                key="inventory-groups",
            )
        if not {"head", "workers"} & set(host.groups):
            yield error(
                f"{host.name} is in neither `head` nor `workers`",
                cure="put it in one of the two, or remove it from the inventory",
                key="inventory-groups",
            )


def _disagreements(settings: Mapping[str, schema.Settings]) -> Iterable[Finding]:
    for name in schema.NAMES if settings else ():
        values = {node: getattr(s, name) for node, s in settings.items()}
        if name not in schema.PER_NODE and len({repr(v) for v in values.values()}) > 1:
            values_by_node = ", ".join(f"{node}: {value!r}" for node, value in values.items())
            yield error(
                f"{name} differs between the nodes ({values_by_node}): it must be the same on all",
                cure=f"set {name} for all nodes, in group data or with --data {name}=…",
                key="setting-differs",
            )
