"""The choice itself: seats for all nodes in one subnet, then the HCAs under them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from cluster.fabric import env
from cluster.fabric import findings as found
from cluster.fabric.cures import JUMBO
from cluster.fabric.devices import title
from cluster.fabric.environment import environment
from cluster.fabric.seats import (
    Row,
    Seat,
    management_seats,
    meet,
    primary,
    qsfp_seats,
    separate,
    twin_row,
)
from cluster.fabric.wishes import (
    FabricOptions,
    NodeOverrides,
    by_env,
    name_list,
    unknown_interfaces,
    wished_seat,
    wrong_wishes,
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


def choose_fabric(nodes: Sequence[NodeFacts], wishes: FabricOptions | None = None) -> Fabric:
    """Choose the fabric of these nodes (in rank order), or raise Refused with the cures."""
    told = wishes or FabricOptions()
    if len(nodes) < 2:
        alone = tuple(NodeFabric(n.name, "127.0.0.1") for n in nodes)
        refuse_errors(f for n in nodes for f in unknown_interfaces(n, told.of(n)))
        return Fabric(alone, "none", "one node: no fabric needed")
    rdma = told.rdma != "off"
    refuse_errors(wrong(nodes, told, rdma=rdma))
    fabric = (over_rdma if rdma else over_tcp)(nodes, told.effective)
    told_by_env = [
        finding
        for node in nodes
        for finding in (
            *by_env(node, told.of(node)),
            *env.wrong_transport(node, told.of(node).env, rdma=rdma),
            *env.without_effect(node, told.of(node).env),
        )
    ]
    return replace(fabric, findings=(*fabric.findings, *told_by_env))


def wrong(nodes: Sequence[NodeFacts], told: FabricOptions, *, rdma: bool) -> Iterator[Finding]:
    """What settings and `env` name and a node does not have, or what they have at odds."""
    for node in nodes:
        wish = told.of(node)
        yield from wrong_wishes(node, wish, rdma=rdma)
        yield from env.wrong_transport(node, wish.env, rdma=rdma)
        yield from env.wrong_names(node, wish.env, rdma=rdma)


def over_rdma(nodes: Sequence[NodeFacts], wishes: FabricOptions) -> Fabric:
    options = [rdma_options(n, wishes.of(n)) for n in nodes]
    refuse_errors(
        found.no_seat(nodes, i, wishes.of(n).hcas(n)) for i, n in enumerate(nodes) if not options[i]
    )
    row = meet(nodes, options)
    if row is None:
        raise Refused(found.apart(nodes, options, narrowing(nodes, wishes, RDMA)))
    twins = twins_to_use(nodes, row, wishes)
    ports = [carriers(n, row[i], twins[i : i + 1], wishes.of(n)) for i, n in enumerate(nodes)]
    gids = [
        finding
        for node, seat, mine in zip(nodes, row, ports, strict=True)
        for finding in env.wrong_gids(node, wishes.of(node).env, seat, mine)
    ]
    refuse_errors([*rdma_errors(nodes, row, ports, wishes), *gids])
    members = seat_members(nodes, row, ports, wishes)
    findings = (
        *found.half_warnings(nodes, row, twins, wishes),
        *(found.management_warnings(nodes, row) if unset_would_do(nodes, row, wishes) else ()),
        *found.shared_subnet_warnings(nodes, row, twins),
        *found.link_warnings(nodes, row, ports),
        *gids,
    )
    return Fabric(members, "rdma", rdma_summary(row, members, bool(twins), wishes), findings)


def unset_would_do(nodes: Sequence[NodeFacts], row: Row, wishes: FabricOptions) -> bool:
    """Whether the nodes would also meet if no setting named where: only then to leave it out is a
    cure."""
    if all(s.port for s in row):
        return False
    bare = {
        name: replace(w, address="", nccl_socket_ifname="") for name, w in wishes.by_node.items()
    }
    return rdma_refusal(nodes, replace(wishes, by_node=bare)) is None


def rdma_refusal(nodes: Sequence[NodeFacts], wishes: FabricOptions) -> Finding | None:
    """Why these nodes can't use RDMA; None where they can."""
    try:
        refuse_errors(wrong(nodes, wishes, rdma=True))
        over_rdma(nodes, wishes)
    except Refused as refused:
        return refused.findings[0]
    return None


def rdma_options(node: NodeFacts, wish: NodeOverrides) -> list[Seat]:
    """The seats that the node's settings leave: the one they name, or the halves of their HCAs."""
    if named := wished_seat(node, wish, rdma=True):
        return [named]
    hcas, allowed = wish.hcas(node), name_list(wish.nccl_socket_ifname)
    seats = [s for s in qsfp_seats(node, rdma=True) if allowed.leaves(s.interface.name)]
    return [s for s in seats if not wish.nccl_ib_hca or {p.hca for p in s.ports} & set(hcas)]


def twins_to_use(nodes: Sequence[NodeFacts], row: Row, wishes: FabricOptions) -> Row:
    """The other halves that carry traffic too: all nodes' or none's."""
    twins = twin_row(nodes, row) if wishes.twins != "first" else ()
    hca_lists = [wishes.of(n).hcas(n) for n in nodes]
    wanted = all(
        not hcas or (t.port and t.port.hca in hcas)
        for t, hcas in zip(twins, hca_lists, strict=False)
    )
    one_mtu = len({s.interface.mtu for s in (*row, *twins)}) == 1
    safe = separate(row, twins) and one_mtu
    return twins if wanted and (wishes.twins == "both" or safe) else ()


def carriers(node: NodeFacts, seat: Seat, twins: Row, wish: NodeOverrides) -> list[RdmaPort]:
    """The halves that carry NCCL on one node: the named ones, or those under the chosen seats."""
    if hcas := wish.hcas(node):
        return [p for hca in hcas for p in node.rdma if p.hca == hca]
    ports = {p.hca: p for s in (seat, *twins) for p in s.ports if p.up}
    return sorted(ports.values(), key=lambda p: (p.half, p.hca))


def rdma_errors(
    nodes: Sequence[NodeFacts],
    row: Row,
    ports: Sequence[Sequence[RdmaPort]],
    wishes: FabricOptions,
) -> list[Finding]:
    """What refuses this choice: every error at once, so that one pass mends them all."""
    carrying = [[p.interface for p in mine] for mine in ports]
    meeting = [[s.interface] for s in row]
    # A rendezvous off the QSFP ports, as set, has an MTU of its own.
    one = all(s.port for s in row)
    frames = [[*a, *b] for a, b in zip(meeting, carrying, strict=True)] if one else carrying
    slowest = min(s.interface.mtu for s in row)
    return [
        *(
            found.no_hca(n, s.interface.name)
            for n, s, m in zip(nodes, row, ports, strict=True)
            if not m
        ),
        *found.same_addresses(nodes, [held(s, m) for s, m in zip(row, ports, strict=True)]),
        *found.mtu_mismatch(nodes, frames, JUMBO),
        *(() if one else found.mtu_mismatch(nodes, meeting, slowest)),
        *(found.inactive(nodes, row) if wishes.rdma == "on" else ()),
    ]


def held(seat: Seat, ports: Sequence[RdmaPort]) -> found.Held:
    """The addresses that traffic goes to on one node."""
    under = {(str(a.ip), p.netdev) for p in ports if (a := primary(p.interface))}
    return frozenset({(str(seat.address.ip), seat.interface.name), *under})


def seat_members(
    nodes: Sequence[NodeFacts],
    row: Row,
    ports: Sequence[Sequence[RdmaPort]],
    wishes: FabricOptions,
) -> tuple[NodeFabric, ...]:
    members = []
    for node, seat, mine in zip(nodes, row, ports, strict=True):
        hcas, address = tuple(p.hca for p in mine), str(seat.address.ip)
        variables = environment(node, seat, hcas, len(nodes), wishes.of(node))
        name, mtu = seat.interface.name, seat.interface.mtu
        members.append(NodeFabric(node.name, address, name, hcas, variables, mtu))
    return tuple(members)


def rdma_summary(row: Row, members: Sequence[NodeFabric], both: bool, wishes: FabricOptions) -> str:
    numbers = sorted({s.number for s in row})
    both = both or all(len(s.ports) > 1 for s in row)
    half = "both halves" if both else f"half {'/'.join(sorted({s.half for s in row}))}"
    port = (
        f"QSFP port {'/'.join(map(str, numbers))}, {half}" if all(s.port for s in row) else "HCAs"
    )
    if upper := sorted({title(s.interface) for s in row if s.upper}):
        port += f" under {', '.join(upper)}"
    why = "the cabled port of all nodes" if len(numbers) == 1 else "ports in one subnet"
    if any(wish.explicit for wish in wishes.by_node.values()):
        why = "as set for some nodes"
    where = f"{members[0].address} ({members[0].interface}, {row[0].network})"
    return f"RDMA over {port} ({','.join(members[0].hcas)}), meeting at {where}: {why}"


def over_tcp(nodes: Sequence[NodeFacts], wishes: FabricOptions) -> Fabric:
    row, options = None, []
    for seats in (tcp_link, management_seats):
        options = [tcp_options(n, wishes.of(n), seats) for n in nodes]
        row = row or (meet(nodes, options) if all(options) else None)
    if row is None:
        refuse_errors(
            found.no_tcp_seat(n) for n, mine in zip(nodes, options, strict=True) if not mine
        )
        raise Refused(found.apart(nodes, options, narrowing(nodes, wishes, TCP)))
    used = [[s.interface] for s in row]
    target = JUMBO if all(s.port for s in row) else min(s.interface.mtu for s in row)
    refuse_errors(
        [
            *found.same_addresses(nodes, [held(s, ()) for s in row]),
            *found.mtu_mismatch(nodes, used, target),
        ]
    )
    members = seat_members(nodes, row, [()] * len(nodes), wishes)
    names = ", ".join(dict.fromkeys(s.interface.name for s in row))
    place = "the QSFP link" if all(s.port for s in row) else "the management network"
    summary = f"TCP over {place} ({names}), meeting at {members[0].address}: rdma=off"
    findings: tuple[Finding, ...] = ()
    if all(n.rdma for n in nodes):
        findings = (found.slow(names, rdma_refusal(nodes, replace(wishes, rdma="auto"))),)
    return Fabric(members, "tcp", summary, findings)


def tcp_options(
    node: NodeFacts, wish: NodeOverrides, seats: Callable[[NodeFacts], list[Seat]]
) -> list[Seat]:
    """The seat that the node's settings name, or those of one kind."""
    if named := wished_seat(node, wish, rdma=False):
        return [named]
    allowed = name_list(wish.nccl_socket_ifname)
    return [s for s in seats(node) if allowed.leaves(s.interface.name)]


TCP = ("address", "nccl_socket_ifname")
RDMA = (*TCP, "nccl_ib_hca")


def narrowing(
    nodes: Sequence[NodeFacts], wishes: FabricOptions, settings: Sequence[str]
) -> list[list[str]]:
    """For each node, which of these settings narrow where it can meet the others, each as it
    stands in the inventory: "address", "env NCCL_IB_HCA"."""
    by_node = [wishes.of(node) for node in nodes]
    return [[wish.label(s) for s in settings if wish.value(s)] for wish in by_node]


def tcp_link(node: NodeFacts) -> list[Seat]:
    return qsfp_seats(node, rdma=False)
