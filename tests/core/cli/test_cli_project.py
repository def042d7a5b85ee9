"""The project, the inventory, the arguments for pyinfra, and how its output is read."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from spark_cluster import project
from spark_cluster.commands import ClusterError
from spark_cluster.main import main
from spark_cluster.project import Project, find_project

ROOT = Path(__file__).parents[3]
CONNECTING = """--> Loading config...
--> Loading inventory...
--> Connecting to hosts...
    Failed to load host keys from /root/.ssh/known_hosts: [Errno 2] No such file or directory
    [spark-1] Connected
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What makes a folder the project."""
    (tmp_path / "inventories").mkdir()
    (tmp_path / "deploy.py").touch()
    (tmp_path / "inventories" / "spark.py").touch()
    return tmp_path


def test_the_project_is_found_above_the_current_folder(checkout: Path) -> None:
    deep = checkout / "a" / "b"
    deep.mkdir(parents=True)
    assert find_project(start=deep) == Project(checkout, checkout / "inventories" / "spark.py")


def test_elsewhere_it_is_the_checkout_that_this_is_installed_from(tmp_path: Path) -> None:
    assert find_project(start=tmp_path).root == ROOT


def test_an_inventory_is_searched_for_here_then_in_the_project(checkout: Path) -> None:
    (checkout / "near").mkdir()
    (checkout / "near" / "own.py").touch()
    (checkout / "inventories" / "own.py").touch()
    near = find_project(Path("own.py"), start=checkout / "near")
    assert near.inventory == checkout / "near" / "own.py"
    far = find_project(Path("inventories/own.py"), start=checkout / "near")
    assert far.inventory == checkout / "inventories" / "own.py"


def test_a_missing_inventory_is_reported_with_a_fix(checkout: Path) -> None:
    with pytest.raises(ClusterError, match=r"--inventory x\.py: .* spark-cluster init writes one"):
        find_project(Path("x.py"), start=checkout)


def test_the_environment_names_the_inventory() -> None:
    done = CliRunner().invoke(main, ["use", "1"], env={"SPARK_INVENTORY": "no/such.py"})
    assert (done.exit_code, "no/such.py" in done.stderr) == (1, True)


def test_command_line_words_are_not_split(checkout: Path) -> None:
    words = find_project(start=checkout).command_line(
        "feasible", {"cases": [{"model": 6}], "light": "a b"}
    )
    assert words[1:] == [
        *("-y", str(checkout / "inventories" / "spark.py"), "deploys/feasible.py"),
        *("--data", 'cases=[{"model": 6}]', "--data", "light=a b"),
    ]


PORT = {"level": "error", "what": "port = 0 is not allowed", "where": "", "cure": ""}
SILENT = {"level": "error", "what": "no answer", "where": "spark-2", "cure": "ssh spark-2 true"}
WARNING = {**PORT, "level": "warning", "what": "anyone may use it"}


@pytest.mark.parametrize(
    ("report", "log", "failure"),
    [
        pytest.param({"findings": [PORT, WARNING, SILENT]}, "--> pyinfra error: …\n",
                     "port = 0 is not allowed\nspark-2: no answer -> ssh spark-2 true",
                     id="a-report"),
        pytest.param(None, "one\ntwo\n\x1b[31m    three\x1b[0m\n\nfour\nfive\n",
                     "two\nthree\nfour\nfive", id="it ended before it could report"),
        pytest.param({"findings": []}, "boom\n", "boom", id="nothing in the report"),
        pytest.param({"findings": "?"}, "boom\n", "boom", id="a report of another version"),
        pytest.param(None, "", "pyinfra ended without saying why", id="silence"),
    ],
)  # fmt: skip
def test_a_failed_run_is_explained_by_its_report(
    checkout: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    report: object,
    log: str,
    failure: str,
) -> None:
    (tmp_path / "log").write_text(log)
    (tmp_path / "report").write_text(json.dumps(report))
    fake = tmp_path / "fake-pyinfra"
    given = f'case $word in report=*) cp {tmp_path}/report "${{word#report=}}";; esac'
    copy = f"for word; do {given}; done"
    lines = ["#!/bin/sh", *([copy] if report else []), f"cat {tmp_path}/log >&2", "exit 1", ""]
    fake.write_text("\n".join(lines))
    fake.chmod(0o755)
    monkeypatch.setattr(project, "find_pyinfra", lambda _: str(fake))
    with pytest.raises(ClusterError) as error:
        find_project(start=checkout).fetch("listing")
    assert error.value.message == failure


def test_a_run_that_does_not_end_is_ended(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = tmp_path / "pyinfra"
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    monkeypatch.setattr(project, "find_pyinfra", lambda _: str(slow))
    begun = time.monotonic()
    with pytest.raises(ClusterError, match="did not answer within 0"):
        find_project(start=checkout).fetch("listing", seconds=0.2)
    assert time.monotonic() - begun < 10


def test_a_mistyped_command_lists_the_commands() -> None:
    done = CliRunner().invoke(main, ["modles"])
    assert done.exit_code == 2
    assert "did you mean models?" in done.stderr
    assert "init, models, use, check, status, logs, doctor" in done.stderr


def test_help_imports_nothing_heavy() -> None:
    heavy = ("pyinfra", "gevent", "paramiko", "rich", "msgspec", "cluster")
    code = (
        "import sys\nfrom click.testing import CliRunner\nfrom spark_cluster.main import main\n"
        "assert CliRunner().invoke(main, ['--help']).exit_code == 0\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.strip() == "[]"
