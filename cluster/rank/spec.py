"""One rank, as data: what its container (or process) must be. Its canonical JSON is its label.

A label is written by `Spec.dump` and read by `read_label`: nothing else knows what is in one.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import msgspec

from cluster.engine.argv import Launch

# More nodes than any group has: a label with more is not taken for a spec.
MOST_NODES = 1024
# The host of a server that listens on every address.
EVERYWHERE = "0.0.0.0"
# What labels of earlier versions lack: an empty one is no difference.
LATER_FIELDS = {"variant", "kv_cache_dtype", "model_args", "compile_caches"}
# "0.5.3.post3"; "" for the process runtime.
_VERSION = re.compile(r"[0-9A-Za-z.+-]{0,40}")


@dataclass(frozen=True, kw_only=True)
class Spec:
    """Everything that decides what a rank runs. Two equal specs are the same rank.

    + group: whose rank it is: several groups may live on one node, on ports of their own
    + image: the reference; the image id is compared apart, since a tag can move
    + variant: the model's, by its name in the catalog; "" for its default, or where it has none
    + sglang: version that the launch line is written for, "" for the process runtime
    + volumes: "source:target[:ro]"
    + compile_caches: the node's folder for what ranks compile; "" where nothing is kept
    """

    rank: int
    name: str
    runtime: str
    model: str
    launch: Launch
    group: str = "sglang"
    image: str = ""
    sglang: str = ""
    env: dict[str, str] = field(default_factory=dict)
    volumes: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    gpus: str = ""
    ipc: str = ""
    shm_size: str = ""
    restart_policy: str = ""
    variant: str = ""
    compile_caches: str = ""

    def fields(self) -> dict[str, Any]:
        """All of it by name, but for later fields where they are empty, as in earlier labels."""
        values: dict[str, Any] = msgspec.to_builtins(self)
        for named in (values, values["launch"]):
            for name in LATER_FIELDS & named.keys():
                if not named[name]:
                    del named[name]
        return values

    def dump(self) -> str:
        """The canonical JSON: sorted keys, no spaces, so that equality is equality of strings."""
        return msgspec.json.encode(self.fields(), order="sorted").decode()

    @property
    def url(self) -> str:
        """Where the rank serves, as its own node reaches it."""
        return local_url(self.launch.host, self.launch.port)


@dataclass(frozen=True)
class Label:
    """The content of a container's or process's label.

    + spec: None for a label that is no spec of ours, or has numbers that no spec has: whoever may
      create a container may write one, and so may another version of ours
    + group, rank: what can be read even then; "" and None where it can't
    """

    spec: Spec | None = None
    group: str = ""
    rank: int | None = None


@lru_cache(maxsize=256)
def read_label(text: str | None) -> Label:
    """A label as its container carries it; None: it carries none. Never an error.

    Fields that an older version did not write have their defaults; unknown ones are ignored.
    """
    try:
        fields = msgspec.json.decode(text or "")
    except (msgspec.DecodeError, RecursionError):
        return Label()
    if not isinstance(fields, dict):
        return Label()
    group, rank = fields.get("group"), fields.get("rank")
    spec: Spec | None = None
    with suppress(msgspec.ValidationError):
        spec = msgspec.convert(fields, type=Spec)
        placed = 0 <= spec.rank < spec.launch.nnodes <= MOST_NODES
        if not (placed and 0 < spec.launch.port < 65536 and _VERSION.fullmatch(spec.sglang)):
            spec = None
    return Label(spec, group if isinstance(group, str) else "", rank if type(rank) is int else None)


def local_url(host: str, port: int) -> str:
    """The URL of a rank that listens there, as its own node reaches it."""
    return f"http://{'127.0.0.1' if host == EVERYWHERE else host}:{port}"


def group_urls(specs: Mapping[str, Spec]) -> list[str]:
    """Where each rank of a group serves, as its head reaches it, rank 0 first."""
    head, *workers = specs.values()
    hosts = [worker.env.get("SGLANG_HOST_IP", "") for worker in workers]
    return [head.url, *(f"http://{host}:{head.launch.port}" for host in hosts)]


def label_drift(label: str, spec: Spec, *, serves: bool = False) -> tuple[str, ...]:
    """Why a label's spec is not this one, field by field: "mem_fraction: 0.9 -> 0.8".

    + serves: its rank runs. That it keeps nothing of what it compiles is then no difference: its
      next start, for whatever reason, gets the folder
    """
    try:
        old = dict(_flat(msgspec.json.decode(label)))
    except (msgspec.DecodeError, AttributeError, TypeError, ValueError, RecursionError):
        return ("its label is not a spec of ours",)
    new = dict(_flat(spec.fields()))
    # Docker can change the policy of an existing container: no reason to create another.
    names = (old.keys() | new.keys()) - {"restart_policy"}
    if serves and "compile_caches" not in old:
        names -= {"compile_caches"}
    return tuple(
        f"{name}: {_show(old, name)} -> {_show(new, name)}"
        for name in sorted(names)
        if old.get(name) != new.get(name)
    )


def _show(fields: Mapping[str, Any], name: str) -> str:
    return repr(fields[name]) if name in fields else "(none)"


def _flat(spec: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Fields by name; the launch's as they are, "env NAME", and "volume TARGET"."""
    for name, value in spec.items():
        if name == "launch":
            yield from _flat(value)
        elif name == "env":
            yield from ((f"env {key}", v) for key, v in value.items())
        elif name == "volumes":
            yield from ((f"volume {v.split(':')[1]}", v) for v in value if ":" in v)
        else:
            yield name, list(value) if isinstance(value, tuple) else value
