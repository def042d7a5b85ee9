"""A converged run is cheap."""

from pathlib import Path

import pytest
from converged_cost import MODEL, pairs, ratio
from sparks import Cluster

# The project's goal, over a run that reads one fact: `converged_cost.py` shows it on a quiet
# machine.
GOAL = 1.5
# Where others use the cores too, the two nodes that answer at once are slowed more than one fact
# is. More than this is a run that reads, imports or asks too much, whatever the machine does.
LIMIT = 2.0


@pytest.mark.alone
def test_a_converged_run_costs_little_more_than_one_fact(cluster: Cluster, tmp_path: Path) -> None:
    inventory = cluster.inventory(tmp_path, model=MODEL)
    measured = list(pairs(cluster, inventory, 5))
    if ratio(measured) > GOAL:  # a busy moment: once more, with more rounds
        measured += pairs(cluster, inventory, 10)
    assert ratio(measured) <= LIMIT, measured
