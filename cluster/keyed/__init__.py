"""Whether a rank asks its clients for a key, where the key lies, and how SGLang gets it.

A spec tells only that there is a key, by its mount. Rank 0 alone has it: the others answer nothing
but their health.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

# Of root, on the disk: a rank that comes back after a reboot must not come back open.
NODE_KEYS = "/var/lib/spark-serving"
CONTAINER_KEYS = "/run/secrets/spark-serving-api"
KEY_FILE = "api_key"
Words = tuple[str, ...]


def folder(group: str) -> str:
    """A group's folder on the head's node."""
    return f"{NODE_KEYS}/{group}"


def volume(group: str) -> str:
    """The mount that gives rank 0 its key."""
    return f"{folder(group)}:{CONTAINER_KEYS}:ro"


def is_keyed(volumes: tuple[str, ...] | list[str]) -> bool:
    """Whether a rank with these mounts asks for a key."""
    return any(v.split(":")[1:2] == [CONTAINER_KEYS] for v in volumes)


def words(module: Words, volumes: tuple[str, ...]) -> Words:
    """`python3 -m MODULE …`, or the same by way of the launcher that brings the key."""
    how = ("-c", _launcher()) if is_keyed(volumes) else ("-m",)
    return ("python3", *how, *module)


@cache
def _launcher() -> str:
    return (Path(__file__).parent / "launch.py").read_text()
