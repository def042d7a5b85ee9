"""Where the image comes from, and what happens when it does not come."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from os import statvfs

import pytest
from deploying import Deploy, combined_output, lives, same_image, serves
from killing import forget_lease, killed
from sparks import IMAGE, IMAGE_FOLDER, Cluster

PRIVATE = "registry.tb:5443/team/sglang:spark"
KEYS = "cat /home/nvidia/.ssh/authorized_keys; stat -c %a%U /home/nvidia/.ssh/authorized_keys"
SENT = "cat /sys/class/net/enP7s7/statistics/tx_bytes"


@pytest.fixture
def without_image(deploy: Deploy) -> Deploy:
    """Node 2 lacks the image; the registry has it."""
    deploy.cluster.node(2).run(f"docker rmi {IMAGE}")
    return deploy


@contextmanager
def small_disk(cluster: Cluster, number: int, size: str) -> Iterator[None]:
    """The node's disk made smaller; "used": so that hardly anything more fits."""
    disk = cluster.state / cluster.node(number).name / "disk"
    if size == "used":
        usage = statvfs(disk)
        size = f"{((usage.f_blocks - usage.f_bfree) * usage.f_frsize >> 20) + 2}m"
    subprocess.run(["mount", "-o", f"remount,size={size}", str(disk)], check=True)
    try:
        yield
    finally:
        subprocess.run(["mount", "-o", "remount,size=500g", str(disk)], check=True)


def test_a_worker_pulls_the_image_that_it_lacks(without_image: Deploy) -> None:
    output = without_image.succeeds()
    assert "[spark-02] pulling lmsysorg/sglang@sha256:" in output
    assert serves(without_image.cluster)
    assert same_image(without_image.cluster)


def test_a_worker_without_the_registry_gets_the_image_from_the_head_over_the_fabric(
    without_image: Deploy,
) -> None:
    head, worker = (without_image.cluster.node(n) for n in (1, 2))
    worker.run("iptables -A OUTPUT -d 198.18.0.200 -j REJECT --reject-with tcp-reset -p tcp")
    keys = head.run(KEYS).stdout
    before = [int(node.run(SENT).stdout) for node in (head, worker)]
    output = without_image.succeeds()
    over_management = [int(n.run(SENT).stdout) for n in (head, worker)]
    assert "[spark-02] not from the registry: the node can't reach " in output
    assert f"[spark-02] {IMAGE} is being copied from spark-01 over 169.254.1.1" in output
    assert same_image(without_image.cluster)
    assert serves(without_image.cluster)
    # the image is 39 MB
    assert sum(over_management) - sum(before) < 2_000_000
    assert head.run(KEYS).stdout == keys


def test_a_controller_that_is_killed_while_the_image_comes(without_image: Deploy) -> None:
    cluster, head = without_image.cluster, without_image.cluster.node(1)
    cluster.node(2).run("iptables -A OUTPUT -d 198.18.0.200 -j REJECT")
    keys = head.run(KEYS).stdout
    killed(without_image, node=2, pattern="load *")
    assert "spark-serving-carry-" in head.run(KEYS).stdout
    assert not lives_any(cluster)
    forget_lease(cluster)
    without_image.mends()
    assert same_image(cluster)
    assert head.run(KEYS).stdout == keys


def test_a_worker_obeys_pull_never(without_image: Deploy) -> None:
    output = without_image.refused(pull="never")
    assert f"spark-02: image {IMAGE} is not there, and pull = 'never'" in output


def test_pull_always_queries_the_registry_each_run_and_restarts_nothing(served: Deploy) -> None:
    before = lives(served.cluster)
    served.cluster.registry("down")
    output = served.fails(pull="always")
    assert f"{IMAGE} could not be pulled" in output
    served.cluster.registry("up")
    served.succeeds(pull="always")
    assert lives(served.cluster) == before


def test_a_registry_that_is_down(without_image: Deploy) -> None:
    cluster = without_image.cluster
    cluster.node(1).run(f"docker rmi {IMAGE}")
    cluster.registry("down")
    output = without_image.fails()
    assert "[spark-01] lmsysorg/sglang:spark could not be pulled: " in output
    assert "registry" in output.split("could not be pulled: ")[1].split("\n")[0]
    assert not lives_any(cluster)
    cluster.registry("up")
    without_image.mends()


def test_a_failed_pull_on_a_worker_leaves_what_runs(served: Deploy) -> None:
    cluster, before = served.cluster, lives(served.cluster)
    output = served.fails(image="lmsysorg/sglang:nothing", sglang_version="0.5.3.post3")
    assert "lmsysorg/sglang:nothing could not be pulled: " in output
    assert "not" in output.split("could not be pulled: ")[1].split("\n")[0]
    assert lives(cluster) == before
    assert serves(cluster)


def test_a_registry_that_wants_a_login(deploy: Deploy) -> None:
    cluster = deploy.cluster
    cluster.node(1).run(
        f"docker tag {IMAGE} {PRIVATE}; docker login -u tb -p secret registry.tb:5443;"
        f"docker push -q {PRIVATE}; docker logout registry.tb:5443; docker rmi {PRIVATE}"
    )
    output = deploy.fails(image=PRIVATE)
    assert f"{PRIVATE} could not be pulled: " in output
    assert "requires a login for " in output
    assert "-> docker login" in output
    login = "runuser -u nvidia -- docker login -u tb -p secret registry.tb:5443"
    cluster.each(lambda node: node.run(login))
    deploy.mends(image=PRIVATE)


def test_too_little_room_for_the_image_is_refused(without_image: Deploy) -> None:
    with small_disk(without_image.cluster, 2, "1g"):
        output = without_image.refused()
    assert f"spark-02: {IMAGE_FOLDER}: 27.9 GiB image = 27.9 GiB needed" in output


def test_a_disk_that_fills_up_during_the_pull(without_image: Deploy) -> None:
    cluster = without_image.cluster
    cluster.registry("slow", "60mbit")
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(without_image)
        while cluster.node(2).run("pgrep -f 'docker pull'", check=False).returncode:
            assert not run.done(), combined_output(run.result())
            time.sleep(0.1)
        with small_disk(cluster, 2, "used"):
            done = run.result()
    assert done.returncode == 1, combined_output(done)
    assert f"[spark-02] {IMAGE} could not be pulled: the disk" in combined_output(done)
    assert not lives_any(cluster)
    cluster.registry("slow", "off")
    without_image.mends()


def lives_any(cluster: Cluster) -> bool:
    return any(node.containers() for node in cluster.nodes.values())
