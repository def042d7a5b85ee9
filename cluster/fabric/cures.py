"""Commands that repair a node's fabric. Those for netplan survive a reboot, in 40-cx7.yaml."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv4Network
from itertools import chain

from cluster.fabric import attachments, devices
from cluster.node.readings import Interface, NodeFacts, RdmaPort

BOTH = "pyinfra -y INVENTORY deploys/network.py"
"""Addresses and MTU for both halves of the cabled port, on all nodes at once."""
SUBNETS = {"A": "192.168.100.0/24", "B": "192.168.101.0/24"}
"""The vendor's playbook gives each half of the cabled port one of these subnets."""
FIRST = 10
"""… and the head .10 in them, the next node .11."""
JUMBO = 9000
"""MTU that gives RoCE its 4096-byte packets; at 1500 the HCA's active_mtu is 1024."""


@dataclass(frozen=True)
class Address:
    """An address that a half can have without a conflict: no node has it, and only the same half of
    other nodes may be in its subnet."""

    port: RdmaPort
    rank: int
    value: IPv4Interface
    mtu: int

    @property
    def command(self) -> str:
        settings = f"{{addresses: [{self.value}], link-local: [], mtu: {self.mtu}}}"
        by_hand = netplan(self.port.interface, settings)
        return f"{BOTH}, or by hand {by_hand} (each half its own subnet, the same on all nodes)"


def free_address(
    nodes: Sequence[NodeFacts], rank: int, port: RdmaPort, wanted: IPv4Network | None = None
) -> Address:
    """An address for one half on the node of this rank.

    In the wanted subnet, or the one of the same half on the other nodes, if no other interface is
    in it; else in the playbook's, or the next unused one.
    """
    same = [
        (a.network, p)
        for i, n in enumerate(nodes)
        for p in attachments.halves(n)
        if p.half == port.half and p.up and i != rank and (a := attachments.primary(p.interface))
    ]
    taken = []  # the subnets of everything but this half, on any node
    for i, node in enumerate(nodes):
        halves_up = {p.netdev for p in node.rdma if p.half == port.half and p.up}
        for interface in devices.every_interface(node):
            if interface.name not in halves_up or (i == rank and interface.name != port.netdev):
                taken += [a.network for a in _addresses(interface)]
    counted = Counter(network for network, _ in same).most_common()
    used = [network for network, _ in sorted(counted, key=lambda c: (-c[1], c[0]))]
    mtus = Counter(p.interface.mtu for _, p in same).most_common(1)
    held = {a.ip for n in nodes for i in devices.every_interface(n) for a in _addresses(i)}
    for network in (*filter(None, [wanted]), *used, *_fresh(port.half)):
        host = next((h for h in _hosts(network, rank, len(nodes)) if h.ip not in held), None)
        if host and not any(t.overlaps(network) for t in taken):
            return Address(port, rank, host, mtus[0][0] if mtus else JUMBO)
    raise AssertionError("a node cannot use every private network")


def fresh_addresses(
    nodes: Sequence[NodeFacts], ports: Sequence[RdmaPort | None]
) -> list[Address | None]:
    """One half of each node in one subnet that nothing uses; None for a node that gets none."""
    taken = [a.network for n in nodes for i in devices.every_interface(n) for a in _addresses(i)]
    half = next((p.half for p in ports if p), "A")
    network = next(f for f in _fresh(half) if not any(t.overlaps(f) for t in taken))
    return [
        Address(port, rank, IPv4Interface(f"{network[FIRST + rank]}/24"), JUMBO) if port else None
        for rank, port in enumerate(ports)
    ]


def _addresses(interface: Interface) -> list[IPv4Interface]:
    return [IPv4Interface(a) for a in interface.ipv4 if ":" not in a]


def _fresh(half: str) -> Iterator[IPv4Network]:
    yield IPv4Network(SUBNETS.get(half, SUBNETS["A"]))
    step = 0 if half == "A" else 1
    yield from (IPv4Network(f"192.168.{third + step}.0/24") for third in range(102, 254, 2))
    yield from (IPv4Network(f"10.{second}.{step}.0/24") for second in range(100, 250))


def _hosts(network: IPv4Network, rank: int, nodes: int) -> Iterator[IPv4Interface]:
    """A subnet's addresses for this rank: no other rank is offered any of them."""
    last = network.num_addresses - 1
    # A short prefix has billions, so they are generated one by one.
    near = range(FIRST + rank, min(last, 1 << 12), nodes)
    for offset in chain(near, range(1 + rank, last, nodes)):
        if 0 < offset < last:
            yield IPv4Interface(f"{network[offset]}/{network.prefixlen}")
        if offset > 1 << 12:
            return


def netplan(interface: Interface, settings: str) -> str:
    section = devices.SECTIONS.get(interface.kind, "ethernets")
    wanted = f"'{section}.{interface.name}={settings}'"
    return f"sudo netplan set --origin-hint 40-cx7 {wanted} && sudo netplan apply"


def set_mtu(interfaces: Iterable[Interface], mtu: int) -> str:
    """Set the MTU of interfaces, lowest first: a device can't have more than those below it."""
    there = list(interfaces)
    now = " && ".join(f"sudo ip link set dev {i.name} mtu {mtu}" for i in there)
    keep = "; ".join(
        "sudo netplan set --origin-hint 40-cx7 "
        f"{devices.SECTIONS.get(i.kind, 'ethernets')}.{i.name}.mtu={mtu}"
        for i in there
    )
    return f"{now}; to keep it: {keep}"


def bring_up(port: RdmaPort, mtu: int) -> str:
    """Bring a half up with the MTU of the half that works: halves of different MTU are refused."""
    name = port.netdev
    up = f"sudo ip link set dev {name} up && sudo ip link set dev {name} mtu {mtu}"
    return f"{up}; see `ibdev2netdev` and `rdma link`"


def bring_home(port: RdmaPort) -> str:
    """Return an interface that is in another network namespace (a container, `ip netns`)."""
    name = port.netdev or "NAME"
    back = f"sudo ip netns exec NAMESPACE ip link set dev {name} netns 1"
    return f"`ip netns list` shows the namespaces; {back} returns it, without its address"
