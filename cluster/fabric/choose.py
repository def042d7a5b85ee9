"""Choose the fabric: one attachment for each node, all in one subnet, and the HCAs under them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from cluster.fabric import cures, devices, environment as env, problems
from cluster.fabric.attachments import (
    Attachment,
    Attachments,
    best_rendezvous,
    management_attachments,
    primary,
    qsfp_attachments,
    separate,
    twin_attachments,
)
from cluster.fabric.overrides import (
    FabricOptions,
    NodeOverrides,
    by_env,
    invalid_overrides,
    name_list,
    named_attachment,
    unknown_interfaces,
)
from cluster.findings import Finding, Refused, refuse_errors
from cluster.node.readings import NodeFacts, RdmaPort


@dataclass(frozen=True)
class NodeFabric:
    """One node's part of the fabric.

    + address, interface: where the node meets the others (`--dist-init-addr` is the head's)
    + hcas: what carries NCCL; () over TCP
    + env: environment that its rank needs for that
    + mtu: of the interface, bytes; 0 for a single node
    """

    name: str
    address: str
    interface: str = ""
    hcas: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    mtu: int = 0


@dataclass(frozen=True)
class Fabric:
    """The network of one group. `findings` are warnings; `nodes` are in rank order, head first."""

    nodes: tuple[NodeFabric, ...]
    transport: Literal["rdma", "tcp", "none"]
    summary: str
    findings: tuple[Finding, ...] = ()


def choose_fabric(nodes: Sequence[NodeFacts], options: FabricOptions | None = None) -> Fabric:
    """Choose the fabric of these nodes (in rank order), or raise Refused with the cures."""
    options = options or FabricOptions()
    if len(nodes) < 2:
        alone = tuple(NodeFabric(n.name, "127.0.0.1") for n in nodes)
        refuse_errors(f for n in nodes for f in unknown_interfaces(n, options.of(n)))
        return Fabric(alone, "none", "one node: no fabric needed")
    rdma = options.rdma != "off"
    refuse_errors(invalid_options(nodes, options, rdma=rdma))
    fabric = (over_rdma if rdma else over_tcp)(nodes, options.effective)
    env_findings = [
        finding
        for node in nodes
        for finding in (
            *by_env(node, options.of(node)),
            *env.wrong_transport(node, options.of(node).env, rdma=rdma),
            *env.without_effect(node, options.of(node).env),
        )
    ]
    return replace(fabric, findings=(*fabric.findings, *env_findings))


def invalid_options(
    nodes: Sequence[NodeFacts], options: FabricOptions, *, rdma: bool
) -> Iterator[Finding]:
    """Errors in the options: names that a node does not have, contradictions with `env`."""
    for node in nodes:
        overrides = options.of(node)
        yield from invalid_overrides(node, overrides, rdma=rdma)
        yield from env.wrong_transport(node, overrides.env, rdma=rdma)
        yield from env.wrong_names(node, overrides.env, rdma=rdma)


def over_rdma(nodes: Sequence[NodeFacts], options: FabricOptions) -> Fabric:
    candidates = [rdma_candidates(n, options.of(n)) for n in nodes]
    refuse_errors(
        problems.no_attachment(nodes, i, options.of(n).hcas(n))
        for i, n in enumerate(nodes)
        if not candidates[i]
    )
    rendezvous = best_rendezvous(nodes, candidates)
    if rendezvous is None:
        raise Refused(problems.no_common_subnet(nodes, candidates, narrowing(nodes, options, RDMA)))
    twins = twins_to_use(nodes, rendezvous, options)
    ports = [
        carriers(n, rendezvous[i], twins[i : i + 1], options.of(n)) for i, n in enumerate(nodes)
    ]
    gids = [
        finding
        for node, attachment, mine in zip(nodes, rendezvous, ports, strict=True)
        for finding in env.wrong_gids(node, options.of(node).env, attachment, mine)
    ]
    refuse_errors([*rdma_errors(nodes, rendezvous, ports, options), *gids])
    members = node_fabrics(nodes, rendezvous, ports, options)
    findings = (
        *problems.half_warnings(nodes, rendezvous, twins, options),
        *(
            problems.management_warnings(nodes, rendezvous)
            if unset_would_do(nodes, rendezvous, options)
            else ()
        ),
        *problems.shared_subnet_warnings(nodes, rendezvous, twins),
        *problems.link_warnings(nodes, rendezvous, ports),
        *gids,
    )
    return Fabric(
        members, "rdma", rdma_summary(rendezvous, members, bool(twins), options), findings
    )


def unset_would_do(
    nodes: Sequence[NodeFacts], rendezvous: Attachments, options: FabricOptions
) -> bool:
    """Whether the nodes would also meet without the settings that name the place: only then is
    removing these a cure."""
    if all(s.port for s in rendezvous):
        return False
    bare = {
        name: replace(w, address="", nccl_socket_ifname="") for name, w in options.by_node.items()
    }
    return rdma_refusal(nodes, replace(options, by_node=bare)) is None


def rdma_refusal(nodes: Sequence[NodeFacts], options: FabricOptions) -> Finding | None:
    """Why these nodes can't use RDMA, or None."""
    try:
        refuse_errors(invalid_options(nodes, options, rdma=True))
        over_rdma(nodes, options)
    except Refused as refused:
        return refused.findings[0]
    return None


def rdma_candidates(node: NodeFacts, overrides: NodeOverrides) -> list[Attachment]:
    """The attachments that the node's settings allow: the one they name, or those of their HCAs."""
    if named := named_attachment(node, overrides, rdma=True):
        return [named]
    hcas, allowed = overrides.hcas(node), name_list(overrides.nccl_socket_ifname)
    attachments = [s for s in qsfp_attachments(node, rdma=True) if allowed.leaves(s.interface.name)]
    return [
        s for s in attachments if not overrides.nccl_ib_hca or {p.hca for p in s.ports} & set(hcas)
    ]


def twins_to_use(
    nodes: Sequence[NodeFacts], rendezvous: Attachments, options: FabricOptions
) -> Attachments:
    """The attachments of the other halves, if these carry traffic too: on all nodes or on none."""
    twins = twin_attachments(nodes, rendezvous) if options.twins != "first" else ()
    hca_lists = [options.of(n).hcas(n) for n in nodes]
    wanted = all(
        not hcas or (t.port and t.port.hca in hcas)
        for t, hcas in zip(twins, hca_lists, strict=False)
    )
    one_mtu = len({s.interface.mtu for s in (*rendezvous, *twins)}) == 1
    safe = separate(rendezvous, twins) and one_mtu
    return twins if wanted and (options.twins == "both" or safe) else ()


def carriers(
    node: NodeFacts, attachment: Attachment, twins: Attachments, overrides: NodeOverrides
) -> list[RdmaPort]:
    """The halves that carry NCCL on one node: those named, or those under the attachments."""
    if hcas := overrides.hcas(node):
        return [p for hca in hcas for p in node.rdma if p.hca == hca]
    ports = {p.hca: p for s in (attachment, *twins) for p in s.ports if p.up}
    return sorted(ports.values(), key=lambda p: (p.half, p.hca))


def rdma_errors(
    nodes: Sequence[NodeFacts],
    rendezvous: Attachments,
    ports: Sequence[Sequence[RdmaPort]],
    options: FabricOptions,
) -> list[Finding]:
    """Every error of this choice at once."""
    carrying = [[p.interface for p in mine] for mine in ports]
    meeting = [[s.interface] for s in rendezvous]
    # A rendezvous off the QSFP ports, as set, has an MTU of its own.
    one = all(s.port for s in rendezvous)
    frames = [[*a, *b] for a, b in zip(meeting, carrying, strict=True)] if one else carrying
    slowest = min(s.interface.mtu for s in rendezvous)
    return [
        *(
            problems.no_hca(n, s.interface.name)
            for n, s, m in zip(nodes, rendezvous, ports, strict=True)
            if not m
        ),
        *problems.same_addresses(
            nodes, [addresses_in_use(s, m) for s, m in zip(rendezvous, ports, strict=True)]
        ),
        *problems.mtu_mismatch(nodes, frames, cures.JUMBO),
        *(() if one else problems.mtu_mismatch(nodes, meeting, slowest)),
        *(problems.inactive(nodes, rendezvous) if options.rdma == "on" else ()),
    ]


def addresses_in_use(attachment: Attachment, ports: Sequence[RdmaPort]) -> problems.HeldAddresses:
    """The addresses that receive traffic on one node."""
    under = {(str(a.ip), p.netdev) for p in ports if (a := primary(p.interface))}
    return frozenset({(str(attachment.address.ip), attachment.interface.name), *under})


def node_fabrics(
    nodes: Sequence[NodeFacts],
    rendezvous: Attachments,
    ports: Sequence[Sequence[RdmaPort]],
    options: FabricOptions,
) -> tuple[NodeFabric, ...]:
    members = []
    for node, attachment, mine in zip(nodes, rendezvous, ports, strict=True):
        hcas, address = tuple(p.hca for p in mine), str(attachment.address.ip)
        variables = env.environment(node, attachment, hcas, len(nodes), options.of(node))
        name, mtu = attachment.interface.name, attachment.interface.mtu
        members.append(NodeFabric(node.name, address, name, hcas, variables, mtu))
    return tuple(members)


def rdma_summary(
    rendezvous: Attachments, members: Sequence[NodeFabric], both: bool, options: FabricOptions
) -> str:
    numbers = sorted({s.number for s in rendezvous})
    both = both or all(len(s.ports) > 1 for s in rendezvous)
    half = "both halves" if both else f"half {'/'.join(sorted({s.half for s in rendezvous}))}"
    port = (
        f"QSFP port {'/'.join(map(str, numbers))}, {half}"
        if all(s.port for s in rendezvous)
        else "HCAs"
    )
    if upper := sorted({devices.interface_title(s.interface) for s in rendezvous if s.upper}):
        port += f" under {', '.join(upper)}"
    why = "the cabled port of all nodes" if len(numbers) == 1 else "ports in one subnet"
    if any(overrides.explicit for overrides in options.by_node.values()):
        why = "as set for some nodes"
    where = f"{members[0].address} ({members[0].interface}, {rendezvous[0].network})"
    return f"RDMA over {port} ({','.join(members[0].hcas)}), meeting at {where}: {why}"


def over_tcp(nodes: Sequence[NodeFacts], options: FabricOptions) -> Fabric:
    rendezvous, candidates = None, []
    for attachments in (tcp_link, management_attachments):
        candidates = [tcp_candidates(n, options.of(n), attachments) for n in nodes]
        rendezvous = rendezvous or (best_rendezvous(nodes, candidates) if all(candidates) else None)
    if rendezvous is None:
        refuse_errors(
            problems.no_tcp_attachment(n)
            for n, mine in zip(nodes, candidates, strict=True)
            if not mine
        )
        raise Refused(problems.no_common_subnet(nodes, candidates, narrowing(nodes, options, TCP)))
    used = [[s.interface] for s in rendezvous]
    target = (
        cures.JUMBO if all(s.port for s in rendezvous) else min(s.interface.mtu for s in rendezvous)
    )
    refuse_errors(
        [
            *problems.same_addresses(nodes, [addresses_in_use(s, ()) for s in rendezvous]),
            *problems.mtu_mismatch(nodes, used, target),
        ]
    )
    members = node_fabrics(nodes, rendezvous, [()] * len(nodes), options)
    names = ", ".join(dict.fromkeys(s.interface.name for s in rendezvous))
    place = "the QSFP link" if all(s.port for s in rendezvous) else "the management network"
    summary = f"TCP over {place} ({names}), meeting at {members[0].address}: rdma=off"
    findings: tuple[Finding, ...] = ()
    if all(n.rdma for n in nodes):
        findings = (
            problems.slower_over_tcp(names, rdma_refusal(nodes, replace(options, rdma="auto"))),
        )
    return Fabric(members, "tcp", summary, findings)


def tcp_candidates(
    node: NodeFacts, overrides: NodeOverrides, attachments: Callable[[NodeFacts], list[Attachment]]
) -> list[Attachment]:
    """The attachment that the node's settings name, or all of one kind."""
    if named := named_attachment(node, overrides, rdma=False):
        return [named]
    allowed = name_list(overrides.nccl_socket_ifname)
    return [s for s in attachments(node) if allowed.leaves(s.interface.name)]


TCP = ("address", "nccl_socket_ifname")
RDMA = (*TCP, "nccl_ib_hca")


def narrowing(
    nodes: Sequence[NodeFacts], options: FabricOptions, settings: Sequence[str]
) -> list[list[str]]:
    """For each node, which of these settings limit its candidates, each as it appears in the
    inventory: "address", "env NCCL_IB_HCA"."""
    by_node = [options.of(node) for node in nodes]
    return [[overrides.label(s) for s in settings if overrides.value(s)] for overrides in by_node]


def tcp_link(node: NodeFacts) -> list[Attachment]:
    return qsfp_attachments(node, rdma=False)
