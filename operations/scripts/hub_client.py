"""Hugging Face's own client at work: what a repository holds, and its files into the cache.

Runs as root in a container of the serving image, by its Python (3.10 or newer) and the
huggingface_hub that SGLang needs (0.35.3 and 2.4.0 were tried); one JSON object as arguments (in
pieces, since one holds 128 kB), JSON lines on stdout, the last one the result. Files are fetched
one by one, not by snapshot_download: when it is killed, newer versions throw half files away; here
they are resumed. Plain HTTP, not hf_xet, for the same reason.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

if "__file__" in globals():  # run as a file of a checkout; a node gets the gate along with it
    sys.path.append(str(Path(__file__).resolve().parents[2]))

from cluster.transfer import gate

AT_ONCE = 8
# Bytes that a cut connection loses at most; the client's own 10 MB take minutes on a slow line.
CHUNK = 1 << 20
# Files that describe a model, and how many bytes of them are read at most.
INDEX = "model.safetensors.index.json"
SMALL = {"config.json": 1 << 20, INDEX: 64 << 20}
# Between two reports of the bytes on disk, seconds.
REPORT_SECONDS = 2.0
# Before a request that failed is made again, seconds; and the longest wait that a hub may ask for.
PAUSE, LONGEST_PAUSE = 2.0, 60.0
# What may be over at the next try: a connection, a limit of requests, a fault of the hub's own.
PASSING = ("network", "limited", "server")


class HashMismatch(Exception):
    """A file that arrived twice with a hash other than the hub lists."""


class Stalled(Exception):
    """No byte arrived within the time limit."""


class TooLong(Exception):
    """A file that is longer than the hub lists."""


class InTheClear(Exception):
    """A token, and a hub whose connection is not encrypted."""


def main() -> None:
    task = json.loads("".join(sys.argv[1:]))
    token = take_token(Path(task.pop("token_file")))
    actions: dict[str, Callable[..., dict[str, Any]]] = {
        "list": list_files,
        "describe": list_with_config,
        "fetch": fetch_files,
    }
    try:
        if token and task["endpoint"] and urlsplit(task["endpoint"]).scheme != "https":
            raise InTheClear(task["endpoint"])
        print_json(actions[task.pop("do")](token=token or False, **task))
    except Exception as e:  # whatever it is, the caller gets it in one shape
        print_json({"error": error_kind(e), "text": describe_error(e), "status": http_status_of(e)})
        sys.exit(1)


def take_token(token_file: Path) -> str:
    """The token, whose file is gone from then on however this ends; "" where there is none.

    + token_file: "-" is the first line of stdin
    """
    if str(token_file) == "-":
        return sys.stdin.readline().strip()
    if not token_file.is_file():
        return ""
    token = token_file.read_text().strip()
    token_file.unlink()
    return token


def print_json(what: dict[str, Any]) -> None:
    print(json.dumps(what), flush=True)


# ---- what the repository holds


def list_files(token: str | bool, repo: str, revision: str, endpoint: str) -> dict[str, Any]:
    """The commit that a revision is now, and every file: path, size, kind of hash, hash.

    gate.Unfit where they can't be those of a model.
    """
    from huggingface_hub import HfApi

    api = HfApi(endpoint=endpoint or None, token=token)
    info = api.model_info(repo, revision=revision or None, files_metadata=True, timeout=30)
    files = []
    for file in info.siblings or ():
        large = file.lfs["sha256"] if file.lfs else ""
        proof = ["sha256", large] if large else ["git", file.blob_id]
        files.append([file.rfilename, file.size, *proof])
    return {"commit": gate.check_commit(info.sha), "files": gate.check_listing(files)}


def list_with_config(token: str | bool, repo: str, revision: str, endpoint: str) -> dict[str, Any]:
    """`list_files`, with what fits be judged by: the text of config.json, and the names of the
    files that the index of the weights lists. Neither is there if it is too long."""
    listed = list_files(token, repo, revision, endpoint)
    hub = Hub(repo, listed["commit"], endpoint, token)
    sizes = {path: size for path, size, *_ in listed["files"]}
    texts = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, most in SMALL.items():
            if 0 < sizes.get(name, 0) <= most:
                part = Path(folder) / "part"
                hub.get(name, sizes[name], part, 0)
                texts[name] = part.read_text(errors="replace")
                part.unlink()
    try:
        index = json.loads(texts.get(INDEX, "{}")).get("weight_map", {})
        shards = sorted({str(name) for name in index.values()})[: gate.MOST_FILES]
    except (ValueError, AttributeError, RecursionError):
        shards = []
    return {**listed, "config": texts.get("config.json", ""), "shards": shards}


# ---- its files into the cache


def fetch_files(
    token: str | bool,
    repo: str,
    commit: str,
    files: list[list[Any]],
    folder: str,
    endpoint: str,
    stall: float,
    owner: list[int],
) -> dict[str, Any]:
    """Download the files, each checked before it is named; returns their times (ns) by path."""
    base = Path(folder)
    at = base / "snapshots" / gate.check_commit(commit)
    # One content may have several names: it comes once.
    names: dict[str, list[str]] = {}
    contents: dict[str, tuple[str, int, str, str]] = {}
    for file in gate.check_listing(files):
        names.setdefault(file[3], []).append(file[0])
        contents.setdefault(file[3], file)
    blobs = base / "blobs"
    blobs.mkdir(parents=True, exist_ok=True)
    monitor = StallMonitor(stall, [(blobs / digest, file[1]) for digest, file in contents.items()])
    hub = Hub(repo, commit, endpoint, token)

    def bring(file: tuple[str, int, str, str]) -> dict[str, int]:
        path, size, way, digest = file
        blob = blobs / digest
        if not (blob.is_file() and matches(blob, size, way, digest)):
            download_verified(hub, monitor, path, size, way, digest, blob)
        for name in names[digest]:
            link_blob(blob, at / name)
        return dict.fromkeys(names[digest], blob.stat().st_mtime_ns)

    try:
        with monitor.reporting(), ThreadPoolExecutor(AT_ONCE) as pool:
            # The largest first: else one of them is left alone at the end.
            work = [pool.submit(bring, f) for f in sorted(contents.values(), key=lambda f: -f[1])]
            try:
                times = {name: time for w in work for name, time in w.result().items()}
            except BaseException:
                monitor.over.set()
                pool.shutdown(wait=True, cancel_futures=True)
                raise
    finally:
        chown_to(base, *owner)
    return {"times": times}


def download_verified(
    hub: Hub, monitor: StallMonitor, path: str, size: int, way: str, digest: str, blob: Path
) -> None:
    """Download a file and give it its name once its hash matches; retry once, then HashMismatch."""
    part = blob.with_name(f"{digest}.incomplete")
    for _ in range(2):
        hub.bring(path, size, part, monitor)
        if matches(part, size, way, digest):
            part.replace(blob)
            return
        monitor.last = f"{path} arrived damaged; downloading it once more"
        part.unlink()
    raise HashMismatch(path)


def matches(file: Path, size: int, way: str, digest: str) -> bool:
    if file.stat().st_size != size:
        return False
    hasher = hashlib.sha256() if way == "sha256" else hashlib.sha1(b"blob %d\0" % size)
    with file.open("rb") as content:
        while block := content.read(1 << 20):
            hasher.update(block)
    return bool(hasher.hexdigest() == digest)


def link_blob(blob: Path, at: Path) -> None:
    at.parent.mkdir(parents=True, exist_ok=True)
    # The gate lets no file of a repository have such a name.
    aside = at.with_name(f".spark-serving-link.{threading.get_ident()}")
    aside.unlink(missing_ok=True)
    aside.symlink_to(os.path.relpath(blob, at.parent))
    aside.replace(at)


def chown_to(base: Path, uid: int, gid: int) -> None:
    """Give files to the login, which could neither copy nor repair what root created."""
    for path in (base.parent, base, *base.rglob("*")):
        os.chown(path, uid, gid, follow_symlinks=False)


class Hub:
    """Where the files come from."""

    def __init__(self, repo: str, commit: str, endpoint: str, token: str | bool) -> None:
        self.repo, self.commit = repo, commit
        self.endpoint, self.token = endpoint or None, token

    def bring(self, path: str, size: int, part: Path, monitor: StallMonitor) -> None:
        """Download the rest of a file, however often the connection is cut."""
        while True:
            monitor.check()
            have = part.stat().st_size if part.exists() else 0
            if have > size:
                part.unlink()
                have = 0
            if have == size and size:
                return
            try:
                self.get(path, size, part, have)
                return
            except Exception as e:
                if error_kind(e) not in PASSING:
                    raise
                monitor.note(e)
                monitor.over.wait(retry_pause(e))

    def get(self, path: str, size: int, part: Path, have: int) -> None:
        from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
        from huggingface_hub.file_download import http_get
        from huggingface_hub.utils._headers import build_hf_headers

        constants.DOWNLOAD_CHUNK_SIZE = CHUNK
        url = hf_hub_url(self.repo, path, revision=self.commit, endpoint=self.endpoint)
        there = get_hf_file_metadata(url, token=self.token)
        headers = build_hf_headers(token=self.token)
        if urlsplit(there.location)[:2] != urlsplit(url)[:2]:
            # A store beside the hub: its address is signed, the token is not for it.
            headers.pop("authorization", None)
        with part.open("ab") as file:
            bounded: Any = SizeLimit(file, size, path)
            http_get(there.location, bounded, resume_size=have, headers=headers, expected_size=size)


class SizeLimit:
    """A file that takes no more than `size` bytes in all, whatever a server sends."""

    def __init__(self, file: BinaryIO, size: int, path: str) -> None:
        self.file, self.size, self.path = file, size, path

    def write(self, block: bytes) -> int:
        if self.file.tell() + len(block) > self.size:
            self.file.truncate(0)
            raise TooLong(f"{self.path} is listed with {self.size} bytes")
        return self.file.write(block)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


class StallMonitor:
    """Reports the bytes on disk at intervals, and raises Stalled if they stop growing."""

    def __init__(self, stall: float, wanted: list[tuple[Path, int]]) -> None:
        self.stall, self.wanted = stall, wanted
        self.over = threading.Event()
        self.bytes, self.since, self.last = -1, time.monotonic(), ""
        self.refusal: Exception | None = None

    @contextmanager
    def reporting(self) -> Iterator[None]:
        reporter = threading.Thread(target=self._report, daemon=True)
        reporter.start()
        try:
            yield
        finally:
            self.over.set()
            reporter.join()

    def note(self, problem: Exception) -> None:
        self.last = describe_error(problem)
        self.refusal = problem if http_status_of(problem) else None

    def check(self) -> None:
        if self.over.is_set():
            raise Stalled("ended")
        if time.monotonic() - self.since > self.stall:
            # An answer of the hub's says more than the silence that it led to.
            raise self.refusal or Stalled(self.last)

    def _report(self) -> None:
        while True:
            here = sum(self._here(blob, size) for blob, size in self.wanted)
            if here > self.bytes:
                self.bytes, self.since = here, time.monotonic()
            print_json({"bytes": here, "trouble": self.last})
            if self.over.wait(REPORT_SECONDS):
                return

    def _here(self, blob: Path, size: int) -> int:
        for path in (blob, blob.with_name(f"{blob.name}.incomplete")):
            try:
                return min(size, path.stat().st_size)
            except FileNotFoundError:
                continue
        return 0


# ---- what went wrong


def error_kind(e: BaseException) -> str:
    """One word for what went wrong."""
    from huggingface_hub import errors

    for name, word in (
        ("GatedRepoError", "gated"),
        ("RepositoryNotFoundError", "repository"),
        ("RevisionNotFoundError", "revision"),
        ("EntryNotFoundError", "file"),
    ):
        error = getattr(errors, name, None)
        if error and isinstance(e, error):
            return word
    for ours, word in (
        (HashMismatch, "wrong"),
        (Stalled, "still"),
        (TooLong, "longer"),
        (InTheClear, "clear"),
        (gate.Unfit, "unfit"),
    ):
        if isinstance(e, ours):
            return word
    if isinstance(e, OSError) and e.errno in (errno.ENOSPC, errno.EDQUOT):
        return "full"
    if code := http_status_of(e):
        if code in (401, 403):
            return "denied"
        if code == 429:
            return "limited"
        return "server" if code >= 500 else "network" if code == 408 else "other"
    return "network" if _is_network_error(e) else "other"


def _is_network_error(e: BaseException) -> bool:
    """A cut or silent connection, a short file: worth another try."""
    if isinstance(e, OSError) and "Consistency check failed" in str(e):
        return True
    libraries = ("requests", "urllib3", "httpx", "httpx2", "httpcore", "httpcore2")
    return isinstance(e, (ConnectionError, TimeoutError)) or any(
        cls.__module__.split(".")[0] in libraries for cls in type(e).__mro__
    )


def http_status_of(e: BaseException) -> int:
    """Of the hub's answer; 0 where it gave none."""
    return int(getattr(getattr(e, "response", None), "status_code", 0) or 0)


def retry_pause(e: BaseException) -> float:
    """Seconds before the next try: as long as the answer asks for (Retry-After), within reason."""
    headers = getattr(getattr(e, "response", None), "headers", None) or {}
    wanted = str(headers.get("retry-after", ""))
    return min(LONGEST_PAUSE, max(PAUSE, float(wanted))) if wanted.isdecimal() else PAUSE


def describe_error(e: BaseException) -> str:
    first = next((line for line in str(e).splitlines() if line.strip()), "")
    return f"{type(e).__name__}: {first}"[:400]


if __name__ == "__main__":
    main()
