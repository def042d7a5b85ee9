"""One image for every node: who asks the registry for what, and who gets it from the head."""

from __future__ import annotations

import pytest

from cluster.node.readings import ImageReading
from cluster.transfer import images
from cluster.transfer.images import Delivery

TAG = "lmsysorg/sglang:spark"
PIN = f"lmsysorg/sglang@sha256:{'d' * 64}"


def image(letter: str, *digests: str) -> ImageReading:
    return ImageReading(TAG, f"sha256:{letter * 64}", digests)


OLD, NEW, BUILT = image("a"), image("b", PIN), image("c")
# One image as Docker's own store calls it, and as containerd's does after a pull and a load.
OWN_STORE, PULLED, LOADED = (
    ImageReading(TAG, f"sha256:{letter * 64}", digests, content="c0ffee")
    for letter, digests in (("1", (PIN,)), ("d", (PIN,)), ("3", ()))
)
OTHER = ImageReading(TAG, f"sha256:{'4' * 64}", content="decaf")


@pytest.mark.parametrize(
    ("reference", "head", "pull", "why"),
    [
        pytest.param(TAG, None, "missing", "it is not there", id="absent"),
        pytest.param(TAG, None, "always", "it is not there", id="absent, always"),
        pytest.param(TAG, None, "never", "", id="absent, never"),
        pytest.param(TAG, OLD, "missing", "", id="there"),
        pytest.param(TAG, OLD, "always", "pull = 'always'", id="there, always"),
        pytest.param(PIN, NEW, "always", "", id="a digest never means another image"),
        pytest.param(PIN, None, "missing", "it is not there", id="a digest, absent"),
    ],
)
def test_reasons_for_the_head_to_pull(
    reference: str, head: ImageReading | None, pull: str, why: str
) -> None:
    assert images.reason_to_pull(reference, head, pull) == why


@pytest.mark.parametrize("restart", [True, False])
@pytest.mark.parametrize(
    ("readings", "pull", "needed"),
    [
        pytest.param([NEW, NEW], "missing", (False, False), id="the same"),
        pytest.param([NEW], "missing", (False, False), id="one node"),
        pytest.param([NEW, OLD, NEW], "missing", (True, True), id="one differs"),
        pytest.param([NEW, OLD], "never", (False, False), id="differs, never"),
        pytest.param([OWN_STORE, PULLED, LOADED], "missing", (False, False), id="three stores"),
        pytest.param([PULLED, LOADED, OTHER], "missing", (True, True), id="stores, one differs"),
        pytest.param([None, OLD, NEW], "missing", (True, True), id="the head lacks it"),
        pytest.param([NEW, NEW], "always", (True, True), id="always"),
        pytest.param([NEW, None], "missing", (True, False), id="a worker lacks it"),
        pytest.param([None, None], "missing", (True, False), id="all lack it"),
        pytest.param([None, None], "never", (False, False), id="all lack it, never"),
    ],
)
def test_a_group_as_wanted_needs_no_delivery(
    readings: list[ImageReading | None], pull: str, needed: tuple[bool, bool], restart: bool
) -> None:
    named = {f"spark-{i}": image for i, image in enumerate(readings)}
    assert images.needs_delivery(TAG, named, pull, restart=restart) is needed[not restart]


@pytest.mark.parametrize(
    ("reference", "head", "own", "delivery"),
    [
        pytest.param(TAG, NEW, NEW, Delivery(), id="has it"),
        pytest.param(TAG, NEW, None, Delivery(PIN, True, "it is not there"), id="lacks it"),
        pytest.param(
            TAG,
            NEW,
            OLD,
            Delivery(PIN, True, "it has aaaaaaaaaaaa, the head bbbbbbbbbbbb"),
            id="the tag moved",
        ),
        pytest.param(TAG, OWN_STORE, LOADED, Delivery(), id="has it under another id"),
        pytest.param(
            TAG,
            LOADED,
            OTHER,
            Delivery("", True, "it has 444444444444, the head 333333333333"),
            id="another content",
        ),
        pytest.param(TAG, BUILT, None, Delivery("", True, "it is not there"), id="built here"),
        pytest.param(
            PIN, NEW, None, Delivery(PIN, False, "it is not there"), id="a digest is not copied"
        ),
    ],
)
def test_a_worker_is_delivered_the_heads_image(
    reference: str, head: ImageReading, own: ImageReading | None, delivery: Delivery
) -> None:
    deliveries = images.plan_deliveries(reference, head, {"spark-1": own, "spark-2": head})
    assert deliveries == {"spark-1": delivery, "spark-2": Delivery()}


@pytest.mark.parametrize(
    ("reference", "repository"),
    [
        pytest.param("lmsysorg/sglang:spark", "lmsysorg/sglang", id="tag"),
        pytest.param("docker.io/lmsysorg/sglang", "lmsysorg/sglang", id="Docker Hub's name"),
        pytest.param("docker.io/library/busybox:1", "busybox", id="library"),
        pytest.param("tb:5443/team/sglang:spark", "tb:5443/team/sglang", id="port"),
        pytest.param("tb:5443/sglang", "tb:5443/sglang", id="port, no tag"),
        pytest.param(PIN, "lmsysorg/sglang", id="digest"),
        pytest.param(f"a/b:1@sha256:{'d' * 64}", "a/b", id="tag and digest"),
    ],
)
def test_the_repository_of_a_reference(reference: str, repository: str) -> None:
    assert images.repository(reference) == repository


def test_another_repositorys_digest_pins_nothing() -> None:
    mirrored = image("a", f"tb:5443/team/sglang@sha256:{'e' * 64}", PIN)
    assert images.pinned_reference(TAG, mirrored) == PIN
    assert images.pinned_reference("ghcr.io/other/sglang:1", mirrored) == ""


def test_a_digest_reference_stays_unchanged() -> None:
    named = f"docker.io/lmsysorg/sglang@sha256:{'e' * 64}"
    assert images.pinned_reference(named, NEW) == named
    assert images.pull_as(named, named, 60).argv[-1] == named


def test_an_image_pulled_by_digest_is_tagged() -> None:
    *_, script, sh, source, reference = images.pull_as(TAG, PIN, 60).argv
    assert (sh, source, reference) == ("sh", PIN, TAG)
    assert script == 'docker pull --quiet "$1" && docker tag "$1" "$2"'


@pytest.mark.parametrize(
    ("readings", "pull", "words"),
    [
        pytest.param([NEW, NEW, NEW], "", [], id="the same"),
        pytest.param([OWN_STORE, PULLED, LOADED], "", [], id="the same in three stores"),
        pytest.param(
            [PULLED, OTHER],
            "",
            [
                f"spark-1: image {TAG} is 444444444444 here and dddddddddddd on spark-0 -> "
                f"docker image rm -f {TAG} on spark-1"
            ],
            id="differs though it was brought",
        ),
        pytest.param(
            [NEW, NEW, OLD],
            "never",
            [
                f"spark-2: image {TAG} is aaaaaaaaaaaa here and bbbbbbbbbbbb on spark-0, and "
                "pull = 'never' -> --data pull=missing gives it the head's"
            ],
            id="differs, never",
        ),
        pytest.param(
            [NEW, None],
            "",
            [f"spark-1: image {TAG} is not there -> docker pull {TAG} on it"],
            id="absent",
        ),
    ],
)
def test_two_images_in_one_group_are_refused(
    readings: list[ImageReading | None], pull: str, words: list[str]
) -> None:
    named = {f"spark-{i}": image for i, image in enumerate(readings)}
    assert [str(f) for f in images.find_differing(TAG, named, pull)] == words


@pytest.mark.parametrize(
    ("line", "count"),
    [
        pytest.param("39845888 bytes (40 MB, 38 MiB) copied, 1 s, 39.8 MB/s", 39845888, id="dd"),
        pytest.param("", 0, id="nothing yet"),
    ],
)
def test_image_copy_progress_is_parsed(line: str, count: int) -> None:
    assert images.parse_progress(line) == count


@pytest.mark.parametrize(
    ("came", "message"),
    [
        pytest.param(0, "0.0 of 4.0 GiB, 0 MiB/s", id="nothing yet"),
        pytest.param(2**30, "1.0 of 4.0 GiB, 102 MiB/s, 30 s left", id="a quarter"),
        pytest.param(2**32 + 1, "4.0 GiB received, Docker is unpacking, 10 s", id="all"),
    ],
)
def test_copy_progress_is_described(came: int, message: str) -> None:
    assert images.describe_progress(came, 2**32, 10) == message


@pytest.mark.parametrize(
    ("size", "unpacked", "arriving"),
    [
        pytest.param(30, 30, 60, id="Docker's own store: the archive and its layers"),
        pytest.param(10, 30, 40, id="containerd's: compressed layers, and unpacked ones"),
        pytest.param(30, 0, 60, id="nobody could say what it unpacks to"),
    ],
)
def test_space_needed_by_a_copy(size: int, unpacked: int, arriving: int) -> None:
    picture = ImageReading(TAG, "sha256:1", size=size)
    assert images.copy_room(picture, unpacked, sends=True) == size
    assert images.copy_room(picture, unpacked, sends=False) == arriving


def test_room_for_an_archive() -> None:
    assert images.find_full_disk(TAG, "spark-1", "/var/lib/docker", 5, 5) is None
    output = str(images.find_full_disk(TAG, "spark-1", "/mnt/docker", 2**31, 2**30))
    assert output.startswith("spark-1: /mnt/docker: 2.0 GiB needed to copy image")
