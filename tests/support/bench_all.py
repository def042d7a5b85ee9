"""`spark-bench all` on the simulated cluster."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deploying import DATA, MODEL, WORKER
from sparks import ROOT, TESTBED, Cluster

IDS = {
    "qwen7b": MODEL,
    "qwen14b": "Qwen/Qwen2.5-14B-Instruct",
    "mistral7b": "mistralai/Mistral-7B-Instruct-v0.3",
    "nemo": "mistralai/Mistral-Nemo-Instruct-2407",
    "phi4": "microsoft/phi-4",
}


NEVER, ANOTHER, KILLED = "qwen14b", "mistral7b", "nemo"


# Of the stub engine. With a pause the answers last long enough to be disturbed.
FAULTS = {
    IDS[NEVER]: {"STUB_NEVER_READY": "1"},
    IDS[ANOTHER]: {"STUB_SERVE_AS": "another/model"},
    IDS[KILLED]: {"STUB_TOKEN_SECONDS": "0.04"},
}


EXPECTED = {
    NEVER: ("STARTUP_FAILED", "not ready after "),
    ANOTHER: ("STARTUP_FAILED", "serves another/model, "),
    KILLED: ("NO_OUTPUT", "none of 10 requests was answered"),
}


def inventory(cluster: Cluster, folder: Path, **data: Any) -> Path:
    """Of both nodes, with the faults."""
    env = {"STUB_BY_MODEL": json.dumps(FAULTS)}
    return cluster.inventory(folder, **DATA, env=env, ready_timeout=12, **data)


def bench_all(cluster: Cluster, where: Path, out: Path, *words: str) -> tuple[int, str]:
    """Its exit code and stderr; the worker is killed while KILLED is measured."""
    with started(cluster, where, out, *words) as process:
        output = []
        assert process.stderr
        for line in process.stderr:
            output.append(line)
            if f"{KILLED}: served after" in line:
                wait_for(lambda: " in flight" in (out / f"{KILLED}.log").read_text())
                cluster.node(2).run(f"docker kill {WORKER}")
    return process.returncode, "".join(output)


@contextmanager
def started(
    cluster: Cluster, where: Path, out: Path, *words: str
) -> Iterator[subprocess.Popen[str]]:
    """On the controller, which reaches the nodes' management addresses alone."""
    environment = {
        **os.environ,
        "HOME": str(cluster.state / "home"),
        "TB_STATE": str(cluster.state),
        "PYTHONPATH": str(ROOT / "bench"),
    }
    (cluster.state / "home").mkdir(exist_ok=True)
    ours = [sys.executable, "-m", "spark_bench", "all", "--inventory", str(where)]
    options = ["--profile", "quick", "--yes", "--output-dir", str(out), *words]
    with subprocess.Popen(
        [str(TESTBED / "tb"), "ctl", *ours, *options],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        except BaseException:
            process.kill()
            raise


def rows(out: Path) -> dict[str, dict[str, Any]]:
    """By alias."""
    results = json.loads((out / "results.json").read_text())["results"]
    return {row["model_short"]: row for row in results}


def proves(out: Path, code: int, output: str) -> None:
    """Each model has the status that is its own; one that fails harms no other one."""
    by_name = rows(out)
    for alias, row in by_name.items():
        status, words = EXPECTED.get(alias, ("OK", ""))
        assert row["status"] == status, (alias, row["diagnosis"], output)
        assert words in row["diagnosis"], row["diagnosis"]
        if status == "OK":
            assert (row["nodes"], row["tp"], row["completed"]) == (2, 2, 10)
            assert row["output_throughput"] > 0
    assert code == 1


def wait_for(true: Any) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)
