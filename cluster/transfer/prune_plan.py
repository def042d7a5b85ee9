"""What nodes keep for groups of ours that no group uses any more, and how sure it is that it is
ours: decided from what `operations/scripts/unused_here.py` reads on one node.

Ours is what a record beside it says a deploy has brought: weights by the manifest in their folder,
images by a file in `cache_dir`; compile caches are ours by their place. What has no such record is
left, and reported.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from cluster import findings, printable
from cluster.node.readings import Rank
from cluster.transfer.images import repository

Kind = Literal["compiled", "weights", "image"]
# In the order of their removal: root's files are removed by way of an image.
KINDS: dict[Kind, str] = {"compiled": "compile cache", "weights": "weights", "image": "image"}
Bytes = Annotated[int, Meta(ge=0, le=2**60)]
_Text = Annotated[str, Meta(max_length=300)]
_RepositoryId = Annotated[
    str, Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*/[A-Za-z0-9_][A-Za-z0-9_.-]*\Z", max_length=200)
]
_ImageId = Annotated[str, Meta(pattern=r"^sha256:[0-9a-f]{64}\Z")]
_Short = Annotated[str, Meta(pattern=r"^[0-9a-f]{12}\Z")]
_RankName = Annotated[str, Meta(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_.-]*-[0-9]+\Z", max_length=200)]


class Repository(msgspec.Struct, frozen=True):
    """A repository in the hub's cache.

    + placed: a deploy has begun its folder
    + also: a file in it that no deploy recorded; "" for none
    """

    id: _RepositoryId
    bytes: Bytes
    placed: bool
    also: _Text = ""


class Compiled(msgspec.Struct, frozen=True):
    """The compile cache of one rank, GROUP-RANK, for one image."""

    image: _Short
    rank: _RankName
    bytes: Bytes


class StoredImage(msgspec.Struct, frozen=True):
    """An image.

    + used: some container is of it, whosever
    + names: under which deploys have brought it; () where none is recorded
    """

    id: _ImageId
    tags: tuple[_Text, ...]
    bytes: Bytes
    used: bool
    names: tuple[_Text, ...] = ()


class Kept(msgspec.Struct, frozen=True):
    """What a node keeps.

    + tasks: labels of our containers that are no ranks: downloads
    + leases: groups whose lease is held there
    """

    repositories: tuple[Repository, ...]
    compiled: tuple[Compiled, ...]
    images: tuple[StoredImage, ...]
    tasks: tuple[str, ...]
    leases: tuple[str, ...]


def parse_kept(reply: Mapping[str, Any]) -> Kept:
    """From a node's answer; ValueError where it can't be one."""
    return msgspec.convert(reply, Kept)


@dataclass(frozen=True)
class Declared:
    """What the inventory declares for a node, running or not.

    + texts: the model's and draft's ids, options: whatever may name a repository
    + image_id: of its image, "" where it is not there
    + ranks: GROUP-RANK of every rank that it may have
    """

    texts: tuple[str, ...]
    image_id: str
    ranks: tuple[str, ...]


@dataclass(frozen=True)
class StoredItem:
    """Something that no group uses.

    + name: a repository's id, IMAGE/GROUP-RANK, or an image's id
    + shown: the name for a reader
    + why: why it is left; "" where it is ours to remove
    """

    kind: Kind
    name: str
    bytes: int
    shown: str
    why: str = ""

    def __str__(self) -> str:
        text = f"{KINDS[self.kind]} {self.shown}, {printable.gigabytes(self.bytes)}"
        return f"{text}: left, {self.why}" if self.why else text


def find_unused(
    stored: Kept, ranks: Sequence[Rank], declared: Declared, of_sglang: Iterable[str]
) -> tuple[StoredItem, ...]:
    """What no group uses: no rank of any group on the node, running, stopped or kept for a
    rollback, no download, and not what is declared.

    + of_sglang: names of repositories of images for SGLang: others without a record are no one's
      business here
    """
    labels = [rank.label.replace("\\/", "/") for rank in ranks if rank.label]
    texts = (*labels, *stored.tasks, *declared.texts)
    images = {rank.image_id for rank in ranks if rank.label} | {declared.image_id}
    return (
        *_unused_compiled(stored, ranks, declared),
        *_unused_weights(stored, texts),
        *_unused_images(stored, images, {repository(name) for name in of_sglang}),
    )


def _unused_compiled(
    stored: Kept, ranks: Sequence[Rank], declared: Declared
) -> Iterator[StoredItem]:
    used = {(printable.short_image_id(declared.image_id), rank) for rank in declared.ranks}
    # A label that can't be read says nothing of its rank: all of its image's are kept.
    unreadable = {printable.short_image_id(r.image_id) for r in ranks if r.label and not r.spec}
    for rank in ranks:
        if spec := rank.spec:
            used.add((printable.short_image_id(rank.image_id), f"{spec.group}-{spec.rank}"))
    for one in stored.compiled:
        if (one.image, one.rank) not in used and one.image not in unreadable:
            name = f"{one.image}/{one.rank}"
            yield StoredItem("compiled", name, one.bytes, f"of {one.rank} with image {one.image}")


def _unused_weights(stored: Kept, texts: Sequence[str]) -> Iterator[StoredItem]:
    for one in stored.repositories:
        folder = f"models--{one.id.replace('/', '--')}"
        named = re.compile(
            rf"(?<![A-Za-z0-9_.-]){re.escape(one.id)}(?![A-Za-z0-9_-]|\.[A-Za-z0-9])"
            rf"|{re.escape(folder)}(?![A-Za-z0-9_-]|\.[A-Za-z0-9])"
        )
        if any(named.search(text) for text in texts):
            continue
        why = ""
        if not one.placed:
            why = "no record that a deploy has placed it"
        elif one.also:
            why = f"another program has placed {one.also} in it"
        yield StoredItem("weights", one.id, one.bytes, one.id, why)


def _unused_images(stored: Kept, used: set[str], of_sglang: set[str]) -> Iterator[StoredItem]:
    for one in stored.images:
        if one.used or one.id in used:
            continue
        others = [tag for tag in one.tags if tag not in one.names]
        shown = ", ".join(one.tags) or printable.short_image_id(one.id)
        if one.names:
            why = f"it has another name too, {others[0]}" if others else ""
            yield StoredItem("image", one.id, one.bytes, shown, why)
        elif any(repository(tag) in of_sglang for tag in one.tags):
            yield StoredItem(
                "image", one.id, one.bytes, shown, "no record that a deploy has brought it"
            )


def find_running(node: str, stored: Kept, group: str) -> Iterator[findings.Finding]:
    """Other groups on the node that a run is changing now: what they need next is not known.

    + group: whose lease is our own
    """
    for other in stored.leases:
        if other != group:
            yield findings.error(
                f"another run holds the lease on the group {printable.printable(other[:80])}",
                node,
                "wait until it ends; if it is dead, its lease expires in a minute",
                key="lease-held",
            )
