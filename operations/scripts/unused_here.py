"""unused_here: what a node keeps for groups of ours, with sizes; and removing what a plan names.

Runs on the node as the login, by its own Python: one JSON object on stdin, one on stdout. Nothing
outside the hub's folder, `cache_dir` and Docker's images is touched, and no link is followed.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

Entry = dict[str, Any]

MANIFEST = ".spark-serving.json"
REPOSITORY = re.compile(r"models--([A-Za-z0-9_][A-Za-z0-9_.-]*)--([A-Za-z0-9_][A-Za-z0-9_.-]*)")
IMAGE = re.compile(r"[0-9a-f]{12}")
RANK = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*-[0-9]+")
# Seconds: of a lease without a sign of life (cluster/lease.py), and of one of Docker's commands.
STALE = 60
DOCKER = 600


def main() -> None:
    task = json.load(sys.stdin)
    try:
        print(json.dumps(ACTIONS[task.pop("do")](**task)))
    except OSError as wrong:
        print(json.dumps({"failed": str(wrong)}))


def look(hub: str, root: str, task: str) -> Entry:
    """What is there.

    + hub: the hub's folder; root: `cache_dir`, "" where nothing is kept
    + task: the label of our containers that are no ranks
    """
    running = docker("ps", "--all", "--filter", f"label={task}", "--format", "{{.Labels}}")
    return {
        "repositories": [read_repository(at) for at in repositories(Path(hub))],
        "compiled": [
            {"image": at.parent.name, "rank": at.name, "bytes": disk_bytes(at)}
            for at in compiled(root)
        ],
        "images": list_images(root),
        "tasks": running.splitlines(),
        "leases": sorted(leases()),
    }


def disk_bytes(folder: Path) -> int:
    """What a folder takes, without what links lead to."""
    total = 0
    for at, _folders, files in os.walk(folder):
        for name in files:
            with suppress(OSError):
                total += os.lstat(os.path.join(at, name)).st_blocks * 512
    return total


# ---- the hub's cache


def repositories(hub: Path) -> Iterator[Path]:
    if hub.is_dir():
        for entry in sorted(os.scandir(hub), key=lambda e: e.name):
            if REPOSITORY.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
                yield Path(entry.path)


def read_repository(at: Path) -> Entry:
    """`placed`: a deploy has begun the folder; `also`: something in it that no deploy recorded."""
    org, name = REPOSITORY.fullmatch(at.name).groups()  # type: ignore[union-attr]
    manifest: Entry = {}
    with suppress(OSError, ValueError, RecursionError):
        loaded = json.loads((at / MANIFEST).read_text())
        manifest = loaded if isinstance(loaded, dict) else {}
    revisions = manifest.get("revisions")
    revisions = revisions if isinstance(revisions, dict) else {}
    listed = {
        entry.get(key)
        for files in revisions.values()
        if isinstance(files, dict)
        for entry in files.values()
        if isinstance(entry, dict)
        for key in ("blob", "hash")
    }
    others = [f"snapshots/{n}" for n in names(at / "snapshots") if n not in revisions]
    others += [
        f"blobs/{n}" for n in names(at / "blobs") if n not in listed and ".incomplete" not in n
    ]
    placed = manifest.get("placed") is True
    return {
        "id": f"{org}/{name}",
        "bytes": disk_bytes(at),
        "placed": placed,
        "also": others[0][:200] if others else "",
    }


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder)) if folder.is_dir() and not folder.is_symlink() else []


def remove_repository(hub: str, name: str) -> None:
    at = next(r for r in repositories(Path(hub)) if read_repository(r)["id"] == name)
    now = read_repository(at)
    if not now["placed"] or now["also"]:
        raise OSError(f"{at} has changed meanwhile")
    # The manifest goes last: what an interrupted removal leaves is still known to be ours.
    for entry in sorted(os.scandir(at), key=lambda e: e.name == MANIFEST):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        else:
            os.unlink(entry.path)
    at.rmdir()


# ---- compile caches


def compiled(root: str) -> Iterator[Path]:
    top = Path(root, "compile")
    if not root or top.is_symlink() or not top.is_dir():
        return
    for image in sorted(os.scandir(top), key=lambda e: e.name):
        if not IMAGE.fullmatch(image.name) or not image.is_dir(follow_symlinks=False):
            continue
        for rank in sorted(os.scandir(image.path), key=lambda e: e.name):
            if RANK.fullmatch(rank.name) and rank.is_dir(follow_symlinks=False):
                yield Path(rank.path)


def remove_compiled(root: str, name: str) -> None:
    at = next(at for at in compiled(root) if f"{at.parent.name}/{at.name}" == name)
    try:
        shutil.rmtree(at)
    except PermissionError:
        # Engines run as root: any image with `rm` does for what they have written.
        ids = docker("image", "ls", "--quiet", "--no-trunc").split()
        ids.sort(key=lambda i: not i.startswith(f"sha256:{at.parent.name}"))
        for image in dict.fromkeys(ids):
            with suppress(OSError):
                run = ("run", "--rm", "--network", "none", "--pull", "never", "--entrypoint", "rm")
                docker(*run, "--volume", f"{at.parent}:/at", image, "-rf", f"/at/{at.name}")
                break
        if at.exists():
            raise OSError(f"{at} belongs to root, and no image could remove it") from None
    with suppress(OSError):
        at.parent.rmdir()


# ---- images


def list_images(root: str) -> list[Entry]:
    """Every image; `names`: those under which a deploy has brought it, [] for none of ours."""
    ids = list(dict.fromkeys(docker("image", "ls", "--quiet", "--no-trunc").split()))
    containers = docker("ps", "--all", "--quiet", "--no-trunc").split()
    used = set()
    for container in containers:
        with suppress(OSError):  # it may have gone meanwhile
            used.add(docker("inspect", "--type=container", "-f", "{{.Image}}", container).strip())
    described = []
    for image in ids:
        with suppress(OSError):
            read = json.loads(docker("image", "inspect", "--format", "{{json .}}", image))
            record = Path(root, "images", image.removeprefix("sha256:"))
            there = bool(root) and record.is_file() and not record.is_symlink()
            described.append(
                {
                    "id": image,
                    "tags": read.get("RepoTags") or [],
                    "bytes": read.get("Size") or 0,
                    "used": image in used,
                    "names": record.read_text()[:65536].split() if there else [],
                }
            )
    return described


def remove_image(root: str, image: str) -> None:
    now = next(i for i in list_images(root) if i["id"] == image)
    if now["used"] or not now["names"] or set(now["tags"]) - set(now["names"]):
        raise OSError("it has changed meanwhile")
    for tag in now["tags"]:
        docker("image", "rm", tag)
    with suppress(OSError):  # its last name may have taken it along
        docker("image", "rm", image)
    if image in docker("image", "ls", "--all", "--quiet", "--no-trunc").split():
        raise OSError("Docker keeps it: another image may be built on it")
    os.unlink(Path(root, "images", image.removeprefix("sha256:")))


def docker(*words: str) -> str:
    try:
        done = subprocess.run(
            ["docker", *words], capture_output=True, text=True, errors="replace", timeout=DOCKER
        )
    except subprocess.TimeoutExpired:
        raise OSError(f"docker {words[0]}: no answer in {DOCKER} s") from None
    if done.returncode:
        raise OSError(f"docker {words[0]}: {done.stderr.strip()[-300:]}")
    return done.stdout


# ---- runs of others


def leases() -> Iterator[str]:
    """Groups whose lease somebody holds at this node."""
    for base in {"/run/lock", os.environ.get("TMPDIR", "/tmp"), "/tmp"}:
        folder = Path(base, "spark-serving")
        for name in names(folder):
            with suppress(OSError):
                fresh = abs(time.time() - os.lstat(folder / name).st_mtime) < STALE
                if name.endswith(".lease") and not name.startswith(".") and fresh:
                    yield name.removesuffix(".lease")


def remove(hub: str, root: str, items: list[list[str]]) -> Entry:
    """Remove these, in this order; `failed`: what is left, and why.

    + items: kind and name: a repository's id, IMAGE/RANK, an image's id
    """
    failed: Entry = {}
    for kind, name in items:
        try:
            if kind == "weights":
                remove_repository(hub, name)
            elif kind == "compiled":
                remove_compiled(root, name)
            elif kind == "image":
                remove_image(root, name)
        except StopIteration:
            pass  # it is gone
        except OSError as wrong:
            failed[f"{kind} {name}"] = str(wrong)
    return {"left": failed}


ACTIONS: dict[str, Callable[..., Entry]] = {"look": look, "remove": remove}

if __name__ == "__main__":
    main()
