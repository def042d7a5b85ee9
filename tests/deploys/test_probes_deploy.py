"""The probes of a deploy and of verify, on @fake Sparks that answer right or wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fakes import ROOT, Fakes, Run
from right_answers import ASKING, printed

HEAD, WORKER = "@fake/spark-1", "@fake/spark-2"
STRICT = ("--data", "probes=strict")
WRONG = "the probe arithmetic failed: "


@pytest.fixture
def served(tmp_path: Path) -> Fakes:
    """Two Sparks that serve the default model already."""
    sparks = Fakes.of(tmp_path)
    sparks.run_ranks()
    return sparks


def probes(run: Run) -> dict[str, int]:
    """How many rounds of probes each node was sent."""
    return {node: sum(ASKING in c for c in commands) for node, commands in run.commands.items()}


def wrong(sparks: Fakes, kind: str = "sums") -> Fakes:
    sparks.sparks[0].answers[ASKING] = printed(kind)
    return sparks


def test_a_converged_run_sends_no_probe_even_where_answers_would_be_wrong(served: Fakes) -> None:
    run = wrong(served).deploy(*STRICT)
    assert (run.code, run.changes) == (0, {}), run.text
    assert probes(run) == {HEAD: 0, WORKER: 0}


def test_a_converged_run_loads_none_of_their_code() -> None:
    steps = ("control.converge", "control.steps", "operations.switch", "operations.weights")
    loaded = f"import sys, {', '.join(steps)}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", f"from gevent.monkey import patch_all; patch_all(); {loaded}"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    modules = done.stdout.split()
    assert "control.steps" in modules
    assert not [
        m for m in modules if m.startswith("cluster.probes") or m == "control.answer_probes"
    ]


def test_a_deploy_probes_from_the_head_before_it_gives_up_the_group_before(served: Fakes) -> None:
    run = served.deploy("--data", "mem_fraction=0.7")
    assert run.code == 0, run.text
    assert probes(run) == {HEAD: 1, WORKER: 0}
    order = [
        c for c in run.commands[HEAD] if ASKING in c or "docker start" in c or "docker rm" in c
    ]
    assert [ASKING in command for command in order] == [False, True, False], order
    assert "probes, " in run.text and "0 wrong" not in run.text
    assert "right (arithmetic" in run.text


def test_a_doubt_that_fails_nothing_is_in_the_document(served: Fakes) -> None:
    file = served.folder / "outcome.json"
    run = wrong(served, "arguments").deploy(
        "--data", "mem_fraction=0.7", "--data", f"report={file}"
    )
    assert run.code == 0, run.text
    outcome: dict[str, Any] = json.loads(file.read_text())
    assert outcome["outcome"] == "changed"
    [doubt] = [each for each in outcome["findings"] if each["key"].startswith("probe")]
    assert (doubt["level"], doubt["key"], doubt["where"]) == ("warning", "probe-tools", HEAD)


def test_a_wrong_answer_fails_the_deploy_and_its_document_names_the_probe(served: Fakes) -> None:
    file = served.folder / "outcome.json"
    report = ("--data", f"report={file}")
    run = wrong(served).deploy("--data", "mem_fraction=0.7", *report)
    assert run.code == 1, run.text
    assert WRONG in run.text
    outcome: dict[str, Any] = json.loads(file.read_text())
    assert (outcome["outcome"], outcome["step"]) == ("failed", "switch")
    keys = {finding["key"]: finding["where"] for finding in outcome["findings"]}
    assert keys["probe-arithmetic"] == HEAD
    assert outcome["previous"] == {"model": served.serves, "restored": True}
    assert probes(run) == {HEAD: 1, WORKER: 0}


def test_no_reply_at_all_is_no_success(served: Fakes) -> None:
    served.sparks[0].answers[ASKING] = {
        "stdout": [],
        "stderr": ["python3: not found"],
        "success": False,
    }
    run = served.deploy("--data", "mem_fraction=0.7")
    assert run.code == 1, run.text
    assert "the probes could not be sent: python3: not found" in run.text


def test_without_probes_nothing_is_sent_and_every_run_warns(served: Fakes) -> None:
    for change in ((), ("--data", "mem_fraction=0.7")):
        run = wrong(served).deploy("--data", "probes=off", *change)
        assert run.code == 0, run.text
        assert probes(run) == {HEAD: 0, WORKER: 0}
        assert "warning: probes = 'off'" in run.text


def test_verify_probes_what_serves(served: Fakes) -> None:
    endpoints = [
        line
        for path in (
            "/health",
            "/v1/models",
            "/v1/chat/completions",
            "/v1/completions",
            "/generate",
        )
        for line in (f"=== {path}", json.dumps({"data": [{"id": served.serves}]}), "--- 200 0.01")
    ]
    served.sparks[0].answers |= {"=== /generate": endpoints}
    run = served.deploy(file="deploys/verify.py")
    assert run.code == 0, run.text
    assert "right (arithmetic" in run.text
    run = wrong(served).deploy(file="deploys/verify.py")
    assert run.code == 1, run.text
    assert WRONG in run.text
    assert probes(run) == {HEAD: 1, WORKER: 0}
