"""`spark-bench run` beside the simulated Sparks: what it measures, it finds by the inventory."""

from __future__ import annotations

import json
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from deploying import LABEL, MODEL, Deploy, rank
from spark_node import REVISION
from sparks import Cluster

PROMPTS, OUTPUT = 5, 16


def bench(cluster: Cluster, inventory: Path, file: Path) -> dict[str, Any]:
    """The result of a user's `spark-bench run` on the controller."""
    done = cluster.ctl(
        *(sys.executable, "-m", "spark_bench", "run", "quick", "-n", PROMPTS, "-o", OUTPUT),
        # Evenly over 1.6 s: long enough for the nodes to be looked at meanwhile.
        *("--request-rate", 2.5, "--burstiness", "inf"),
        *("--inventory", inventory, "--output", file, "--quiet", "--timeout", 30),
        timeout=90,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    result: dict[str, Any] = json.loads(file.read_text())
    return result


def test_a_run_finds_the_head_its_spec_and_the_power_of_both_nodes(
    served: Deploy, tmp_path: Path
) -> None:
    cluster = served.cluster
    result = bench(cluster, served.inventory, tmp_path / "result.json")

    assert result["config"]["url"] == cluster.head_url
    assert result["config"]["model"] == MODEL
    summary = result["summary"]
    assert (summary["completed"], summary["failed"]) == (PROMPTS, 0)
    assert summary["total_output_tokens"] == PROMPTS * OUTPUT

    deployment = result["provenance"]["deployment"]
    assert (deployment["model"], deployment["revision"]) == (MODEL, REVISION)
    assert len(deployment["ranks"]) == 2
    for number, reported in enumerate(deployment["ranks"], start=1):
        container = rank(cluster, number)
        label = container["Config"]["Labels"][LABEL]
        assert reported["node"] == f"spark-{number:02d}"
        assert reported["spec"] == sha256(label.encode()).hexdigest()
        assert reported["image_id"] == container["Image"]

    nodes = result["nodes"]
    assert [node["name"] for node in nodes["nodes"]] == ["spark-01", "spark-02"]
    # The stand-in's figures, steady.
    watts = [node["power_w"]["mean"] for node in nodes["nodes"]]
    assert watts == [pytest.approx(3.74)] * 2
    joules = sum(node["energy_joules"] for node in nodes["nodes"])
    assert joules == pytest.approx(sum(watts) * summary["duration"], rel=0.2)
    assert nodes["tokens_per_joule"] == pytest.approx(PROMPTS * OUTPUT / joules)

    served.unchanged()
