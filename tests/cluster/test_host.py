"""deploys/host.py on the simulated cluster, with real logind and earlyoom."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from deploying import Deploy
from sparks import Cluster

PROGRAM = "deploys/host.py"
LINGER = "ls /var/lib/systemd/linger"


@pytest.fixture(autouse=True)
def as_before(cluster: Cluster) -> Iterator[None]:
    yield
    stop = "loginctl disable-linger nvidia; systemctl disable --now earlyoom"
    cluster.each(lambda node: node.run(stop, check=False))


def test_only_what_is_declared_is_set(deploy: Deploy) -> None:
    node = deploy.cluster.node(2)
    before = deploy.cluster.snapshot()
    output = deploy.succeeds(program=PROGRAM)
    assert deploy.cluster.snapshot() == before
    assert "spark-02: linger=false: nvidia's stays off" in output
    assert "spark-02: earlyoom=false: it is installed, and stays so" in output

    deploy.succeeds(program=PROGRAM, linger=True)
    assert node.run(LINGER).stdout == "nvidia\n"
    deploy.unchanged(program=PROGRAM, linger=True)
    assert "nvidia's stays on" in deploy.succeeds(program=PROGRAM)


def test_earlyoom_runs_with_a_spark_s_arguments(deploy: Deploy) -> None:
    node = deploy.cluster.node(1)
    deploy.succeeds(program=PROGRAM, earlyoom=True)
    words = node.run("xargs -0 -n1 </proc/$(pgrep -x earlyoom)/cmdline").stdout.split("\n")
    assert words[:6] == ["/usr/bin/earlyoom", "-m", "3,1", "-s", "100", "-r"]
    assert words[7:9] == ["--prefer", "^(python3?|sglang::.*)$"]
    assert words[9] == "--avoid" and words[10].startswith("^(systemd.*|init|sshd.*|")
    assert node.run("systemctl is-enabled earlyoom").stdout == "enabled\n"
    begun = node.run("pgrep -x earlyoom").stdout
    deploy.unchanged(program=PROGRAM, earlyoom=True)

    node.run("echo 'EARLYOOM_ARGS=\"-r 60\"' >/etc/default/earlyoom")
    deploy.succeeds(program=PROGRAM, earlyoom=True)
    assert node.run("pgrep -x earlyoom").stdout != begun
    assert "-r 3600" in node.run("ps -C earlyoom -o args=").stdout
