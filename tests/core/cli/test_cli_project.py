"""The frame: which project, which inventory, what pyinfra is told, and what its words come to."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from spark_cluster import project
from spark_cluster.commands import ClusterError
from spark_cluster.main import main
from spark_cluster.project import Project, find, told

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
    assert find(start=deep) == Project(checkout, checkout / "inventories" / "spark.py")


def test_elsewhere_it_is_the_checkout_that_this_is_installed_from(tmp_path: Path) -> None:
    assert find(start=tmp_path).root == ROOT


def test_an_inventory_is_looked_for_here_then_in_the_project(checkout: Path) -> None:
    (checkout / "near").mkdir()
    (checkout / "near" / "own.py").touch()
    (checkout / "inventories" / "own.py").touch()
    near = find(Path("own.py"), start=checkout / "near")
    assert near.inventory == checkout / "near" / "own.py"
    far = find(Path("inventories/own.py"), start=checkout / "near")
    assert far.inventory == checkout / "inventories" / "own.py"


def test_a_missing_inventory_is_told_with_the_cure(checkout: Path) -> None:
    with pytest.raises(ClusterError, match=r"--inventory x\.py: .* spark-cluster init writes one"):
        find(Path("x.py"), start=checkout)


def test_the_environment_names_the_inventory() -> None:
    done = CliRunner().invoke(main, ["use", "1"], env={"SPARK_INVENTORY": "no/such.py"})
    assert (done.exit_code, "no/such.py" in done.stderr) == (1, True)


def test_words_are_words(checkout: Path) -> None:
    words = find(start=checkout).words("feasible", {"cases": [{"model": 6}], "light": "a b"})
    assert words[1:] == [
        *("-y", str(checkout / "inventories" / "spark.py"), "deploys/feasible.py"),
        *("--data", 'cases=[{"model": 6}]', "--data", "light=a b"),
    ]


@pytest.mark.parametrize(
    ("log", "lines"),
    [
        pytest.param(
            CONNECTING
            + "--> pyinfra error in /x/control/shared.py line 29: refused, nothing was changed:\n"
            + "    prot is not a setting -> all.py\n    port = 0 is not allowed\n",
            ["prot is not a setting -> all.py", "port = 0 is not allowed"],
            id="a-refusal",
        ),
        pytest.param(
            CONNECTING + "    [spark-2] Could not resolve hostname (unknown)\n\n"
            "--> Disconnecting from hosts...\n--> pyinfra error: No hosts remaining!\n",
            ["[spark-2] Could not resolve hostname (unknown)"],
            id="a-silent-node",
        ),
        pytest.param(
            "--> pyinfra error in x.py line 1: a deploy would be refused: 1 error\n",
            ["a deploy would be refused: 1 error"],
            id="one-line",
        ),
        pytest.param("\x1b[31m    boom\x1b[0m\n", ["boom"], id="coloured"),
        pytest.param("", ["pyinfra ended without a word"], id="silence"),
    ],
)
def test_what_a_failed_run_says(log: str, lines: list[str]) -> None:
    assert told(log) == lines


def test_a_run_that_does_not_end_is_ended(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = tmp_path / "pyinfra"
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    monkeypatch.setattr(project, "pyinfra", lambda _: str(slow))
    begun = time.monotonic()
    with pytest.raises(ClusterError, match="gave no answer in 0"):
        find(start=checkout).ask("listing", seconds=0.2)
    assert time.monotonic() - begun < 10


def test_a_mistyped_command_is_told_what_there_is() -> None:
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
