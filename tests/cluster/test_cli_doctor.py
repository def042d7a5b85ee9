"""spark-cluster doctor: the cause, its evidence and a cure; nothing where nothing is wrong."""

from __future__ import annotations

from typing import Any

from clusterctl import Tool
from deploying import HEAD, WORKER, Deploy

OUT_OF_MEMORY = "CUDA out of memory. Tried to allocate 2.00 GiB"


def ailments(document: dict[str, Any], key: str) -> list[dict[str, Any]]:
    return [a for a in document["ailments"] if a["key"] == key]


def test_a_serving_group_has_no_findings(served: Deploy) -> None:
    before = served.cluster.snapshot()
    document, _ = Tool(served).document("doctor")
    assert [a for a in document["ailments"] if a["level"] == "error"] == []
    assert (document["ok"], document["state"]) == (True, "ready")
    assert "2 of 2 ranks answer /health" in document["looked"]
    assert served.cluster.snapshot() == before
    done = Tool(served)("doctor")
    assert done.returncode == 0, done.stdout
    assert "looked at:" in done.stdout


def test_a_rank_that_ran_out_of_memory_and_another_nodes_dead_daemon(served: Deploy) -> None:
    """The first fails a deploy, and is found in what it left; then a daemon dies as well."""
    cluster = served.cluster
    cluster.changed = True
    served.fails(env={"STUB_EXIT_RANK": "1"}, rollback=False)
    document, _ = Tool(served).document("doctor", code=1)
    (finding,) = [a for a in ailments(document, "cuda-oom") if a["level"] == "error"]
    assert finding["where"].startswith(f"spark-02 {WORKER}")
    assert OUT_OF_MEMORY in finding["evidence"]
    assert "mem_fraction" in finding["cure"]

    cluster.node(1).run("systemctl stop docker.socket docker; true")
    document, _ = Tool(served).document("doctor", code=1)
    (dead,) = ailments(document, "docker-stopped")
    assert (dead["level"], dead["where"]) == ("error", "spark-01")
    assert "systemctl enable --now docker" in dead["cure"]
    assert ailments(document, "cuda-oom")


def test_half_a_group_an_mtu_and_a_node_that_is_off(served: Deploy) -> None:
    cluster = served.cluster
    cluster.changed = True
    cluster.node(2).run(f"docker update --restart no {WORKER}; docker kill {WORKER}")
    cluster.node(1).run("ip link set enp1s0f1np1 mtu 1500")
    document, _ = Tool(served).document("doctor", code=1)
    assert ailments(document, "half-group") or ailments(document, "no-group")
    assert ailments(document, "mtu-differs")
    assert any(HEAD in a["where"] for a in ailments(document, "peer-gone"))

    cluster.off(2)
    done = Tool(served)("doctor")
    assert done.returncode == 1
    assert "spark-02: it cannot be reached by SSH" in done.stdout
