"""Sparks as the fabric's tests cable them; and any cabling, for properties."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st

from cluster.fabric import Fabric, FabricOptions, NodeOverrides, choose_fabric
from cluster.findings import Level, Refused
from cluster.node.readings import Interface, NodeFacts, RdmaPort

NETDEV = {
    (0, "A"): ("enp1s0f0np0", "rocep1s0f0", "0000:01:00.0"),
    (1, "A"): ("enp1s0f1np1", "rocep1s0f1", "0000:01:00.1"),
    (0, "B"): ("enP2p1s0f0np0", "roceP2p1s0f0", "0002:01:00.0"),
    (1, "B"): ("enP2p1s0f1np1", "roceP2p1s0f1", "0002:01:00.1"),
}


def port(
    number: int,
    half: str,
    *ipv4: str,
    up: bool = True,
    mtu: int = 9000,
    rate: float = 200.0,
    state: str = "",
) -> RdmaPort:
    netdev, hca, pci = NETDEV[number, half]
    state = state or ("ACTIVE" if up else "DOWN")
    phys = "LinkUp" if up else "Disabled"
    return RdmaPort(hca, Interface(netdev, mtu, up, "", ipv4), pci, number, half, state, phys, rate)


def node(name: str, *ports: RdmaPort, lan: str = "", wifi: str = "") -> NodeFacts:
    """A Spark: all four halves, those not given Down; `lan` and `wifi` are management."""
    given = {(p.qsfp, p.half): p for p in ports}
    rdma = tuple(given.get(key) or port(*key, up=False) for key in NETDEV)
    management = (
        Interface("lo", 65536, False, "", ("127.0.0.1/8",)),
        Interface("docker0", 1500, True, "", ("172.17.0.1/16",)),
        Interface("veth1", 1500, True, "", ("172.19.0.1/16",)),
        Interface("wlP9s9", 1500, bool(wifi), "", (wifi,) if wifi else ()),
        Interface("enP7s7", 1500, bool(lan), "", (lan,) if lan else ()),
    )
    return NodeFacts(name, rdma=rdma, interfaces=(*management, *(p.interface for p in rdma)))


def pair(rank: int, **settings: object) -> tuple[RdmaPort, RdmaPort]:
    """Both halves of port 1, each in its own subnet."""
    a = port(1, "A", f"192.168.100.{10 + rank}/24", **settings)  # type: ignore[arg-type]
    b = port(1, "B", f"192.168.101.{10 + rank}/24", **settings)  # type: ignore[arg-type]
    return a, b


def sparks(count: int = 2) -> list[NodeFacts]:
    return [
        node(f"spark-{i + 1}", *pair(i), lan=f"10.0.0.{i + 1}/24", wifi=f"10.9.0.{i + 1}/24")
        for i in range(count)
    ]


def refused(nodes: list[NodeFacts], wishes: FabricOptions | None = None) -> str:
    with pytest.raises(Refused) as refusal:
        choose_fabric(nodes, wishes)
    assert all(f.cure and f.level is Level.ERROR for f in refusal.value.findings)
    return str(refusal.value)


def warnings(fabric: Fabric) -> str:
    assert all(f.level is Level.WARNING and f.cure for f in fabric.findings)
    return "\n".join(map(str, fabric.findings))


def by_node(**wishes: NodeOverrides) -> FabricOptions:
    return FabricOptions(by_node={k.replace("_", "-"): v for k, v in wishes.items()})


HOSTS = st.builds(
    "{}.{}/{}".format,
    st.sampled_from(["10.0.0", "10.0.1", "169.254.1", "192.168.7"]),
    st.integers(1, 250),
    st.sampled_from([16, 24, 24, 24]),
)


IPV4 = st.lists(HOSTS, max_size=2).map(tuple)


@st.composite
def any_port(draw: st.DrawFn, number: int, half: str) -> RdmaPort:
    up = draw(st.sampled_from([True, True, True, False]))
    state = draw(st.sampled_from(["", "", "", "DOWN", "ARMED"]))
    mtu, rate = draw(st.sampled_from([9000, 9000, 9000, 1500])), draw(st.sampled_from([100, 200]))
    ipv4 = draw(IPV4)
    return port(number, half, *ipv4, up=up, state=state, mtu=mtu, rate=float(rate))


@st.composite
def any_node(draw: st.DrawFn, name: str) -> NodeFacts:
    keys = draw(st.sets(st.sampled_from(sorted(NETDEV)), min_size=1))
    ports = [draw(any_port(*key)) for key in sorted(keys)]
    wifi = draw(HOSTS | st.just(""))
    return node(name, *ports, lan=draw(HOSTS | st.just("")), wifi=wifi)


@st.composite
def tidy_node(draw: st.DrawFn, rank: int) -> NodeFacts:
    """A node set up with care, but for its port, its halves and the subnets of these."""
    number, third = draw(st.integers(0, 1)), draw(st.sampled_from([100, 101]))
    a = port(number, "A", f"192.168.100.{rank + 10}/24", up=draw(st.booleans()))
    b = port(number, "B", f"192.168.{third}.{rank + 110}/24")
    return node(f"s{rank}", a, b, lan=f"10.0.0.{rank + 1}/24")


@st.composite
def any_nodes(draw: st.DrawFn) -> list[NodeFacts]:
    count = draw(st.integers(1, 6))
    tidy = draw(st.booleans())
    return [draw(tidy_node(i) if tidy else any_node(f"s{i}")) for i in range(count)]


WISHES = st.builds(
    FabricOptions,
    st.sampled_from(["auto", "on", "off"]),
    st.sampled_from(["auto", "both", "first"]),
)
