"""A converged run is cheap."""

from pathlib import Path

from measure import MODEL, pairs, ratio
from sparks import Cluster

# The goal of the project: what a converged deploy may cost over a run that reads one fact.
LIMIT = 1.5


def test_a_converged_run_costs_little_more_than_one_fact(cluster: Cluster, tmp_path: Path) -> None:
    inventory = cluster.inventory(tmp_path, model=MODEL)
    seen = list(pairs(cluster, inventory, 5))
    if ratio(seen) > LIMIT:  # a busy moment: once more, with more rounds
        seen += pairs(cluster, inventory, 10)
    assert ratio(seen) <= LIMIT, seen
