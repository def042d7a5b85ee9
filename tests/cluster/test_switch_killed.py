"""kill -9 of the controller at every step of a switch: the next run ends in one whole group."""

from __future__ import annotations

import pytest
from deploying import HEAD, MODEL, WORKER, Deploy, serves, states
from killing import forget_lease, killed

OTHER = "Qwen/Qwen2.5-14B-Instruct"
WHOLE = {HEAD: "running", WORKER: "running"}
# Step: where, which of docker's commands, and whether it comes through.
STEPS = [
    pytest.param(1, f"rename {HEAD} *", True, id="one rank set aside"),
    pytest.param(2, f"update --restart no {WORKER}*", True, id="policies off"),
    pytest.param(1, f"stop * {HEAD}*", True, id="the head stopped"),
    pytest.param(2, f"stop * {WORKER}*", True, id="all stopped"),
    pytest.param(2, f"create * {WORKER} *", False, id="the head created alone"),
    pytest.param(1, f"start {HEAD}", True, id="the head started"),
    pytest.param(2, f"update --restart unless-stopped {WORKER}", True, id="proven"),
    pytest.param(1, f"rm --force {HEAD}.previous", True, id="one rank forgotten"),
]


@pytest.mark.parametrize(("node", "pattern", "after"), STEPS)
def test_the_next_run_ends_in_one_group(
    served: Deploy, node: int, pattern: str, after: bool
) -> None:
    cluster = served.cluster
    cluster.each(lambda n: n.add_weights(OTHER))
    killed(served, node, pattern, after, model="qwen14b")
    forget_lease(cluster)
    output = served.succeeds(model="qwen14b")
    assert "taken over" in output or "took over" in output
    assert serves(cluster, OTHER)
    assert states(cluster) == WHOLE
    served.unchanged(model="qwen14b")
    served.succeeds()


@pytest.mark.parametrize(
    ("node", "pattern", "after"),
    [STEPS[0], STEPS[3], STEPS[5]],
    ids=["aside", "stopped", "started"],
)
def test_the_previous_group_is_restored_if_the_next_run_fails(
    served: Deploy, node: int, pattern: str, after: bool
) -> None:
    """What served before the run that was killed, not before the one that failed."""
    cluster = served.cluster
    cluster.each(lambda n: n.add_weights(OTHER))
    killed(served, node, pattern, after, model="qwen14b")
    forget_lease(cluster)
    output = served.fails(model="qwen14b", env={"STUB_EXIT_RANK": "1"})
    assert f"{MODEL} serves again, as before this run" in output
    assert serves(cluster)
    served.mends()
    assert states(cluster) == WHOLE
