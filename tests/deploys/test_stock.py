"""Which models lie on which node, and what machines are like, as documents of @fake Sparks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fakes import Fakes, Run

from facts.weights import MARK

HEAD, WORKER = "@fake/spark-1", "@fake/spark-2"
DEFAULT = "openai/gpt-oss-120b"


@pytest.fixture
def sparks(tmp_path: Path) -> Fakes:
    return Fakes.of(tmp_path)


def document(run: Run) -> dict[str, Any]:
    """The document; all of stdout must be it."""
    assert run.code == 0, run.text
    report: dict[str, Any] = json.loads(run.out)
    assert report["version"] == 1
    return report


# ---- models


def test_each_nodes_own_cache_is_listed_with_what_runs(sparks: Fakes) -> None:
    sparks.run_ranks()
    head, worker = sparks.sparks
    head.answers[MARK] = [f"{MARK} {DEFAULT}", *head.weights_lines(), f"{MARK} org/none"]
    head.answers[MARK] += ["model\torg/none", "path\t/raid/hf-cache/hub/models--org--none"]
    worker.answers[MARK] = {"success": False}
    report = document(sparks.deploy(file="deploys/models.py"))
    assert report["present"] == {
        HEAD: {DEFAULT: {"complete": True, "bytes": 2 * 32624407872, "revision": "abc"}}
    }
    assert [rank["model"] for rank in report["listing"]["ranks"]] == [DEFAULT, DEFAULT]
    entry = report["listing"]["catalogue"][0]
    assert (entry["weight_bytes"], entry["mem_fraction"]) == (65248815744, 0.85)


def test_all_models_are_one_command_a_node(sparks: Fakes) -> None:
    for spark in sparks.sparks:
        spark.answers[MARK] = []
    run = sparks.deploy("--data", "model=org/own", file="deploys/models.py")
    assert document(run)["present"] == {HEAD: {}, WORKER: {}}
    scripts = [c for c in run.commands[WORKER] if f"{MARK} {DEFAULT}" in c]
    assert len(scripts) == 1
    assert f"{MARK} org/own" in scripts[0]
    assert "SmolLM2" not in scripts[0]


# ---- probe


def probe(sparks: Fakes, *words: str) -> Run:
    where = ("--data", f"inventory={sparks.inventory()}")
    return sparks.pyinfra("@local", "deploys/probe.py", "-y", *where, *words)


def test_healthy_sparks_have_no_error(sparks: Fakes) -> None:
    for spark in sparks.sparks:
        spark.answers["python3 --version"] = ["Python 3.12.3"]
    report = document(probe(sparks))
    head, worker = report["nodes"]
    assert (head["name"], worker["name"]) == (HEAD, WORKER)
    assert (head["lost"], head["gpu"], head["docker"]) == ("", "NVIDIA GB10", "29.1.0")
    assert (head["hf_cache"], head["python"]) == ("writable", "3.12.3")
    assert len(head["ports"]) == 2
    warned = [f["what"] for f in report["findings"] if f["level"] != "ok"]
    # A busy machine answers late, as a slow login shell does.
    warned = [what for what in warned if not what.startswith("a trivial command over SSH takes")]
    assert len(warned) == 1
    assert warned[0].startswith("anyone who can reach port 30000 may use the API")


def test_the_probe_finds_what_check_finds(sparks: Fakes) -> None:
    sparks.sparks[1].up = False
    report = document(probe(sparks, "--data", "model=qwen7b"))
    wrong = [f for f in report["findings"] if f["level"] == "error"]
    assert any("no QSFP port is Up" in f["what"] and f["where"] == WORKER for f in wrong), wrong
    assert report["nodes"][1]["ports"] == []


def test_a_declaration_that_is_wrong_is_refused(sparks: Fakes) -> None:
    sparks.data["prot"] = 1
    run = probe(sparks)
    assert (run.code, run.out) == (1, "")
    assert "prot is not a setting" in run.err
