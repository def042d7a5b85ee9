"""A deploy's outcome as a JSON document: --data report=FILE."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from fakes import ROOT, Fakes, Run

HEAD, WORKER = "@fake/spark-1", "@fake/spark-2"
MODEL = "openai/gpt-oss-120b"
URL = "http://@fake/spark-1:30000"


@pytest.fixture
def sparks(tmp_path: Path) -> Fakes:
    return Fakes.of(tmp_path)


@pytest.fixture
def served(sparks: Fakes) -> Fakes:
    """Two Sparks that serve the default model already."""
    sparks.run_ranks()
    return sparks


def deploy(cluster: Fakes, *args: str, **how: Any) -> tuple[Run, dict[str, Any]]:
    """A run with a report, and the report."""
    file = cluster.folder / "outcome.json"
    run = cluster.deploy("--data", f"report={file}", *args, **how)
    document: dict[str, Any] = json.loads(file.read_text())
    assert document["version"] == 1
    assert [f.name for f in cluster.folder.iterdir() if f.name.startswith(".outcome")] == []
    return run, document


def test_a_converged_run_reports_what_is_serving(served: Fakes) -> None:
    run, document = deploy(served)
    assert run.code == 0, run.text
    assert run.changes == {}
    assert (document["outcome"], document["step"]) == ("converged", "end")
    assert (document["group"], document["model"]) == ("sglang", MODEL)
    assert document["serves"] == {"model": MODEL, "url": URL, "ready": True}
    assert (document["plan"], document["previous"]) == ([], None)


def test_a_report_costs_no_round_trip(served: Fakes) -> None:
    run, _ = deploy(served)
    assert {node: len(commands) for node, commands in run.commands.items()} == {HEAD: 2, WORKER: 1}


def test_a_first_deploy_reports_changes(sparks: Fakes) -> None:
    run, document = deploy(sparks)
    assert run.code == 0, run.text
    assert document["outcome"] == "changed"
    assert document["serves"] == {"model": MODEL, "url": URL, "ready": True}
    assert f"{HEAD} sglang-head: is not there" in document["plan"][0]


def test_a_dry_run_reports_planned(served: Fakes) -> None:
    run, document = deploy(served, "--dry", "--data", "mem_fraction=0.7", yes=False)
    assert run.code == 0, run.text
    assert document["outcome"] == "planned"
    assert "mem_fraction: 0.85 -> 0.7" in document["plan"][0]
    assert document["serves"] == {"model": MODEL, "url": URL, "ready": None}


def test_a_stopped_group_serves_nothing(served: Fakes) -> None:
    run, document = deploy(served, "--data", "state=stopped")
    assert run.code == 0, run.text
    assert (document["outcome"], document["serves"]) == ("changed", None)


def test_a_refused_setting_is_named_before_anything_is_read(served: Fakes) -> None:
    run, document = deploy(served, "--data", "port=0")
    assert run.code == 1
    assert (document["outcome"], document["step"]) == ("refused", "check")
    (finding,) = document["findings"]
    assert finding["level"] == "error"
    assert "port = 0" in finding["what"]
    assert (document["model"], document["serves"]) == ("", None)


def test_a_refused_node_is_named_with_its_cure(served: Fakes) -> None:
    served.sparks[1].up = False
    run, document = deploy(served, "--data", "mem_fraction=0.7")
    assert run.code == 1
    assert document["outcome"] == "refused"
    finding = next(f for f in document["findings"] if f["level"] == "error")
    assert WORKER in finding["where"] + finding["what"]
    assert finding["cure"]
    # Nothing was touched, and nobody asked it.
    assert document["serves"] == {"model": MODEL, "url": URL, "ready": None}


def test_an_inventory_that_can_not_be_used_is_refused_in_the_report_too(served: Fakes) -> None:
    served.groups = {"head": [HEAD]}
    file = served.folder / "outcome.json"
    inventory = served.folder / "broken.py"
    inventory.write_text("head = 7\n")
    run = served.pyinfra(str(inventory), "deploy.py", "-y", "--data", f"report={file}")
    assert run.code == 1, run.text
    document = json.loads(file.read_text())
    assert (document["outcome"], document["step"]) == ("refused", "start")
    assert "head" in document["findings"][0]["what"]


def test_an_operation_that_fails_says_why_and_where(sparks: Fakes) -> None:
    failed = {"stdout": [], "stderr": ["no space left on device"], "success": False}
    sparks.sparks[1].answers = {"docker create": failed}
    run, document = deploy(sparks)
    assert run.code == 1, run.text
    assert (document["outcome"], document["step"]) == ("failed", "switch")
    first = document["findings"][0]
    assert (first["where"], first["level"]) == (WORKER, "error")
    assert "no space left on device" in first["what"]
    assert (document["serves"], document["previous"]) == (None, None)


def test_the_restored_group_is_reported_as_serving(served: Fakes) -> None:
    failed = {"stdout": [], "stderr": ["no space left on device"], "success": False}
    served.sparks[1].answers = {"docker create": failed}
    run, document = deploy(served, "--data", "mem_fraction=0.7")
    assert run.code == 1, run.text
    assert document["outcome"] == "failed"
    assert document["previous"] == {"model": MODEL, "restored": True}
    assert document["serves"] == {"model": MODEL, "url": URL, "ready": True}


def test_a_node_that_can_not_be_reached_is_named(served: Fakes) -> None:
    file = served.folder / "outcome.json"
    inventory = served.folder / "silent.py"
    inventory.write_text('head = [("127.0.0.1", {"ssh_port": 1})]\nworkers = []\n')
    run = served.pyinfra(str(inventory), "deploy.py", "-y", "--data", f"report={file}")
    assert run.code == 1, run.text
    document = json.loads(file.read_text())
    assert document["outcome"] == "failed"
    (finding,) = document["findings"]
    assert (finding["key"], finding["where"]) == ("node-unreachable", "127.0.0.1")
    assert finding["cure"] == "ssh 127.0.0.1 true"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_is_interrupted_leaves_a_report_of_that(
    served: Fakes, number: signal.Signals
) -> None:
    file = served.folder / "outcome.json"
    # Each command takes so long: the run ends in the middle of its first one.
    slow = {"PYINFRA_FAKE_DELAY": "60", "PYINFRA_FAKE_DELAY_JITTER": "0"}
    words = [str(served.inventory()), "deploy.py", "-y", "--data", f"report={file}"]
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "tests" / "support" / "recorded.py"), *words],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "HOME": str(served.folder)} | slow,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 60
        while not (file.exists() and '"check"' in file.read_text()):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(number)
        assert process.wait(60) == (130 if number is signal.SIGINT else -number)
    finally:
        process.kill()
        process.wait()
    document = json.loads(file.read_text())
    assert (document["outcome"], document["step"]) == ("interrupted", "check")


def test_a_report_never_holds_the_key(served: Fakes) -> None:
    key_file = served.folder / "api-key"
    key_file.write_text("sk-not-for-reports\n")
    key_file.chmod(0o600)
    _, document = deploy(served, "--data", f"api_key_file={key_file}")
    assert "sk-not-for-reports" not in json.dumps(document)


def test_a_report_that_can_not_be_written_is_refused_at_once(served: Fakes) -> None:
    run = served.deploy("--data", f"report={served.folder}/no/such/outcome.json")
    assert run.code == 1
    assert "report = " in run.text
    assert "can't be written" in run.text
    assert run.commands == {HEAD: [], WORKER: []}


def test_a_report_in_the_inventory_is_no_setting(served: Fakes) -> None:
    served.data = {"report": "outcome.json"}
    run = served.deploy()
    assert run.code == 1
    assert "report is not a setting" in run.text
