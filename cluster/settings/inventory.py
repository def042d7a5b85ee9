"""What an inventory file must look like.

pyinfra ignores a group that it can't read, and a name that only ssh understands, and then reaches
no node, or a different one.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from ipaddress import ip_address
from types import GeneratorType
from typing import Any

from cluster.findings import Finding, error, nearest_names

GROUPS = ("head", "workers", "monitor")
# pyinfra's own group of all hosts, which an inventory may define.
ALL = "all"
_PORT = re.compile(r"(?P<host>[^:]+):(?P<port>[0-9]{1,5})")
_BRACKETS = re.compile(r"\[(?P<host>[^\]]+)\](?::(?P<port>[0-9]{1,5}))?")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


def unreadable_groups(file: str, variables: Mapping[str, Any]) -> Iterator[Finding]:
    """Errors for groups that pyinfra would ignore, or misread.

    + variables: the file's, by name
    """
    public = {name: value for name, value in variables.items() if not name.startswith("_")}
    for name in (*GROUPS, ALL):
        if name in public:
            yield from _group(file, name, public[name])
    for name, value in public.items():
        if name not in (*GROUPS, ALL) and isinstance(value, tuple) and not _is_group(value):
            yield error(
                f"{name} of {file} is {_kind(value)}: pyinfra reads every tuple as a group",
                cure=f"call it _{name}, or make it a list in a dict of settings",
                key="inventory-groups",
            )
    if "head" not in public and ALL not in public:
        near = [name for name in public if name.lower().rstrip("s") in ("head", "master", "main")]
        near += nearest_names("head", public, cutoff=0.7)
        hint = f" ({near[0]} is another name)" if near else ""
        yield error(
            f"the group `head` has no host{hint}: it must have exactly one",
            cure=f'head = ["spark-1"]; workers = ["spark-2"] in {file}',
            key="inventory-groups",
        )


def _is_group(value: Any) -> bool:
    """Whether pyinfra reads it as hosts, or as hosts and their data."""
    if isinstance(value, tuple):
        return len(value) == 2 and isinstance(value[0], list | tuple) and isinstance(value[1], dict)
    return isinstance(value, list)


def _group(file: str, name: str, value: Any) -> Iterator[Finding]:
    node = "spark-2" if name == "workers" else "watcher" if name == "monitor" else "spark-1"
    usual = f'{name} = (["{node}"], SETTINGS), or {name} = ["{node}"]'
    if not _is_group(value):
        yield error(
            f"the group `{name}` of {file} is {_kind(value)}: it must be a list of names, or a "
            "list of names and a dict of settings in parentheses",
            cure=usual,
            key="inventory-groups",
        )
        return
    hosts, settings = value if isinstance(value, tuple) else (value, {})
    if name == "head" and not hosts:
        yield error(
            f"the group `head` of {file} has no host: it must have exactly one",
            cure=usual,
            key="inventory-groups",
        )
    for host in hosts:
        # pyinfra ends at an empty name with an IndexError.
        if host == "" or (_with_settings(host) and not host[0]):
            yield error(
                f"the group `{name}` of {file} has a node without a name",
                cure=usual,
                key="inventory-groups",
            )
        if not (isinstance(host, str) or _with_settings(host)):
            yield error(
                f"the group `{name}` of {file} has {_kind(host)} for a node: it must be a name, "
                "or a name and a dict of settings in parentheses",
                cure=f'{name} = ["spark-1", ("spark-2", {{"hf_cache": "/data/hf"}})]',
                key="inventory-groups",
            )
    named = (host for host in hosts if _with_settings(host))
    for data in (settings, *(host[1] for host in named)):
        for key in data:
            if not isinstance(key, str):
                yield error(
                    f"the group `{name}` of {file} has a setting named {_kind(key)}",
                    cure=usual,
                    key="inventory-groups",
                )


def _with_settings(host: Any) -> bool:
    return (
        isinstance(host, tuple)
        and len(host) == 2
        and isinstance(host[0], str)
        and isinstance(host[1], dict)
    )


def _kind(value: Any) -> str:
    """A value as its author will recognize it."""
    if isinstance(value, tuple):
        if len(value) == 1:
            return "a tuple of one item (a stray comma after it?)"
        return f"a tuple of {len(value)} items that are not a list and a dict"
    if isinstance(value, GeneratorType):
        return "a generator"
    if isinstance(value, str):
        return f"the text {value[:80]!r}"
    if isinstance(value, list | dict | set | frozenset):
        return f"a {type(value).__name__}"
    return repr(value)[:80]


def unreachable_names(name: str, data: Mapping[str, Any]) -> Iterator[Finding]:
    """Errors for names and ports in an inventory that pyinfra can't connect to.

    + data: of the host, all layers; only pyinfra's ssh_* matter
    """
    if name.startswith("@ssh/"):
        yield from _host(name, name.removeprefix("@ssh/"))
    elif not name.startswith("@"):
        yield from _host(name, name)
    other = data.get("ssh_hostname")
    if other is not None and other != name.removeprefix("@ssh/"):
        yield from _host(f"ssh_hostname of {name}", other)
    port = data.get("ssh_port")
    number = int(str(port)) if re.fullmatch(r"[0-9]{1,5}", str(port)) else 0
    if port is not None and not (type(port) in (int, str) and 0 < number < 65536):
        yield error(
            f"ssh_port of {name} is {port!r}: it must be a number from 1 to 65535",
            cure="--data ssh_port=22",
            key="host-name",
        )


def _host(where: str, value: Any) -> Iterator[Finding]:
    """The error for a host's name or address, with the settings its parts belong to."""
    if not isinstance(value, str):
        yield error(f"{where} is {_kind(value)}: it must be a name or an address", key="host-name")
        return
    rest, scheme, after = value, *value.partition("://")[1:]
    settings: dict[str, Any] = {}
    if scheme:
        rest = after.rstrip("/")
    user, at, host = rest.rpartition("@")
    if at:
        settings["ssh_user"] = user
    if bracketed := _BRACKETS.fullmatch(host) or _PORT.fullmatch(host):
        host = bracketed["host"]
        if bracketed["port"]:
            settings["ssh_port"] = int(bracketed["port"])
    address = ""
    with suppress(ValueError):
        address = str(ip_address(host.partition("%")[0]))
    if not (_NAME.fullmatch(host) or address):
        yield error(
            f"{where}: {value!r} is neither a name nor an address",
            cure='use a name that `ssh NAME` reaches, and nothing else: "spark-1"',
            key="host-name",
        )
    elif host != value:
        parts = ["the user has its own setting"] if at else []
        if "ssh_port" in settings:
            parts.append("so does the port" if at else "the port has its own setting")
        what = ", ".join(parts) or "it must be only a name or an address"
        data = f", {settings}" if settings else ""
        named = f'("{host}"{data})' if settings else f'"{host}"'
        options = " ".join(f"--data {key}={item}" for key, item in settings.items())
        yield error(
            f"{where}: pyinfra reads {value!r} as a host name: {what}",
            cure=f"{named} in the inventory{f', or {host} with {options}' if options else ''}",
            key="host-name",
        )
