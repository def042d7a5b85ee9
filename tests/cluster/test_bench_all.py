"""spark-bench all beside the simulated Sparks: real deploys, models that fail in different ways,
and one whose worker is killed while it is measured."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench_all import IDS, bench_all, inventory, proves, rows, started
from deploying import MODEL, rank, serves
from sparks import Cluster


def test_models_that_fail_are_rows_and_the_first_is_served_again(
    cluster: Cluster, tmp_path: Path
) -> None:
    cluster.each(lambda node: [node.add_weights(model) for model in IDS.values()])
    where, out = inventory(cluster, tmp_path), tmp_path / "out"
    assert cluster.pyinfra("deploy.py", inventory=where).returncode == 0
    before = rank(cluster, 1)["Config"]["Labels"]
    code, output = bench_all(cluster, where, out, "--models", "7,nemo,phi4")
    proves(out, code, output)
    assert list(rows(out)) == ["mistral7b", "nemo", "phi4"]
    assert f"{MODEL} is served again\n" in output
    assert serves(cluster)
    assert rank(cluster, 1)["Config"]["Labels"] == before


@pytest.mark.parametrize(
    "words, message",
    [
        pytest.param(["--models", "6", "--single-node"], "qwen72b does not fit", id="too-large"),
        pytest.param(["--models", "3", "--vary", "tp=3"], "does not divide over 2", id="odd"),
    ],
)
def test_impossible_requests_are_refused_beforehand(
    cluster: Cluster, tmp_path: Path, words: list[str], message: str
) -> None:
    before = cluster.snapshot()
    with started(cluster, inventory(cluster, tmp_path), tmp_path / "out", *words) as process:
        _, output = process.communicate(timeout=60)
    assert process.returncode == 2
    assert message in output
    assert cluster.snapshot() == before
