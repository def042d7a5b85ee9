"""What a node has of a model, compared with what it needs; and how a transfer progresses."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import msgspec

from cluster import findings, printable
from cluster.transfer import gate, repository

# Left free for logs, the engine's own caches and everybody else.
MARGIN = 2 * 10**9


@dataclass(frozen=True)
class StoredModel:
    """One node's folder of the model, as weights_here.py read it.

    + commit: the revision's, "" where it is not there (or for plain files)
    + at: where the files lie
    + good, bad: files by path; a bad one differs from its hash
    + absent: files that the manifest has and the folder has not
    + listed: a manifest says which files belong to it; else `guess` says whether it looks complete
    + placeholders: of a local folder: Git LFS pointers, and web pages under a weight's name
    + closed: folders that the login may not write
    + free: bytes; read: bytes that were hashed for this; begun: left by an interrupted transfer
    + owner: uid and gid of the login
    """

    commit: str = ""
    at: str = ""
    good: Mapping[str, repository.File] = field(default_factory=dict)
    bad: Mapping[str, repository.File] = field(default_factory=dict)
    absent: Mapping[str, repository.File] = field(default_factory=dict)
    listed: bool = False
    guess: bool = False
    placeholders: tuple[str, ...] = ()
    closed: tuple[str, ...] = ()
    free: int = 0
    read: int = 0
    begun: int = 0
    owner: tuple[int, int] = (0, 0)

    @property
    def complete(self) -> bool:
        """Every file of the model is here and right."""
        right = bool(self.good) and not (self.bad or self.absent or self.placeholders)
        return right and (self.listed or self.guess)

    @property
    def wanted(self) -> dict[str, repository.File]:
        """Every file of the model, as far as the node has a list of them."""
        return dict(sorted({**self.absent, **self.bad, **self.good}.items()))


class _Read(msgspec.Struct):
    """weights_here.py's answer to `look`, not yet checked by the gate."""

    commit: str
    at: str
    files: dict[str, Any]
    absent: dict[str, Any]
    recorded: bool
    shards: dict[str, list[str]]
    closed: list[str]
    partial: bool
    free: int
    begun: int
    uid: int
    gid: int
    placeholders: list[str] = []


def parse_stored_model(reply: Mapping[str, Any]) -> StoredModel:
    """From weights_here.py's answer; ValueError where it can't be one."""
    read = msgspec.convert(reply, _Read)
    entries = gate.check_entries(read.files, lone=True)
    files = {path: file(path, entry) for path, entry in entries.items()}
    right = {path for path, entry in entries.items() if entry.get("good") is True}
    return StoredModel(
        commit=gate.check_commit(read.commit) if read.commit else "",
        at=read.at,
        good={path: one for path, one in files.items() if path in right},
        bad={path: one for path, one in files.items() if path not in right},
        absent={p: file(p, e) for p, e in gate.check_entries(read.absent, lone=True).items()},
        listed=read.recorded,
        guess=not read.partial and (repository.looks_complete(read.shards, files) or "" in files),
        placeholders=tuple(read.placeholders),
        closed=tuple(read.closed),
        free=read.free,
        read=sum(msgspec.convert(entry.get("read"), int) for entry in entries.values()),
        begun=read.begun,
        owner=(read.uid, read.gid),
    )


def file(path: str, entry: Mapping[str, Any]) -> repository.File:
    """A file from its JSON, which may hold more."""
    names = ("size", "kind", "hash", "by", "blob", "mtime_ns")
    return repository.File(path, **{name: entry[name] for name in names})


def manifest_entries(files: Iterable[repository.File]) -> dict[str, dict[str, Any]]:
    """Files as the manifest holds them."""
    return {f.path: {k: v for k, v in asdict(f).items() if k != "path"} for f in files}


def missing_files(
    wanted: Mapping[str, repository.File], there: StoredModel
) -> tuple[repository.File, ...]:
    """Files that a node must get: not there, or not the same."""
    return tuple(f for path, f in wanted.items() if not f.same_content(there.good.get(path)))


def total_bytes(files: Iterable[repository.File]) -> int:
    return sum(f.size for f in files)


def find_missing_space(
    node: str, coming: Sequence[tuple[StoredModel, Iterable[repository.File]]]
) -> findings.Finding | None:
    """Whether files fit on a node's disk; None where they do. What an interrupted transfer has
    left there need not come again.

    + coming: what one disk has of each model, and the files that it must get
    """
    parts = [max(0, total_bytes(files) - there.begun) for there, files in coming]
    more, free = sum(parts), min((there.free for there, _ in coming), default=0)
    if not more or more + MARGIN <= free:
        return None
    sizes = " + ".join(printable.gigabytes(part) for part in parts if part)
    return findings.error(
        f"the weights do not fit: {sizes} to download + {printable.gigabytes(MARGIN, 0)} margin = "
        f"{printable.gigabytes(more + MARGIN)} needed, {printable.gigabytes(free)} "
        f"free on the disk of {coming[0][0].at}",
        node,
        "free space (df -h, spark-cluster models, docker image prune), or move hf_cache to "
        "another disk",
        key="disk-full",
    )


@dataclass
class TransferProgress:
    """Bytes of a transfer over time, from `begun` (seconds of any clock) on.

    + total: bytes in all
    + first: bytes that were there at the first look: they say nothing of the rate
    """

    total: int
    begun: float
    bytes: int = 0
    first: int | None = None
    grown: float = field(init=False)

    def __post_init__(self) -> None:
        self.grown = self.begun

    def note(self, count: int, now: float) -> None:
        """Bytes that are there now."""
        if self.first is None:
            self.first = self.bytes = count
        if count > self.bytes:
            self.bytes, self.grown = count, now

    def silent(self, now: float) -> float:
        """Seconds without a byte."""
        return now - self.grown

    def line(self, now: float) -> str:
        """ "12.3 of 65.2 GB, 0.45 GB/s, 2 min left"."""
        amount = printable.gigabytes(self.bytes, of=self.total)
        moved, seconds = self.bytes - (self.first or 0), now - self.begun
        if moved <= 0 or seconds <= 0:
            return amount
        rate = moved / seconds
        left = max(0, self.total - self.bytes) / rate
        return f"{amount}, {printable.gigabytes(rate, 2)}/s, {format_seconds(left)} left"


def format_seconds(seconds: float) -> str:
    """ "40 s", "12 min", "3 h 5 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
