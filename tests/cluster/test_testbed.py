"""The simulated cluster and its stub engine keep their own promises."""

from __future__ import annotations

from pathlib import Path

from sparks import Cluster


def test_the_controller_has_no_route_out(cluster: Cluster) -> None:
    assert [line.split()[0] for line in cluster.ctl("ip", "route").stdout.splitlines()] == [
        "198.18.0.0/24"
    ]


def test_pyinfra_reaches_the_nodes_over_ssh(cluster: Cluster, tmp_path: Path) -> None:
    done = cluster.pyinfra("fact", "server.User", inventory=cluster.inventory(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stderr.count('"nvidia"') + done.stdout.count('"nvidia"') == 2


def test_reset_puts_a_node_back(cluster: Cluster) -> None:
    before = cluster.snapshot()
    cluster.node(1).add_weights("Qwen/Qwen3-0.6B")
    cluster.node(1).run("echo 10.0.0.1 elsewhere >> /etc/hosts; mv /usr/bin/curl /usr/bin/curled")
    cluster.node(2).run("docker run -d --name stray lmsysorg/sglang:spark sleep 1000")
    cluster.node(2).run("sleep 1000 >/dev/null 2>&1 & ip addr add 169.254.9.9/16 dev enP7s7")
    assert cluster.snapshot() != before

    cluster.reset()
    after = cluster.snapshot()
    for name, node in before.items():
        assert after[name]["containers"] == node["containers"] == {}
        assert after[name]["images"] == node["images"]
        assert set(after[name]["files"]) - set(node["files"]) <= {"usr/bin/curl"}
    assert "elsewhere" not in cluster.node(1).run("cat /etc/hosts; curl --version").stdout
    assert "169.254.9.9" not in cluster.node(2).run("ip addr").stdout
    assert cluster.node(2).run("pgrep -x sleep", check=False).stdout == ""


def test_looking_changes_nothing(cluster: Cluster, tmp_path: Path) -> None:
    before = cluster.snapshot()
    cluster.pyinfra("fact", "server.Hostname", inventory=cluster.inventory(tmp_path))
    assert cluster.snapshot() == before
