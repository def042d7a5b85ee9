"""What the inventory says about the fabric, and whether each node has it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Interface
from typing import Literal

from cluster.fabric.devices import above, every_interface, title
from cluster.fabric.seats import Seat, carrying, primary
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
    """One node's explicit settings; "" leaves the choice to us.

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
        """With what `env` says in place of settings that are empty: that is what will hold."""
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
        """How to name a setting that is wrong: where its value stands."""
        variable = self.variable(setting)
        own = getattr(self, setting)
        return f"env {variable}" if variable and own in ("", self.env[variable]) else setting

    def hcas(self, node: NodeFacts) -> tuple[str, ...]:
        """The HCAs that are named; () where the choice is ours."""
        return tuple(p.hca for p in hca_list(self.nccl_ib_hca).ports(node))


@dataclass(frozen=True)
class FabricOptions:
    """What the inventory wants of the fabric.

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
        found = [
            n
            for word in self.words
            for n in ([word] if word in there else [n for n in there if self.meets(word, n)])
        ]
        return list(dict.fromkeys(found))

    def unknown(self, names: Iterable[str]) -> list[str]:
        """Words that mean none of `names`; to leave out what is not there is no mistake."""
        there = list(names)
        return [w for w in self.words if not self.contrary and not self.named_by(w, there)]

    def named_by(self, word: str, names: Sequence[str]) -> list[str]:
        return [n for n in names if self.meets(word, n)]

    def leaves(self, name: str) -> bool:
        """Whether a list that leaves names out does not leave out this one."""
        return not self.contrary or not any(self.meets(w, name) for w in self.words)

    def ports(self, node: NodeFacts) -> list[RdmaPort]:
        """The HCAs that the list means. Of a beginning, and of all others, only those that are Up
        count, as NCCL passes over the rest."""
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
    found = name_list(value)
    return replace(found, words=tuple(w.partition(":")[0] for w in found.words))


def wrong_wishes(node: NodeFacts, wish: NodeOverrides, *, rdma: bool) -> Iterator[Finding]:
    """Explicit settings that this node cannot fulfil."""
    yield from contradictions(node, wish)
    yield from unknown_interfaces(node, wish)
    yield from bare_gloo(node, wish)
    if rdma and wish.value("nccl_ib_hca"):
        yield from wrong_hcas(node, wish)
    if wish.value("address"):
        yield from wrong_address(node, wish)
    else:
        yield from bare_interface(node, wish)


def contradictions(node: NodeFacts, wish: NodeOverrides) -> Iterator[Finding]:
    """A setting and a name in `env` that say different things: `env` would win unseen."""
    for setting, names in SAME.items():
        own = getattr(wish, setting)
        for name in names:
            if own and wish.env.get(name) and wish.env[name] != own:
                what = (
                    f"{setting} = {own!r} and env {name} = {wish.env[name]!r} contradict each other"
                )
                yield error(what, node.name, f"remove {name} from env")


def unknown_interfaces(node: NodeFacts, wish: NodeOverrides) -> Iterator[Finding]:
    names = [i.name for i in every_interface(node)]
    for word in name_list(wish.value("nccl_socket_ifname")).unknown(names):
        yield unknown(node, wish, "nccl_socket_ifname", word, names)
    # gloo takes names alone (torch/csrc/distributed/c10d/ProcessGroupGloo.cpp).
    for word in wish.value("gloo_socket_ifname").replace(" ", "").split(","):
        if word and word not in names:
            yield unknown(node, wish, "gloo_socket_ifname", word, names)


def bare_interface(node: NodeFacts, wish: NodeOverrides) -> Iterator[Finding]:
    """The interface to meet over, named and without an address."""
    by_name = {i.name: i for i in every_interface(node)}
    listed = name_list(wish.value("nccl_socket_ifname"))
    named = [] if listed.contrary else listed.named(by_name)
    if not named or any(primary(by_name[n]) for n in named):
        return
    what = f"{wish.label('nccl_socket_ifname')} {named[0]} has no IPv4 address"
    over = next((i for i in above(node, named[0]) if i.ipv4), None)
    cure = f"ip -4 addr show dev {named[0]}"
    if wish.label("nccl_socket_ifname") != "nccl_socket_ifname":
        cure += f"; {leave_out(node, wish, 'nccl_socket_ifname')}"
    elif over:
        what += f": it is {title(over)}'s, which has {over.ipv4[0]}"
        cure = f"nccl_socket_ifname = {over.name!r} of {node.name}, or leave it out"
    else:
        cure += f"; or {leave_out(node, wish, 'nccl_socket_ifname')}"
    yield error(what, node.name, cure)


def bare_gloo(node: NodeFacts, wish: NodeOverrides) -> Iterator[Finding]:
    by_name = {i.name: i for i in every_interface(node)}
    for word in wish.value("gloo_socket_ifname").replace(" ", "").split(","):
        if word in by_name and not primary(by_name[word]):
            what = f"{wish.label('gloo_socket_ifname')} {word} has no IPv4 address"
            yield error(what, node.name, leave_out(node, wish, "gloo_socket_ifname"))


def wrong_hcas(node: NodeFacts, wish: NodeOverrides) -> Iterator[Finding]:
    setting, value = "nccl_ib_hca", wish.value("nccl_ib_hca")
    ports = {p.hca: p for p in node.rdma}
    listed = hca_list(value)
    for word in name_list(value).words:
        if word.partition(":")[2] not in ("", "1"):
            what = f"{wish.label(setting)} {word!r} does not exist here; an HCA has only port 1"
            yield error(what, node.name, leave_out(node, wish, setting))
    for word in listed.unknown(ports):
        yield unknown(node, wish, setting, word, ports)
    for hca in (w for w in listed.words if w in ports and not listed.contrary):
        if not ports[hca].up:
            state = f"{ports[hca].state} ({ports[hca].phys_state})"
            what = f"{wish.label(setting)} {hca} is {state}, not ACTIVE"
            cure = f"plug its cable in: ip link show dev {ports[hca].netdev}"
            yield error(what, node.name, f"{cure}; or {leave_out(node, wish, setting)}")
    if not listed.unknown(ports) and listed.words and not listed.ports(node):
        what = f"{wish.label(setting)} {value!r} selects no HCA that is Up"
        yield error(what, node.name, leave_out(node, wish, setting))


def unknown(
    node: NodeFacts, wish: NodeOverrides, setting: str, value: str, known: Iterable[str]
) -> Finding:
    there = ", ".join(sorted(known)) or "none"
    what = f"{wish.label(setting)} {value!r} does not exist here; available: {there}"
    return error(what, node.name, leave_out(node, wish, setting))


def leave_out(node: NodeFacts, wish: NodeOverrides, setting: str) -> str:
    label = wish.label(setting)
    if label == setting:
        return f"set {setting} of {node.name} to one of these, or leave it out"
    return f"remove {label.removeprefix('env ')} from env; use the setting {setting}"


def wrong_address(node: NodeFacts, wish: NodeOverrides) -> Iterator[Finding]:
    label, wanted = wish.label("address"), wish.value("address")
    here = [a for i in every_interface(node) for a in i.ipv4 if not a.startswith("127.")]
    held = sorted(a.partition("/")[0] for a in here)
    if not is_ipv4(wanted):
        cure = "ip -4 addr" if label == "address" else leave_out(node, wish, "address")
        yield error(f"{label} {wanted!r} is not an IPv4 address", node.name, cure)
    elif wanted not in held:
        what = f"{label} {wanted} is not on this node; available: {', '.join(held) or 'none'}"
        yield error(what, node.name, leave_out(node, wish, "address"))


def is_ipv4(text: str) -> bool:
    try:
        return bool(IPv4Address(text))
    except ValueError:
        return False


def by_env(node: NodeFacts, wish: NodeOverrides) -> Iterator[Finding]:
    """What `env` decides where a setting should: the value holds, but whoever reads the settings
    does not see it."""
    for setting in SAME:
        if (name := wish.variable(setting)) and not getattr(wish, setting):
            value = wish.env[name]
            what = f"env {name} = {value!r} overrides the setting {setting}"
            cure = f"remove {name} from env, and set {setting} = {value!r} of {node.name}"
            yield warning(what, node.name, cure)


def wished_seat(node: NodeFacts, wish: NodeOverrides, *, rdma: bool) -> Seat | None:
    """The seat that the settings name outright; they are known to be right."""
    listed = name_list(wish.nccl_socket_ifname)
    there = {i.name: i for i in every_interface(node)}
    named = [] if listed.contrary else listed.named(there)
    for interface in map(there.__getitem__, named if not wish.address else there):
        for address in (IPv4Interface(a) for a in interface.ipv4 if ":" not in a):
            if not wish.address or wish.address == str(address.ip):
                own = tuple(p for p in node.rdma if p.netdev == interface.name)
                ports = own or carrying(node, interface, address, rdma=rdma)
                return Seat(interface, address, ports)
    return None
