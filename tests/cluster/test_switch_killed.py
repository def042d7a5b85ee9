"""kill -9 of the controller at every step of a switch: the next run ends in one whole group."""

from __future__ import annotations

import pytest
from deploying import HEAD, MODEL, WORKER, Deploy, cases, serves, states
from killing import forget_lease, killed

OTHER = "Qwen/Qwen2.5-14B-Instruct"
WHOLE = {HEAD: "running", WORKER: "running"}
# Step: where, which of docker's commands, and whether it comes through.
STEPS = {
    "one rank set aside": (1, f"rename {HEAD} *", True),
    "policies off": (2, f"update --restart no {WORKER}*", True),
    "the head stopped": (1, f"stop * {HEAD}*", True),
    "all stopped": (2, f"stop * {WORKER}*", True),
    "the head created alone": (2, f"create * {WORKER} *", False),
    "the head started": (1, f"start {HEAD}", True),
    "proven": (2, f"update --restart unless-stopped {WORKER}", True),
    "one rank forgotten": (1, f"rm --force {HEAD}.previous", True),
}


# On fakes a run ends at every command: tests/operations/test_switch_edges.py.
@pytest.mark.parametrize("step", cases(STEPS, "the head created alone", "proven"))
def test_the_next_run_ends_in_one_group(served: Deploy, step: str) -> None:
    cluster = served.cluster
    cluster.each(lambda n: n.add_weights(OTHER))
    killed(served, *STEPS[step], model="qwen14b")
    forget_lease(cluster)
    output = served.succeeds(model="qwen14b")
    assert "taken over" in output or "took over" in output
    assert serves(cluster, OTHER)
    assert states(cluster) == WHOLE
    served.unchanged(model="qwen14b")
    served.succeeds()


@pytest.mark.parametrize(
    "step", cases(("one rank set aside", "all stopped", "the head started"), "the head started")
)
def test_the_previous_group_is_restored_if_the_next_run_fails(served: Deploy, step: str) -> None:
    """What served before the run that was killed, not before the one that failed."""
    cluster = served.cluster
    cluster.each(lambda n: n.add_weights(OTHER))
    killed(served, *STEPS[step], model="qwen14b")
    forget_lease(cluster)
    output = served.fails(model="qwen14b", env={"STUB_EXIT_RANK": "1"})
    assert f"{MODEL} serves again, as before this run" in output
    assert serves(cluster)
    served.mends()
    assert states(cluster) == WHOLE
