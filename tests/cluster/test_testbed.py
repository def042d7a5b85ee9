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
    cluster.node(2).run("docker tag lmsysorg/sglang:spark other:tag; touch /run/stray")
    cluster.node(2).run("sleep 1000 >/dev/null 2>&1 & ip addr add 169.254.9.9/16 dev enP7s7")
    assert cluster.snapshot() != before

    cluster.reset()
    after = cluster.snapshot()
    for name, node in before.items():
        assert after[name]["containers"] == node["containers"] == {}
        assert after[name]["images"] == node["images"]
        assert after[name]["passing"] == node["passing"]
        assert set(after[name]["files"]) - set(node["files"]) <= {"usr/bin/curl"}
    assert "elsewhere" not in cluster.node(1).run("cat /etc/hosts; curl --version").stdout
    assert "169.254.9.9" not in cluster.node(2).run("ip addr").stdout
    assert cluster.node(2).run("pgrep -x sleep", check=False).stdout == ""


def test_reading_facts_changes_nothing(cluster: Cluster, tmp_path: Path) -> None:
    before = cluster.snapshot()
    cluster.pyinfra("fact", "server.Hostname", inventory=cluster.inventory(tmp_path))
    assert cluster.snapshot() == before


def test_a_node_pulls_from_the_registry(cluster: Cluster) -> None:
    cluster.node(2).run("docker rmi lmsysorg/sglang:spark && docker pull -q lmsysorg/sglang:spark")
    assert "lmsysorg/sglang:spark" in cluster.node(2).images()
    refused = cluster.node(2).run("docker pull lmsysorg/nothing:here", check=False)
    assert "manifest unknown" in refused.stderr or "not found" in refused.stderr


def test_reset_brings_back_services(cluster: Cluster, tmp_path: Path) -> None:
    cluster.registry("down")
    assert cluster.node(1).run("docker pull lmsysorg/sglang:spark", check=False).returncode
    cluster.node(1).run("ssh-keygen -A -q; rm /etc/ssh/ssh_host_ed25519_key*; ssh-keygen -A -q")
    cluster.node(1).run("systemctl restart ssh; mv /usr/bin/docker /usr/bin/hidden")
    cluster.node(1).run("systemctl stop docker.socket docker")
    inventory = cluster.inventory(tmp_path)
    assert cluster.pyinfra("fact", "server.User", inventory=inventory).returncode
    assert cluster.snapshot()["spark-01"]["engine"] is False

    cluster.reset()
    cluster.node(1).run("docker pull lmsysorg/sglang:spark")
    done = cluster.pyinfra("fact", "server.User", inventory=inventory)
    assert done.returncode == 0, done.stderr


def test_hardware_that_breaks_shows_and_is_mended(cluster: Cluster) -> None:
    query = "nvidia-smi --query-gpu=index,name,driver_version,compute_cap,memory.total,power.draw"
    node = cluster.node(1)
    row = node.run(f"{query},temperature.gpu --format=csv,noheader").stdout
    assert row == "0, NVIDIA GB10, 580.95.05, 12.1, [N/A], 3.74 W, 41\n"

    cluster.link(1, "q1a", "down")
    node.run("fakehw gpu lost")
    assert "rocep1s0f1 port 1 ==> enp1s0f1np1 (Down)" in node.run("ibdev2netdev").stdout
    assert node.run("nvidia-smi", check=False).returncode == 9

    cluster.reset()
    assert "rocep1s0f1 port 1 ==> enp1s0f1np1 (Up)" in node.run("ibdev2netdev").stdout
    assert node.run("nvidia-smi").returncode == 0
