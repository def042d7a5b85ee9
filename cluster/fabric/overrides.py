"""What the settings say about the fabric, and whether each node has it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Interface
from typing import Literal

from cluster.fabric import attachments, devices
from cluster.findings import Finding, error, warning
from cluster.node.readings import NodeFacts, RdmaPort

SAME = {
    "address": ("SGLANG_HOST_IP", "HOST_IP"),
    "nccl_ib_hca": ("NCCL_IB_HCA",),
    "nccl_socket_ifname": ("NCCL_SOCKET_IFNAME",),
    "gloo_socket_ifname": ("GLOO_SOCKET_IFNAME",),
}
"""Settings, and the names in `env` that mean the same and would win over them."""


@dataclass(frozen=True)
class NodeOverrides:
    """One node's explicit settings; "" where the choice is left to us.

    + address: IPv4 address to meet the others at
    + nccl_ib_hca: HCAs as NCCL_IB_HCA has them: comma between; beginnings of names unless "="
      stands before them; "^" for all others; ":1" for the port
    + nccl_socket_ifname: interfaces, likewise
    + gloo_socket_ifname: interfaces, comma between
    + env: the node's `env`
    """

    address: str = ""
    nccl_ib_hca: str = ""
    nccl_socket_ifname: str = ""
    gloo_socket_ifname: str = ""
    env: Mapping[str, str] = field(default_factory=dict)

    @property
    def explicit(self) -> bool:
        return any(getattr(self, setting) for setting in SAME)

    @property
    def effective(self) -> NodeOverrides:
        """With the values of `env` in place of settings that are empty: those will apply."""
        return replace(
            self,
            address=self.value("address"),
            nccl_ib_hca=self.value("nccl_ib_hca"),
            nccl_socket_ifname=self.value("nccl_socket_ifname"),
            gloo_socket_ifname=self.value("gloo_socket_ifname"),
        )

    def value(self, setting: str) -> str:
        return str(getattr(self, setting)) or self.env.get(self.variable(setting), "")

    def variable(self, setting: str) -> str:
        """The name in `env` that means this setting; "" where there is none."""
        return next((name for name in SAME[setting] if self.env.get(name)), "")

    def label(self, setting: str) -> str:
        """How messages name a setting: by the place where its value stands."""
        variable = self.variable(setting)
        own = getattr(self, setting)
        return f"env {variable}" if variable and own in ("", self.env[variable]) else setting

    def hcas(self, node: NodeFacts) -> tuple[str, ...]:
        """The HCAs that are named; () where the choice is ours."""
        return tuple(p.hca for p in hca_list(self.nccl_ib_hca).ports(node))


@dataclass(frozen=True)
class FabricOptions:
    """What the settings say about the fabric.

    + rdma: "auto" takes what is active; "on" also refuses a cabled half whose HCA is not active;
      "off" is TCP
    + twins: both halves of the port ("both"), one ("first"), or both where that is safe ("auto")
    + by_node: explicit settings by node name; they win over any choice
    """

    rdma: Literal["auto", "on", "off"] = "auto"
    twins: Literal["auto", "both", "first"] = "auto"
    by_node: Mapping[str, NodeOverrides] = field(default_factory=dict)

    def of(self, node: NodeFacts) -> NodeOverrides:
        return self.by_node.get(node.name, NodeOverrides())

    @property
    def effective(self) -> FabricOptions:
        return replace(self, by_node={name: w.effective for name, w in self.by_node.items()})


@dataclass(frozen=True)
class NameList:
    """A list of names as NCCL reads it (src/misc/utils.cc: parseStringList, matchIfList).

    + contrary: "^" stood before it: everything but these
    + exact: "=" stood before it; otherwise each word is the beginning of a name
    """

    words: tuple[str, ...] = ()
    contrary: bool = False
    exact: bool = False

    def meets(self, word: str, name: str) -> bool:
        return name == word if self.exact else name.startswith(word)

    def named(self, names: Iterable[str]) -> list[str]:
        """Those of `names` that the list means, in its own order; a name in full means itself."""
        there = list(names)
        if self.contrary:
            return [n for n in there if not any(self.meets(w, n) for w in self.words)]
        meant = [
            n
            for word in self.words
            for n in ([word] if word in there else [n for n in there if self.meets(word, n)])
        ]
        return list(dict.fromkeys(meant))

    def unknown(self, names: Iterable[str]) -> list[str]:
        """Words that match none of `names`; [] for a "^" list, which may name what is not there."""
        there = list(names)
        return [w for w in self.words if not self.contrary and not self.named_by(w, there)]

    def named_by(self, word: str, names: Sequence[str]) -> list[str]:
        return [n for n in names if self.meets(word, n)]

    def leaves(self, name: str) -> bool:
        """Whether a "^" list keeps this name; True for any other list."""
        return not self.contrary or not any(self.meets(w, name) for w in self.words)

    def ports(self, node: NodeFacts) -> list[RdmaPort]:
        """The HCAs that the list selects. Those selected by a prefix or by "^" must be Up, as NCCL
        skips the rest."""
        ports = {p.hca: p for p in sorted(node.rdma, key=lambda p: (p.qsfp, p.half, p.hca))}
        named = self.named(ports) if self.words else []
        return [ports[n] for n in named if ports[n].up or (n in self.words and not self.contrary)]


def name_list(value: str) -> NameList:
    text = value.replace(" ", "")
    contrary, text = text.startswith("^"), text.removeprefix("^")
    exact, text = text.startswith("="), text.removeprefix("=")
    return NameList(tuple(w for w in text.split(",") if w), contrary, exact)


def hca_list(value: str) -> NameList:
    """Like name_list, without the ports: an HCA of a Spark has port 1 alone."""
    names = name_list(value)
    return replace(names, words=tuple(w.partition(":")[0] for w in names.words))


def invalid_overrides(
    node: NodeFacts, overrides: NodeOverrides, *, rdma: bool
) -> Iterator[Finding]:
    """Errors in the explicit settings of a node."""
    yield from contradictions(node, overrides)
    yield from unknown_interfaces(node, overrides)
    yield from bare_gloo(node, overrides)
    if rdma and overrides.value("nccl_ib_hca"):
        yield from wrong_hcas(node, overrides)
    if overrides.value("address"):
        yield from wrong_address(node, overrides)
    else:
        yield from bare_interface(node, overrides)


def contradictions(node: NodeFacts, overrides: NodeOverrides) -> Iterator[Finding]:
    """A setting and a name in `env` that say different things: `env` would win unseen."""
    for setting, names in SAME.items():
        own = getattr(overrides, setting)
        for name in names:
            value = overrides.env.get(name)
            if own and value and value != own:
                what = f"{setting} = {own!r} and env {name} = {value!r} contradict each other"
                yield error(
                    what, node.name, f"remove {name} from env", key="env-contradicts-setting"
                )


def unknown_interfaces(node: NodeFacts, overrides: NodeOverrides) -> Iterator[Finding]:
    names = [i.name for i in devices.every_interface(node)]
    for word in name_list(overrides.value("nccl_socket_ifname")).unknown(names):
        yield unknown_name(node, overrides, "nccl_socket_ifname", word, names)
    # gloo takes names alone (torch/csrc/distributed/c10d/ProcessGroupGloo.cpp).
    for word in overrides.value("gloo_socket_ifname").replace(" ", "").split(","):
        if word and word not in names:
            yield unknown_name(node, overrides, "gloo_socket_ifname", word, names)


def bare_interface(node: NodeFacts, overrides: NodeOverrides) -> Iterator[Finding]:
    """An error if the interface that is set for the rendezvous has no IPv4 address."""
    by_name = {i.name: i for i in devices.every_interface(node)}
    listed = name_list(overrides.value("nccl_socket_ifname"))
    named = [] if listed.contrary else listed.named(by_name)
    if not named or any(attachments.primary(by_name[n]) for n in named):
        return
    what = f"{overrides.label('nccl_socket_ifname')} {named[0]} has no IPv4 address"
    over = next((i for i in devices.above(node, named[0]) if i.ipv4), None)
    cure = f"ip -4 addr show dev {named[0]}"
    if overrides.label("nccl_socket_ifname") != "nccl_socket_ifname":
        cure += f"; {leave_out(node, overrides, 'nccl_socket_ifname')}"
    elif over:
        what += f": it is {devices.interface_title(over)}'s, which has {over.ipv4[0]}"
        cure = f"nccl_socket_ifname = {over.name!r} of {node.name}, or leave it out"
    else:
        cure += f"; or {leave_out(node, overrides, 'nccl_socket_ifname')}"
    yield error(what, node.name, cure, key="interface-without-address")


def bare_gloo(node: NodeFacts, overrides: NodeOverrides) -> Iterator[Finding]:
    by_name = {i.name: i for i in devices.every_interface(node)}
    for word in overrides.value("gloo_socket_ifname").replace(" ", "").split(","):
        if word in by_name and not attachments.primary(by_name[word]):
            what = f"{overrides.label('gloo_socket_ifname')} {word} has no IPv4 address"
            yield error(
                what,
                node.name,
                leave_out(node, overrides, "gloo_socket_ifname"),
                key="interface-without-address",
            )


def wrong_hcas(node: NodeFacts, overrides: NodeOverrides) -> Iterator[Finding]:
    setting, value = "nccl_ib_hca", overrides.value("nccl_ib_hca")
    ports = {p.hca: p for p in node.rdma}
    listed = hca_list(value)
    for word in name_list(value).words:
        if word.partition(":")[2] not in ("", "1"):
            what = (
                f"{overrides.label(setting)} {word!r} does not exist here; an HCA has only port 1"
            )
            yield error(what, node.name, leave_out(node, overrides, setting), key="no-such-hca")
    for word in listed.unknown(ports):
        yield unknown_name(node, overrides, setting, word, ports)
    for hca in (w for w in listed.words if w in ports and not listed.contrary):
        if not ports[hca].up:
            state = f"{ports[hca].state} ({ports[hca].phys_state})"
            what = f"{overrides.label(setting)} {hca} is {state}, not ACTIVE"
            cure = f"plug its cable in: ip link show dev {ports[hca].netdev}"
            yield error(
                what,
                node.name,
                f"{cure}; or {leave_out(node, overrides, setting)}",
                key="hca-not-active",
            )
    if not listed.unknown(ports) and listed.words and not listed.ports(node):
        what = f"{overrides.label(setting)} {value!r} selects no HCA that is Up"
        yield error(what, node.name, leave_out(node, overrides, setting), key="hca-other-port")


def unknown_name(
    node: NodeFacts, overrides: NodeOverrides, setting: str, value: str, available: Iterable[str]
) -> Finding:
    there = ", ".join(sorted(available)) or "none"
    what = f"{overrides.label(setting)} {value!r} does not exist here; available: {there}"
    return error(what, node.name, leave_out(node, overrides, setting), key="no-such-device")


def leave_out(node: NodeFacts, overrides: NodeOverrides, setting: str) -> str:
    label = overrides.label(setting)
    if label == setting:
        return f"set {setting} of {node.name} to one of these, or leave it out"
    return f"remove {label.removeprefix('env ')} from env; use the setting {setting}"


def wrong_address(node: NodeFacts, overrides: NodeOverrides) -> Iterator[Finding]:
    label, wanted = overrides.label("address"), overrides.value("address")
    here = [a for i in devices.every_interface(node) for a in i.ipv4 if not a.startswith("127.")]
    held = sorted(a.partition("/")[0] for a in here)
    if not is_ipv4(wanted):
        cure = "ip -4 addr" if label == "address" else leave_out(node, overrides, "address")
        yield error(
            f"{label} {wanted!r} is not an IPv4 address", node.name, cure, key="address-invalid"
        )
    elif wanted not in held:
        what = f"{label} {wanted} is not on this node; available: {', '.join(held) or 'none'}"
        yield error(what, node.name, leave_out(node, overrides, "address"), key="no-such-address")


def is_ipv4(text: str) -> bool:
    try:
        return bool(IPv4Address(text))
    except ValueError:
        return False


def by_env(node: NodeFacts, overrides: NodeOverrides) -> Iterator[Finding]:
    """Warnings where `env` decides instead of a setting: the value applies, but readers of the
    settings do not see it."""
    for setting in SAME:
        if (name := overrides.variable(setting)) and not getattr(overrides, setting):
            value = overrides.env[name]
            what = f"env {name} = {value!r} overrides the setting {setting}"
            cure = f"remove {name} from env, and set {setting} = {value!r} of {node.name}"
            yield warning(what, node.name, cure, key="env-overrides-setting")


def named_attachment(
    node: NodeFacts, overrides: NodeOverrides, *, rdma: bool
) -> attachments.Attachment | None:
    """The attachment that the (valid) settings name; None if they name none."""
    listed = name_list(overrides.nccl_socket_ifname)
    there = {i.name: i for i in devices.every_interface(node)}
    named = [] if listed.contrary else listed.named(there)
    for interface in map(there.__getitem__, named if not overrides.address else there):
        for address in (IPv4Interface(a) for a in interface.ipv4 if ":" not in a):
            if not overrides.address or overrides.address == str(address.ip):
                own = tuple(p for p in node.rdma if p.netdev == interface.name)
                ports = own or attachments.carrying(node, interface, address, rdma=rdma)
                return attachments.Attachment(interface, address, ports)
    return None
