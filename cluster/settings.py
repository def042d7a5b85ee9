"""What the user declared: every setting, its type, range and default, validated as a whole."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from functools import cache
from typing import Annotated, Any, Literal, get_type_hints

import msgspec
from msgspec import Meta

from cluster.findings import Finding, Refused, error

Port = Annotated[int, Meta(ge=1, le=65535)]
Positive = Annotated[int, Meta(ge=1)]
Seconds = Annotated[int, Meta(ge=1, le=86400)]
Fraction = Annotated[float, Meta(gt=0, lt=1)]
# Docker's own rule for names: https://github.com/moby/moby/blob/master/daemon/names/names.go
ContainerName = Annotated[str, Meta(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_.-]+$")]
Size = Annotated[str, Meta(pattern=r"^[0-9]+[bkmg]$")]
EnvName = r"^[A-Za-z_][A-Za-z0-9_]*$"
Auto = Literal["auto"]

# Data that pyinfra and its connectors own; everything else must be a setting of ours.
FOREIGN = ("_", "ssh_", "fake_", "local_", "docker_", "podman_", "winrm_")
# Names whose value is a secret: it travels as a file (hf_token_file), never in env.
SECRET_ENV = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HUGGINGFACE_TOKEN")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """One node's settings. All nodes agree on them, but for those in PER_NODE.

    The meaning of each stands beside its default in inventories/group_data/all.py.
    """

    # what is served
    model: str | int = "gpt-oss-120b"
    served_model_name: str = ""
    state: Literal["running", "stopped", "absent"] = "running"
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
    image: Annotated[str, Meta(min_length=1)] = "lmsysorg/sglang:spark"
    sglang_version: str = "auto"
    pull: Literal["never", "missing", "always"] = "missing"
    gpus: str = "all"
    ipc: Literal["private", "shareable", "host"] = "private"
    shm_size: Size = "32g"
    head_container: ContainerName = "sglang-head"
    worker_container: ContainerName = "sglang-worker"
    restart_policy: Literal["no", "on-failure", "unless-stopped", "always"] = "unless-stopped"
    volumes: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    # where it listens, and how the ranks meet
    host: str = "0.0.0.0"
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
    hf_cache: Annotated[str, Meta(min_length=1)] = "/raid/hf-cache"
    hf_token_file: str = ""
    tiktoken_dir: Annotated[str, Meta(min_length=1)] = "~/tiktoken_encodings"
    tiktoken_source: str = "https://openaipublic.blob.core.windows.net/encodings"
    # how long we wait
    ready_timeout: Seconds | Auto = "auto"
    download_stall_timeout: Seconds = 300
    pull_timeout: Seconds = 7200
    stop_timeout: Seconds = 30


PER_NODE = (
    *("address", "nccl_ib_hca", "nccl_socket_ifname", "gloo_socket_ifname"),
    *("hf_cache", "tiktoken_dir", "env", "volumes", "gpus"),
)
NAMES = tuple(f.name for f in fields(Settings))


@dataclass(frozen=True)
class Declared:
    """What an inventory says of one host.

    + data: the winning value of each key (pyinfra's order: --data, host, groups, all)
    + env_layers: every `env` given for the host, weakest first: pyinfra would keep the last alone
    """

    name: str
    groups: tuple[str, ...]
    data: Mapping[str, Any]
    env_layers: Sequence[Any] = ()


@dataclass(frozen=True)
class Wanted:
    """The whole declaration: the serving nodes in rank order, and the nodes that serve nothing.

    + nodes: node name → its settings, rank 0 first
    + idle: workers left out by head_only, whose old ranks must go
    """

    nodes: Mapping[str, Settings]
    idle: Mapping[str, Settings]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.nodes)

    @property
    def head(self) -> str:
        return self.names[0]

    @property
    def common(self) -> Settings:
        """The head's settings: all that is not PER_NODE holds for every node."""
        return self.nodes[self.head]


def wanted(declared: Sequence[Declared]) -> Wanted:
    """Settings of a whole inventory, hosts in its order; Refused with every mistake at once."""
    findings, settings = list(_group_errors(declared)), {}
    for host in declared:
        try:
            settings[host.name] = settings_of(host)
        except Refused as refusal:
            findings += refusal.findings
    findings += _disagreements(settings)
    if findings:
        raise Refused(*dict.fromkeys(findings))
    ordered = sorted(declared, key=lambda h: "head" not in h.groups)
    serving = ordered[:1] if settings[ordered[0].name].head_only else ordered
    return Wanted(
        nodes={h.name: settings[h.name] for h in serving},
        idle={h.name: settings[h.name] for h in ordered if h not in serving},
    )


def settings_of(host: Declared) -> Settings:
    """One host's settings from its data; Refused with every unknown name and wrong value."""
    values: dict[str, Any] = {}
    findings: list[Finding] = []
    for name, value in host.data.items():
        if name.startswith(FOREIGN):
            continue
        try:
            values[name] = _env(host) if name == "env" else convert(name, value)
        except Refused as refusal:
            findings += refusal.findings
    if findings:
        raise Refused(*findings)
    return Settings(**values)


def convert(name: str, value: Any) -> Any:
    """A setting's value in its type, from what an inventory or `--data` gave."""
    if name not in NAMES:
        raise Refused(_unknown(name))
    if value is None and "auto" in _allowed(name):
        value = "auto"
    try:
        words = name in ("extra_args", "volumes") and isinstance(value, str)
        return _sayable(
            msgspec.convert(shlex.split(value) if words else value, _types()[name], strict=True)
        )
    # Not ValidationError alone, which is one: shlex on a quote without its end, and _sayable.
    except ValueError:
        raise Refused(
            error(
                f"{name} = {value!r} is not allowed: it must be {_allowed(name)}",
                cure=f"--data {name}={_example(name)}{_quoting(name, value)}",
            )
        ) from None


def _sayable(value: Any) -> Any:
    """The value, if a command line and JSON can carry it: no NUL, no half of a character."""
    for text in (value,) if isinstance(value, str) else value if isinstance(value, tuple) else ():
        if "\0" in text:
            raise ValueError(text)
        text.encode()
    return value


def nearest(word: str, known: Iterable[str]) -> str:
    """ "; did you mean a or b?", or "" where nothing is near."""
    near = get_close_matches(word, list(known), n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def _unknown(name: str) -> Finding:
    return error(
        f"{name} is not a setting{nearest(name, NAMES)}",
        cure="every setting stands in inventories/group_data/all.py",
    )


@cache
def _types() -> dict[str, Any]:
    return get_type_hints(Settings, include_extras=True)


@cache
def _default(name: str) -> Any:
    return getattr(Settings(), name)


def _example(name: str) -> str:
    value = _default(name)
    if isinstance(value, tuple):
        return shlex.join(value)
    return (str(value).lower() if isinstance(value, bool) else str(value)) or '"..."'


def _allowed(name: str) -> str:
    """The type in words: "an integer from 1 to 65535", "one of running, stopped, absent"."""
    hint = _types()[name]
    parts = getattr(hint, "__args__", ()) if _is_union(hint) else (hint,)
    return " or ".join(_words(part) for part in parts)


def _is_union(hint: Any) -> bool:
    return type(hint).__name__ in ("UnionType", "_UnionGenericAlias")


_PLAIN = {
    "str": "a string",
    "int": "an integer",
    "float": "a number",
    "bool": "true or false",
    "dict": "a mapping of names to strings",
    "tuple": "a list of strings",
}


def _words(hint: Any) -> str:
    if getattr(hint, "__metadata__", None):
        return _PLAIN[hint.__origin__.__name__] + _range(hint.__metadata__[0])
    if type(hint).__name__ == "_LiteralGenericAlias":
        choices = ", ".join(hint.__args__)
        return f"one of {choices}" if len(hint.__args__) > 1 else choices
    return _PLAIN[getattr(hint, "__origin__", hint).__name__]


def _range(meta: Meta) -> str:
    if meta.pattern:
        return f" that matches {meta.pattern}"
    if meta.min_length:
        return " that is not empty"
    if meta.gt is not None:
        return f" between {meta.gt} and {meta.lt}"
    return f" from {meta.ge} to {meta.le}" if meta.le is not None else f" of at least {meta.ge}"


def _quoting(name: str, value: Any) -> str:
    """The command line reads 1.10 as a number: say how to keep it a string."""
    wants_string = _types()[name] is str or "string" in _allowed(name)
    if wants_string and isinstance(value, int | float):
        return f" (a value that looks like a number needs quotes: --data '{name}=\"{value}\"')"
    return ""


def _env(host: Declared) -> dict[str, str]:
    """All layers' env merged, stronger over weaker."""
    merged: dict[str, str] = {}
    for layer in host.env_layers or [host.data["env"]]:
        if not isinstance(layer, Mapping):
            raise Refused(_env_error(layer))
        for name, value in layer.items():
            merged[name] = _env_value(name, value)
    return merged


def _env_value(name: Any, value: Any) -> str:
    if name in SECRET_ENV:
        raise Refused(
            error(
                f"env must not hold {name}: its value would show in `docker inspect`",
                cure="set it in your shell's environment, or name a 0600 file in hf_token_file",
            )
        )
    try:
        msgspec.convert(name, Annotated[str, Meta(pattern=EnvName)])
    except msgspec.ValidationError:
        raise Refused(_env_error({name: value})) from None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise Refused(_env_error({name: value}))
    try:
        return str(_sayable(str(value)))
    except ValueError:
        raise Refused(_env_error({name: value})) from None


def _env_error(value: Any) -> Finding:
    return error(
        f"env = {value!r} is not allowed: it must be a mapping of variable names to strings",
        cure="""--data 'env={"NAME": "value"}'""",
    )


def _group_errors(declared: Sequence[Declared]) -> Iterable[Finding]:
    heads = [h.name for h in declared if "head" in h.groups]
    workers = [h.name for h in declared if "workers" in h.groups]
    if len(heads) != 1:
        seen = f"{len(heads)} hosts ({', '.join(heads)})" if heads else "no host"
        yield error(
            f"the group `head` has {seen}: it must have exactly one",
            cure='head = ["spark-1"]; workers = ["spark-2"] in the inventory',
        )
    for name in sorted(set(heads) & set(workers)):
        yield error(
            f"{name} stands in both `head` and `workers`", cure="name each node once, in one group"
        )
    for host in declared:
        # pyinfra itself lists a connector's host (@local) twice.
        twice = any(host.groups.count(group) > 1 for group in ("head", "workers"))
        if twice and not host.name.startswith("@"):
            yield error(f"{host.name} stands twice in one group", cure="name each node once")
        if not {"head", "workers"} & set(host.groups):
            yield error(
                f"{host.name} is in neither `head` nor `workers`",
                cure="put it in one of the two, or out of the inventory",
            )


def _disagreements(settings: Mapping[str, Settings]) -> Iterable[Finding]:
    for name in NAMES if settings else ():
        values = {node: getattr(s, name) for node, s in settings.items()}
        if name not in PER_NODE and len({repr(v) for v in values.values()}) > 1:
            said = ", ".join(f"{node}: {value!r}" for node, value in values.items())
            yield error(
                f"{name} differs between the nodes ({said}): it must be the same on all",
                cure=f"set {name} for all nodes, in group data or with --data {name}=…",
            )
