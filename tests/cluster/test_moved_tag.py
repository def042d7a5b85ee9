"""A tag that has moved, in the registry or on one node, while the old image serves."""

from __future__ import annotations

import testbed_image
from deploying import HEAD, Deploy, lives, serves
from sparks import IMAGE


def test_a_worker_whose_tag_has_moved_gets_the_heads_image(served: Deploy) -> None:
    cluster, before = served.cluster, lives(served.cluster)
    head, worker = cluster.node(1), cluster.node(2)
    wanted = head.images()[IMAGE]
    worker.load(testbed_image.tar("0.5.23", "lmsysorg/sglang:next"))
    worker.run(f"docker tag lmsysorg/sglang:next {IMAGE}")
    moved = worker.images()[IMAGE]
    output = served.fails(pull="never", mem_fraction=0.7)
    both = f"is {moved[7:19]} here and {wanted[7:19]} on spark-01, and pull = 'never'"
    assert f"spark-02: image {IMAGE} {both} -> --data pull=missing" in output
    assert lives(cluster) == before
    output = served.succeeds()
    assert f"it has {moved[7:19]}, the head {wanted[7:19]}" in output
    assert worker.images()[IMAGE] == wanted
    assert lives(cluster) == before
    served.unchanged()


def test_pull_always_restarts_into_the_image_that_the_tag_has_moved_to(served: Deploy) -> None:
    cluster, before = served.cluster, lives(served.cluster)
    registry = cluster.node(2)
    old = cluster.node(1).images()[IMAGE]
    registry.load(testbed_image.tar("0.5.23", "lmsysorg/sglang:next"))
    registry.run(f"docker tag lmsysorg/sglang:next {IMAGE} && docker push -q {IMAGE}")
    output = served.succeeds(pull="always")
    assert f"plan: spark-01 {HEAD}: image id: {old[7:19]} -> " in output
    assert cluster.node(1).images()[IMAGE] != old
    assert serves(cluster)
    assert lives(cluster) != before
    back = f"docker load -q -i /dev/shm/back.tar && docker push -q {IMAGE}; rm /dev/shm/back.tar"
    (registry.root / "dev/shm/back.tar").write_bytes(testbed_image.tar().read_bytes())
    registry.run(back)
