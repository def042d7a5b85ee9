"""What a deploy needs of its nodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

GIB = 2**30


@dataclass(frozen=True)
class Needs:
    """What the checks hold the nodes against. Sizes are bytes for each node; 0: nothing to hold.

    + hf_cache: the path by node name
    + port, dist_port: every rank serves on the first; the head alone meets the others on the second
    + needs_bytes: of the model's weights on disk; 0 where nothing will be downloaded
    + image_bytes: what the image takes unpacked; None where unknown
    + our_names: names of this group's ranks
    """

    runtime: Literal["docker", "process"] = "docker"
    gpus: bool = True
    image: str = ""
    hf_cache: Mapping[str, str] = field(default_factory=dict)
    port: int = 30000
    dist_port: int = 50000
    needs_bytes: int = 0
    image_bytes: int | None = None
    our_names: frozenset[str] = frozenset()


def size(count: int) -> str:
    return f"{count / GIB:.1f} GiB"
