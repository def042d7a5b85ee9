"""What monitoring should be on every node, and the steps from what is there."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address

import msgspec

from cluster import findings
from cluster.engine.readiness import ready_limits
from cluster.fabric import Fabric
from cluster.monitoring import metrics_timer, scrape
from cluster.monitoring.alertmanager import Receiver, alertmanager_config, receiver_files
from cluster.monitoring.boards import boards
from cluster.monitoring.grafana import (
    CONFIG_FILE as GRAFANA_FILE,
    PASSWORD_FILE,
    board_files,
    grafana_config,
    provisioning,
)
from cluster.monitoring.metrics_timer import MetricsTimer
from cluster.monitoring.parts import (
    MonitoringReading,
    PartSpec,
    PartStep,
    WantedPart,
    digests,
    plan_part,
    read_part,
    who_listens,
)
from cluster.monitoring.rules import rule_groups
from cluster.node.host import no_root
from cluster.node.readings import NodeFacts, Rank
from cluster.plan.specs import rank_names
from cluster.rank.spec import EVERYWHERE
from cluster.settings.declaration import Declaration
from cluster.settings.schema import Settings

LOOPBACK = "127.0.0.1"
# Upper limits, as docker's --memory has them. Prometheus of a group of two needs about 100 MB.
PROMETHEUS_MEMORY = "512m"
EXPORTER_MEMORY = "100m"
ALERTMANAGER_MEMORY = "100m"
GRAFANA_MEMORY = "300m"
CONFIG_FILE = "/etc/prometheus/spark-serving.json"
RULES_FILE = "/etc/prometheus/rules.json"
ALERTMANAGER_FILE = "/etc/alertmanager/spark-serving.json"
# Those that keep data of their own.
KEEPERS = ("prometheus", "alertmanager")


@dataclass(frozen=True)
class NodeWanted:
    """What one node should have; nothing where monitoring is absent."""

    parts: tuple[WantedPart, ...] = ()
    timer: MetricsTimer | None = None


@dataclass(frozen=True)
class NodeSteps:
    """What happens on one node.

    + parts: only those that change
    + units: why the timer's units are placed, or removed; () where they are not
    + timer: as it should be there; None: it goes
    + volumes: of data, that go
    """

    group: str
    parts: tuple[PartStep, ...] = ()
    units: tuple[str, ...] = ()
    timer: MetricsTimer | None = None
    volumes: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.parts or self.units or self.volumes)

    def lines(self) -> Iterator[str]:
        """What happens, for people."""
        yield from map(str, self.parts)
        if self.units:
            verb = "place" if self.timer else "remove"
            yield f"{verb} the metrics timer: {'; '.join(self.units)}"
        for volume in self.volumes:
            yield f"remove the data in the volume {volume}: monitoring_data=absent"


def part_name(group: str, kind: str) -> str:
    """The name of a part's container."""
    return f"{group}-{kind.replace('_', '-')}"


def all_names(group: str) -> tuple[str, ...]:
    """Every container's name that a group's monitoring may take on a node."""
    return tuple(part_name(group, kind) for kind in (*KEEPERS, "grafana", "node_exporter"))


def part_images(settings: Settings) -> dict[str, str]:
    """Kind of part → its image."""
    return {
        "prometheus": settings.prometheus_image,
        "alertmanager": settings.alertmanager_image,
        "grafana": settings.grafana_image,
        "node_exporter": settings.node_exporter_image,
    }


@dataclass(frozen=True)
class Private:
    """What the controller's 0600 files say.

    + receiver: who is notified of alerts; None: nobody
    + password: of Grafana's user admin; "": there is no Grafana
    """

    receiver: Receiver | None = None
    password: str = field(default="", repr=False)


def fabric_addresses(declaration: Declaration, fabric: Fabric) -> dict[str, str]:
    """Node that serves → its address, as Prometheus on the head reaches it."""
    return {m.name: m.address for m in fabric.nodes} | {declaration.head: LOOPBACK}


def wanted_parts(
    declaration: Declaration,
    scraped: Mapping[str, str],
    address: str,
    private: Private,
    monitor: str = "",
) -> dict[str, NodeWanted]:
    """Node → what it should have: an exporter on every node that serves; on the head, or on the
    host that only monitors, Prometheus, Alertmanager and Grafana.

    + scraped: node that serves → its address, as Prometheus reaches it
    + address: where these listen (`listen_address`)
    + monitor: the host that only monitors; "" if there is none
    """
    settings, at = declaration.common, monitor or declaration.head
    # In the order in which each needs the one before it.
    there = [
        alertmanager(settings, address, private.receiver),
        prometheus(settings, scrape_targets(declaration, scraped, address, at), address),
    ]
    if private.password:
        there.append(grafana(settings, address, private.password))
    wanted = {at: NodeWanted(tuple(there))}
    for node, own in declaration.nodes.items():
        others = there if node == at else ()
        timer = declared_timer(declaration, node)
        exporter = node_exporter(own, scraped[node], figures=timer is not None)
        wanted[node] = NodeWanted((exporter, *others), timer)
    return wanted


def declared_timer(declaration: Declaration, node: str) -> MetricsTimer | None:
    """What a node's timer reads; None if that is nothing."""
    settings, names = declaration.nodes[node], rank_names(declaration)
    load, first = (
        int(ready_limits(settings.ready_timeout, len(names), first=first).ready)
        for first in (False, True)
    )
    rank = "" if settings.restart_policy == "no" else names[node]
    timer = MetricsTimer(settings.group, rank, load, first, settings.gpus != "none")
    return timer if timer.rank or timer.gpus else None


def unreached(
    declaration: Declaration,
    facts: Mapping[str, NodeFacts],
    addresses: Mapping[str, str],
    monitor: str,
) -> Iterator[findings.Finding]:
    """Why the host that only monitors could not reach what it should scrape.

    + addresses: node that serves → the one that SSH connects to
    """
    settings = declaration.common
    if settings.enable_metrics and ip_address(settings.host).is_loopback:
        yield findings.error(
            f"host = {settings.host!r}: SGLang listens on loopback alone, and {monitor} can't "
            "reach its /metrics",
            declaration.head,
            f"--data host={EVERYWHERE}, with deploy.py; or --data enable_metrics=false",
            key="metrics-unreachable",
        )
    for node in declaration.names:
        own = {str(a.ip) for interface in facts[node].interfaces for a in interface.addresses}
        if addresses[node] not in own - {LOOPBACK}:
            yield findings.error(
                f"{monitor} would scrape it at {addresses[node]}, as SSH connects to it, but it "
                f"has no such address; it has: {', '.join(sorted(own)) or 'none'}",
                node,
                f'("{node}", {{"ssh_hostname": "…"}}), an address that {monitor} reaches',
                key="metrics-unreachable",
            )


def scrape_targets(
    declaration: Declaration, scraped: Mapping[str, str], address: str, at: str
) -> tuple[scrape.ScrapeTarget, ...]:
    """All that Prometheus scrapes.

    + scraped: node → its address, as Prometheus reaches it
    + at: the host where Prometheus runs
    """
    settings = declaration.common
    # A single node's API may listen on one address alone.
    hosts = scraped if settings.host == EVERYWHERE else dict.fromkeys(scraped, settings.host)
    ranks = [
        scrape.ScrapeTarget("sglang", f"{hosts[node]}:{settings.port}", node, str(n))
        for n, node in enumerate(declaration.nodes)
        if settings.enable_metrics
    ]
    nodes = [
        scrape.ScrapeTarget("node", f"{scraped[node]}:{settings.node_exporter_port}", node)
        for node in declaration.nodes
    ]
    ports = server_ports(settings)
    own = [scrape.ScrapeTarget(job, f"{_reached(address)}:{ports[job]}", at) for job in KEEPERS]
    return (*ranks, *nodes, *own)


def server_ports(settings: Settings) -> dict[str, int]:
    """Kind of part → its port, of those that stand beside each other on one host."""
    return {
        "prometheus": settings.prometheus_port,
        "alertmanager": settings.alertmanager_port,
        "grafana": settings.grafana_port,
    }


def _reached(address: str) -> str:
    """Where a host reaches what listens on an address of its own."""
    return LOOPBACK if address == EVERYWHERE else address


def _server(
    settings: Settings,
    kind: str,
    address: str,
    documents: Mapping[str, object],
    *,
    memory: str,
    args: Sequence[str] = (),
    ready: str = "/-/ready",
    secrets: Mapping[str, str] | None = None,
    receiver: str = "",
) -> WantedPart:
    """A part that listens where the others beside it do.

    + documents: path in the container → what it reads there: text, or data that become JSON, which
      YAML's readers take too
    + ready: path that answers once it works
    + receiver: how it notifies somebody
    """
    contents = {
        path: document
        if isinstance(document, str)
        else msgspec.json.format(msgspec.json.encode(document)).decode() + "\n"
        for path, document in documents.items()
    }
    port, name = server_ports(settings)[kind], part_name(settings.group, kind)
    spec = PartSpec(
        group=settings.group,
        kind=kind,
        name=name,
        image=part_images(settings)[kind],
        at=f"{address}:{port}",
        args=tuple(args),
        memory=memory,
        volumes=(f"{name}:/{kind}",) if kind in KEEPERS else (),
        files=digests(contents),
        secrets=tuple(secrets or ()),
        receiver=receiver,
    )
    url = f"http://{_reached(address)}:{port}{ready}"
    return WantedPart(part=spec, contents=contents, url=url, secrets=secrets or {})


def prometheus(
    settings: Settings, scraped: Sequence[scrape.ScrapeTarget], address: str
) -> WantedPart:
    """Prometheus, with its data in a volume of Docker's."""
    config = scrape.prometheus_config(settings.group, scraped, [RULES_FILE])
    return _server(
        settings,
        "prometheus",
        address,
        {CONFIG_FILE: config, RULES_FILE: rule_groups()},
        args=(
            f"--config.file={CONFIG_FILE}",
            "--storage.tsdb.path=/prometheus",
            f"--storage.tsdb.retention.time={settings.monitoring_retention}",
            f"--storage.tsdb.retention.size={settings.monitoring_disk}GB",
            f"--web.listen-address={address}:{settings.prometheus_port}",
        ),
        memory=PROMETHEUS_MEMORY,
    )


def alertmanager(settings: Settings, address: str, receiver: Receiver | None) -> WantedPart:
    """Alertmanager, with its silences in a volume of Docker's, and without a cluster of its own."""
    return _server(
        settings,
        "alertmanager",
        address,
        {ALERTMANAGER_FILE: alertmanager_config(receiver)},
        args=(
            f"--config.file={ALERTMANAGER_FILE}",
            "--storage.path=/alertmanager",
            f"--web.listen-address={address}:{settings.alertmanager_port}",
            "--cluster.listen-address=",
        ),
        memory=ALERTMANAGER_MEMORY,
        secrets=receiver_files(receiver),
        receiver="" if receiver is None else "webhook" if receiver.webhook else "smtp",
    )


def grafana(settings: Settings, address: str, password: str) -> WantedPart:
    """Grafana, with the boards; what its users change is gone with the container."""
    source = f"http://{_reached(address)}:{settings.prometheus_port}"
    config = grafana_config(address, settings.grafana_port, anonymous=settings.grafana_anonymous)
    return _server(
        settings,
        "grafana",
        address,
        {**provisioning(source), **board_files(boards()), GRAFANA_FILE: config},
        memory=GRAFANA_MEMORY,
        ready="/api/health",
        secrets={PASSWORD_FILE: password},
    )


def node_exporter(settings: Settings, address: str, *, figures: bool) -> WantedPart:
    """node_exporter as its authors run it in a container; it sees the node's files, read-only.

    + figures: a timer writes some for it
    """
    at = f"{address}:{settings.node_exporter_port}"
    folder = metrics_timer.textfile_folder(settings.group)
    part = PartSpec(
        group=settings.group,
        kind="node_exporter",
        name=part_name(settings.group, "node_exporter"),
        image=settings.node_exporter_image,
        at=at,
        args=(
            "--path.rootfs=/host",
            "--path.sysfs=/host/sys",
            f"--web.listen-address={at}",
            *((f"--collector.textfile.directory=/host{folder}",) if figures else ()),
        ),
        memory=EXPORTER_MEMORY,
        volumes=("/:/host:ro,rslave",),
        host_pids=True,
    )
    return WantedPart(part=part, contents={}, url=f"http://{at}/metrics")


def listen_address(settings: Settings, at: NodeFacts, management: str) -> str:
    """The address on which Prometheus listens. Raises Refused where its host has no such address.

    + at: its host
    + management: that host's address that SSH connects to
    """
    chosen = settings.monitoring_address
    if chosen == "loopback":
        return LOOPBACK
    address = management if chosen == "management" else chosen
    own = {str(a.ip) for interface in at.interfaces for a in interface.addresses}
    if address in (EVERYWHERE, LOOPBACK) or address in own:
        return address
    raise findings.Refused(
        findings.error(
            f"monitoring_address = {chosen!r}: {at.name} has no address {address}; "
            f"it has: {', '.join(sorted(own)) or 'none'}",
            at.name,
            "--data monitoring_address=loopback, and ssh -L 9090:127.0.0.1:9090 to it",
            key="no-such-address",
        )
    )


def plan_node(wanted: NodeWanted, there: MonitoringReading, settings: Settings) -> NodeSteps:
    """What makes a node's monitoring as it should be; only this group's is touched."""
    group = settings.group
    named = {w.part.name for w in wanted.parts}
    steps = [plan_part(w, there) for w in wanted.parts]
    steps += [
        PartStep(c.name, c, None, ("is not wanted here",))
        for c in _own(there, group)
        if c.name not in named
    ]
    placed = [path for path in metrics_timer.unit_paths(group) if path in there.files]
    units = (
        metrics_timer.unit_drift(wanted.timer, there)
        if wanted.timer
        else tuple(f"{p} is there" for p in placed)
    )
    gone = settings.monitoring == "absent" and settings.monitoring_data == "absent"
    data = {part_name(group, kind) for kind in KEEPERS}
    return NodeSteps(
        group,
        tuple(step for step in steps if step.reasons),
        units,
        wanted.timer,
        tuple(v for v in there.volumes if gone and v in data),
    )


def _own(there: MonitoringReading, group: str) -> Iterator[Rank]:
    for container in there.containers:
        part = read_part(container.label)
        if part and part.group == group:
            yield container


def obstacles(
    node: str,
    wanted: NodeWanted,
    steps: NodeSteps,
    there: MonitoringReading,
    settings: Settings,
) -> Iterator[findings.Finding]:
    """Why a node can't have it so."""
    own = {container.name for container in _own(there, steps.group)}
    for each in wanted.parts:
        name = each.part.name
        if name not in own and any(c.name == name for c in there.containers):
            yield findings.error(
                f"a container named {name} exists and is not ours",
                node,
                f"docker rename {name} {name}-old",
                key="container-foreign",
            )
        if settings.pull == "never" and there.images.get(each.part.image) is None:
            yield findings.error(
                f"image {each.part.image} is not there, and pull = 'never'",
                node,
                f"docker pull {each.part.image} on it",
                key="image-missing",
            )
    for step in steps.parts:
        if step.wanted and (taken := _taken(step, there.listens)):
            kind, at = step.wanted.part.kind, step.wanted.part.at
            yield findings.error(
                f"{step.name} would listen on {at}, and something else does, on {taken}",
                node,
                f"ss -ltnp there says what; --data {kind}_port=… takes another port",
                key="port-taken",
            )
    if steps.units and there.no_root:
        yield no_root(node, there.no_root)


def _taken(step: PartStep, listens: Iterable[str]) -> str:
    """Where something else listens that a part needs; "" where nothing does."""
    assert step.wanted
    own = read_part(step.there.label) if step.there and step.there.running else None
    address, _, port = step.wanted.part.at.rpartition(":")
    if own and own.at == step.wanted.part.at:
        return ""
    return who_listens(listens, address, port)
