"""The gate: what a hub or another node says about a model's files, checked before it is used.

The controller checks here, and each node again: the scripts for nodes carry this file along
(operations/scripts). Only Python's own library, 3.10 or newer.
"""

import re
import unicodedata
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

COMMIT = re.compile(r"[0-9a-f]{40}")
# The hub's client names a blob by its ETag: the SHA-256 of large files, git's SHA-1 of small ones.
HASHES = {"sha256": re.compile(r"[0-9a-f]{64}"), "git": COMMIT}
KINDS = {64: "sha256", 40: "git"}
# The largest repositories of models have some 2,000 files, and files of 50 GB.
MOST_FILES, MOST_BYTES = 20_000, 1 << 50
# Of a path and of one part of it, bytes: what Linux takes for a part; a path is below a folder.
LONGEST_PATH, LONGEST_PART = 1024, 255
# Control, format (such as U+202E, which turns text around) and half characters; line separators.
UNPRINTABLE = ("Cc", "Cf", "Cs", "Zl", "Zp")
# What this project and git put beside a model's files begins so.
RESERVED = (".spark-serving", ".git/")
ENTRY = {"size": int, "kind": str, "hash": str, "by": str, "blob": str, "mtime_ns": int}


class Unfit(ValueError):
    """What cannot be a model's commit, file name, size or hash."""


def check_commit(value: object) -> str:
    """A commit's 40 hexadecimal digits; Unfit for all else."""
    if isinstance(value, str) and COMMIT.fullmatch(value):
        return value
    raise Unfit(f"{_short(value)} is not a commit")


def check_path(value: object) -> str:
    """A file's name below a folder, or the name of a branch; Unfit where it could mean another
    place, or can't be shown."""
    if not isinstance(value, str) or not value:
        raise Unfit(f"{_short(value)} is not a file name")
    parts = value.split("/")
    if (
        any(part in ("", ".", "..") for part in parts)
        or "\\" in value
        or any(unicodedata.category(c) in UNPRINTABLE for c in value)
        or any(len(part.encode()) > LONGEST_PART for part in parts)
        or len(value.encode()) > LONGEST_PATH
    ):
        raise Unfit(f"{_short(value)} is not a file name inside the model's folder")
    if any(f"{part}/".startswith(RESERVED) for part in parts):
        raise Unfit(f"{_short(value)} is a reserved name")
    return value


def check_listing(rows: object) -> list[tuple[str, int, str, str]]:
    """A repository's files as (path, size, kind of hash, hash), each possible and all together.

    Unfit where one could not be a file's, or two could not lie beside each other: the same name
    (however it is capitalized), a name that is a folder for another, one hash of two sizes.
    """
    if not isinstance(rows, list) or not 0 < len(rows) <= MOST_FILES:
        count = len(rows) if isinstance(rows, list) else "no list of"
        raise Unfit(f"{count} files: from 1 to {MOST_FILES} are possible")
    files: list[tuple[str, int, str, str]] = []
    for row in rows:
        if not isinstance(row, list | tuple) or len(row) != 4:
            raise Unfit(f"{_short(row)} is not a file's name, size and hash")
        name, size, kind, digest = row
        files.append((check_path(name), _size(size, name), *_hash(kind, digest, name)))
    _refuse_collisions([name for name, *_ in files])
    sizes: dict[str, int] = {}
    for name, size, _kind, digest in files:
        if sizes.setdefault(digest, size) != size:
            raise Unfit(f"{_short(name)} has a different size than a file with the same hash")
    return files


def _size(size: object, name: object) -> int:
    if type(size) is int and 0 <= size <= MOST_BYTES:
        return size
    raise Unfit(f"{_short(size)} is not a size of {_short(name)}")


def _hash(kind: object, digest: object, name: object) -> tuple[str, str]:
    pattern = HASHES.get(kind) if isinstance(kind, str) else None
    if pattern and isinstance(kind, str) and isinstance(digest, str) and pattern.fullmatch(digest):
        return kind, digest
    raise Unfit(f"{_short(digest)} is not a hash of {_short(name)}")


def _refuse_collisions(names: list[str]) -> None:
    names_by_fold: dict[str, str] = {}
    for name in names:
        if other := names_by_fold.get(_folded(name), ""):
            raise Unfit(f"{_short(name)} and {_short(other)} are two files with the same name")
        names_by_fold[_folded(name)] = name
    for name in names:
        for end in (at for at, c in enumerate(name) if c == "/"):
            if other := names_by_fold.get(_folded(name[:end]), ""):
                raise Unfit(f"{_short(other)} is both a file and a folder of {_short(name)}")


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def check_entries(value: object, *, lone: bool = False) -> dict[str, dict[str, Any]]:
    """A model's files with their fields, by path; Unfit where one could not be.

    + lone: whether the model may be one file, whose path is ""
    """
    if not isinstance(value, Mapping) or len(value) > MOST_FILES:
        raise Unfit("not a list of a model's files")
    return {
        "" if lone and name == "" else check_path(name): check_entry(fields, name)
        for name, fields in value.items()
    }


def check_entry(value: object, name: object) -> dict[str, Any]:
    """A file's fields: those of ENTRY, and all others; else Unfit."""
    if not isinstance(value, dict) or any(type(value.get(f)) is not t for f, t in ENTRY.items()):
        raise Unfit(f"{_short(value)} is not an entry for {_short(name)}")
    _size(value["size"], name)
    _hash(value["kind"], value["hash"], name)
    blob = value["blob"]
    if blob and not (len(blob) in KINDS and HASHES[KINDS[len(blob)]].fullmatch(blob)):
        raise Unfit(f"{_short(blob)} is not a blob of {_short(name)}")
    if value["mtime_ns"] < 0:
        raise Unfit(f"{value['mtime_ns']} is not a time of {_short(name)}")
    return value


def usable_entries(value: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Those of a stored list's entries that can be a file's; the others count as not there."""
    usable: dict[str, dict[str, Any]] = {}
    for name, fields in value.items():
        with suppress(Unfit):
            usable |= check_entries({name: fields}, lone=True)
    return usable


def _short(value: object) -> str:
    """For a message: ASCII, and not longer than a name is."""
    text = ascii(value)
    return text if len(text) <= 80 else f"{text[:77]}…"
