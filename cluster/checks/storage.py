"""Where weights and images go, and whether they fit."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from cluster.checks.needs import Needs, size
from cluster.findings import Finding, error, ok
from cluster.node.readings import IMAGE_FOLDERS, DiskReading, NodeFacts


def disk(node: NodeFacts, path: str) -> DiskReading | None:
    """The node's reading of a path, which told `~` as the login's home."""
    at = node.home + path.removeprefix("~") if path.startswith("~/") else path
    return next((d for d in node.disks if d.path == at), None)


def cache(node: NodeFacts, needs: Needs) -> Iterator[Finding]:
    """The Hugging Face cache exists, and the login may write there."""
    seen = disk(node, needs.hf_cache.get(node.name, ""))
    if seen is None:
        return
    path, own = shlex.quote(seen.path), "sudo chown -R $USER"
    if not seen.exists:
        cure = f"sudo mkdir -p {path} && {own} {path}"
        yield error(f"hf_cache {seen.path} does not exist", node.name, cure)
    elif not seen.writable:
        yield error(f"hf_cache {seen.path} is not writable", node.name, f"{own} {path}")
    else:
        yield ok(f"hf_cache {seen.path} is writable", node.name)


def room(node: NodeFacts, needs: Needs) -> Iterator[Finding]:
    """Free space against what is still to come; one file system may have to hold both."""
    coming = [
        (disk(node, needs.hf_cache.get(node.name, "")), "weights", weights_to_come(node, needs)),
        (_images(node), "image", image_to_come(node, needs)),
    ]
    by_system: dict[tuple[int, int], list[tuple[DiskReading, str, int]]] = {}
    for seen, what, count in coming:
        if seen and count:
            # A file system has no name here; its size and its free bytes tell it apart.
            by_system.setdefault((seen.total, seen.free), []).append((seen, what, count))
    for (_total, free), parts in by_system.items():
        needed, paths = sum(p[2] for p in parts), ", ".join(p[0].path for p in parts)
        terms = " + ".join(f"{size(count)} {what}" for _seen, what, count in parts)
        told = f"{paths}: {terms} = {size(needed)} needed, {size(free)} free"
        cure = f"df -h {shlex.quote(parts[0][0].path)}; docker system df; docker image prune"
        yield error(told, node.name, cure) if needed > free else ok(told, node.name)


def weights_to_come(node: NodeFacts, needs: Needs) -> int:
    if node.weights is None:
        return needs.needs_bytes
    return 0 if node.weights.complete else max(0, needs.needs_bytes - node.weights.bytes)


def image_to_come(node: NodeFacts, needs: Needs) -> int:
    there = node.image is not None or needs.runtime == "process"
    return 0 if there or _images(node) is None else needs.image_bytes or 0


def _images(node: NodeFacts) -> DiskReading | None:
    """Where the images lie; None for a folder that was not looked at: a daemon whose data are
    elsewhere."""
    seen = disk(node, node.engine.images if node.engine else IMAGE_FOLDERS[0])
    return seen if seen is None or seen.exists else None
