"""The variables that bind NCCL, gloo, UCX and SGLang to the fabric, and what `env` gets wrong."""

from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_address, ip_network

from cluster.fabric.attachments import Attachment, primary
from cluster.fabric.devices import every_interface
from cluster.fabric.overrides import NodeOverrides, hca_list
from cluster.findings import Finding, error, warning
from cluster.node.readings import NodeFacts, RdmaPort

MEETING = ("MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE", "LOCAL_RANK", "NODE_RANK", "NNODES")
"""Names that torchrun and other launchers read. SGLang's ranks meet at --dist-init-addr."""
FOREIGN = {
    "VLLM_HOST_IP": "the setting address",
    "OMPI_MCA_btl_tcp_if_include": "the setting nccl_socket_ifname",
    "OMPI_MCA_oob_tcp_if_include": "the setting nccl_socket_ifname",
    "NVSHMEM_BOOTSTRAP_UID_SOCK_IFNAME": "the setting nccl_socket_ifname",
    "RAY_ADDRESS": "the inventory",
}
"""Names that other programs read, and what to use here instead."""


def environment(
    node: NodeFacts,
    attachment: Attachment,
    hcas: tuple[str, ...],
    nodes: int,
    overrides: NodeOverrides,
) -> dict[str, str]:
    """One node's variables; `hcas` is () over TCP, `nodes` the size of the group.

    Never set: NCCL_IB_GID_INDEX, whose right value drifts (3, 4, another on each node) and which
    NCCL finds itself; NCCL_NET_GDR_LEVEL, as a Spark has no GPUDirect RDMA that it could tune.
    """
    interface = attachment.interface.name
    # NCCL takes a name as a prefix, so that a half's name would include its VLANs.
    longer = any(i.name.startswith(interface) and i.name != interface for i in node.interfaces)
    env = {
        "NCCL_IGNORE_CPU_AFFINITY": "1",
        "NCCL_SOCKET_IFNAME": overrides.nccl_socket_ifname or ("=" if longer else "") + interface,
        "GLOO_SOCKET_IFNAME": overrides.gloo_socket_ifname or interface,
        "TP_SOCKET_IFNAME": interface,
        # Without it SGLang may advertise another address, and two nodes freeze at start.
        "SGLANG_HOST_IP": str(attachment.address.ip),
    }
    if not hcas:
        return env | {"NCCL_IB_DISABLE": "1", "UCX_NET_DEVICES": interface}
    env |= {
        "NCCL_IB_DISABLE": "0",
        "NCCL_IB_HCA": overrides.nccl_ib_hca or ",".join(hcas),
        "UCX_NET_DEVICES": ",".join(f"{hca}:1" for hca in hcas),
    }
    if attachment.upper and {p.hca for p in attachment.ports} >= set(hcas):
        # A half has GIDs of its own besides those of the bond or VLAN on top of it: NCCL 2.21 and
        # later takes the first one in this range.
        env["NCCL_IB_ADDR_RANGE"] = str(attachment.network)
    # Three nodes may be cabled as a ring, in which each HCA has one link with its own subnet.
    if nodes >= 3:
        env |= {"NCCL_IB_SUBNET_AWARE_ROUTING": "1", "NCCL_IB_MERGE_NICS": "0"}
    return env


def wrong_transport(node: NodeFacts, env: Mapping[str, str], *, rdma: bool) -> Iterator[Finding]:
    """Findings on variables that contradict the setting rdma."""
    off = {"NCCL_IB_DISABLE": "1", "NCCL_NET": "Socket"}
    on = {"NCCL_IB_DISABLE": "0", "NCCL_NET": "IB"}
    for name in ("NCCL_IB_DISABLE", "NCCL_NET"):
        value = env.get(name, "").strip()
        wrong = off[name] if rdma else on[name]
        if value.lower() == wrong.lower():
            now, other = ("auto", "off") if rdma else ("off", "auto")
            what = f"env {name} = {value!r} contradicts rdma = {now!r}"
            cure = f"remove {name} from env; use `--data rdma={other}`"
            yield error(what, node.name, cure, key="env-transport")
        elif name == "NCCL_NET" and value.lower() not in ("", "ib", "socket"):
            what = f"env NCCL_NET = {value!r} names a plugin that the image must contain"
            yield warning(
                what,
                node.name,
                "remove NCCL_NET from env: NCCL chooses by itself",
                key="env-nccl-net",
            )
    if env.get("NCCL_SOCKET_FAMILY", "").strip() == "AF_INET6":
        what = "env NCCL_SOCKET_FAMILY = 'AF_INET6' contradicts the fabric's IPv4 addresses"
        yield error(what, node.name, "remove NCCL_SOCKET_FAMILY from env", key="env-transport")


def wrong_names(node: NodeFacts, env: Mapping[str, str], *, rdma: bool) -> Iterator[Finding]:
    """Errors on variables that name interfaces or HCAs that this node lacks, or without address."""
    there = {i.name: i for i in every_interface(node)}
    ports = {p.hca: p for p in node.rdma}
    for name in ("TP_SOCKET_IFNAME", "SGLANG_LOCAL_IP_NIC"):
        value = env.get(name, "").strip()
        cure = f"remove {name} from env: SGLang's address comes from the setting address"
        if value and value not in there:
            what = f"env {name} {value!r} does not exist here; available: {', '.join(there)}"
            yield error(what, node.name, cure, key="env-interface")
        elif value and not primary(there[value]):
            yield error(
                f"env {name} {value!r} has no IPv4 address", node.name, cure, key="env-interface"
            )
    devices = env.get("UCX_NET_DEVICES", "").strip()
    if devices in ("", "all"):
        return
    cure = "remove UCX_NET_DEVICES from env: it follows the setting nccl_ib_hca"
    for word in hca_list(devices).words:
        if word not in ports and word not in there:
            available = ", ".join([*sorted(ports), *there])
            what = f"env UCX_NET_DEVICES {word!r} does not exist here; available: {available}"
            yield error(what, node.name, cure, key="env-devices")
        elif rdma and word in ports and not ports[word].up:
            what = f"env UCX_NET_DEVICES {word!r} is {ports[word].state}, not ACTIVE"
            yield error(what, node.name, cure, key="env-devices")


def wrong_gids(
    node: NodeFacts, env: Mapping[str, str], attachment: Attachment, ports: Sequence[RdmaPort]
) -> Iterator[Finding]:
    """Findings on a GID index or address range that the HCAs in use don't have."""
    index = env.get("NCCL_IB_GID_INDEX", "").strip()
    with_gids = [p for p in ports if p.gids]
    lacking = [p.hca for p in with_gids if index not in {str(g.index) for g in p.gids}]
    cure = "remove NCCL_IB_GID_INDEX from env: NCCL finds the GID by itself"
    if index and index != "-1" and lacking:
        shown = ", ".join(f"{g.index} ({g.address})" for p in with_gids for g in p.gids)
        what = f"env NCCL_IB_GID_INDEX = {index!r} is not an IPv4 RoCE v2 GID of {lacking[0]}"
        yield error(f"{what}; available: {shown}", node.name, cure, key="env-gid")
    elif index and index != "-1":
        what = f"env NCCL_IB_GID_INDEX = {index!r}: the right index differs by node and can change"
        yield warning(what, node.name, cure, key="env-gid")
    span = env.get("NCCL_IB_ADDR_RANGE", "").strip()
    try:
        outside = (
            bool(span)
            and attachment.upper
            and ip_address(str(attachment.address.ip)) not in ip_network(span, strict=False)
        )
    except ValueError:
        outside = True
    if outside:
        what = f"env NCCL_IB_ADDR_RANGE = {span!r} does not contain {attachment.address.ip}"
        yield error(what, node.name, "remove NCCL_IB_ADDR_RANGE from env", key="env-gid")


def without_effect(node: NodeFacts, env: Mapping[str, str]) -> Iterator[Finding]:
    """Warnings on variables that nothing here reads, or that override a setting."""
    for name in (n for n in MEETING if n in env):
        what = f"env {name} has no effect: the ranks connect to the head's address and dist_port"
        cure = f"remove {name} from env; use the settings address and dist_port"
        yield warning(what, node.name, cure, key="env-without-effect")
    for name in (n for n in FOREIGN if n in env):
        what = f"env {name} has no effect on SGLang"
        yield warning(
            what, node.name, f"remove it from env; use {FOREIGN[name]}", key="env-without-effect"
        )
    if "NCCL_DEBUG" in env:
        what = f"env NCCL_DEBUG = {env['NCCL_DEBUG']!r} overrides the setting nccl_debug"
        yield warning(
            what, node.name, "remove it from env, and set nccl_debug", key="env-overrides-setting"
        )
