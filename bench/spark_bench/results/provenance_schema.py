"""The part of a result file, of either kind, that says what it was measured with: see `schema`."""

from typing import Any

from msgspec import Struct, field

SettingValue = bool | int | float | str


class Client(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Versions of the client's software.

    version: of spark-bench
    python: of Python
    httpx: of httpx; null: not installed
    """

    version: str
    python: str
    httpx: str | None


class Machine(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The machine that the client ran on; null: unknown.

    hostname: its network name
    product: product name from the firmware, such as "NVIDIA DGX Spark"
    cpu: the CPU's model
    cores, usable_cores: CPU cores of the machine, and those that the client may use
    memory_bytes: total memory, in bytes
    kernel: the kernel's release
    platform: operating system and architecture, such as "Linux aarch64"
    load_average: over 1, 5 and 15 minutes, read before the run
    governor: frequency governor of the first core, such as "performance" or "powersave"
    clock_source: the kernel's clock, such as "tsc" or "arch_sys_counter"
    """

    hostname: str | None
    product: str | None
    cpu: str | None
    cores: int | None
    usable_cores: int | None
    memory_bytes: int | None
    kernel: str | None
    platform: str
    load_average: tuple[float, float, float] | None
    governor: str | None
    clock_source: str | None


class Commit(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The git commit of a project's folder.

    sha: its hash, in hex
    dirty: tracked files had uncommitted changes
    """

    sha: str
    dirty: bool


class ServerInfo(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the server reports about itself; null: not reported.

    engine: "sglang", "vllm" or "llama.cpp"
    version: the engine's version
    models: ids of the models that it serves
    model: id of the requested model
    max_model_len: that model's context length, in tokens
    settings: engine settings that affect speed, under the engine's own names
    """

    engine: str | None = None
    version: str | None = None
    models: tuple[str, ...] = ()
    model: str | None = None
    max_model_len: int | None = None
    settings: dict[str, SettingValue] = field(default_factory=dict)


class DeployedRank(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One engine process of a deployment.

    rank: its number; 0 is the head
    node: name of the node that it runs on
    image: name and tag of its container image
    image_id: id of the image's content on that node
    engine_version: version of the engine in the image
    spec: SHA-256 of everything that decides what the rank runs; equal hashes are equal launches
    """

    rank: int
    node: str
    image: str
    image_id: str
    engine_version: str
    spec: str


class DeployedGroup(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the project deployed, from its own listing.

    model: id of the model that the head runs
    revision: commit of the weights; "": unknown
    group: name of the deployment's group
    launch: settings that the head's engine was started with
    ranks: the running ranks, the head first
    """

    model: str
    revision: str
    group: str
    launch: dict[str, Any]
    ranks: tuple[DeployedRank, ...]


class Provenance(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the result was measured with; null: unknown, or there is none.

    client: versions of the client's software
    machine: the machine that the client ran on
    project: commit of the project that deployed the server
    server: what the server reports about itself
    deployment: what the project deployed
    """

    client: Client
    machine: Machine
    project: Commit | None = None
    server: ServerInfo
    deployment: DeployedGroup | None = None
