"""The environment that binds NCCL, gloo, UCX and SGLang to the chosen fabric."""

from __future__ import annotations

from cluster.fabric.seats import Seat
from cluster.fabric.wishes import NodeOverrides
from cluster.node.readings import NodeFacts


def environment(
    node: NodeFacts, seat: Seat, hcas: tuple[str, ...], nodes: int, wish: NodeOverrides
) -> dict[str, str]:
    """One node's variables; `hcas` is () over TCP, `nodes` the size of the group.

    Never set: NCCL_IB_GID_INDEX, whose right value drifts (3, 4, another on each node) and which
    NCCL finds itself; NCCL_NET_GDR_LEVEL, as a Spark has no GPUDirect RDMA that it could tune.
    """
    interface = seat.interface.name
    # NCCL takes a name for the beginning of names: a half's would mean its VLANs too.
    longer = any(i.name.startswith(interface) and i.name != interface for i in node.interfaces)
    env = {
        "NCCL_IGNORE_CPU_AFFINITY": "1",
        "NCCL_SOCKET_IFNAME": wish.nccl_socket_ifname or ("=" if longer else "") + interface,
        "GLOO_SOCKET_IFNAME": wish.gloo_socket_ifname or interface,
        "TP_SOCKET_IFNAME": interface,
        # Without it SGLang may advertise another address, and two nodes freeze at start.
        "SGLANG_HOST_IP": str(seat.address.ip),
    }
    return env | (over_rdma(seat, hcas, nodes, wish) if hcas else over_tcp(interface))


def over_rdma(seat: Seat, hcas: tuple[str, ...], nodes: int, wish: NodeOverrides) -> dict[str, str]:
    env = {
        "NCCL_IB_DISABLE": "0",
        "NCCL_IB_HCA": wish.nccl_ib_hca or ",".join(hcas),
        "UCX_NET_DEVICES": ",".join(f"{hca}:1" for hca in hcas),
    }
    if seat.upper and {p.hca for p in seat.ports} >= set(hcas):
        # A half has GIDs of its own beside those of the bond or the VLAN over it: NCCL takes the
        # first one in this range (NCCL 2.21 and later).
        env["NCCL_IB_ADDR_RANGE"] = str(seat.network)
    # Three nodes may be cabled as a ring: each link its own subnet, each HCA one link.
    ring = {"NCCL_IB_SUBNET_AWARE_ROUTING": "1", "NCCL_IB_MERGE_NICS": "0"}
    return env | (ring if nodes >= 3 else {})


def over_tcp(interface: str) -> dict[str, str]:
    return {"NCCL_IB_DISABLE": "1", "UCX_NET_DEVICES": interface}
