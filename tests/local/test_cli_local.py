"""spark-cluster as a newcomer types it: this machine, the project's own pyinfra, copied files."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.local


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A folder with copies of the shipped inventories, and a port that is free for local.py."""
    for name in ("local.py", "spark.py"):
        shutil.copy(ROOT / "inventories" / name, tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (tmp_path / "group_data").mkdir()
    (tmp_path / "group_data" / "local.py").write_text(f"port = {port}\n")
    return tmp_path


def run(here: Path, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "spark_cluster", *words],
        cwd=here,
        env={**os.environ, "HOME": str(here), "HF_TOKEN": ""},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def test_use_holds_in_the_shipped_inventory(here: Path) -> None:
    shipped = (here / "spark.py").read_bytes()
    output = run(here, "use", "qwen72b", "-i", "spark.py").stdout
    assert (
        "chosen: Qwen/Qwen2.5-72B-Instruct, 145.4 GB, variant spark (reported), on 2 node(s)"
        in output
    )
    assert (here / "spark.py").read_bytes() == shipped
    listed = run(here, "models", "--offline", "-i", "spark.py").stdout
    assert re.search(r"^\* +6 +qwen72b ", listed, re.M), listed
    assert "nothing to write" in run(here, "use", "6", "-i", "spark.py").stdout


def test_use_refuses_what_this_inventory_can_not_serve(here: Path) -> None:
    shipped = (here / "local.py").read_bytes()
    output = run(here, "use", "qwen7b", "-i", "local.py", code=1).stderr
    assert output.startswith("spark-cluster: nothing was written:\n")
    assert "needs runtime = 'docker'" in output
    assert (here / "local.py").read_bytes() == shipped


def test_a_change_to_a_weaker_setting_is_reverted(here: Path) -> None:
    """Group data of `head` wins over what the inventory says of the group itself."""
    inventory = here / "own.py"
    inventory.write_text('head = (["spark-1"], {"model": "qwen7b"})\n')
    (here / "group_data" / "head.py").write_text('model = "nemo"\n')
    output = run(here, "use", "qwen14b", "-i", "own.py", code=1).stderr
    assert "group_data/head.py" in output
    assert inventory.read_text() == 'head = (["spark-1"], {"model": "qwen7b"})\n'


def test_check_prints_what_pyinfra_prints_and_exits_as_it_does(here: Path) -> None:
    output = run(here, "check", "-i", "local.py").stderr
    assert "a deploy would go ahead" in output
    (here / "group_data" / "local.py").write_text("prot = 1\n")
    assert "prot is not a setting" in run(here, "check", "-i", "local.py", code=1).stderr


def test_init_writes_an_inventory_that_checks(here: Path) -> None:
    port = (here / "group_data" / "local.py").read_text().split()[-1]
    words = ("--head", "@local", "--model", "smollm2", "--output", "mine.py")
    data = ("--data", "runtime=process", "--data", "host=127.0.0.1", "--data", f"port={port}")
    output = run(here, "init", *words, *data).stdout
    assert "next:    pyinfra -y mine.py deploy.py" in output
    assert "a deploy would go ahead" in run(here, "check", "-i", "mine.py").stderr
    assert "mine.py already exists" in run(here, "init", *words, *data, code=1).stderr


def test_init_with_an_unknown_host_is_refused(here: Path) -> None:
    words = ("--head", "@local", "--worker", "no-such-host.invalid", "--output", "mine.py")
    output = run(here, "init", *words, code=1)
    assert "no-such-host.invalid: Could not resolve hostname" in output.stderr
    assert not (here / "mine.py").exists()
    assert re.search(r"^@local +yes ", output.stdout, re.M)
