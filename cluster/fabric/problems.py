"""What is wrong with a fabric, and the cure: errors first, then warnings."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from cluster.fabric import cures, devices, overrides
from cluster.fabric.attachments import (
    Attachment,
    Attachments,
    halves,
    management_attachments,
    primary,
    qsfp_attachments,
    twin,
    twin_attachment,
)
from cluster.findings import Finding, error, warning
from cluster.node.readings import Interface, NodeFacts, RdmaPort

FULL_RATE = 200.0
"""Gb/s that a Spark's QSFP port negotiates with a good cable."""

BY_HAND = "address, nccl_socket_ifname and nccl_ib_hca of each node in the inventory"


def no_attachment(
    nodes: Sequence[NodeFacts], rank: int, hcas: Sequence[str], *, rdma: bool = True
) -> Finding:
    """Why a node has nothing to meet the others with: no Up half has an address, or is under a
    device that has one.

    + hcas: those that its settings name
    """
    node = nodes[rank]
    named = [p for p in halves(node) if p.hca in hcas or not hcas]
    reasons = (
        unusable_port(nodes, rank, p, rdma=rdma)
        for p in named
        if p.up or devices.in_other_namespace(node, p)
    )
    if reason := next((r for r in reasons if r), None):
        return reason
    tcp = "or serve over TCP with `--data rdma=off`"
    if unread := node.unread.get("rdma") or node.unread.get("interfaces"):
        return error(
            f"the RDMA ports could not be read: {unread}", node.name, tcp, key="rdma-unreadable"
        )
    if not node.rdma:
        return error(
            "no RDMA port exists",
            node.name,
            f"`ls /sys/class/infiniband`, {tcp}",
            key="no-rdma-port",
        )
    states = ", ".join(port_state(p) for p in halves(node))
    cure = f"plug the QSFP cable in at both ends and look at `ibdev2netdev`, {tcp}"
    return error(f"no QSFP port is Up: {states}", node.name, cure, key="no-cable")


def unusable_port(
    nodes: Sequence[NodeFacts], rank: int, port: RdmaPort, *, rdma: bool
) -> Finding | None:
    """Why a half that is Up can't meet the others: what it belongs to, or no address."""
    node, half = nodes[rank], f"{port.netdev} ({port.hca})"
    tcp = "`--data rdma=off` serves over it with TCP"
    if devices.in_other_namespace(node, port):
        half = half if port.netdev else port.hca
        what = f"the interface of {half} is in another network namespace of the node"
        cure = f"{cures.bring_home(port)}; then run this again"
        return error(what, node.name, cure, key="interface-other-namespace")
    if name := devices.vrf(node, port.interface):
        what = f"{half} is in the VRF {name}, which the ranks do not run in"
        cure = (
            f"sudo ip link set dev {port.netdev} nomaster; also take it out of the VRF in netplan"
        )
        return error(what, node.name, cure, key="interface-in-vrf")
    over = devices.above(node, port.netdev)
    for upper in over:
        if upper.up and upper.ipv4 and not upper.master:
            lies = "belongs to" if port.interface.master else "lies under"
            what = (
                f"{half} {lies} {devices.interface_title(upper)}, which has "
                f"{upper.ipv4[0]}, and RDMA does not work over it: "
                f"{port.hca} has no GID for that address"
            )
            cure = f"{tcp}; for RDMA the halves need addresses of their own"
            return error(what, node.name, cure, key="interface-beneath-another")
    if port.interface.master:
        top = over[0] if over else Interface(port.interface.master, 0, up=False)
        what = f"{half} belongs to {devices.interface_title(top)}, which has no IPv4 address"
        if not top.up:
            what += " and is not Up" if top.mtu else " that is visible here"
        cure = (
            f"give {top.name} an address where it is configured, in the same subnet on all nodes, "
            f"or remove {port.netdev} from it: ip -d link"
        )
        return error(what, node.name, cure, key="interface-beneath-another")
    if not primary(port.interface):
        what = f"{half} is Up but has no IPv4 address"
        cure = cures.free_address(nodes, rank, port).command
        return error(what, node.name, cure, key="interface-without-address")
    return None


def port_state(port: RdmaPort) -> str:
    carrier = "" if port.interface.up else ", no carrier"
    return f"{port.hca} ({port.netdev}) {port.state}/{port.phys_state}{carrier}"


def no_common_subnet(
    nodes: Sequence[NodeFacts],
    candidates: Sequence[Sequence[Attachment]],
    narrowing: Sequence[Sequence[str]],
) -> Finding:
    """No subnet reaches all nodes: also a ring, whose every cable is a subnet of its own.

    + narrowing: each node's settings that leave it fewer candidates, "env NAME" for those in `env`
    """
    addresses = "; ".join(f"{n.name} {listing(s)}" for n, s in zip(nodes, candidates, strict=True))
    cure = "; ".join(
        f"on {node.name}: {command}"
        for node, command in zip(nodes, to_one_subnet(nodes, candidates, narrowing), strict=True)
        if command
    )
    ring = f"; a ring of cables has no common subnet: set {BY_HAND}" if len(nodes) > 2 else ""
    return error(
        f"the nodes' addresses are in no common subnet: {addresses}",
        "",
        f"{cure}{ring}",
        key="no-common-subnet",
    )


def to_one_subnet(
    nodes: Sequence[NodeFacts],
    candidates: Sequence[Sequence[Attachment]],
    narrowing: Sequence[Sequence[str]],
) -> list[str]:
    """What to do on each node, "" for nothing.

    Nodes move to the subnet that most of them have, or to the head's if none has more; where that
    is not possible, all move to a new one.
    """
    free = [s for s, names in zip(candidates, narrowing, strict=True) if not names] or candidates
    met = Counter(network for attachments in free for network in {s.network for s in attachments})
    wanted = next(
        s.network
        for attachments in free
        for s in attachments
        if met[s.network] == max(met.values())
    )
    letters = Counter(p.half for n in nodes for p in plain_halves(n))
    there = {s.half for attachments in free for s in attachments if s.network == wanted}
    commands, feasible = [], True
    for rank, (node, attachments) in enumerate(zip(nodes, candidates, strict=True)):
        ports = sorted(plain_halves(node), key=lambda p: p.half not in there)
        address = cures.free_address(nodes, rank, ports[0], wanted) if ports else None
        if any(s.network == wanted for s in attachments):
            commands.append("")
        elif narrowing[rank]:
            commands.append(f"take {' and '.join(narrowing[rank])} out, or name one in {wanted}")
        else:
            command = address.command if address else f"an address in {wanted}: ip -4 addr"
            commands.append(command)
            feasible &= address is None or address.value.network == wanted
    if feasible:
        return commands
    own = [sorted(plain_halves(n), key=lambda p: -letters[p.half]) for n in nodes]
    fresh = cures.fresh_addresses(nodes, [next(iter(ports), None) for ports in own])
    new = next((f" in {address.value.network}" for address in fresh if address), "")
    return [
        (commands[rank] or f"take {' and '.join(narrowing[rank])} out, or name one{new}")
        if narrowing[rank]
        else (address.command if address else "ip -4 addr")
        for rank, address in enumerate(fresh)
    ]


def plain_halves(node: NodeFacts) -> list[RdmaPort]:
    """Halves that are Up and belong to nothing, so that an address of their own is of use."""
    return [p for p in halves(node) if p.up and not p.interface.master]


def listing(attachments: Sequence[Attachment]) -> str:
    return ", ".join(f"{s.address} ({s.interface.name})" for s in attachments) or "none"


def no_tcp_attachment(node: NodeFacts) -> Finding:
    what = "no interface with carrier and an IPv4 address leads to another node"
    return error(what, node.name, f"`ip -4 addr`; or set {BY_HAND}", key="no-way-to-others")


def no_hca(node: NodeFacts, interface: str) -> Finding:
    """An error: a rendezvous off the QSFP ports, or on a port that is down, has no HCA."""
    what = f"{interface}, as set, is not an Up half of a QSFP port, so no HCA is known"
    return error(
        what, node.name, f"set nccl_ib_hca of {node.name} too, or `--data rdma=off`", key="no-hca"
    )


HeldAddresses = frozenset[tuple[str, str]]
"""Addresses with their interface: ("192.168.100.10", "enp1s0f1np1")."""


def same_addresses(
    nodes: Sequence[NodeFacts], chosen: Sequence[HeldAddresses]
) -> Iterator[Finding]:
    """A chosen address that another node has as well, on any interface."""
    for i, node in enumerate(nodes):
        for j, other in enumerate(nodes):
            for ip, name in sorted(chosen[i]):
                for clash in sorted(n for held, n in chosen[j] | holds(other) if held == ip):
                    if i < j or (i > j and (ip, clash) not in chosen[j]):
                        what = f"{ip} is on {node.name} ({name}) and on {other.name} ({clash})"
                        yield error(
                            what,
                            other.name,
                            f"give {clash} another address: ip -4 addr",
                            key="address-twice",
                        )


def holds(node: NodeFacts) -> HeldAddresses:
    up = (i for i in devices.every_interface(node) if i.up)
    return frozenset((a.partition("/")[0], i.name) for i in up for a in i.ipv4)


def mtu_mismatch(
    nodes: Sequence[NodeFacts], used: Sequence[Sequence[Interface]], target: int
) -> Iterator[Finding]:
    """Interfaces that should carry the same frames, and do not."""
    interfaces = {(n.name, i.name): i for n, mine in zip(nodes, used, strict=True) for i in mine}
    if len({i.mtu for i in interfaces.values()}) < 2:
        return
    what = "; ".join(f"{n} {name} has MTU {i.mtu}" for (n, name), i in sorted(interfaces.items()))
    for (node, _), interface in sorted(interfaces.items()):
        if interface.mtu != target:
            cure = cures.set_mtu([interface], target)
            yield error(
                f"the MTU must be the same on all nodes: {what}", node, cure, key="mtu-differs"
            )


def inactive(nodes: Sequence[NodeFacts], rendezvous: Attachments) -> Iterator[Finding]:
    """Halves of the chosen port that have carrier but no active HCA: rdma=on wants them all."""
    for node, attachment in zip(nodes, rendezvous, strict=True):
        other = attachment.port and twin(node, attachment.port)
        if other and other.interface.up and not other.up:
            what = f"rdma=on: {other.hca} ({other.netdev}) is {other.state}, not ACTIVE"
            yield error(
                what,
                node.name,
                "`rdma link`; or `--data rdma=auto` to go on without it",
                key="hca-not-active",
            )


def half_warnings(
    nodes: Sequence[NodeFacts],
    rendezvous: Attachments,
    twins: Attachments,
    options: overrides.FabricOptions,
) -> Iterator[Finding]:
    """Why only one half of the port works, or why both may not, unless one half is set."""
    for rank, (node, attachment) in enumerate(zip(nodes, rendezvous, strict=True)):
        other, named = attachment.port and twin(node, attachment.port), options.of(node).hcas(node)
        if not other or other in attachment.ports:
            continue
        one = (
            other.hca not in named if named else options.twins == "first" and attachment.half == "A"
        )
        if not one:
            yield from half_warning(
                nodes, rank, attachment, other, bool(twins) or other.hca in named
            )


def half_warning(
    nodes: Sequence[NodeFacts], rank: int, attachment: Attachment, other: RdmaPort, both: bool
) -> Iterator[Finding]:
    node, own = nodes[rank], twin_attachment(nodes[rank], attachment)
    name, port = attachment.interface.name, f"QSFP port {attachment.number}"
    carrying = f"only {name} carries the traffic"
    if devices.in_other_namespace(node, other):
        half = other.netdev or f"the interface of {other.hca}"
        what = f"{half} is in another network namespace: {carrying}, at half rate"
        yield warning(what, node.name, cures.bring_home(other), key="half-unused")
    elif not other.up:
        what = f"only half {attachment.half} of {port} is Up: {carrying}, at half rate"
        yield warning(
            what, node.name, cures.bring_up(other, attachment.interface.mtu), key="half-unused"
        )
    elif not own and (other.interface.master or devices.above(node, other.netdev)):
        top = next(
            iter(devices.above(node, other.netdev)), Interface(other.interface.master, 0, up=False)
        )
        what = f"{other.netdev} belongs to {devices.interface_title(top)}: {carrying}, at half rate"
        cure = f"`ip -d link show {top.name}`; both halves carry traffic if each has its own subnet"
        yield warning(what, node.name, cure, key="half-unused")
    elif not own:
        what = f"{other.netdev} is Up but has no IPv4 address: {carrying}, at half rate"
        yield warning(
            what, node.name, address_for_twin(nodes, rank, attachment, other), key="half-unused"
        )
    elif own.network.overlaps(attachment.network):
        which = "both carry traffic, as set" if both else f"{carrying}, at half rate"
        names = f"{name} {attachment.address} and {own.interface.name} {own.address}"
        what = f"the halves of {port} share a subnet ({names}): {which}"
        cure = address_for_twin(nodes, rank, attachment, other)
        yield warning(what, node.name, cure, key="halves-share-subnet")
    elif not both and own.interface.mtu != attachment.interface.mtu:
        what = f"{own.interface.name} has MTU {own.interface.mtu}, {name} has "
        what += f"{attachment.interface.mtu}: {carrying}, at half rate"
        beneath = [other.interface, *([own.interface] if own.upper else [])]
        yield warning(
            what, node.name, cures.set_mtu(beneath, attachment.interface.mtu), key="half-unused"
        )
    elif not both and one_subnet(nodes, own):
        # Its MTU or carrier on another node keeps it out, and is reported there.
        return
    elif not both:
        what = f"{own.interface.name} {own.address} is not in one subnet with this half elsewhere"
        cure = address_for_twin(nodes, rank, attachment, other)
        yield warning(f"{what}: {carrying}", node.name, cure, key="half-unused")


def one_subnet(nodes: Sequence[NodeFacts], own: Attachment) -> bool:
    """Whether every node has the same half in this subnet."""
    return all(
        any(s.network == own.network and s.half == own.half for s in qsfp_attachments(n, rdma=True))
        for n in nodes
    )


def address_for_twin(
    nodes: Sequence[NodeFacts], rank: int, attachment: Attachment, other: RdmaPort
) -> str:
    """An address for the half that is not the rendezvous, with the MTU of the one that is."""
    address = cures.free_address(nodes, rank, other)
    return replace(address, mtu=attachment.interface.mtu).command


def management_warnings(nodes: Sequence[NodeFacts], rendezvous: Attachments) -> Iterator[Finding]:
    """Warnings about a rendezvous off the QSFP ports, for nodes that would also meet without the
    setting. A ring of cables has no other way."""
    for node, attachment in zip(nodes, rendezvous, strict=True):
        if not attachment.port:
            name = attachment.interface.name
            what = f"{name}, as set, is not a QSFP port: only the rendezvous uses it"
            yield warning(
                what,
                node.name,
                "leave address and nccl_socket_ifname out, on all nodes",
                key="rendezvous-off-fabric",
            )


def shared_subnet_warnings(
    nodes: Sequence[NodeFacts], rendezvous: Attachments, twins: Attachments
) -> Iterator[Finding]:
    """A half whose subnet another network of the node has too: the kernel chooses between them."""
    for rank, (node, attachment) in enumerate(zip(nodes, rendezvous, strict=True)):
        carrying = (attachment, *twins[rank : rank + 1])
        pairs = [(own, other) for own in carrying for other in management_attachments(node)]
        for own, other in pairs:
            if own.port and own.network.overlaps(other.network) and own != other:
                names = f"{other.interface.name} {other.address} and {own.interface.name} "
                names += f"{own.address} share a subnet"
                yield warning(
                    f"{names}: what goes to the other nodes may take the slower way",
                    node.name,
                    own_subnet(nodes, rank, rendezvous if own == attachment else twins),
                    key="subnet-shared",
                )


def own_subnet(nodes: Sequence[NodeFacts], rank: int, halves_in_use: Attachments) -> str:
    """The command that takes a node's half out of a subnet that another network has.

    It moves to the subnet of the other nodes' halves; if that is no way out, the halves of all
    nodes move.
    """
    own = halves_in_use[rank]
    assert own.port
    address = replace(cures.free_address(nodes, rank, own.port), mtu=own.interface.mtu)
    others = {a.network for i, a in enumerate(halves_in_use) if i != rank}
    if others <= {address.value.network}:
        return address.command
    moved = cures.fresh_addresses(nodes, [a.port for a in halves_in_use])
    return "; ".join(
        f"on {node.name}: {replace(new, mtu=own.interface.mtu).command}"
        for node, new in zip(nodes, moved, strict=True)
        if new
    )


def link_warnings(
    nodes: Sequence[NodeFacts], rendezvous: Attachments, ports: Sequence[Sequence[RdmaPort]]
) -> Iterator[Finding]:
    """Halves that carry traffic below their rate, or in small frames."""
    for node, attachment, mine in zip(nodes, rendezvous, ports, strict=True):
        for port in mine:
            if port.rate_gbps < FULL_RATE:
                what = f"{port.hca} runs at {port.rate_gbps:g} Gb/s, not {FULL_RATE:g}"
                cure = f"reseat or replace the cable; `sudo ethtool {port.netdev}` shows its speed"
                yield warning(what, node.name, cure, key="link-slow")
            if port.interface.mtu < cures.JUMBO:
                what = f"{port.netdev} has MTU {port.interface.mtu}: RDMA packets stay small"
                over = (
                    [attachment.interface] if attachment.upper and port in attachment.ports else []
                )
                wanted = [port.interface, *over]
                cure = f"on all nodes at once: {cures.set_mtu(wanted, cures.JUMBO)}"
                yield warning(what, node.name, cure, key="mtu-small")


def slower_over_tcp(names: str, refusal: Finding | None) -> Finding:
    """The warning about rdma=off.

    + refusal: why RDMA can't be used as the nodes are; None where it can
    """
    what = f"rdma=off: NCCL runs over TCP on {names}, 10-20 times slower than RDMA"
    if refusal:
        first = f"{refusal.where}: {refusal.what}" if refusal.where else refusal.what
        return warning(what, "", f"RDMA needs this first: {first}", key="rdma-off")
    return warning(
        what, "", "leave rdma out, or `--data rdma=auto`, to use the HCAs", key="rdma-off"
    )
