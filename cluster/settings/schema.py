"""Every setting: its name, type, range and default."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Annotated, Literal

from msgspec import Meta

Port = Annotated[int, Meta(ge=1, le=65535)]
Positive = Annotated[int, Meta(ge=1)]
Seconds = Annotated[int, Meta(ge=1, le=86400)]
Fraction = Annotated[float, Meta(gt=0, lt=1)]
# Docker's own rule for names: https://github.com/moby/moby/blob/master/daemon/names/names.go
# Every pattern ends with \Z: "$" would let a line break pass at the end.
ContainerName = Annotated[
    str,
    Meta(
        pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_.-]+\Z",
        description="of two or more letters, digits, _, . and -, a letter or digit first",
    ),
]
Size = Annotated[
    str, Meta(pattern=r"^[0-9]+[bkmg]\Z", description="that is a number with b, k, m or g")
]
# Any reference that Docker may know; never a word that its command line takes for an option.
ImageReference = Annotated[
    str,
    Meta(
        pattern=r"^[^\s\x00-\x1f\x7f-][^\s\x00-\x1f\x7f]*\Z",
        description="that is an image's reference: REPOSITORY:TAG, or REPOSITORY@sha256:…",
    ),
]
Auto = Literal["auto"]
# SGLang 0.5.23 asserts that no colon is in it: "name:adapter" asks for a LoRA adapter.
ServedName = Annotated[
    str,
    Meta(
        pattern=r"^([^:\s]([^:]*[^:\s])?)?\Z", description="without a colon, or spaces at its ends"
    ),
]
_BYTE = r"(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
Ipv4 = Annotated[
    str, Meta(pattern=rf"^({_BYTE}\.){{3}}{_BYTE}\Z", description="that is an IPv4 address")
]
# A colon ends a path in docker's --volume.
Network = Annotated[
    str,
    Meta(
        pattern=rf"^({_BYTE}\.){{3}}{_BYTE}/([12]?[0-9]|3[0-2])\Z",
        description="IPv4 networks like 192.168.1.0/24",
    ),
]
Url = Annotated[
    str,
    Meta(pattern=r"^(https?://[^\s/]+[^\s]*)?\Z", description="that is an http(s) URL, or empty"),
]
# A commit, a branch or a tag: git's rules for names, as far as they matter on a command line.
Revision = Annotated[
    str,
    Meta(
        pattern=r"^([A-Za-z0-9][A-Za-z0-9._/-]*)?\Z",
        description="that is a commit, a branch or a tag of the model's repository",
    ),
]
NodePath = Annotated[
    str,
    Meta(
        pattern=r"^(~|(/|~/)[^:\n]*)\Z", description="that is an absolute path, or begins with ~/"
    ),
]
Volume = Annotated[
    str,
    Meta(
        pattern=r"^/[^:\n]+:/[^:\n]+(:(ro|rw))?\Z",
        description="SOURCE:TARGET[:ro], both absolute paths (~ is not expanded)",
    ),
]
# docker's --gpus, without the quotes that several devices want there.
Gpus = Annotated[
    str,
    Meta(
        pattern=r"^(all|none|[1-9][0-9]*|device=[\w:.-]+(,[\w:.-]+)*"
        r"|[\w.-]+/[\w.-]+=[\w:.-]+(,[\w.-]+/[\w.-]+=[\w:.-]+)*)\Z",
        description="that is all, none, a number, device=ID,ID …, or CDI devices: "
        "nvidia.com/gpu=all",
    ),
]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """One node's settings. All nodes agree on them, but for those in PER_NODE.

    The meaning of each stands beside its default in inventories/group_data/all.py.
    """

    # what is served
    model: str | int = "gpt-oss-120b"
    served_model_name: ServedName = ""
    revision: Revision = ""
    state: Literal["running", "stopped", "absent"] = "running"
    rollback: bool = True
    head_only: bool = False
    tensor_parallel: Positive | Auto = "auto"
    pipeline_parallel: Positive = 1
    mem_fraction: Fraction | Auto = "auto"
    context_length: Positive | Auto = "auto"
    reasoning_parser: str = "auto"
    tool_call_parser: str = "auto"
    trust_remote_code: bool | Auto = "auto"
    disable_cuda_graph: bool | Auto = "auto"
    enable_dp_attention: bool | Auto = "auto"
    enable_metrics: bool = True
    extra_args: tuple[str, ...] = ()
    # how it runs on a node
    group: ContainerName = "sglang"
    runtime: Literal["docker", "process"] = "docker"
    image: ImageReference = "lmsysorg/sglang:spark"
    sglang_version: str = "auto"
    pull: Literal["never", "missing", "always"] = "missing"
    gpus: Gpus = "all"
    ipc: Literal["private", "shareable", "host"] = "private"
    shm_size: Size = "32g"
    head_container: ContainerName = "sglang-head"
    worker_container: ContainerName = "sglang-worker"
    restart_policy: Literal["no", "on-failure", "unless-stopped", "always"] = "unless-stopped"
    volumes: tuple[Volume, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    # where it listens, and how the ranks meet
    host: Ipv4 = "0.0.0.0"
    port: Port = 30000
    dist_port: Port = 50000
    dist_timeout: Seconds | Auto = "auto"
    address: str = ""
    rdma: Literal["auto", "on", "off"] = "auto"
    twins: Literal["auto", "both", "first"] = "auto"
    nccl_ib_hca: str = ""
    nccl_socket_ifname: str = ""
    gloo_socket_ifname: str = ""
    nccl_debug: str = "INFO"
    # what a node keeps
    hf_cache: NodePath = "/raid/hf-cache"
    hf_endpoint: Url = ""
    hf_token_file: str = ""
    api_key_file: str = ""
    offline: bool = False
    verify: Literal["changed", "full"] = "changed"
    tiktoken_dir: NodePath = "~/tiktoken_encodings"
    tiktoken_source: str = "https://openaipublic.blob.core.windows.net/encodings"
    # how long we wait
    ready_timeout: Seconds | Auto = "auto"
    download_stall_timeout: Seconds = 300
    pull_timeout: Seconds = 7200
    stop_timeout: Seconds = 30
    # how a node itself is set up, by deploys of their own
    firewall: Literal["present", "absent"] = "present"
    api_networks: tuple[Network, ...] = ()
    fabric_networks: tuple[Network, ...] = ("192.168.100.0/24", "192.168.101.0/24")
    fabric_mtu: Annotated[int, Meta(ge=1280, le=9978)] = 9000
    linger: bool = False
    earlyoom: bool = False
    drop_caches: bool = False


PER_NODE = (
    *("address", "nccl_ib_hca", "nccl_socket_ifname", "gloo_socket_ifname"),
    *("hf_cache", "tiktoken_dir", "env", "volumes", "gpus"),
)
NAMES = tuple(f.name for f in fields(Settings))
