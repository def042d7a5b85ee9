"""What must be in order on the nodes before a deploy changes anything: findings and their cures."""

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from cluster.fabric import Fabric
from cluster.findings import Finding, error, ok, warning
from cluster.node.peers import PeerReport, reachability
from cluster.node.readings import IMAGE_FOLDERS, DiskReading, NodeFacts
from cluster.plan import decide, previous_group, specs
from cluster.printable import gibibytes
from cluster.settings.resolve import DEFAULT_IMAGE
from cluster.transfer.repository import WantedRepository

# What the default image, lmsysorg/sglang:spark, takes on disk: its size in users' `docker images`,
# with room for its layers.
IMAGE_BYTES = 30 * 10**9


@dataclass(frozen=True)
class Needs:
    """What the checks require of the nodes. Sizes are bytes for each node; 0: no requirement.

    + hf_cache: the path by node name
    + port, dist_port: every rank serves on the first; the ranks meet on the second, on the head
    + repositories: whose weights come to the disk; none where nothing will be downloaded
    + image_bytes: what the image takes unpacked; None where unknown
    + our_names: names of this group's ranks
    """

    runtime: Literal["docker", "process"] = "docker"
    gpus: bool = True
    image: str = ""
    hf_cache: Mapping[str, str] = field(default_factory=dict)
    port: int = 30000
    dist_port: int = 50000
    repositories: tuple[WantedRepository, ...] = ()
    image_bytes: int | None = None
    our_names: frozenset[str] = frozenset()


def needs_of(
    decision: decide.Decision, nodes: Mapping[str, NodeFacts], *, to_come: bool = True
) -> Needs:
    """What a decision needs of these nodes, by their names.

    + to_come: also require room for the image and weights that a deploy would bring
    """
    declaration, settings = decision.declaration, decision.settings
    ranks = [
        r
        for facts in decision.facts.values()
        for r in previous_group.members(facts, settings.group)
    ]
    ours = {name for rank in ranks for name in (rank.name, rank.called)}
    return Needs(
        runtime=settings.runtime,
        gpus=settings.gpus != "none",
        image=settings.image,
        hf_cache={
            n: specs.expand(declaration.nodes[n].hf_cache, node) for n, node in nodes.items()
        },
        port=settings.port,
        dist_port=settings.dist_port,
        repositories=tuple(r for r in decision.repositories if to_come and not r.local),
        image_bytes=IMAGE_BYTES if to_come and settings.image == DEFAULT_IMAGE else None,
        our_names=frozenset(ours | set(specs.rank_names(declaration).values())),
    )


def check_nodes(
    nodes: Sequence[NodeFacts],
    *,
    wanted: Needs,
    fabric: Fabric | None,
    peers: Mapping[str, PeerReport],
    latency: Mapping[str, float] | None = None,
) -> tuple[Finding, ...]:
    """Findings about nodes that were read in full, in rank order; ERROR refuses the deploy.

    + fabric: None where its choice was refused; its own findings say why
    + peers: reports of the reachability probe by node name; empty where it did not run
    + latency: seconds of a trivial command over SSH, by node name
    """
    findings: list[Finding] = [*check_same_machine(nodes)]
    for node in nodes:
        findings += check_unread(node, wanted, several=len(nodes) > 1)
        findings += [f for check in NODE_CHECKS for f in check(node, wanted)]
    findings += check_clocks(nodes)
    findings += check_login_shells(latency or {})
    findings += check_ports(nodes, wanted)
    if fabric:
        findings += [ok(fabric.summary), *describe_links(nodes, fabric), *fabric.findings]
        findings += reachability(fabric, peers)
    return tuple(findings)


def check_unread(node: NodeFacts, wanted: Needs, *, several: bool) -> Iterator[Finding]:
    """Sections that could not be read, except what another check reports or nothing needs."""
    passed_over = {"gpus", "served"}
    if not several:
        passed_over |= {"rdma", "interfaces"}
    if node.engine and node.engine.error:
        passed_over |= OF_DOCKER
    for section, words in sorted(node.unread.items()):
        if section in passed_over:
            continue
        from cluster.engine.diagnosis import docker_error  # not needed if all is well

        docker = section in OF_DOCKER
        key = "docker-unreadable" if docker else "section-unreadable"
        if docker and (diagnosis := docker_error(words, wanted.image)):
            what = f"{section} could not be read: {diagnosis.cause} ({words})"
            yield error(what, node.name, diagnosis.cure, key=key)
        else:
            cure = f"ssh {node.name}, fix it and run this again"
            yield error(f"{section} could not be read: {words}", node.name, cure, key=key)


# Sections that Docker's client reads.
OF_DOCKER = {"image", "ranks"}


# ---- the machines: identity, memory, clocks, shells


IDLE_SHARE = 0.8
"""An idle Spark has ~101 of its 121.6 GiB available."""
CLOCK_SECONDS = 2.0
"""More than the spread of one round of readings over SSH; logs of the ranks stay comparable."""
SHELL_SECONDS = 0.3
"""A plain shell answers over SSH in a few hundredths; pyenv or conda in ~/.bashrc cost this."""


def check_same_machine(nodes: Sequence[NodeFacts]) -> Iterator[Finding]:
    """Two names of one machine: its ranks would fight for ports and memory."""
    first: dict[str, str] = {}
    for node in nodes:
        other = first.setdefault(node.machine_id, node.name) if node.machine_id else node.name
        if other != node.name:
            what = f"is the same machine as {other} (machine-id {node.machine_id})"
            cure = (
                f"take {node.name} out of the inventory, or give a cloned system its own: "
                "sudo rm /etc/machine-id && sudo systemd-machine-id-setup"
            )
            yield error(what, node.name, cure, key="same-machine")


def check_memory(node: NodeFacts, needs: Needs) -> Iterator[Finding]:
    """Most of the memory must be free; what our own rank holds comes free when it stops."""
    if not node.memory:
        return
    total, available = node.memory.total, node.memory.available
    ours = any(r.alive and (r.label is not None or r.name in needs.our_names) for r in node.ranks)
    text = f"{gibibytes(available)} of {gibibytes(total)} memory available"
    top = "ps -eo rss,pid,args --sort=-rss | head"
    if available < IDLE_SHARE * total and not ours:
        guard = "sudo apt-get install earlyoom keeps a node that runs out from freezing"
        yield warning(
            f"{text}: other programs take the rest",
            node.name,
            f"{top}; {guard}",
            key="memory-taken",
        )
    else:
        yield ok(text, node.name)


def check_clocks(nodes: Sequence[NodeFacts]) -> Iterator[Finding]:
    """Each clock against the head's, as the nodes report them at nearly the same moment."""
    seconds = {n.name: n.clock for n in nodes if n.clock}
    head, *others = seconds or [""]
    for name in others:
        ahead = seconds[name] - seconds[head]
        if abs(ahead) > CLOCK_SECONDS:
            way = "ahead of" if ahead > 0 else "behind"
            what = f"its clock is {abs(ahead):.1f} s {way} {head}'s"
            yield warning(
                what, name, "sudo timedatectl set-ntp true; timedatectl status", key="clock-off"
            )
        else:
            yield ok(f"its clock agrees with {head}'s", name)


def check_login_shells(latency: Mapping[str, float]) -> Iterator[Finding]:
    """Login shells whose profile delays every remote command."""
    for name, seconds in latency.items():
        text = f"a trivial command over SSH takes {seconds:.2f} s"
        if seconds > SHELL_SECONDS:
            cure = (
                "see `time bash -ic true` there, and move what ~/.bashrc starts (pyenv, conda, nvm)"
                " behind a first line `[[ $- == *i* ]] || return`"
            )
            yield warning(
                f"{text}, and a deploy waits for each", name, cure, key="login-shell-slow"
            )
        else:
            yield ok(text, name)


# ---- the GPU's driver, Docker


GB10 = "12.1"
GPU_RUNTIMES = {"nvidia", "cdi"}
ENGINE = {
    "missing": ("Docker is not installed", "sudo apt-get install docker.io"),
    "stopped": ("the Docker daemon is not running", "sudo systemctl enable --now docker"),
    "denied": ("the login may not use Docker", "sudo usermod -aG docker $USER, and log in again"),
}
TOOLKIT = (
    "sudo apt-get install nvidia-container-toolkit && "
    "sudo nvidia-ctk runtime configure --runtime=docker && sudo systemctl restart docker"
)


def check_gpu(node: NodeFacts, needs: Needs) -> Iterator[Finding]:
    """The driver must answer, and the GPU must be a GB10."""
    if not needs.gpus or needs.runtime == "process":
        return
    if words := node.unread.get("gpus"):
        yield error(
            f"nvidia-smi fails: {words}",
            node.name,
            "sudo reboot loads the right driver",
            key="driver-broken",
        )
    elif not node.gpus:
        cure = "sudo apt-get install nvidia-driver-580-open && sudo reboot"
        yield error(
            "no NVIDIA GPU: nvidia-smi is missing or lists none", node.name, cure, key="no-gpu"
        )
    for reading in node.gpus:
        capability = reading.compute_capability
        text = f"{reading.name}, driver {reading.driver}, compute capability {capability}"
        if capability == GB10:
            yield ok(text, node.name)
        else:
            what = f"{text}: the defaults are for a GB10 ({GB10})"
            yield warning(
                what, node.name, "choose an image for it: --data image=IMAGE", key="gpu-other"
            )


def check_docker(node: NodeFacts, needs: Needs) -> Iterator[Finding]:
    """Docker must be there, run, be ours to use, and be able to provide the GPU."""
    reading = node.engine
    if needs.runtime == "process" or reading is None:
        return
    if reading.error:
        broken = (f"Docker does not respond: {reading.detail}", "sudo systemctl status docker")
        what, cure = ENGINE.get(reading.error, broken)
        yield error(what, node.name, cure, key="docker-unusable")
    elif needs.gpus and not GPU_RUNTIMES & set(reading.runtimes):
        what = f"Docker {reading.version} has no NVIDIA runtime"
        yield error(what, node.name, TOOLKIT, key="docker-no-gpu")
    else:
        yield ok(f"Docker {reading.version}", node.name)


# ---- disks


def disk_reading(node: NodeFacts, path: str) -> DiskReading | None:
    """The node's reading of a path; `~` is the login's home."""
    at = node.home + path.removeprefix("~") if path.startswith("~/") else path
    return next((d for d in node.disks if d.path == at), None)


def check_hf_cache(node: NodeFacts, needs: Needs) -> Iterator[Finding]:
    """The Hugging Face cache exists, and the login may write there."""
    reading = disk_reading(node, needs.hf_cache.get(node.name, ""))
    if reading is None:
        return
    path, own = shlex.quote(reading.path), "sudo chown -R $USER"
    if not reading.exists:
        cure = f"sudo mkdir -p {path} && {own} {path}"
        yield error(
            f"hf_cache {reading.path} does not exist", node.name, cure, key="hf-cache-missing"
        )
    elif not reading.writable:
        yield error(
            f"hf_cache {reading.path} is not writable",
            node.name,
            f"{own} {path}",
            key="hf-cache-not-writable",
        )
    else:
        yield ok(f"hf_cache {reading.path} is writable", node.name)


def check_free_space(node: NodeFacts, needs: Needs) -> Iterator[Finding]:
    """Compares free space with what is still to come; one file system may have to hold both."""
    cache = disk_reading(node, needs.hf_cache.get(node.name, ""))
    images = disk_reading(node, node.engine.images if node.engine else IMAGE_FOLDERS[0])
    if images and not images.exists:
        images = None  # the daemon keeps its data elsewhere; where was not read

    def lacking(repository: WantedRepository) -> int:
        """Bytes of its weights that the node still lacks, as far as their size is known."""
        there = node.weights_of(repository)
        if there and there.complete:
            return 0
        return max(0, repository.weight_bytes - (there.bytes if there else 0))

    has_image = node.image is not None or needs.runtime == "process"
    coming = [
        *((cache, "draft" if r.draft else "weights", lacking(r)) for r in needs.repositories),
        (images, "image", 0 if has_image else needs.image_bytes or 0),
    ]
    by_system: dict[tuple[int, int], list[tuple[DiskReading, str, int]]] = {}
    for reading, what, count in coming:
        if reading and count:
            # A file system has no name here: its size and its free bytes identify it.
            by_system.setdefault((reading.total, reading.free), []).append((reading, what, count))
    for (_total, free), parts in by_system.items():
        needed, paths = sum(p[2] for p in parts), ", ".join(p[0].path for p in parts)
        terms = " + ".join(f"{gibibytes(count)} {what}" for _disk, what, count in parts)
        text = f"{paths}: {terms} = {gibibytes(needed)} needed, {gibibytes(free)} free"
        cure = f"df -h {shlex.quote(parts[0][0].path)}; docker system df; docker image prune"
        yield (
            error(text, node.name, cure, key="disk-full") if needed > free else ok(text, node.name)
        )


# ---- ports and links


def check_ports(nodes: Sequence[NodeFacts], needs: Needs) -> Iterator[Finding]:
    """Every node's serving port, and the head's rendezvous port where there are workers."""
    for rank, node in enumerate(nodes):
        yield from _check_port(node, "port", needs.port, needs)
        if rank == 0 and len(nodes) > 1:
            yield from _check_port(node, "dist_port", needs.dist_port, needs)


def _check_port(node: NodeFacts, setting: str, port: int, needs: Needs) -> Iterator[Finding]:
    """Who holds the port, unless it is a rank of this group, which a deploy stops or keeps."""
    held = [at for at in node.listeners if at.port == port]
    if not held:
        if "listeners" not in node.unread:
            yield ok(f"{setting} {port} is free", node.name, "port-free")
        return
    # The rank behind a listener: by its pid, else the living one whose label has this port. (Docker
    # does not report the pid of a container's listener.)
    alive = [r for r in node.ranks if r.alive and r.label is not None]
    word = re.compile(rf"(?<![\d.]){port}(?![\d.])")
    by_label = [r for r in alive if word.search(r.label or "")]
    by_listener = ([r for r in alive if at.pid is not None and r.id == str(at.pid)] for at in held)
    owner = next((ranks[0] for own in by_listener if (ranks := own or by_label)), None)
    if owner and owner.name in needs.our_names:
        yield ok(f"{setting} {port} is {owner.name}'s", node.name)
        return
    # Of several sockets on one port, the one whose owner is read best.
    best = min(held, key=lambda at: (not at.process, at.address))
    pid = f" (pid {best.pid})" if best.process and best.pid is not None else ""
    who = f"{best.process or 'a program that the login may not see,'}{pid} on {best.address}"
    if owner:
        who = f"{owner.name}, a rank of another group"
    cure = f"sudo ss -ltnp 'sport = :{port}', stop it, or choose another: --data {setting}=PORT"
    yield error(f"{setting} {port} is taken by {who}", node.name, cure, key="port-taken")


def describe_links(nodes: Sequence[NodeFacts], fabric: Fabric) -> Iterator[Finding]:
    """The state of the halves that carry the traffic; the fabric's warnings say what is wrong."""
    for node, member in zip(nodes, fabric.nodes, strict=True):
        for port in sorted(node.rdma, key=lambda p: p.hca):
            if port.hca in member.hcas:
                text = f"{port.hca} ({port.netdev}) {port.state}, {port.rate_gbps:g} Gb/s"
                yield ok(f"{text}, MTU {port.interface.mtu}", node.name)


# Checks of one node by itself, in the order in which they are reported.
NODE_CHECKS = (check_gpu, check_docker, check_hf_cache, check_free_space, check_memory)
