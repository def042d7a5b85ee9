"""spark-bench beside the simulated Sparks: it asks the project what runs, and samples the nodes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from typing import Any

import pytest
from deploying import LABEL, Deploy, rank
from spark_node import REVISION
from sparks import ROOT, TESTBED

# What a user's spark-bench does, on the controller: list, then sample for a while.
BENCH = """
import sys, time
from pathlib import Path
import msgspec
from spark_bench.project import find_listing
from spark_bench.telemetry.messages import SamplerJob
from spark_bench.telemetry.readings import tokens_per_joule
from spark_bench.telemetry.sampling import Sampling

listing = find_listing(Path.cwd(), sys.argv[1])
running = Sampling.start(SamplerJob(url=listing.url, interval=0.3, nodes=listing.nodes))
print("sampling", flush=True)
time.sleep(2)
side = running.stop()
per_joule = tokens_per_joule(100, side.nodes)
told = {"listing": listing, "nodes": side.nodes, "samples": side.samples, "notes": side.notes}
print(msgspec.json.encode(told | {"tokens_per_joule": per_joule}).decode())
"""


def bench(deploy: Deploy) -> tuple[dict[str, Any], list[int]]:
    """What it reported, and how many SSH connections each node had while it sampled."""
    cluster = deploy.cluster
    environment = {
        **os.environ,
        "HOME": str(cluster.state / "home"),
        "TB_STATE": str(cluster.state),
        "PYTHONPATH": str(ROOT / "bench"),
    }
    words = [str(TESTBED / "tb"), "ctl", sys.executable, "-c", BENCH, str(deploy.inventory)]
    with subprocess.Popen(
        words, env=environment, cwd=ROOT, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == b"sampling\n"
        connections = cluster.each(lambda node: established(node.run(SS).stdout))
        document = json.loads(process.stdout.read())
    assert process.returncode == 0
    return document, connections


SS = "ss -Htn state established '( sport = :22 )'"


def established(lines: str) -> int:
    return len(lines.splitlines())


def test_a_deployment_is_listed_and_its_nodes_are_sampled(served: Deploy) -> None:
    output, connections = bench(served)
    listing = output["listing"]
    cluster = served.cluster

    assert listing["url"] == cluster.head_url
    assert (listing["runs"], listing["light"]) == (True, False)
    assert listing["revision"] == REVISION
    for number, listed in enumerate(listing["ranks"], start=1):
        container = rank(cluster, number)
        label = container["Config"]["Labels"][LABEL]
        assert listed["node"] == f"spark-{number:02d}"
        assert listed["name"] == container["Name"].lstrip("/")
        assert listed["spec"] == sha256(label.encode()).hexdigest()
        assert listed["image_id"] == container["Image"]
        assert listed["started_at"] == container["State"]["StartedAt"]
        assert (listed["launch"]["tp"], listed["launch"]["nnodes"]) == (2, 2)

    assert connections == [1, 1]
    assert output["notes"] == []
    assert [node["name"] for node in output["nodes"]] == ["spark-01", "spark-02"]
    for node in output["nodes"]:
        assert len(node["samples"]) >= 4
        # The stand-in's figures, steady.
        assert node["power_w"]["mean"] == pytest.approx(3.74)
        assert node["temperature_c"]["max"] == 41
        assert node["energy_joules"] > 0
        assert all("gpu_memory_bytes" not in sample for sample in node["samples"])
    joules = sum(node["energy_joules"] for node in output["nodes"])
    assert output["tokens_per_joule"] == pytest.approx(100 / joules)
    assert output["samples"][0]["running"] == 0
    assert left_behind(served) == ["", ""]


def left_behind(deploy: Deploy) -> list[str]:
    """Sampling loops that still run on the nodes, a few seconds later at most."""
    find = "pgrep -af '[p]ort_rcv_data' || true"
    for _ in range(20):
        with ThreadPoolExecutor() as pool:
            loops = list(pool.map(lambda n: n.run(find).stdout, deploy.cluster.nodes.values()))
        if not any(loops):
            break
        time.sleep(0.25)
    return loops


def test_a_node_that_is_off_makes_the_listing_fail_in_one_sentence(served: Deploy) -> None:
    """And the catalogue is there all the same."""
    served.cluster.changed = True
    served.cluster.off(2)
    code = (
        "import sys; from pathlib import Path\n"
        "from spark_bench.errors import BenchError\n"
        "from spark_bench.project import find_listing\n"
        "print(len(find_listing(Path.cwd(), sys.argv[1], light=True).catalogue))\n"
        "try: find_listing(Path.cwd(), sys.argv[1])\n"
        "except BenchError as e: print(e.message)\n"
    )
    done = served.cluster.ctl(
        sys.executable, "-c", code, served.inventory, timeout=60, PYTHONPATH=str(ROOT / "bench")
    )
    catalogue, output = done.stdout.splitlines()
    assert int(catalogue) >= 14
    assert "[spark-02]" in output
    assert output.endswith("measure with --url")
