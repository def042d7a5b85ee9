"""What `env` says of NCCL, UCX and SGLang beside the settings: checked as these are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_address, ip_network

from cluster.fabric.devices import every_interface
from cluster.fabric.seats import Seat, primary
from cluster.fabric.wishes import hca_list
from cluster.findings import Finding, error, warning
from cluster.node.readings import NodeFacts, RdmaPort

MEETING = ("MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE", "LOCAL_RANK", "NODE_RANK", "NNODES")
"""torchrun's and other launchers' names: SGLang meets at its own --dist-init-addr."""
FOREIGN = {
    "VLLM_HOST_IP": "the setting address",
    "OMPI_MCA_btl_tcp_if_include": "the setting nccl_socket_ifname",
    "OMPI_MCA_oob_tcp_if_include": "the setting nccl_socket_ifname",
    "NVSHMEM_BOOTSTRAP_UID_SOCK_IFNAME": "the setting nccl_socket_ifname",
    "RAY_ADDRESS": "the inventory",
}
"""Names of other programs, and what says the same here."""


def wrong_transport(node: NodeFacts, env: Mapping[str, str], *, rdma: bool) -> Iterator[Finding]:
    """Names that turn RDMA on or off against the setting rdma."""
    off = {"NCCL_IB_DISABLE": "1", "NCCL_NET": "Socket"}
    on = {"NCCL_IB_DISABLE": "0", "NCCL_NET": "IB"}
    for name in ("NCCL_IB_DISABLE", "NCCL_NET"):
        value = env.get(name, "").strip()
        wrong = off[name] if rdma else on[name]
        if value.lower() == wrong.lower():
            now, other = ("auto", "off") if rdma else ("off", "auto")
            what = f"env {name} = {value!r} contradicts rdma = {now!r}"
            cure = f"remove {name} from env; use `--data rdma={other}`"
            yield error(what, node.name, cure)
        elif name == "NCCL_NET" and value.lower() not in ("", "ib", "socket"):
            what = f"env NCCL_NET = {value!r} names a plugin that the image must contain"
            yield warning(what, node.name, "remove NCCL_NET from env: NCCL chooses by itself")
    if env.get("NCCL_SOCKET_FAMILY", "").strip() == "AF_INET6":
        what = "env NCCL_SOCKET_FAMILY = 'AF_INET6' contradicts the fabric's IPv4 addresses"
        yield error(what, node.name, "remove NCCL_SOCKET_FAMILY from env")


def wrong_names(node: NodeFacts, env: Mapping[str, str], *, rdma: bool) -> Iterator[Finding]:
    """Names of interfaces and HCAs that this node does not have, or that have no address."""
    there = {i.name: i for i in every_interface(node)}
    ports = {p.hca: p for p in node.rdma}
    for name in ("TP_SOCKET_IFNAME", "SGLANG_LOCAL_IP_NIC"):
        value = env.get(name, "").strip()
        cure = f"remove {name} from env: SGLang's address comes from the setting address"
        if value and value not in there:
            what = f"env {name} {value!r} does not exist here; available: {', '.join(there)}"
            yield error(what, node.name, cure)
        elif value and not primary(there[value]):
            yield error(f"env {name} {value!r} has no IPv4 address", node.name, cure)
    devices = env.get("UCX_NET_DEVICES", "").strip()
    if devices in ("", "all"):
        return
    cure = "remove UCX_NET_DEVICES from env: it follows the setting nccl_ib_hca"
    for word in hca_list(devices).words:
        if word not in ports and word not in there:
            known = ", ".join([*sorted(ports), *there])
            what = f"env UCX_NET_DEVICES {word!r} does not exist here; available: {known}"
            yield error(what, node.name, cure)
        elif rdma and word in ports and not ports[word].up:
            what = f"env UCX_NET_DEVICES {word!r} is {ports[word].state}, not ACTIVE"
            yield error(what, node.name, cure)


def wrong_gids(
    node: NodeFacts, env: Mapping[str, str], seat: Seat, ports: Sequence[RdmaPort]
) -> Iterator[Finding]:
    """A GID index or range that the HCAs in use don't have."""
    index = env.get("NCCL_IB_GID_INDEX", "").strip()
    known = [p for p in ports if p.gids]
    lacking = [p.hca for p in known if index not in {str(g.index) for g in p.gids}]
    cure = "remove NCCL_IB_GID_INDEX from env: NCCL finds the GID by itself"
    if index and index != "-1" and lacking:
        shown = ", ".join(f"{g.index} ({g.address})" for p in known for g in p.gids)
        what = f"env NCCL_IB_GID_INDEX = {index!r} is not an IPv4 RoCE v2 GID of {lacking[0]}"
        yield error(f"{what}; available: {shown}", node.name, cure)
    elif index and index != "-1":
        what = f"env NCCL_IB_GID_INDEX = {index!r}: the right index differs by node and can change"
        yield warning(what, node.name, cure)
    span = env.get("NCCL_IB_ADDR_RANGE", "").strip()
    try:
        outside = (
            bool(span)
            and seat.upper
            and ip_address(str(seat.address.ip)) not in ip_network(span, strict=False)
        )
    except ValueError:
        outside = True
    if outside:
        what = f"env NCCL_IB_ADDR_RANGE = {span!r} does not contain {seat.address.ip}"
        yield error(what, node.name, "remove NCCL_IB_ADDR_RANGE from env")


def without_effect(node: NodeFacts, env: Mapping[str, str]) -> Iterator[Finding]:
    """Names that nothing here reads, or that a setting says better."""
    for name in (n for n in MEETING if n in env):
        what = f"env {name} has no effect: the ranks connect to the head's address and dist_port"
        cure = f"remove {name} from env; use the settings address and dist_port"
        yield warning(what, node.name, cure)
    for name in (n for n in FOREIGN if n in env):
        what = f"env {name} has no effect on SGLang"
        yield warning(what, node.name, f"remove it from env; use {FOREIGN[name]}")
    if "NCCL_DEBUG" in env:
        what = f"env NCCL_DEBUG = {env['NCCL_DEBUG']!r} overrides the setting nccl_debug"
        yield warning(what, node.name, "remove it from env, and set nccl_debug")
