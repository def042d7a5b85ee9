"""A tag that has moved in the registry, found by pull=always while the old image serves."""

from __future__ import annotations

import testbed_image
from deploying import HEAD, Deploy, lives, serves
from sparks import IMAGE


def test_pull_always_restarts_into_the_image_that_the_tag_has_moved_to(served: Deploy) -> None:
    cluster, before = served.cluster, lives(served.cluster)
    registry = cluster.node(2)
    old = cluster.node(1).images()[IMAGE]
    registry.load(testbed_image.tar("0.5.23", "lmsysorg/sglang:next"))
    registry.run(f"docker tag lmsysorg/sglang:next {IMAGE} && docker push -q {IMAGE}")
    said = served.succeeds(pull="always")
    assert f"plan: spark-01 {HEAD}: image id: {old[7:19]} -> " in said
    assert cluster.node(1).images()[IMAGE] != old
    assert serves(cluster)
    assert lives(cluster) != before
    back = f"docker load -q -i /dev/shm/back.tar && docker push -q {IMAGE}; rm /dev/shm/back.tar"
    (registry.root / "dev/shm/back.tar").write_bytes(testbed_image.tar().read_bytes())
    registry.run(back)
