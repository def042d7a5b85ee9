"""An inventory that is not what its author means ends every program, before any node is asked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from fakes import ROOT, Fakes

PROGRAMS = [["check"], ["status"], ["doctor"], ["logs"], ["models", "--offline"], ["models"]]


def text(run: subprocess.CompletedProcess[str]) -> str:
    return run.stdout + run.stderr


@pytest.mark.parametrize("file", ["deploy.py", "deploys/check.py", "deploys/listing.py"])
@pytest.mark.parametrize(
    ("inventory", "says"),
    [
        pytest.param('head = "spark-1"\n', "the group `head` of", id="a-string"),
        pytest.param('head = (["a"], {}),\nworkers = []\n', "a stray comma", id="comma"),
        pytest.param("", "the group `head` has no host", id="empty"),
        pytest.param('head = ["me@spark-1"]\n', "ssh_user", id="user-at-host"),
        pytest.param("head = ['a'\n", "SyntaxError", id="not-python"),
    ],
)
def test_pyinfra_ends_with_one_error(tmp_path: Path, file: str, inventory: str, says: str) -> None:
    path = tmp_path / "spark.py"
    path.write_text(inventory)
    run = Fakes.of(tmp_path).pyinfra("-y", str(path), file)
    assert run.code != 0
    assert says in run.text
    assert "Traceback" not in run.text and "Connecting" not in run.text


@pytest.mark.parametrize(
    ("words", "says"),
    [
        pytest.param(["inventories/sprak.py"], "is not there", id="mistyped"),
        pytest.param(["no-such-host.invalid"], "names no host", id="no-such-host"),
        pytest.param(["inventories"], "is a folder", id="a-folder"),
        pytest.param(["me@10.255.255.1"], "ssh_user", id="user-at-host"),
        pytest.param(["inventories/local.py", "--limit", "nobody"], "leaves no host", id="limit"),
        pytest.param(["inventories/local.py", "--exclude", "@local"], "no host", id="exclude"),
    ],
)
def test_a_run_that_reads_no_node_fails(tmp_path: Path, words: list[str], says: str) -> None:
    run = Fakes.of(tmp_path).pyinfra("-y", *words, "deploys/check.py")
    assert run.code != 0
    assert says in run.text


@pytest.mark.parametrize("words", PROGRAMS, ids=" ".join)
def test_spark_cluster_ends_with_one_error(tmp_path: Path, words: list[str]) -> None:
    path = tmp_path / "spark.py"
    path.write_text('head = "spark-1"\n')
    command = [sys.executable, "-m", "spark_cluster", *words, "-i", str(path)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert run.returncode == 1
    assert "the group `head` of" in text(run)
    assert "Traceback" not in text(run)


def test_spark_bench_ends_with_one_error(tmp_path: Path) -> None:
    path = tmp_path / "spark.py"
    path.write_text('head = "spark-1"\n')
    command = [sys.executable, "-m", "spark_bench", "run", "--inventory", str(path)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert run.returncode != 0
    assert "the group `head` of" in text(run)
    assert "Traceback" not in text(run)
