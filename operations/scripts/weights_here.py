"""weights_here: what a node has of a model, whether it is whole, and putting files in place.

Runs on the node as the login, by its own Python: one JSON object on stdin, one on stdout. The
folder is a repository of the Hugging Face cache (blobs/, refs/, snapshots/COMMIT/), or plain files.
What a request says of files comes from a hub or another node: the gate lets through what can be.
"""

import errno
import hashlib
import json
import os
import re
import select
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

if "__file__" in globals():  # run as a file of a checkout; a node gets the gate along with it
    sys.path.append(str(Path(__file__).resolve().parents[2]))

from cluster.transfer import gate

Entry = dict[str, Any]

MANIFEST = ".spark-serving.json"
PART = ".spark-serving-part"
# What a Git LFS pointer begins with:
# https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md
POINTER = b"version https://git-lfs.github.com/spec/"
# What a download that was not allowed, or met a portal's sign-in, leaves under a weight's name.
WEB_PAGES = (b"<!doctype html", b"<html")
# A folder that the login can't write, as a read-only mount or another's.
CLOSED = (errno.EROFS, errno.EACCES, errno.EPERM)


def main() -> None:
    task = json.load(sys.stdin)
    try:
        print(json.dumps(ACTIONS[task.pop("do")](**task)))
    except gate.Unfit as wrong:
        print(json.dumps({"unfit": str(wrong)}))


# ---- what is there


def read_model(root: str, revision: str, hub: bool, full: bool, cache: str = "") -> Entry:
    """Every file with its hash, read again only where size or time changed (or `full`).

    + cache: a folder that engines mount: created here, or Docker would create it, as root
    """
    base, commit = Path(root).expanduser(), ""
    if cache:
        with suppress(OSError):  # reported when ranks are created
            Path(cache).expanduser().mkdir(parents=True, exist_ok=True)
    if hub:
        ref = base / "refs" / gate.check_path(revision or "main")
        named = ref.read_text().strip() if ref.is_file() else ""
        commit = next(filter(gate.COMMIT.fullmatch, (revision, named)), "")
    at = base / "snapshots" / commit if hub else base
    recorded = gate.usable_entries(_manifest(base, hub)["revisions"].get(commit) or {})
    closed = _closed(base) if hub else []
    paths = [] if closed or (hub and not commit) else _files(at)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        present = dict(pool.map(lambda path: _read_file(at, path, recorded.get(path), full), paths))
    # What interrupted transfers have left, to be resumed. A running download touches its file all
    # the time; one older than an hour was left behind.
    half = [*base.glob("blobs/*.incomplete")] if hub else []
    partial = any(time.time() - p.stat().st_mtime < 3600 for p in half)
    aside = base / PART if hub else base.with_name(base.name + PART)
    disk = os.statvfs(next(folder for folder in (base, *base.parents) if folder.exists()))
    return {
        "commit": commit,
        "at": str(at),
        "files": present,
        "absent": {path: entry for path, entry in recorded.items() if path not in present},
        "recorded": bool(recorded),
        "shards": _shards(at, present),
        "placeholders": [p for p in present if not hub and _placeholder(at / p)],
        "closed": closed,
        "partial": partial,
        "free": disk.f_bavail * disk.f_frsize,
        "begun": sum(p.stat().st_size for p in (*half, *aside.rglob("*")) if p.is_file()),
        "uid": os.getuid(),
        "gid": os.getgid(),
    }


def _files(at: Path) -> list[str]:
    if at.is_file():
        return [""]
    paths = sorted(str(p.relative_to(at)) for p in at.rglob("*") if p.is_file())
    # What git, the hub's client and this project keep beside a model's own files.
    ours = (".git/", ".cache/", ".spark-serving")
    return [
        gate.check_path(p) for p in paths if not p.startswith(ours) and "/.spark-serving" not in p
    ]


def _placeholder(file: Path) -> bool:
    """Whether a Git LFS pointer stands in place of the file, or a web page in place of weights."""
    with file.open("rb") as content:
        start = content.read(len(POINTER))
    weights = file.suffix in (".safetensors", ".bin", ".gguf")
    return start == POINTER or (weights and start.lower().startswith(WEB_PAGES))


def _closed(base: Path) -> list[str]:
    """What the login may not write: an engine that ran as root left it so. Nothing of a file system
    that nobody can write."""
    if base.exists() and os.statvfs(base).f_flag & os.ST_RDONLY:
        return []
    inner = (p for p in base.rglob("*") if p.is_dir() and not p.is_symlink())
    folders = [base.parent, base, *inner]
    closed = [str(p) for p in folders if p.exists() and not os.access(p, os.W_OK | os.X_OK)]
    blobs = base / "blobs"
    content = blobs.iterdir() if not closed and blobs.is_dir() else ()
    hidden = [p for p in content if not os.access(p, os.R_OK)]
    return [*closed, *map(str, hidden)][:3]


def _read_file(at: Path, path: str, recorded: Entry | None, full: bool) -> tuple[str, Entry]:
    """A file's path, and what is recorded of it or, if it has changed (or `full`), read anew."""
    file = at / path if path else at
    stat = file.stat()
    # The cache's blobs are named by their hash.
    blob = Path(os.readlink(file)) if file.is_symlink() else Path()
    by_hash = blob.parent.name == "blobs" and re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", blob.name)
    named = blob.name if by_hash else ""
    entry: Entry = {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns, "blob": named}
    same = recorded is not None and all(
        recorded[name] == entry[name] for name in ("size", "mtime_ns")
    )
    # The hash that it must have, and where that comes from. A file without one is compared with its
    # own first reading.
    kind, digest, by = "sha256", "", "itself"
    if recorded:
        kind, digest, by = recorded["kind"], recorded["hash"], recorded["by"]
        if same and not full:
            proof = {"kind": kind, "hash": digest, "by": by}
            return path, {**entry, **proof, "good": True, "read": 0}
    elif named:
        kind, digest, by = gate.KINDS[len(named)], named, "name"
    got = hash_of(file, kind, stat.st_size)
    changed = recorded and not same and by == "itself"
    good = digest in ("", got) or bool(changed)
    reading = {"kind": kind, "hash": got, "by": by, "good": good, "read": stat.st_size}
    return path, {**entry, **reading}


def hash_of(file: Path, kind: str, size: int) -> str:
    """A file's SHA-256, or the SHA-1 that git gives to its content."""
    digest = hashlib.sha256() if kind == "sha256" else hashlib.sha1(b"blob %d\0" % size)
    with open(file, "rb") as content:
        while block := content.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _shards(at: Path, present: Entry) -> Entry:
    """Weights that each *.index.json names."""
    shards: Entry = {}
    for path in present:
        if path.endswith(".index.json") and "/" not in path:
            try:
                index = json.loads((at / path).read_text())
                shards[path] = sorted(set(index["weight_map"].values()))
            except (ValueError, KeyError, AttributeError, TypeError):
                shards[path] = []
    return shards


# ---- the manifest


def _manifest_path(base: Path, hub: bool) -> Path:
    if hub or not base.is_file():
        return base / MANIFEST
    return base.with_name(base.name + MANIFEST)


def _manifest(base: Path, hub: bool) -> Entry:
    try:
        manifest: Entry = json.loads(_manifest_path(base, hub).read_text())
        return manifest if isinstance(manifest.get("revisions"), dict) else {"revisions": {}}
    except (OSError, ValueError, AttributeError):
        return {"revisions": {}}


def record_files(root: str, hub: bool, commit: str, ref: str, files: Entry) -> Entry:
    """Record a revision's files in the manifest; and its name, once all are there.

    Returns why the files could not be written down: whole ones can be served all the same.
    """
    base, files = Path(root).expanduser(), gate.check_entries(files, lone=not hub)
    fresh = hub and _fresh(base)
    if hub:
        gate.check_commit(commit)
        base.mkdir(parents=True, exist_ok=True)
    manifest, unrecorded = _manifest(base, hub), ""
    if fresh:
        manifest["placed"] = True
    if manifest["revisions"].get(commit) != files:
        manifest["revisions"][commit] = files
        try:
            _write(_manifest_path(base, hub), json.dumps(manifest, indent=1, sort_keys=True))
        except OSError as wrong:
            if wrong.errno not in CLOSED:
                raise
            unrecorded = str(wrong)
    if hub and ref:
        path = base / "refs" / gate.check_path(ref)
        if not path.is_file() or path.read_text() != commit:
            path.parent.mkdir(parents=True, exist_ok=True)
            _write(path, commit)
    return {"unrecorded": unrecorded}


def _fresh(base: Path) -> bool:
    """Whether nobody has put anything of a repository there: what comes is ours to remove."""
    return not any((base / name).exists() for name in (MANIFEST, "blobs", "refs", "snapshots"))


def _write(path: Path, text: str) -> None:
    part = path.with_name(f"{path.name}.part")
    part.write_text(text)
    part.replace(path)


# ---- putting in place


def put_in_place(root: str, hub: bool, commit: str, ref: str, files: Entry, part: str) -> Entry:
    """Check what has come into `part`, and move it to where it belongs; all good: the manifest.

    Returns the files that are not what they must be; those are removed from `part`.
    """
    base, came = Path(root).expanduser(), Path(part).expanduser()
    at = base / "snapshots" / gate.check_commit(commit) if hub else base
    if hub and _fresh(base):
        _write(_manifest_path(base, hub), json.dumps({"revisions": {}, "placed": True}))
    # What has several names comes under one of them.
    contents: dict[str, Entry] = {}
    for path, entry in gate.check_entries(files, lone=not hub).items():
        contents.setdefault((hub and entry["blob"]) or f"/{path}", {})[path] = entry
    bad: list[str] = []

    def one(named: Entry) -> None:
        targets = {path: at / path if path else base for path in named}
        fresh = {path: came / (path or base.name) for path in named}
        for path, file in fresh.items():
            if not file.is_file():
                continue
            size, entry = file.stat().st_size, named[path]
            if size != entry["size"] or hash_of(file, entry["kind"], size) != entry["hash"]:
                file.unlink()
                bad.append(path or base.name)
                return
            _move(base, file, list(targets.values()), entry["blob"] if hub else "")
        for path, entry in named.items():
            entry["mtime_ns"] = targets[path].stat().st_mtime_ns

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        list(pool.map(one, contents.values()))
    if not bad:
        shutil.rmtree(came, ignore_errors=True)
        return {"bad": [], **record_files(root, hub, commit, ref, files)}
    return {"bad": sorted(bad), "unrecorded": ""}


def _move(base: Path, fresh: Path, targets: list[Path], blob: str) -> None:
    for target in targets:
        target.parent.mkdir(parents=True, exist_ok=True)
    if not blob:
        fresh.replace(targets[0])
        return
    (base / "blobs").mkdir(exist_ok=True)
    fresh.replace(base / "blobs" / blob)
    for target in targets:
        # The gate lets no file of a repository have such a name.
        aside = target.with_name(f".spark-serving-link.{threading.get_ident()}")
        aside.unlink(missing_ok=True)
        aside.symlink_to(os.path.relpath(base / "blobs" / blob, target.parent))
        aside.replace(target)


# ---- from another node


def receive_files(
    root: str, hub: bool, ssh: list[str], part: str, files: list[list[Any]], stall: float
) -> Entry:
    """Bring the rests of files into `part`, one after another over one connection.

    + ssh: words that reach a node that sends (tunnel.DISPATCHER)
    + files: for each its name in `part`, its path at the source, its size
    + stall: seconds without a byte after which it ends
    Returns why it failed, "" where all have come.
    """
    came = Path(part).expanduser()
    wanted = [(came / gate.check_path(name), source, size) for name, source, size in files]
    have: dict[Path, int] = {}
    for file, _source, size in wanted:
        file.parent.mkdir(parents=True, exist_ok=True)
        have[file] = file.stat().st_size if file.exists() else 0
        if have[file] > size:
            file.unlink()
            have[file] = 0
    lines = "".join(f"{have[file]}/{size}/{source}\n" for file, source, size in wanted)
    with tempfile.TemporaryFile() as names, tempfile.TemporaryFile() as errors:
        names.write(lines.encode())
        names.seek(0)
        with subprocess.Popen([*ssh, "send"], stdin=names, stdout=-1, stderr=errors) as sender:
            assert sender.stdout
            try:
                for file, _source, size in wanted:
                    _append(sender.stdout.fileno(), file, size - have[file], stall)
                sender.terminate()
                return {"failed": ""}
            except (EOFError, TimeoutError) as wrong:
                sender.kill()
                sender.wait()
                errors.seek(0)
                printed = errors.read()[-2000:].decode(errors="replace").split("\n")
                return {
                    "failed": next((line for line in printed[::-1] if line.strip()), str(wrong))
                }


def _append(sender: int, file: Path, count: int, stall: float) -> None:
    with file.open("ab") as content:
        while count:
            if not select.select([sender], [], [], stall)[0]:
                raise TimeoutError(f"no byte for {stall:.0f} s")
            block = os.read(sender, min(count, 1 << 20))
            if not block:
                raise EOFError("the transfer was interrupted")
            content.write(block)
            count -= len(block)


ACTIONS: dict[str, Callable[..., Entry]] = {
    "look": read_model,
    "record": record_files,
    "place": put_in_place,
    "receive": receive_files,
}

if __name__ == "__main__":
    main()
