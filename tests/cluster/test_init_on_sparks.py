"""spark-cluster init and models, from the controller of the simulated Sparks."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from deploying import MODEL, Deploy
from spark_node import HF_CACHE
from sparks import ROOT, Cluster, Completed

ENVIRONMENT = {"PYTHONPATH": str(ROOT / "cli")}


@pytest.fixture
def ssh(cluster: Cluster) -> Iterator[Path]:
    """The controller's own ~/.ssh: then names are all that an inventory needs."""
    folder = cluster.state / "home" / ".ssh"
    folder.mkdir(parents=True, exist_ok=True)
    known_hosts = cluster.state / "known_hosts"
    (folder / "known_hosts").write_bytes(known_hosts.read_bytes())
    config = (cluster.state / "ssh_config").read_text()
    (folder / "config").write_text(config.replace(str(known_hosts), str(folder / "known_hosts")))
    yield folder
    for name in ("config", "known_hosts"):
        (folder / name).unlink()


def run(cluster: Cluster, *words: object) -> Completed:
    done = cluster.ctl(sys.executable, "-m", "spark_cluster", *words, timeout=120, **ENVIRONMENT)
    assert "Traceback" not in done.stderr, done.stderr
    return done


PAIR = ("--head", "spark-01", "--worker", "spark-02", "--hf-cache", HF_CACHE, "--model", "qwen7b")


def test_the_written_inventory_deploys_as_it_is(
    cluster: Cluster, ssh: Path, tmp_path: Path
) -> None:
    cluster.each(lambda node: node.add_weights(MODEL))
    inventory = tmp_path / "mine.py"
    before = cluster.snapshot()
    done = run(cluster, "init", *PAIR, "--output", inventory)
    assert done.returncode == 0, done.stdout + done.stderr
    assert cluster.snapshot() == before
    line = r"^spark-01  yes  NVIDIA GB10 .* writable .*enp1s0f1np1 \S+/\d+, enP2p1s0f1np1 \S+/\d+$"
    assert re.search(line, done.stdout, re.M), done.stdout

    dry = cluster.pyinfra("deploy.py", "--dry", inventory=inventory)
    assert dry.returncode == 0, dry.stderr
    assert "plan: spark-02 sglang-worker-1: is not there" in dry.stderr

    again = run(cluster, "init", *PAIR, "--output", inventory, "--yes")
    assert again.returncode == 1
    assert "already exists" in again.stderr

    listed = run(cluster, "models", "-i", inventory)
    assert re.search(r"^\* +3 +qwen7b .* all  ", listed.stdout, re.M), listed.stdout + listed.stderr


def test_ssh_problems_are_reported_with_a_fix(cluster: Cluster, ssh: Path, tmp_path: Path) -> None:
    """A changed host key, an unknown name and a wrong user; nothing is written."""
    known_hosts = ssh / "known_hosts"
    lines = known_hosts.read_text().splitlines()
    first = lines[0].split()[0]
    theirs = next(line.split(maxsplit=1)[1] for line in lines if line.split()[0] != first)
    known_hosts.write_text(f"{first} {theirs}\n" + "\n".join(lines[1:]) + "\n")
    inventory = tmp_path / "mine.py"
    done = run(cluster, "init", "--head", "spark-01", "--worker", "spark-09", "-o", inventory)
    assert done.returncode == 1, done.stdout
    assert "ssh-keygen -R" in done.stderr
    assert "spark-09: Could not resolve hostname" in done.stderr
    user = run(cluster, "init", "--head", "spark-02", "--user", "nobody", "-o", inventory)
    assert "spark-02: Authentication error" in user.stderr
    assert "ssh-copy-id nobody@spark-02" in user.stderr
    assert not inventory.exists()


def test_a_running_group_is_marked(served: Deploy) -> None:
    listed = run(served.cluster, "models", "-i", served.inventory)
    # The deploy's own inventory says qwen7b, as do its ranks.
    assert re.search(r"^>\* +3 +qwen7b .* all  ", listed.stdout, re.M), listed.stdout
