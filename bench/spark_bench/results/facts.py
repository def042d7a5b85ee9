"""What a result was measured with: the client, the machine, the server, the deployment."""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field

Setting = bool | int | float | str


class Client(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The client: versions of itself, of Python and of httpx."""

    version: str
    python: str
    httpx: str | None


class Machine(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The machine that the client ran on. What it doesn't tell is null.

    product: the machine's name by its firmware ("NVIDIA DGX Spark")
    platform: system and architecture ("Linux aarch64")
    cores, usable_cores: of the machine, and those that the client may run on
    load_average: over 1, 5 and 15 minutes, before the run started
    governor: of the first core's clock frequency ("performance", "powersave")
    clock_source: what the kernel reads the time from ("tsc", "arch_sys_counter")
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
    """The git commit of a project's folder; dirty: tracked files differed from it."""

    sha: str
    dirty: bool


class Server(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the server told about itself. What it doesn't tell is null.

    engine: "sglang", "vllm" or "llama.cpp"
    version: the engine's
    models: the ids that it serves
    model, max_model_len: the served model's entry: its id, its context in tokens
    settings: those of the engine's settings that speed depends on, under the engine's names
    """

    engine: str | None = None
    version: str | None = None
    models: tuple[str, ...] = ()
    model: str | None = None
    max_model_len: int | None = None
    settings: dict[str, Setting] = field(default_factory=dict)


class DeployedRank(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One engine process of a deployment.

    image_id: what is inside the image's tag on that node
    spec: SHA-256 of everything that decides what it runs; the same hash is the same launch
    """

    rank: int
    node: str
    image: str
    image_id: str
    engine_version: str
    spec: str


class Deployment(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the project has deployed, as it lists it.

    model: that the head runs
    revision: of the weights, "" where not known
    launch: what the head's engine was started with
    ranks: those that run, the head first
    """

    model: str
    revision: str
    group: str
    launch: dict[str, Any]
    ranks: tuple[DeployedRank, ...]


class Provenance(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a result was measured with; null: unknown, or there is none."""

    client: Client
    machine: Machine
    project: Commit | None = None
    server: Server
    deployment: Deployment | None = None
