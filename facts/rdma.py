"""RDMA ports, read from sysfs: no ibdev2netdev, ibv_devinfo or rdma tool is needed."""

import re
from ipaddress import IPv6Address

from cluster.command import load_script
from cluster.node.readings import Gid, Interface, RdmaPort
from facts import fact, network

WALK = load_script(__file__, "scripts/rdma.sh")


class RdmaPorts(fact.Fact[list[RdmaPort]]):
    """Port 1 of every RDMA device on PCI, twins side by side, ordered by (qsfp, half).

    [] where the machine has none.
    """

    default = staticmethod(list[RdmaPort])

    def command(self) -> str:
        return f'{WALK}\n{network.SBIN}; [ ! -d "$hca" ] || {network.ADDRESSES}'

    def parse(self, output: list[str]) -> list[RdmaPort]:
        """`output`: the lines of WALK, then those of `ip -j -d addr`."""
        walked = [line for line in output if re.match(r"[a-z_]+ ", line)]
        addresses = [line for line in output if not re.match(r"[a-z_]+ ", line)]
        interfaces = (
            {i.name: i for i in network.Interfaces().process(addresses)} if addresses else {}
        )
        devices: list[dict[str, list[str]]] = []
        for line in walked:
            key, _, value = line.partition(" ")
            if key == "hca":
                devices.append({})
            if devices:
                devices[-1].setdefault(key, []).append(value)
        ports = [_port(device, interfaces) for device in devices if "pci" in device]
        return sorted(ports, key=lambda port: (port.qsfp, port.half, port.hca))


def _port(device: dict[str, list[str]], interfaces: dict[str, Interface]) -> RdmaPort:
    def first(key: str) -> str:
        return device.get(key, [""])[0]

    pci = first("pci")
    netdev = first("netdev") or first("ndev")
    gids = (value.partition(" ")[::2] for value in device.get("gid", ()))
    mapped = ((fact.count(index), IPv6Address(gid).ipv4_mapped) for index, gid in gids)
    return RdmaPort(
        hca=first("hca"),
        # An interface that was moved to another network namespace is not in `ip addr`.
        interface=interfaces.get(netdev) or Interface(netdev, mtu=0, up=False),
        pci=pci,
        qsfp=int(pci.rpartition(".")[2], 16),
        half="A" if pci.startswith("0000:") else "B",
        state=_word(first("state")),
        phys_state=_word(first("phys_state")),
        rate_gbps=fact.decimal((first("rate").split() or ["0"])[0]),
        link_layer=first("link_layer"),
        # Those that hold an IPv4 address.
        gids=tuple(sorted((Gid(i, str(ip)) for i, ip in mapped if ip), key=lambda g: g.index)),
    )


def _word(numbered: str) -> str:
    """ "4: ACTIVE" → "ACTIVE"."""
    return numbered.rpartition(": ")[2]
