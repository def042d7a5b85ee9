"""What is true on one node, as facts read it: the vocabulary between facts and decisions."""

from dataclasses import asdict, dataclass, field
from ipaddress import IPv4Interface
from typing import Any

from cluster.rank.spec import Spec, read_label
from cluster.transfer.repository import WantedRepository


@dataclass(frozen=True)
class Shown:
    """What `pyinfra INVENTORY fact …` can print: its encoder calls an object's `to_json`."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class IdentityReading(Shown):
    """Which machine this is.

    + machine_id: /etc/machine-id; a digest of the host name where there is none
    + clock: its time, Unix seconds
    + home: the login's home folder
    """

    machine_id: str
    hostname: str
    clock: float
    home: str


@dataclass(frozen=True)
class Interface(Shown):
    """One network interface, from `ip -j -d addr`.

    + ipv4: addresses with their prefix ("169.254.1.1/16"), in the kernel's order, primaries first
    + up: operstate is UP (a link with carrier)
    + kind: of what is no hardware ("bond", "vlan", "bridge", "macvlan", "ipvlan", "vrf", "team" …)
    + master: the bond, bridge, team or VRF that it belongs to
    + link: the interface that a VLAN, macvlan or ipvlan lies on
    """

    name: str
    mtu: int
    up: bool
    mac: str = ""
    ipv4: tuple[str, ...] = ()
    kind: str = ""
    master: str = ""
    link: str = ""

    @property
    def addresses(self) -> tuple[IPv4Interface, ...]:
        return tuple(IPv4Interface(a) for a in self.ipv4)


@dataclass(frozen=True)
class Gid(Shown):
    """A RoCE v2 GID that holds an IPv4 address. Its index drifts: shown, never configured."""

    index: int
    address: str


@dataclass(frozen=True)
class RdmaPort(Shown):
    """One half of a QSFP port: an HCA's port 1 and the interface over it.

    + pci: address of the PCIe function ("0000:01:00.1"); domain 0000 is half "A", 0002 half "B"
    + qsfp: number of the physical port, the PCI function's number; its two halves are twins
    + state, phys_state: sysfs words without their number ("ACTIVE", "DOWN"; "LinkUp", "Disabled")
    + rate_gbps: of the link (200.0), as sysfs states it
    """

    hca: str
    interface: Interface
    pci: str
    qsfp: int
    half: str
    state: str
    phys_state: str
    rate_gbps: float
    link_layer: str = "Ethernet"
    gids: tuple[Gid, ...] = ()

    @property
    def netdev(self) -> str:
        return self.interface.name

    @property
    def up(self) -> bool:
        """Carries traffic: the HCA's port is active and its interface has carrier."""
        return self.state == "ACTIVE" and self.interface.up


@dataclass(frozen=True)
class Gpu(Shown):
    """One GPU. GB10 shares the node's memory, so memory_bytes is None there ("[N/A]")."""

    index: int
    name: str
    driver: str
    compute_capability: str
    memory_bytes: int | None = None
    power_watts: float | None = None
    temperature_celsius: float | None = None


@dataclass(frozen=True)
class MemoryReading(Shown):
    """/proc/meminfo's MemTotal, MemAvailable and SwapTotal, bytes."""

    total: int
    available: int
    swap: int = 0


@dataclass(frozen=True)
class DiskReading(Shown):
    """The file system that holds (or would hold) `path`. `exists`/`writable` are the path's own."""

    path: str
    exists: bool
    writable: bool
    total: int
    free: int


@dataclass(frozen=True)
class Rank(Shown):
    """A rank as the node runs it: a container, or a process of the process runtime.

    + label: our label as it carries it; None for a container that is not ours
    + status: Docker's word ("running", "exited", "created", "restarting", "paused", "dead")
    + exit_code: of its last end; None if it has never ended
    + restarts: Docker's RestartCount
    + restart_policy: "no", "unless-stopped" …; "" for a process
    + started_at: RFC 3339, from Docker; a process's start time in clock ticks since boot
    + container: its container's name, where an interrupted switch has renamed it; else ""
    """

    name: str
    id: str
    status: str
    image_id: str = ""
    label: str | None = None
    exit_code: int | None = None
    oom_killed: bool = False
    restarts: int = 0
    restart_policy: str = ""
    started_at: str = ""
    container: str = ""

    @property
    def called(self) -> str:
        """The name that the engine knows it by."""
        return self.container or self.name

    @property
    def spec(self) -> Spec | None:
        """What it was started from; None where it has no label, or one that is no spec."""
        return read_label(self.label).spec

    @property
    def group(self) -> str:
        """The group that its label names; "" if it names none."""
        return read_label(self.label).group

    @property
    def number(self) -> int | None:
        """Its rank in the group, from its label: 0 is the head; None if the label has none."""
        return read_label(self.label).rank

    @property
    def running(self) -> bool:
        return self.status == "running"

    @property
    def alive(self) -> bool:
        """Whether its processes hold ports and memory, or soon will again (paused, restarting)."""
        return self.status not in ("exited", "created", "dead")


@dataclass(frozen=True)
class ImageReading(Shown):
    """A local image: its id ("sha256:…"), its digests at registries, its content.

    + digests: "repository@sha256:…"; in containerd's store also of an image that was built here
    + content: equal for equal layers and configuration, in any store and however the image came;
      "" where Docker did not say
    + size: bytes; in containerd's store, of the layers as they were received, which is compressed
    """

    reference: str
    id: str
    digests: tuple[str, ...] = ()
    content: str = ""
    size: int = 0


@dataclass(frozen=True)
class Listener(Shown):
    """A listening TCP port. The login may not see whose: process "", pid None."""

    port: int
    address: str
    process: str = ""
    pid: int | None = None


@dataclass(frozen=True)
class Weights(Shown):
    """What the Hugging Face cache (or a local path) holds of one model.

    + complete: every file that the snapshot's index (or a shard's own number) names is there and no
      download is half done
    + bytes: of the weights; of an incomplete model also what a download has left in the cache's
      blobs, in whole disk blocks
    + revision: the snapshot's commit, "" for a local path
    + problem, cure: why a local folder can't be served ("holds …", "lacks …"), what helps; or ""
    + config: its config.json, as it is there; "" where it is not, or was not requested
    """

    model: str
    path: str
    complete: bool
    bytes: int
    revision: str = ""
    problem: str = ""
    cure: str = ""
    config: str = ""


# Where Docker's own store keeps images, and containerd's, by default.
IMAGE_FOLDERS = ("/var/lib/docker", "/var/lib/containerd")


@dataclass(frozen=True)
class Engine(Shown):
    """The container engine. `error` says why it can't be used ("" when it can).

    + kind of error: "missing" (no docker command), "stopped" (daemon not running),
      "denied" (no permission), "broken" (anything else; `detail` has the engine's words)
    + images: the folder that holds the images: Docker's own, or that of containerd's store
    """

    version: str = ""
    runtimes: tuple[str, ...] = ()
    error: str = ""
    detail: str = ""
    images: str = IMAGE_FOLDERS[0]

    @property
    def only_cdi(self) -> bool:
        """It hands out NVIDIA GPUs as CDI devices, and there is no NVIDIA runtime for `--gpus`."""
        return "cdi" in self.runtimes and "nvidia" not in self.runtimes


@dataclass(frozen=True)
class NodeFacts(Shown):
    """One consistent reading of a node, by one remote command.

    A section that could not be read is in `unread` (section name → the command's words), and its
    field keeps the empty default: "no answer" is never "nothing there".

    + weights: of the model; drafts: of draft models, by id
    + served: what has served with kernels compiled here (`cluster.rank.compile_caches.served_mark`)
    """

    name: str
    machine_id: str = ""
    hostname: str = ""
    home: str = ""
    clock: float = 0.0
    interfaces: tuple[Interface, ...] = ()
    rdma: tuple[RdmaPort, ...] = ()
    memory: MemoryReading | None = None
    gpus: tuple[Gpu, ...] = ()
    ranks: tuple[Rank, ...] = ()
    engine: Engine | None = None
    image: ImageReading | None = None
    disks: tuple[DiskReading, ...] = ()
    listeners: tuple[Listener, ...] = ()
    weights: Weights | None = None
    drafts: dict[str, Weights] = field(default_factory=dict)
    tiktoken: dict[str, str] = field(default_factory=dict)
    served: tuple[str, ...] = ()
    unread: dict[str, str] = field(default_factory=dict)

    def weights_of(self, repository: WantedRepository) -> Weights | None:
        """What the node has of a repository; None where it was not read."""
        return self.drafts.get(repository.id) if repository.draft else self.weights
