"""What nodes are like before there is an inventory of them, as one JSON document."""

from collections.abc import Sequence
from dataclasses import dataclass
from re import compile
from shlex import quote

from cluster.checks.nodes import disk_reading
from cluster.findings import Finding
from cluster.node.readings import NodeFacts

VERSION = 1
# pyinfra's and paramiko's words for what keeps SSH from a node → the cure.
CURES = (
    ("Could not resolve", "use its address, or name it in ~/.ssh/config: Host {name}, HostName …"),
    ("Authentication", "ssh-copy-id {login}"),
    ("does not match", "if the machine was set up anew: ssh-keygen -R {host} && ssh {login} true"),
    ("No host key", "ssh {login} true, and accept its key"),
    ("Could not connect", "ssh {login} true; Host {name} in ~/.ssh/config can give another Port"),
)
_CHANGED_KEY = compile(r"Host key for (\S+) does not match")


@dataclass(frozen=True, kw_only=True)
class ProbedNode:
    """One node.

    + lost: why it could not be reached, "" where it answered; cure: of that
    + ports: the halves of QSFP ports that are Up, with their addresses
    + docker, hf_cache, python: "yes" or version, or what is wrong
    + free_bytes: where hf_cache is or would be
    """

    name: str
    lost: str = ""
    cure: str = ""
    hostname: str = ""
    gpu: str = ""
    driver: str = ""
    ports: tuple[str, ...] = ()
    docker: str = ""
    hf_cache: str = ""
    free_bytes: int | None = None
    python: str = ""


@dataclass(frozen=True, kw_only=True)
class ProbeFinding:
    """A finding, as `deploys/check.py` reports it; level: "error", "warning" or "ok"."""

    level: str
    what: str
    where: str
    cure: str


@dataclass(frozen=True, kw_only=True)
class ProbeDocument:
    """The document; findings: none where a node could not be reached."""

    version: int = VERSION
    nodes: tuple[ProbedNode, ...]
    findings: tuple[ProbeFinding, ...] = ()


def probe_document(nodes: Sequence[ProbedNode], findings: Sequence[Finding]) -> ProbeDocument:
    """The document of these nodes; `findings`: of a check of all of them."""
    rows = (
        ProbeFinding(level=f.level.value, what=f.what, where=f.where, cure=f.cure) for f in findings
    )
    return ProbeDocument(nodes=tuple(nodes), findings=tuple(rows))


def unreachable_node(name: str, why: str, user: str = "") -> ProbedNode:
    """A node that could not be reached."""
    login = f"{user}@{name}" if user else name
    changed = _CHANGED_KEY.search(why)
    cure = next((cure for words, cure in CURES if words in why), "ssh {login} true")
    cure = cure.format(name=name, login=quote(login), host=quote(changed[1] if changed else name))
    return ProbedNode(name=name, lost=why.removeprefix("ConnectError: "), cure=cure)


def probed_node(facts: NodeFacts, hf_cache: str, python: str) -> ProbedNode:
    """A node that was read in full; python: its version, "" where there is none."""
    cache, state = disk_reading(facts, hf_cache), "unknown"
    if cache and not cache.exists:
        state = "missing"
    elif cache:
        state = "writable" if cache.writable else "not writable"
    return ProbedNode(
        name=facts.name,
        hostname=facts.hostname,
        gpu=", ".join(gpu.name for gpu in facts.gpus) or facts.unread.get("gpus", "none"),
        driver=", ".join(dict.fromkeys(gpu.driver for gpu in facts.gpus)),
        ports=tuple(
            f"{port.netdev} {' '.join(port.interface.ipv4) or 'no IPv4 address'}"
            for port in facts.rdma
            if port.up
        ),
        docker=(facts.engine.error or facts.engine.version) if facts.engine else "unknown",
        hf_cache=state,
        free_bytes=cache.free if cache else None,
        python=python or "missing",
    )
