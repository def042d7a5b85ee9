"""Every node of a group gets one image, the head's: what each node lacks, and the commands for it.

The head queries the registry for the reference, and what it gets is what the group runs: the others
pull that by its digest, so a tag that moves meanwhile can't split them. Where the registry
does not serve a node, it copies the image from the head.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from cluster import command, findings, printable
from cluster.node.readings import ImageReading
from cluster.rank.docker import pull

Images = Mapping[str, ImageReading | None]
# Failures of a pull that another source of the image would not fix.
NOT_THE_REGISTRY = frozenset({"disk-full", "docker-denied", "docker-stopped", "docker-missing"})
_PULL_AS = 'docker pull --quiet "$1" && docker tag "$1" "$2"'
_RECORD = command.load_script(__file__, "record_image.sh")
_COPY = command.load_script(__file__, "copy_image.sh")
_PROGRESS = """[ ! -r "$1/progress" ] || tr '\\r' '\\n' <"$1/progress" | tail -n 1"""


@dataclass(frozen=True)
class Delivery:
    """How a node gets the head's image; with neither `pull` nor `copy` it already has it.

    + pull: the reference that it pulls; "" where it pulls nothing
    + copy: whether the head can give it, where the registry does not
    + why: what it has instead
    """

    pull: str = ""
    copy: bool = False
    why: str = ""


def reason_to_pull(reference: str, head: ImageReading | None, pull: str) -> str:
    """Why the head pulls, "" where it does not. A digest never means another image."""
    if pull == "never":
        return ""
    if head is None:
        return "it is not there"
    return "pull = 'always'" if pull == "always" and "@" not in reference else ""


def needs_delivery(reference: str, images: Images, pull: str, *, restart: bool) -> bool:
    """Whether the registry must be queried or an image delivered.

    + images: of the group, the head's first
    + restart: whether the group is about to; what runs needs no image by its name
    """
    if pull == "never":
        return False
    there = [image for image in images.values() if image]
    absent = restart and len(there) < len(images)
    moved = any(not same_image(there[0], image) for image in there[1:])
    return absent or moved or (pull == "always" and "@" not in reference)


def same_image(one: ImageReading, other: ImageReading) -> bool:
    """Whether two nodes have the same image.

    Ids are not enough: Docker's own store calls an image by its configuration, containerd's by
    the manifest or index that it came with, and `docker load` may have written a new one.
    """
    return one.id == other.id or (bool(one.content) and one.content == other.content)


def plan_deliveries(reference: str, head: ImageReading, others: Images) -> dict[str, Delivery]:
    """What brings each of the others the image that the head has."""
    deliveries: dict[str, Delivery] = {}
    for node, own in others.items():
        if own is not None and same_image(own, head):
            deliveries[node] = Delivery()
            continue
        why = "it is not there"
        if own:
            ids = [printable.short_image_id(image.id) for image in (own, head)]
            why = f"it has {ids[0]}, the head {ids[1]}"
        # A copied image can't be given a name with a digest.
        copy = "@" not in reference
        deliveries[node] = Delivery(pinned_reference(reference, head), copy, why)
    return deliveries


def pinned_reference(reference: str, image: ImageReading) -> str:
    """repository@digest that means this image at its registry; "" where it was built here."""
    if "@" in reference:
        return reference
    wanted = repository(reference)
    return next((d for d in image.digests if repository(d) == wanted), "")


def repository(reference: str) -> str:
    """The name without tag and digest, shortened as Docker itself does."""
    name = re.sub(r"(@.*|:[^/]*)$", "", reference.partition("@")[0])
    name = re.sub(r"^(index\.)?docker\.io/", "", name)
    return name.removeprefix("library/")


def find_differing(reference: str, images: Images, pull: str = "") -> Iterator[findings.Finding]:
    """A node whose image is not the head's, which must not be when ranks are created from it.

    + images: of the group, the head's first
    + pull: "never" where that is why it stays so
    """
    (first, head), *others = images.items()
    because = ", and pull = 'never'" if pull == "never" else ""
    for node, image in others:
        if head and image and not same_image(head, image):
            yield findings.error(
                f"image {reference} is {printable.short_image_id(image.id)} here and "
                f"{printable.short_image_id(head.id)} on {first}{because}",
                node,
                "--data pull=missing gives it the head's"
                if because
                else f"docker image rm -f {reference} on {node}",
                key="image-differs",
            )
        elif head and not image:
            yield findings.error(
                f"image {reference} is not there",
                node,
                f"docker pull {reference} on it",
                key="image-missing",
            )


def pull_as(reference: str, source: str, seconds: int) -> command.Command:
    """Pull `source`, and call it by the reference."""
    if source == reference:
        return pull(reference, seconds)
    return command.Command(("sh", "-c", _PULL_AS, "sh", source, reference), seconds)


def list_ids() -> command.Command:
    """On a node: the id of every image."""
    words = ("docker", "image", "ls", "--all", "--quiet", "--no-trunc")
    return command.Command(words, 60)


def record_image(folder: str, reference: str, before: Iterable[str]) -> command.Command:
    """On a node: record the image and its name as ours, unless it was there before a deploy came.

    + before: the ids of the images that were there
    """
    name = repository(reference)
    if tag := re.search(r":([^:/@]+)$", reference.partition("@")[0]):
        name += f":{tag[1]}"
    elif "@" not in reference:
        name += ":latest"
    argv = ("sh", "-c", _RECORD, "sh", folder, reference, name)
    return command.Command(argv, 60, "".join(f"{id_}\n" for id_ in before))


def copy_image(reference: str, ssh: command.Argv, folder: str, seconds: int) -> command.Command:
    """On a node: load the image that `docker save` sends at the other end of `ssh`.

    + folder: in memory; `progress` reads there
    """
    return command.Command(("sh", "-c", _COPY, "sh", folder, reference, *ssh), seconds)


def copy_progress(folder: str) -> command.Command:
    """On a node: the last line of dd while `copy` runs."""
    return command.Command(("sh", "-c", _PROGRESS, "sh", folder), 10)


def parse_progress(line: str) -> int:
    """The byte count in dd's status line; 0 if there is none."""
    match = re.match(r"(\d+) bytes", line)
    return int(match[1]) if match else 0


def describe_progress(came: int, size: int, seconds: float) -> str:
    """How far a copy is after so many seconds.

    + came, size: bytes received, and of the image, which is about what the stream has
    """
    rate = came / max(seconds, 0.1)
    if came >= size:
        return f"{printable.gibibytes(came)} received, Docker is unpacking, {seconds:.0f} s"
    left = f", {(size - came) / rate:.0f} s left" if rate else ""
    return f"{printable.gibibytes(came, of=size)}, {rate / 2**20:.0f} MiB/s{left}"


def copy_room(image: ImageReading, unpacked: int, *, sends: bool) -> int:
    """Bytes that a copy of the image takes at its sender, or at its receiver.

    Docker's own store writes an archive at either end (moby 28.3, image/tarexport: save.go,
    load.go); containerd's keeps the layers as they came beside the unpacked ones.

    + unpacked: bytes of its layers
    """
    return image.size if sends else image.size + max(image.size, unpacked)


def find_full_disk(
    reference: str, node: str, root: str, needed: int, free: int
) -> findings.Finding | None:
    """An error if the images' folder has no room for an archive of the image and its layers."""
    if needed <= free:
        return None
    return findings.error(
        f"{root}: {printable.gibibytes(needed)} needed to copy image {reference}, "
        f"{printable.gibibytes(free)} free",
        node,
        f"df -h {root}; docker system df; docker image prune",
        key="disk-full",
    )
