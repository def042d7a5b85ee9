"""What is no longer as declared is detected and fixed; what is as declared stays untouched."""

from __future__ import annotations

import time

import pytest
from deploying import HEAD, WORKER, Deploy, cases, environment, lives, rank, serves, spec


def test_a_cosmetic_difference_restarts_nothing(served: Deploy) -> None:
    """The same value in other words, other spelling of the model, settings that are no spec's."""
    before = lives(served.cluster)
    served.succeeds(
        model="3", mem_fraction="0.80", tensor_parallel=2, ready_timeout=77, stop_timeout=11
    )
    served.unchanged(model="qwen/qwen2.5-7b-instruct", pull="never")
    assert lives(served.cluster) == before


HAND = {
    "worker removed": (2, f"docker rm -f {WORKER}", f"spark-02 {WORKER}: is not there"),
    "worker stopped": (2, f"docker stop -t 1 {WORKER}", f"spark-02 {WORKER}: is exited"),
    "worker killed": (
        2,
        f"docker update --restart no {WORKER}; docker kill {WORKER}",
        f"spark-02 {WORKER}: is exited",
    ),
    "worker paused": (2, f"docker pause {WORKER}", f"spark-02 {WORKER}: is paused"),
    "head stopped": (1, f"docker stop -t 5 {HEAD}", f"spark-01 {HEAD}: is exited"),
}


@pytest.mark.parametrize("name", cases(HAND, "worker removed", "head stopped"))
def test_a_rank_that_was_ended_by_hand_restarts_with_its_group(served: Deploy, name: str) -> None:
    number, command, reason = HAND[name]
    cluster = served.cluster
    before = lives(cluster)
    cluster.node(number).run(command)
    output = served.succeeds()
    assert f"plan: {reason}" in output
    assert not set(before) & set(lives(cluster)), "the whole group starts anew"
    assert serves(cluster)


def test_changed_settings_and_environment_restart_the_group(served: Deploy) -> None:
    cluster, before = served.cluster, lives(served.cluster)
    data = {"mem_fraction": 0.5, "env": {"EXTRA": "a b"}}
    output = served.succeeds(**data)
    for name in (f"spark-01 {HEAD}", f"spark-02 {WORKER}"):
        assert f"plan: {name}: mem_fraction: 0.8 -> 0.5\n" in output
        assert f"plan: {name}: env EXTRA: (none) -> 'a b'\n" in output
    assert not set(before) & set(lives(cluster))
    assert serves(cluster)
    for container in (rank(cluster, 1), rank(cluster, 2)):
        assert spec(container)["launch"]["mem_fraction"] == 0.5
        assert environment(container)["EXTRA"] == "a b"
    served.unchanged(**data)


def test_a_group_that_does_not_answer_restarts(served: Deploy) -> None:
    """All containers run with the right spec, and the head's /health is refused."""
    cluster, before = served.cluster, lives(served.cluster)
    harm = "INPUT -i lo -p tcp --dport 30000 -j REJECT --reject-with tcp-reset"
    cluster.node(1).run(f"iptables -A {harm}")
    time.sleep(5)
    output = served.fails(ready_timeout=5)
    assert f"plan: spark-01 {HEAD}: spark-01: /health of rank 0 does not answer" in output
    assert "not ready after" in output
    cluster.node(1).run(f"iptables -D {harm}")
    served.succeeds()
    assert not set(before) & set(lives(cluster))
    served.unchanged()


def test_a_restart_policy_changed_by_hand_is_mended_without_a_restart(served: Deploy) -> None:
    cluster, before = served.cluster, lives(served.cluster)
    cluster.node(2).run(f"docker update --restart no {WORKER}")
    output = served.succeeds()
    assert "plan: spark-02: restart policy -> unless-stopped" in output
    assert lives(cluster) == before
    assert rank(cluster, 2)["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped"
    served.unchanged()


def test_an_image_under_the_same_tag_restarts_the_group(served: Deploy) -> None:
    cluster = served.cluster
    old = rank(cluster, 1)["Image"]
    cluster.each(
        lambda node: node.run(
            "docker build -q -t lmsysorg/sglang:spark - <<< 'FROM lmsysorg/sglang:spark\nENV A=1'"
        )
    )
    output = served.succeeds()
    assert f"plan: spark-01 {HEAD}: image id: {old[7:19]} -> " in output
    for number in (1, 2):
        container = rank(cluster, number)
        assert container["Image"] == cluster.node(number).images()["lmsysorg/sglang:spark"] != old
    assert serves(cluster)
    served.unchanged()
    cluster.changed = True
