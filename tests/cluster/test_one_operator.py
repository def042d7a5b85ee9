"""One operator at a time, over SSH: two runs at once, a killed one, a head that is off."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from deploying import Deploy, combined_output, serves
from killing import at, forget_lease, killed

FOLDER = "/run/lock/spark-serving"


def test_two_runs_at_once_are_one_run_and_one_refusal(served: Deploy) -> None:
    cluster = served.cluster
    with at(cluster, 1, "stop *") as hit, ThreadPoolExecutor(1) as pool:
        first = pool.submit(served, state="stopped")
        hit.wait(first)
        second = served.refused(mem_fraction=0.5)
        hit.go()
        assert first.result().returncode == 0
    assert "spark-01: another run holds the lease on the group sglang: root@" in second
    assert "deploy.py --data state=stopped" in second
    assert cluster.node(1).run(f"ls {FOLDER}", check=False).stdout == ""
    served.mends()


def test_a_killed_run_is_taken_over_once_it_is_stale(served: Deploy) -> None:
    killed(served, node=2, pattern="stop *", state="stopped")
    assert serves(served.cluster) is False
    refused = served.refused()
    assert "if it is dead, its lease expires in " in refused
    forget_lease(served.cluster)
    output = combined_output(served())
    assert "the lease on the group sglang is taken over after 12" in output, output
    assert serves(served.cluster)
    served.unchanged()


def test_a_worker_can_stop_while_its_head_is_off(served: Deploy) -> None:
    cluster = served.cluster
    cluster.changed = True
    cluster.off(1)
    output = served.succeeds("--limit", "workers", state="stopped")
    assert "warning: without a lease: spark-01: " in output
