"""The simulated cluster's fixtures. They need root, Linux and Debian's packages, or they skip."""

from __future__ import annotations

import os
import platform
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from deploying import DATA, MODEL, Deploy
from sparks import Cluster

HERE = Path(__file__).parent
PROGRAMS = (
    "dockerd",
    "sshd",
    "sudo",
    "ibstat",
    "busybox",
    "docker-registry",
    "ip",
    "iptables",
    "nft",
    "openssl",
)
PROGRAMS += ("curl", "dbus-daemon", "unshare", "ssh-keygen", "ping")
PREFIX = "sparks-"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker("cluster")


def missing() -> str:
    """What this machine lacks for the simulated cluster, "" where it has everything."""
    if platform.system() != "Linux":
        return f"needs Linux, this is {platform.system()}"
    if os.geteuid():
        return "needs root (namespaces, mounts)"
    path = os.environ["PATH"] + ":/usr/sbin:/sbin"
    absent = [p for p in PROGRAMS if not shutil.which(p, path=path)]
    absent += [p for p in ("/lib/systemd/systemd", "/usr/bin/python3") if not Path(p).exists()]
    return f"no {', '.join(absent)}: run tests/cluster/testbed/install-packages" if absent else ""


@pytest.fixture(scope="session")
def testbed() -> Iterator[Cluster]:
    """Two nodes, a registry and the image, for the whole session; taken down at its end."""
    if lack := missing():
        if os.environ.get("CI") == "true":
            pytest.fail(f"the simulated cluster {lack}")
        pytest.skip(f"the simulated cluster {lack}")
    sweep()
    signal.signal(signal.SIGTERM, interrupt)
    cluster = Cluster(Path(f"/run/{PREFIX}{os.getpid()}"))
    try:
        cluster.start(2)
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def cluster(testbed: Cluster) -> Cluster:
    """The testbed as it was after its start, whatever the test before did to it."""
    testbed.reset()
    return testbed


@pytest.fixture
def deploy(cluster: Cluster, tmp_path: Path) -> Deploy:
    """deploy.py for nodes 1 and 2, which serve nothing yet and have qwen7b's weights."""
    cluster.each(lambda node: node.add_weights(MODEL))
    return Deploy(cluster, cluster.inventory(tmp_path, **DATA))


@pytest.fixture
def served(testbed: Cluster, tmp_path: Path) -> Deploy:
    """The same, and nodes 1 and 2 serve the model already.

    After another test of this fixture that takes one deploy of what it left, and none where that
    deploy would find nothing changed; else a reset too.
    """
    deploy = Deploy(testbed, testbed.inventory(tmp_path, **DATA), usual=True)
    if not testbed.changed and testbed.snapshot() == testbed.usual:
        return deploy
    if testbed.changed or deploy().returncode:
        testbed.reset()
        testbed.each(lambda node: node.add_weights(MODEL))
        deploy.succeeds()
        testbed.changed = False
    return deploy


def pytest_exception_interact(node: pytest.Item) -> None:
    """After a failure the next test begins with a reset."""
    if testbed := getattr(node, "funcargs", {}).get("testbed"):
        testbed.changed = True


def interrupt(*_: object) -> None:
    """Let a TERM end the session as Ctrl-C does: through the fixtures' own teardown."""
    raise KeyboardInterrupt


def sweep() -> None:
    """Take down what sessions left behind that were killed outright."""
    for state in Path("/run").glob(f"{PREFIX}*"):
        owner = state.name.removeprefix(PREFIX)
        if owner.isdigit() and not Path(f"/proc/{owner}").exists():
            Cluster(state).stop()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The fault matrix, where it was run."""
    if run := sys.modules.get("test_fault_matrix"):
        for line in run.report():
            terminalreporter.write_line(line)
