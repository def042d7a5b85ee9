"""The model's files: from a hub to the head, and on over the fabric; whole, or nothing changes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import drafted
import pytest
from deploying import DATA, MODEL, Deploy, combined_output, lives, rank, serves
from killing import forget_lease, killed
from local_hub import TOKEN, Hub, sha256
from spark_node import HF_CACHE
from sparks import IMAGE, Cluster

REPO = f"{HF_CACHE}/hub/models--Qwen--Qwen2.5-7B-Instruct"
LARGE = "model-00001-of-00002.safetensors"
OTHER = "model-00002-of-00002.safetensors"
FILES = {
    "config.json": b"{}",
    "tokenizer.json": b'{"a": "small file"}',
    "model.safetensors.index.json": b'{"weight_map": {"a": "%s", "b": "%s"}}'
    % (LARGE.encode(), OTHER.encode()),
    LARGE: bytes(range(256)) * (1 << 15),
    OTHER: b"second" * 1000,
    "original/consolidated.00.pth": b"never wanted" * 1000,
}
WANTED = [name for name in FILES if "original" not in name]
# Both halves share a subnet: the kernel answers over either.
MANAGEMENT, FABRIC = ("enP7s7",), ("enp1s0f1np1", "enP2p1s0f1np1")

# The hub's other answers, each by the client itself in tests/core/transfer/test_weights_hub.py.
LONG = pytest.mark.faults


@pytest.fixture
def hub(testbed: Cluster, tmp_path: Path) -> Iterator[Hub]:
    with testbed.hub(tmp_path) as hub_server:
        hub_server.add(MODEL, FILES)
        yield hub_server


@pytest.fixture
def empty(cluster: Cluster, hub: Hub, tmp_path: Path) -> Deploy:
    """An inventory of nodes 1 and 2 that have no weights, and a hub that has them."""
    return Deploy(cluster, cluster.inventory(tmp_path, **DATA, hf_endpoint=hub.url))


def held(cluster: Cluster, number: int, commit: str, repo: str = REPO) -> dict[str, str]:
    """SHA-256 of each file of the snapshot on a node."""
    command = f"cd {repo}/snapshots/{commit} && find . -type l -o -type f | xargs sha256sum"
    lines = cluster.node(number).run(command).stdout.splitlines()
    return {name.removeprefix("./"): digest for digest, name in map(str.split, lines)}


def received(cluster: Cluster, number: int, interfaces: tuple[str, ...]) -> int:
    paths = " ".join(f"/sys/class/net/{name}/statistics/rx_bytes" for name in interfaces)
    return sum(map(int, cluster.node(number).run(f"cat {paths}").stdout.split()))


def test_downloaded_once_copied_over_the_fabric_and_then_left_alone(
    empty: Deploy, hub: Hub
) -> None:
    cluster, commit = empty.cluster, hub.commit(MODEL)
    before = [received(cluster, 2, name) for name in (MANAGEMENT, FABRIC)]
    output = empty.succeeds()
    management, fabric = (
        received(cluster, 2, name) - b for name, b in zip((MANAGEMENT, FABRIC), before, strict=True)
    )
    assert serves(cluster)
    right = {name: sha256(FILES[name]) for name in WANTED}
    assert held(cluster, 1, commit) == held(cluster, 2, commit) == right
    assert {request["client"] for request in hub.log} == {"198.18.0.1"}
    assert [r["path"] for r in hub.log if "/store/" in r["path"]] != []
    assert not [r for r in hub.log if "original" in r["path"]]
    assert fabric > len(FILES[LARGE])
    assert management < 1_000_000
    assert "every hash verified" in output
    refs = cluster.each(lambda node: node.run(f"cat {REPO}/refs/main").stdout)
    assert refs == [commit, commit]
    leftovers = "docker ps -aq --filter label=spark-serving.task; find /run/spark-serving -type f"
    assert not any(cluster.each(lambda node: node.run(leftovers, check=False).stdout))
    hub.forget()
    empty.unchanged()
    files = f"find {REPO} -type f -printf '%p %T@\\n' | sort"
    cached = cluster.each(lambda node: node.run(files).stdout)
    empty.succeeds(mem_fraction=0.5)
    assert cluster.each(lambda node: node.run(files).stdout) == cached
    assert hub.log == []


def test_what_is_corrupt_foreign_or_half_copied_is_made_whole(empty: Deploy, hub: Hub) -> None:
    cluster, commit = empty.cluster, hub.commit(MODEL)
    empty.succeeds()
    before, right = lives(cluster), held(cluster, 1, commit)

    # A flipped byte on each node is found and healed while the group serves.
    for number, name in ((1, LARGE), (2, OTHER)):
        at = f"$(readlink -f {REPO}/snapshots/{commit}/{name})"
        cluster.node(number).run(
            f"cp -p {at} /tmp/same; printf X | dd of={at} bs=1 seek=9 conv=notrunc status=none; "
            f"touch -r /tmp/same {at}; rm /tmp/same"
        )
    assert held(cluster, 1, commit) != right != held(cluster, 2, commit)
    hub.forget()
    output = empty.succeeds(verify="full")
    assert f"{LARGE} was corrupt and has been repaired" in output
    assert f"{OTHER} was corrupt and has been repaired" in output
    assert held(cluster, 1, commit) == held(cluster, 2, commit) == right
    assert {r["path"].rpartition("/")[2] for r in hub.log if "/store/" in r["path"]} == {LARGE}
    assert lives(cluster) == before

    # Root's files on the head, as an engine left them; what a killed run has left half done on the
    # worker. No hub is asked.
    part = f"{REPO}/.spark-serving-part/{commit}"
    cluster.node(1).run(f"rm {REPO}/.spark-serving.json; chown -R root: {REPO}")
    cluster.node(2).run(
        f"cp -L {REPO}/snapshots/{commit}/{LARGE} /tmp/half && rm -r {REPO} && mkdir -p {part} && "
        f"head -c 5000000 /tmp/half >{part}/{LARGE} && rm /tmp/half && chown -R nvidia: {REPO}"
    )
    hub.forget()
    copied = received(cluster, 2, FABRIC)
    output = empty.succeeds(mem_fraction=0.5, offline=True)
    assert "belongs to root, as an engine left it: giving it to the login" in output
    assert held(cluster, 1, commit) == held(cluster, 2, commit) == right
    assert received(cluster, 2, FABRIC) - copied < len(FILES[LARGE]) - 4_000_000
    assert cluster.node(2).run(f"ls -A {REPO}/.spark-serving-part").stdout == ""
    assert hub.log == []


@pytest.mark.parametrize(
    ("faults", "data", "words"),
    [
        pytest.param({"gated": 401}, {}, "is gated, and the hub got no valid token", id="401"),
        pytest.param(
            {"gated": 403}, {}, "is gated, and the token may not read it", id="403", marks=LONG
        ),
        pytest.param({"wrong": {OTHER: 9}}, {}, "arrived corrupt twice", id="wrong hash"),
        pytest.param(
            {}, {"revision": "v9"}, "has no revision 'v9'", id="no such revision", marks=LONG
        ),
        pytest.param({}, {"hf_endpoint": "http://198.18.0.254:9"}, "not be reached", id="no hub"),
        pytest.param({}, {"offline": True}, "offline = true", id="offline"),
    ],
)
def test_a_failed_download_leaves_the_serving_group_alone(
    served: Deploy, hub: Hub, faults: dict[str, object], data: dict[str, object], words: str
) -> None:
    cluster, other = served.cluster, "Qwen/Qwen2.5-14B-Instruct"
    before = lives(cluster)
    hub.add(other, FILES)
    hub.fault(**faults)
    output = served.fails(**{"model": "qwen14b", "hf_endpoint": hub.url, **data})
    assert words in output
    assert " -> " in output
    assert lives(cluster) == before
    assert serves(cluster)


def test_a_full_disk_is_refused_with_the_arithmetic(served: Deploy, hub: Hub) -> None:
    cluster = served.cluster
    hub.add("own/tiny", FILES)
    cluster.node(2).run(f"mount -t tmpfs -o size=64m none {HF_CACHE} && chown nvidia: {HF_CACHE}")
    try:
        output = served.fails(model="own/tiny", hf_endpoint=hub.url)
    finally:
        cluster.node(2).run(f"umount {HF_CACHE}")
    assert "to download + 2 GB margin" in output
    assert "0.1 GB free" in output
    assert serves(cluster)
    assert not [r for r in hub.log if "/store/" in r["path"]]


def test_a_local_path_is_copied_to_the_workers_too(empty: Deploy, hub: Hub) -> None:
    cluster, path = empty.cluster, "/var/hf-cache/own"
    cluster.node(1).run(
        f"mkdir {path} && cd {path} && echo '{{}}' >config.json && "
        "head -c 3000000 /dev/urandom >model.safetensors && chown -R nvidia: ."
    )
    empty.succeeds(model=path)
    assert serves(cluster, path)
    sums = cluster.each(lambda node: node.run(f"cd {path} && sha256sum *").stdout)
    assert sums[0] == sums[1]
    assert "model.safetensors" in sums[0]
    empty.unchanged(model=path)
    assert hub.log == []


def test_a_download_outlives_a_killed_controller(empty: Deploy, hub: Hub) -> None:
    cluster = empty.cluster
    hub.fault(slow=0.1)
    killed(empty, 1, "run*:/hub*", after=True)
    forget_lease(cluster)
    output = empty.succeeds()
    assert "an earlier run's download is still running: waiting for it" in output
    assert held(cluster, 1, hub.commit(MODEL)) == held(cluster, 2, hub.commit(MODEL))
    stored = [r for r in hub.log if "/store/" in r["path"] and r["method"] == "GET"]
    assert sorted(r["path"].rpartition("/")[2] for r in stored) == [LARGE, OTHER]
    assert cluster.node(1).run("docker ps -aq --filter label=spark-serving.task").stdout == ""


def test_a_plain_http_hub_gets_no_token_and_an_old_one_is_removed(
    empty: Deploy, hub: Hub, tmp_path: Path
) -> None:
    cluster, token, folder = empty.cluster, tmp_path / "token", "/run/spark-serving/download"
    token.write_text(TOKEN)
    token.chmod(0o600)
    cluster.node(1).run(f"mkdir -m 700 -p {folder}; echo {TOKEN} >{folder}/hf_token")
    output = empty.refused(hf_token_file=str(token))
    assert f"the token would go to the hub at {hub.url} unencrypted" in output
    assert hub.log == []
    empty.succeeds()
    assert cluster.node(1).run(f"ls -A {folder}").stdout == ""
    assert {r["token"] for r in hub.log} == {""}


def test_what_no_group_uses_goes_and_nothing_else(empty: Deploy, hub: Hub) -> None:
    """Two models, one after the other; the first one's image is built on the head, copied on."""
    cluster, two = empty.cluster, "lmsysorg/sglang:two"
    hub.add("own/other", FILES)
    head, worker = cluster.node(1), cluster.node(2)
    head.run(f"docker commit $(docker create {IMAGE}) {two}; docker rm $(docker ps -aq)")
    empty.succeeds(image=two)
    kernels = "/var/hf-cache/spark-serving/compile"
    head.run("docker exec sglang-head sh -c 'mkdir $TRITON_CACHE_DIR; echo >$TRITON_CACHE_DIR/x'")
    # What the ranks have compiled outlives them, for the next one.
    empty.succeeds(image=two, state="absent")
    empty.succeeds(image=two)
    head.run("docker exec sglang-head cat /var/cache/spark-serving/triton/x")
    empty.succeeds(model="own/other")
    assert cluster.each(lambda n: len(n.run(f"ls -d {kernels}/*/*").stdout.split())) == [2, 2]
    cluster.each(lambda node: node.add_weights("some/body"))
    worker.run(f"docker tag {IMAGE} somebody/image:1")
    before, serving = cluster.snapshot(), lives(cluster)

    def prune(*words: str) -> str:
        done = empty(*words, program="deploys/prune.py", model="own/other")
        assert done.returncode == 0, combined_output(done)
        return combined_output(done)

    output = prune("--dry")
    assert f"plan: spark-02: weights {MODEL}, 0.0 GB" in output
    assert "spark-02: weights some/body, 0.0 GB: left, no record" in output
    assert re.search(f"plan: spark-01: image {two}, .* GB: left, no record", output), output
    assert re.search(f"plan: spark-02: image {two}, [0-9.]+ GB\n", output), output
    assert cluster.snapshot() == before
    prune()
    assert lives(cluster) == serving
    assert (
        cluster.each(lambda n: sorted(n.run(f"ls {HF_CACHE}/hub").stdout.split()))
        == [["models--own--other", "models--some--body"]] * 2
    )
    assert cluster.each(lambda n: len(n.run(f"ls -d {kernels}/*/*").stdout.split())) == [1, 1]
    assert two in head.images()
    assert {*worker.images()} == {IMAGE, "somebody/image:1"}
    before = cluster.snapshot()
    assert re.search(r"Grand total\s+\d+\s+-\s+-\s+\d+", prune())
    assert cluster.snapshot() == before
    empty.unchanged(model="own/other")


# ---- a draft model


DRAFT_REPO = f"{HF_CACHE}/hub/models--own--draft"
TARGET_REPO = f"{HF_CACHE}/hub/models--own--target"
DRAFT_WEIGHTS = "model.safetensors"
DRAFT_FILES = {"config.json": b'{"draft": 1}', DRAFT_WEIGHTS: bytes(range(255)) * 5000}


def test_a_draft_is_brought_with_its_model_found_by_the_engine_and_healed(
    empty: Deploy, hub: Hub, tmp_path: Path
) -> None:
    cluster = empty.cluster
    commit, draft = hub.add(drafted.MODEL, FILES), hub.add(drafted.DRAFT, DRAFT_FILES)
    drafted.write_entry(tmp_path, draft)
    output = empty.succeeds(model="target")
    assert serves(cluster, drafted.MODEL)
    right = {name: sha256(content) for name, content in DRAFT_FILES.items()}
    for number in (1, 2):
        assert held(cluster, number, draft, DRAFT_REPO) == right
        assert {*held(cluster, number, commit, TARGET_REPO)} == {*WANTED}
        logs = f"docker logs {rank(cluster, number)['Name']} 2>&1 | grep 'STUB draft model'"
        assert f"models--own--draft/snapshots/{draft}" in cluster.node(number).run(logs).stdout
    assert {request["client"] for request in hub.log} == {"198.18.0.1"}
    stored = [r["path"] for r in hub.log if "/store/" in r["path"] and r["method"] == "GET"]
    assert sorted(path.partition("/own/")[2] for path in stored) == [
        f"draft/{DRAFT_WEIGHTS}",
        f"target/{LARGE}",
        f"target/{OTHER}",
    ]
    assert "draft: " in output and "weights: " in output
    hub.forget()
    empty.unchanged(model="target")
    assert hub.log == []

    before = lives(cluster)
    for number in (1, 2):
        at = f"$(readlink -f {DRAFT_REPO}/snapshots/{draft}/{DRAFT_WEIGHTS})"
        cluster.node(number).run(f"printf X | dd of={at} bs=1 seek=9 conv=notrunc status=none")
    output = empty.succeeds(model="target", verify="full")
    assert output.count(f"{DRAFT_WEIGHTS} was corrupt and has been repaired") == 2
    assert held(cluster, 1, draft, DRAFT_REPO) == held(cluster, 2, draft, DRAFT_REPO) == right
    assert {r["path"].rpartition("/")[2] for r in hub.log if "/store/" in r["path"]} == {
        DRAFT_WEIGHTS
    }
    assert lives(cluster) == before


@pytest.mark.parametrize(
    ("lacks", "faults", "words"),
    [
        pytest.param(
            "repository", {}, "has no repository own/draft", id="no such repository", marks=LONG
        ),
        pytest.param(
            "commit", {}, f"own/draft has no revision '{'e' * 40}'", id="no such commit", marks=LONG
        ),
        pytest.param(
            "", {"wrong": {DRAFT_WEIGHTS: 9}}, "arrived corrupt twice", id="wrong hash", marks=LONG
        ),
    ],
)
def test_a_draft_that_does_not_come_leaves_the_serving_group_alone(
    served: Deploy, hub: Hub, tmp_path: Path, lacks: str, faults: dict[str, object], words: str
) -> None:
    cluster, before = served.cluster, lives(served.cluster)
    hub.add(drafted.MODEL, FILES)
    draft = "" if lacks == "repository" else hub.add(drafted.DRAFT, DRAFT_FILES)
    drafted.write_entry(tmp_path, "e" * 40 if lacks == "commit" else draft)
    hub.fault(**faults)
    output = served.fails(model="target", hf_endpoint=hub.url)
    assert words in output
    assert "or serve without the draft model: --data draft=none" in output
    assert not [r for r in hub.log if "/store/own/target" in r["path"]]
    assert lives(cluster) == before
    assert serves(cluster)
