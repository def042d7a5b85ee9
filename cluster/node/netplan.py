"""Addresses for both halves of the cabled port on every node, and why a node can't have them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from ipaddress import IPv4Interface, IPv4Network

from cluster.fabric import attachments, devices, problems
from cluster.findings import Finding, Refused, error, refuse_errors
from cluster.node.host import no_root
from cluster.node.readings import Interface, NodeFacts, RdmaPort, Shown

FILE = "/etc/netplan/40-spark-serving.yaml"
"""Ours alone; netplan merges its files in the order of their names."""
GUARD = "/run/spark-serving-network"
"""What a node needs to change back. In memory: a node that is switched off meanwhile keeps the new
file, and has no guard any more."""
DRIVER = "mlx5_core"
"""The kernel driver of a Spark's ConnectX-7."""


@dataclass(frozen=True)
class Claim(Shown):
    """A configuration file that names an interface.

    + word: an interface's name or MAC address, or a pattern for names ("en*")
    + driver: `word` is a pattern for kernel drivers
    """

    file: str
    word: str
    driver: bool = False

    def meets(self, port: RdmaPort) -> bool:
        if self.driver:
            return fnmatch(DRIVER, self.word)
        return fnmatch(port.netdev, self.word) or self.word.lower() == port.interface.mac.lower()


@dataclass(frozen=True)
class Setup(Shown):
    """How a node's network is set up, apart from its addresses.

    + netplan: whether the node has it
    + ssh: the interface of this SSH connection; "" where that is unknown
    + by_ssh: whether there is an SSH connection at all (@local has none)
    + routes: destination ("10.0.0.0/8", never the default route) and interface
    + claims: files other than ours that name interfaces
    + own: the text of our file, None where there is none
    + guarded: an earlier change waits for its confirmation, or is being undone
    + no_root: why the login can't become root, which it must; "" where it can
    """

    netplan: bool = True
    ssh: str = ""
    by_ssh: bool = True
    routes: tuple[tuple[str, str], ...] = ()
    claims: tuple[Claim, ...] = ()
    own: str | None = None
    guarded: bool = False
    no_root: str = ""


@dataclass(frozen=True)
class Half:
    """One half of the cabled port, as declared; `address` with its prefix ("192.168.100.1/24")."""

    netdev: str
    address: str
    mtu: int

    @property
    def ip(self) -> str:
        return self.address.partition("/")[0]


Halves = tuple[Half, ...]


def assign(
    nodes: Sequence[NodeFacts], networks: Sequence[str], mtu: int, hcas: Mapping[str, str]
) -> dict[str, Halves]:
    """Node name → its halves, rank order; Refused where the fabric does not allow it.

    + networks: one IPv4 network for each half; rank N has its address N + 1
    + hcas: node → the HCAs that its nccl_ib_hca names, comma between; "" leaves the choice to us
    """
    subnets = parse_networks(networks)
    ports = cabled(nodes, hcas)
    needed = max(len(mine) for mine in ports)
    if len(subnets) < needed:
        raise Refused(
            error(
                f"fabric_networks has {len(subnets)} network(s), and the port has {needed} halves",
                cure="name one network for each half, like 192.168.100.0/24 and 192.168.101.0/24",
                key="fabric-networks-count",
            )
        )
    refuse_errors(find_small_networks(subnets[:needed], len(nodes)))
    return {
        node.name: tuple(
            Half(port.netdev, f"{subnet[rank + 1]}/{subnet.prefixlen}", mtu)
            for port, subnet in zip(mine, subnets, strict=False)
        )
        for rank, (node, mine) in enumerate(zip(nodes, ports, strict=True))
    }


def parse_networks(networks: Sequence[str]) -> list[IPv4Network]:
    """The networks of the setting; Refused where one is none, or two overlap."""
    subnets = []
    for text in networks:
        try:
            subnets.append(IPv4Network(text))
        except ValueError as e:
            cure = f"did you mean {IPv4Interface(text).network}?"
            raise Refused(
                error(f"fabric_networks: {e}", cure=cure, key="fabric-networks-invalid")
            ) from e
    refuse_errors(
        error(
            f"fabric_networks: {a} and {b} overlap",
            cure="each half needs a subnet of its own",
            key="fabric-networks-overlap",
        )
        for i, a in enumerate(subnets)
        for b in subnets[:i]
        if a.overlaps(b)
    )
    return subnets


def find_small_networks(subnets: Sequence[IPv4Network], nodes: int) -> Iterator[Finding]:
    for subnet in subnets:
        # The first address is the network's own, the last one its broadcast address.
        room = max(subnet.num_addresses - 2, 0)
        if room < nodes:
            what = f"fabric_networks: {subnet} has addresses for {room} nodes, there are {nodes}"
            yield error(
                what,
                cure=f"take a larger one, like {subnet.network_address}/24",
                key="fabric-networks-small",
            )


def cabled(nodes: Sequence[NodeFacts], hcas: Mapping[str, str]) -> list[list[RdmaPort]]:
    """Both halves of the cabled port on every node: one port number on all where that is possible.

    A half may be down, or without an address: this is what gives it one. Half A first.
    """
    named = [set(filter(None, hcas.get(n.name, "").split(","))) for n in nodes]
    ups = [
        {p.qsfp for p in node.rdma if p.up and (p.hca in mine or not mine)}
        for node, mine in zip(nodes, named, strict=True)
    ]
    refuse_errors(no_cable(node) for node, mine in zip(nodes, ups, strict=True) if not mine)
    common = set.intersection(*ups)
    return [
        [p for p in attachments.halves(node) if p.qsfp == min(common or mine)]
        for node, mine in zip(nodes, ups, strict=True)
    ]


def no_cable(node: NodeFacts) -> Finding:
    if why := node.unread.get("rdma") or node.unread.get("interfaces"):
        return error(
            f"the RDMA ports could not be read: {why}",
            node.name,
            "ip -j addr",
            key="rdma-unreadable",
        )
    if not node.rdma:
        return error(
            "no RDMA port exists", node.name, "ls /sys/class/infiniband", key="no-rdma-port"
        )
    states = ", ".join(problems.port_state(p) for p in attachments.halves(node))
    cure = "plug the QSFP cable in at both ends, `sudo ip link set dev … up`, and see ibdev2netdev"
    return error(f"no QSFP port is Up: {states}", node.name, cure, key="no-cable")


def network_objections(
    node: NodeFacts, setup: Setup, wanted: Halves, by_hand: bool = False
) -> Iterator[Finding]:
    """Why a node can't have these halves; nothing where it can.

    + by_hand: the node is this very machine, which needs no SSH
    """
    if setup.no_root:
        yield no_root(node.name, setup.no_root)
        return
    ours = {half.netdev for half in wanted}
    if setup.guarded:
        what = "an earlier run failed or is still going: the node will revert soon"
        yield error(
            what, node.name, "wait three minutes, then run this again", key="network-guarded"
        )
    if not setup.netplan:
        yield error(
            "there is no netplan", node.name, "sudo apt-get install netplan.io", key="no-netplan"
        )
    if setup.ssh in ours:
        what = f"SSH comes in by {setup.ssh}, part of the cabled port: it is never changed"
        yield error(
            what, node.name, "reach the node by its management address", key="ssh-over-fabric"
        )
    elif not setup.ssh and (setup.by_ssh or not by_hand):
        what = "the interface that SSH uses is unknown, and that one must not be touched"
        yield error(what, node.name, "echo $SSH_CONNECTION; ip addr", key="ssh-interface-unknown")
    for netdev in sorted(ours - {i.name for i in node.interfaces}):
        what = f"{netdev} is in another network namespace: no address can be given to it"
        yield error(what, node.name, "ip netns", key="interface-other-namespace")
    yield from find_taken_addresses(node, setup, wanted)
    for interface in (i for i in node.interfaces if i.name in ours):
        yield from in_other_use(node, interface)
    ports = [port for port in node.rdma if port.netdev in ours]
    for claim in dict.fromkeys(c for c in setup.claims for p in ports if c.meets(p)):
        names = ", ".join(sorted(p.netdev for p in ports if claim.meets(p)))
        cure = (
            f"take {names} out of {claim.file} (`sudo rm {claim.file}` where it has nothing else)"
        )
        yield error(
            f"{claim.file} already configures {names}", node.name, cure, key="interface-configured"
        )


def in_other_use(node: NodeFacts, interface: Interface) -> Iterator[Finding]:
    """A half that belongs to a bond, a bridge or a VRF: an address of its own is of no use."""
    if not interface.master:
        return
    by_name = {i.name: i for i in node.interfaces}
    top = by_name.get(interface.master)
    whole = devices.interface_title(top) if top else interface.master
    what = f"{interface.name} belongs to {whole}: it gets no address of its own"
    cure = f"leave it if {whole} is to carry the fabric: deploys/check.py says whether it does"
    yield error(
        what,
        node.name,
        f"{cure}; else take {interface.name} out of it first",
        key="interface-beneath-another",
    )


def find_taken_addresses(node: NodeFacts, setup: Setup, wanted: Halves) -> Iterator[Finding]:
    """Findings for declared networks that overlap with the node's other interfaces or routes."""
    ours = {half.netdev for half in wanted}
    held = [(a, i.name) for i in node.interfaces for a in i.ipv4] + list(setup.routes)
    for half in wanted:
        network = IPv4Interface(half.address).network
        for where, netdev in held:
            if netdev not in ours and IPv4Interface(where).network.overlaps(network):
                what = f"fabric_networks: {network} overlaps with {where} of {netdev}"
                cure = "choose networks that nothing else uses: --data 'fabric_networks=[…]'"
                yield error(what, node.name, cure, key="fabric-networks-overlap")
                break


def address_changes(node: NodeFacts, setup: Setup, wanted: Halves, text: str) -> Iterator[str]:
    """What differs on a node from the declared halves, a line each.

    + text: of our file, as declared
    """
    if setup.own is None:
        yield f"{FILE} is not there"
    elif setup.own.rstrip("\n") != text.rstrip("\n"):
        yield f"{FILE} differs"
    interfaces = {i.name: i for i in node.interfaces}
    for half in wanted:
        interface = interfaces[half.netdev]
        now = attachments.primary(interface)
        if str(now) != half.address:
            yield f"{half.netdev}: {now or 'no address'} -> {half.address}"
        if interface.mtu != half.mtu:
            yield f"{half.netdev}: MTU {interface.mtu} -> {half.mtu}"


def in_use(nodes: Sequence[NodeFacts]) -> Iterator[Finding]:
    """Ranks of ours that run over the addresses that would change."""
    for node in nodes:
        if why := node.unread.get("ranks"):
            yield error(
                f"its ranks could not be read: {why}",
                node.name,
                "docker ps",
                key="ranks-unreadable",
            )
        for rank in node.ranks:
            if rank.label is not None and rank.alive:
                what = f"{rank.name} is {rank.status}, and its addresses would change"
                stop = "pyinfra -y INVENTORY deploy.py --data state=stopped"
                yield error(what, node.name, stop, key="ranks-running")


def ping_arguments(wanted: Mapping[str, Halves], node: str) -> tuple[str, ...]:
    """What a node must reach: interface, a peer's address and the MTU, three words for each."""
    return tuple(
        word
        for peer, theirs in wanted.items()
        if peer != node
        for mine, other in zip(wanted[node], theirs, strict=False)
        for word in (mine.netdev, other.ip, str(mine.mtu))
    )


def unanswered_pings(
    wanted: Mapping[str, Halves], node: str, lines: Sequence[str]
) -> Iterator[Finding]:
    """Findings about peers that did not answer; one line is "enp1s0f1np1 192.168.100.2 9000"."""
    names = {half.ip: f"{peer} {half.netdev}" for peer, h in wanted.items() for half in h}
    for netdev, address, mtu in (line.split() for line in lines):
        # IPv4's and ICMP's headers are 28 bytes.
        size = int(mtu) - 28
        what = f"{address} ({names[address]}) does not answer a ping of {size} bytes from {netdev}"
        cure = f"ping -M do -s {size} -I {netdev} {address}, and look at cable, switch and its MTU"
        yield error(what, node, cure, key="peer-unreachable")
