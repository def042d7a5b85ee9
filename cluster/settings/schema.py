"""Every setting: its name, type, range, default and description, in this one place."""

import ast
import inspect
from dataclasses import dataclass, field, fields
from itertools import pairwise
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
        description="two or more letters, digits, _, . and -, the first a letter or digit",
    ),
]
Size = Annotated[
    str, Meta(pattern=r"^[0-9]+[bkmg]\Z", description="a number with the unit b, k, m or g")
]
# Any reference that Docker may know; never a word that its command line takes for an option.
ImageReference = Annotated[
    str,
    Meta(
        pattern=r"^[^\s\x00-\x1f\x7f-][^\s\x00-\x1f\x7f]*\Z",
        description="an image reference: REPOSITORY:TAG, or REPOSITORY@sha256:…",
    ),
]
Auto = Literal["auto"]
# SGLang 0.5.23 asserts that no colon is in it: "name:adapter" asks for a LoRA adapter.
ServedName = Annotated[
    str,
    Meta(
        pattern=r"^([^:\s]([^:]*[^:\s])?)?\Z",
        description="a string without a colon and without spaces at its ends",
    ),
]
_BYTE = r"(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
Ipv4 = Annotated[str, Meta(pattern=rf"^({_BYTE}\.){{3}}{_BYTE}\Z", description="an IPv4 address")]
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
    Meta(pattern=r"^(https?://[^\s/]+[^\s]*)?\Z", description="an http(s) URL, or empty"),
]
# A commit, a branch or a tag: git's rules for names, as far as they matter on a command line.
Revision = Annotated[
    str,
    Meta(
        pattern=r"^([A-Za-z0-9][A-Za-z0-9._/-]*)?\Z",
        description="a commit, branch or tag of the model's repository",
    ),
]
# huggingface_hub's validate_repo_id, with the owner required.
Draft = Annotated[
    str,
    Meta(
        pattern=r"^(auto|none|[A-Za-z0-9_][A-Za-z0-9_.-]*/[A-Za-z0-9_][A-Za-z0-9_.-]*)\Z",
        description="auto, none, or a repository on the hub: ORG/NAME",
    ),
]
NodePath = Annotated[
    str,
    Meta(
        pattern=r"^(~|(/|~/)[^:\n]*)\Z", description="an absolute path, or one that begins with ~/"
    ),
]
CacheFolder = Annotated[
    str,
    Meta(
        pattern=r"^(auto|none|~|(/|~/)[^:\n]*)\Z",
        description="auto, none, an absolute path, or one that begins with ~/",
    ),
]
Volume = Annotated[
    str,
    Meta(
        pattern=r"^/[^:\n]+:/[^:\n]+(:(ro|rw))?\Z",
        description="SOURCE:TARGET[:ro], both absolute paths (~ is not expanded)",
    ),
]
# Never every address: what listens there has no password of its own.
MonitoringAddress = Annotated[
    str,
    Meta(
        pattern=rf"^(loopback|management|({_BYTE}\.){{3}}{_BYTE})\Z",
        description="loopback, management, or an IPv4 address of the machine",
    ),
]
# Prometheus' durations, with one unit: https://prometheus.io/docs/prometheus/latest/storage/
Retention = Annotated[
    str,
    Meta(
        pattern=r"^[1-9][0-9]{0,3}[hdwy]\Z", description="a number with the unit h, d, w or y: 15d"
    ),
]
# docker's --gpus, without the quotes that several devices want there.
Gpus = Annotated[
    str,
    Meta(
        pattern=r"^(all|none|[1-9][0-9]*|device=[\w:.-]+(,[\w:.-]+)*"
        r"|[\w.-]+/[\w.-]+=[\w:.-]+(,[\w.-]+/[\w.-]+=[\w:.-]+)*)\Z",
        description="all, none, a number, device=ID,ID …, or CDI devices: nvidia.com/gpu=all",
    ),
]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """One node's settings. All nodes must agree on them, except for those in PER_NODE.

    docs/settings.md is generated from this class: names, defaults, types and descriptions.
    """

    model: str | int = "gpt-oss-120b"
    """What to serve: an alias or number of the catalog, a Hugging Face id, or an absolute path on
    the nodes."""
    variant: Annotated[
        str, Meta(pattern=r"^[a-z0-9][a-z0-9-]*\Z", description="a variant's name, or auto")
    ] = "auto"
    """A way to serve the model, by its name in the catalog: image, flags, environment, draft model.
    `auto`: the model's default. `spark-cluster models MODEL` shows them."""
    served_model_name: ServedName = ""
    """The id that `/v1/models` reports. Empty: the Hugging Face id."""
    revision: Revision = ""
    """Commit, branch or tag of the model's repository. Empty: what the nodes have, or else the
    newest at the first download."""
    state: Literal["running", "stopped", "absent"] = "running"
    """`stopped` keeps the containers, `absent` removes them. Weights stay in either case."""
    rollback: bool = True
    """If the new group does not become ready, bring back the one that served before."""
    probes: Literal["auto", "full", "basic", "strict", "off"] = "auto"
    """Questions that a started group must answer right, or its start has failed. `basic`: those for
    a small or base model; `strict`: one that is not yet proven on real models fails the start too,
    instead of a warning; `off`: none. `auto`: the catalog's, else `full`."""
    head_only: bool = False
    """Serve from the head alone; the workers' ranks are removed."""
    tensor_parallel: Positive | Auto = "auto"
    """Number of GPUs each layer is split over. `auto`: nodes / `pipeline_parallel`."""
    pipeline_parallel: Positive | Auto = "auto"
    """Number of pipeline stages. Times `tensor_parallel`, it must divide evenly over the nodes.
    `auto`: the variant's, else 1."""
    mem_fraction: Fraction | Auto = "auto"
    """SGLang's share of memory for weights and KV cache. `auto`: the catalog's value for the model,
    else 0.80. The usual 0.90 can freeze a Spark, whose GPU shares the system's memory."""
    kv_cache_dtype: str = "auto"
    """Type of the KV cache's numbers, by SGLang's name (`bf16`, `fp8_e4m3` …). `auto`: the
    catalog's value, else the model's own."""
    context_length: Positive | Auto = "auto"
    """Tokens in one request, prompt and answer together. `auto`: the catalog's value, else the
    model's own limit."""
    draft: Draft = "auto"
    """Draft model for speculative decoding, a repository on the hub: brought to the nodes as the
    model is. `auto`: the variant's; `none`: no speculative decoding."""
    reasoning_parser: str = "auto"
    """SGLang's parser for reasoning, by name. `auto`: the model's; `none`: no parser."""
    tool_call_parser: str = "auto"
    """SGLang's parser for tool calls, by name. `auto`: the model's; `none`: no parser."""
    trust_remote_code: bool | Auto = "auto"
    """Run code from the model's repository. `auto`: only where the catalog says so."""
    disable_cuda_graph: bool | Auto = "auto"
    """Run without CUDA graphs. `auto`: with graphs on one node; on several, only where the catalog
    says so and the image's NCCL is known to be 2.29.7 or newer: older ones hang."""
    enable_dp_attention: bool | Auto = "auto"
    """Turn off FlashInfer's fused all-reduce, which fails over two nodes in some SGLang versions.
    `auto`: for gpt-oss on those versions."""
    enable_metrics: bool = True
    """Serve Prometheus metrics at `/metrics`, on the API port."""
    extra_args: tuple[str, ...] = ()
    """More arguments for SGLang, checked against its version. They override ours, except where a
    setting decides (`port`, `tensor_parallel` …)."""

    group: ContainerName = "sglang"
    """Name of this group of ranks. A second group on the same nodes needs names and ports of its
    own."""
    runtime: Literal["docker", "process"] = "docker"
    """`docker` runs SGLang in a container, `process` the embedded engine of
    `inventories/local.py`."""
    image: ImageReference = "auto"
    """SGLang's image: `repository:tag` or `repository@sha256:…`. `auto`: the variant's, else
    `lmsysorg/sglang:spark`."""
    sglang_version: str = "auto"
    """SGLang's version in the image, which decides how its options are spelled. `auto`: read from
    the image."""
    pull: Literal["never", "missing", "always"] = "missing"
    """When to pull the image. `never` refuses the deploy if the image is missing."""
    gpus: Gpus = "all"
    """GPUs for a rank, as docker's `--gpus` takes them, or CDI devices (`nvidia.com/gpu=0`).
    `none`: no GPU, for a CPU image."""
    ipc: Literal["private", "shareable", "host"] = "private"
    """Docker's IPC mode. With `host`, logind removes semaphores when the SSH session ends, which
    hangs SGLang hours later, and `shm_size` has no effect."""
    shm_size: Size = "32g"
    """Size of a rank's own `/dev/shm`."""
    head_container: ContainerName = "sglang-head"
    """Name of rank 0's container."""
    worker_container: ContainerName = "sglang-worker"
    """Prefix of the other containers' names: rank N is `sglang-worker-N`."""
    restart_policy: Literal["no", "on-failure", "unless-stopped", "always"] = "unless-stopped"
    """Docker's restart policy. It is set once the group is ready, and cleared before a stop."""
    volumes: tuple[Volume, ...] = ()
    """More mounts, as `/source:/target[:ro]`."""
    env: dict[str, str] = field(default_factory=dict)
    """More environment variables, merged over all layers. Not for secrets: they would show in
    `docker inspect`."""

    host: Ipv4 = "0.0.0.0"
    """IPv4 address that the API listens on. Several nodes need 0.0.0.0."""
    port: Port = 30000
    """Port of the API, and of the other ranks' `/health`."""
    dist_port: Port = 50000
    """Port on the head's fabric address where the ranks meet. SGLang and NCCL also use random TCP
    ports between the nodes."""
    dist_timeout: Seconds | Auto = "auto"
    """Seconds the ranks wait for each other. `auto`: SGLang's own limit."""
    address: str = ""
    """This node's IPv4 address on the fabric. Empty: chosen from the cabled port."""
    rdma: Literal["auto", "on", "off"] = "auto"
    """RDMA over the cabled QSFP port. `on` requires every cabled half to be active, `off` uses TCP
    (10-20 times slower)."""
    twins: Literal["auto", "both", "first"] = "auto"
    """Which halves of the QSFP port carry traffic. `auto`: both if they are in different subnets,
    else one."""
    nccl_ib_hca: str = ""
    """HCAs in the syntax of `NCCL_IB_HCA`: a comma-separated list of name prefixes; `=` for exact
    names, `^` to exclude. Empty: chosen."""
    nccl_socket_ifname: str = ""
    """Interface over which NCCL's ranks meet, in the syntax of `NCCL_SOCKET_IFNAME`. Empty:
    chosen."""
    gloo_socket_ifname: str = ""
    """Interfaces for gloo, full names separated by commas. Empty: chosen."""
    nccl_debug: str = "INFO"
    """`NCCL_DEBUG`. INFO lets the deploy read the transport from the log."""

    hf_cache: NodePath = "/raid/hf-cache"
    """`HF_HOME` on the node. It must exist and be writable. The engine sees only `hub/`,
    read-only."""
    cache_dir: CacheFolder = "auto"
    """Folder on the node for what ranks compile, which makes their later starts shorter. `auto`:
    `spark-serving` below `hf_cache`; `none`: nothing is kept. Without GPUs there is nothing."""
    hf_endpoint: Url = ""
    """URL of the hub, or of a mirror, which then gets the token too (https only). Empty:
    huggingface.co."""
    hf_token_file: str = ""
    """A 0600 file where you run pyinfra that holds the Hugging Face token. Empty: `HF_TOKEN`, or
    else what `hf auth login` stored."""
    api_key_file: str = ""
    """A 0600 file where you run pyinfra that holds the API key clients must send. Empty: no key is
    required."""
    offline: bool = False
    """Never contact the hub; refuse the deploy if the nodes lack files."""
    verify: Literal["changed", "full"] = "changed"
    """Which files of the weights to hash: those whose size or time changed, or all, on every
    node."""
    tiktoken_dir: NodePath = "~/tiktoken_encodings"
    """Folder on the node for gpt-oss's vocabularies; each file is checked by its hash."""
    tiktoken_source: str = "https://openaipublic.blob.core.windows.net/encodings"
    """Where the vocabularies come from: a URL that the head reads, or a folder where you run
    pyinfra."""

    ready_timeout: Seconds | Auto = "auto"
    """Seconds for a started group to become ready. `auto`: 600 for several nodes, 300 for one; 900
    more where the model has not served with this image yet, and kernels are compiled."""
    download_stall_timeout: Seconds = 300
    """Seconds without a byte after which a download of weights has failed."""
    pull_timeout: Seconds = 7200
    """Seconds an image pull may take."""
    stop_timeout: Seconds = 30
    """Seconds until a rank that does not stop by itself is killed."""

    firewall: Literal["present", "absent"] = "present"
    """`deploys/firewall.py` sets up ufw with our rules, or removes our rules."""
    api_networks: tuple[Network, ...] = ()
    """Networks that the firewall lets reach the API. Empty: only the nodes themselves."""
    monitoring_networks: tuple[Network, ...] = ()
    """Networks that the firewall lets reach Prometheus, Alertmanager and Grafana, where
    `monitoring_address` is not loopback. Empty: only the nodes themselves."""
    fabric_networks: tuple[Network, ...] = ("192.168.100.0/24", "192.168.101.0/24")
    """`deploys/network.py`: one IPv4 network for each half of the cabled port."""
    fabric_mtu: Annotated[int, Meta(ge=1280, le=9978)] = 9000
    """`deploys/network.py`: MTU of both halves. RDMA's 4096-byte packets need jumbo frames."""
    linger: bool = False
    """`deploys/host.py`: keep the login's processes, and the semaphores of `ipc=host`, when its SSH
    session ends."""
    earlyoom: bool = False
    """`deploys/host.py`: install earlyoom, which kills a process before memory runs out."""
    drop_caches: bool = False
    """Drop the page cache before loading a model; the GPU's allocator does not reclaim it."""

    watchdog: Literal["on", "off"] = "on"
    """`deploys/watchdog.py` has every node watch the group, and restart it where it no longer
    serves; or removes that."""
    watchdog_port: Port = 9109
    """Port of the head's watchdog on its fabric address; the workers' connect to it."""
    memory_floor: Annotated[int, Meta(ge=0, le=64)] = 2
    """GB: below this MemAvailable for 5 s, the watchdog ends the node's rank before the node
    freezes. 0: never."""

    monitoring: Literal["present", "absent"] = "present"
    """`deploys/monitoring.py` runs Prometheus, Alertmanager, Grafana and exporters, or removes
    them."""
    monitoring_data: Literal["keep", "absent"] = "keep"
    """What happens to Prometheus' data, and to silences, with `monitoring=absent`."""
    monitoring_address: MonitoringAddress = "loopback"
    """Where Prometheus, Alertmanager and Grafana listen: `loopback`, `management` (the address that
    SSH comes in by), or another IPv4 address of their host. The first two have no password."""
    prometheus_port: Port = 9090
    """Port of Prometheus on the head, or on the host in `monitor`."""
    alertmanager_port: Port = 9093
    """Port of Alertmanager on the head."""
    grafana_port: Port = 3000
    """Port of Grafana on the head."""
    node_exporter_port: Port = 9100
    """Port of node_exporter on every node, on its fabric address, on the head on loopback; with a
    host in `monitor`, on the address that SSH comes in by."""
    monitoring_retention: Retention = "15d"
    """How long Prometheus keeps its data."""
    monitoring_disk: Annotated[int, Meta(ge=1, le=100000)] = 10
    """GB of disk that Prometheus' data may take; the oldest goes first."""
    alert_receiver: str = ""
    """A 0600 file where you run pyinfra that says who is notified of alerts: the URL of a webhook,
    or a mail server. Empty: nobody."""
    grafana_password_file: str = ""
    """A 0600 file where you run pyinfra that holds the password of Grafana's user `admin`. Empty:
    there is no Grafana."""
    grafana_anonymous: bool = False
    """Whoever reaches Grafana may look at its boards without a password."""
    prometheus_image: ImageReference = "prom/prometheus:v3.5.0"
    """Prometheus' image."""
    alertmanager_image: ImageReference = "prom/alertmanager:v0.28.1"
    """Alertmanager's image."""
    grafana_image: ImageReference = "grafana/grafana:12.1.0"
    """Grafana's image."""
    node_exporter_image: ImageReference = "prom/node-exporter:v1.9.1"
    """node_exporter's image."""


SECTIONS = {
    "What is served": "model",
    "How a rank runs": "group",
    "Where it listens, and how the ranks meet": "host",
    "What a node keeps": "hf_cache",
    "Time limits": "ready_timeout",
    "The node itself": "firewall",
    "Watchdog": "watchdog",
    "Monitoring": "monitoring",
}
"""Headings of docs/settings.md, each with the first setting below it."""
PER_NODE = (
    *("address", "nccl_ib_hca", "nccl_socket_ifname", "gloo_socket_ifname"),
    *("hf_cache", "cache_dir", "tiktoken_dir", "env", "volumes", "gpus"),
)
NAMES = tuple(f.name for f in fields(Settings))


def descriptions() -> dict[str, str]:
    """Name → what a setting means: the text that stands below it in this file."""
    (settings,) = ast.parse(inspect.getsource(Settings)).body
    return {
        ast.unparse(setting.target): " ".join(ast.literal_eval(text.value).split())
        for setting, text in pairwise(ast.iter_child_nodes(settings))
        if isinstance(setting, ast.AnnAssign) and isinstance(text, ast.Expr)
    }
