"""What is refused: one clear message, exit code 1, and no node changed."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from deploying import Deploy, serves
from sparks import Cluster

# One for each kind of source: the others are refused alike, in tests/deploys/test_fake_deploy.py.
SETTINGS = {
    "unknown setting": ({"mem_fracton": 0.5}, "mem_fracton is not a setting; did you mean mem_f"),
    "tp": (
        {"tensor_parallel": 3},
        "tensor_parallel 3 x pipeline_parallel 1 = 3 does not divide over 2 nodes",
    ),
    "option": ({"extra_args": "--no-such-option"}, "does not know --no-such-option"),
    "gated": ({"model": "llama8b"}, "Llama-3.1-8B-Instruct is gated"),
    "absent image": ({"image": "no/image:here", "pull": "never"}, "image no/image:here is not the"),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_is_refused(served: Deploy, name: str) -> None:
    data, words = SETTINGS[name]
    output = served.refused(**data)
    assert "refused, nothing was changed:\n" in output
    assert words in output
    assert serves(served.cluster)


def test_too_large_a_model_is_refused_with_the_arithmetic(served: Deploy) -> None:
    model = "meta-llama/Llama-3.1-70B-Instruct"
    served.cluster.each(lambda node: node.add_weights(model))
    output = served.refused(model="llama70b", head_only=True)
    assert "llama70b does not fit: 141.1 GB of weights > 0.85 x 121.6 GiB = 111.0 GB" in output


def test_an_inventory_is_refused(served: Deploy, tmp_path: Path) -> None:
    head, worker = (served.cluster.host(number) for number in (1, 2))
    path = tmp_path / "groups.py"
    path.write_text(f"head = {[head]!r}\nworkers = {[worker, worker]!r}\n")
    output = served.refused(inventory=path, model="qwen7b", hf_cache="/var/hf-cache")
    assert "is listed twice in one group" in output


def test_one_machine_under_two_names_is_refused(deploy: Deploy) -> None:
    cluster = deploy.cluster
    identity = cluster.node(1).run("cat /etc/machine-id").stdout.strip()
    cluster.node(2).run(f"echo {identity} > /etc/machine-id")
    output = deploy.refused()
    assert "spark-02: is the same machine as spark-01" in output


def test_a_limit_that_splits_the_group_is_refused(served: Deploy) -> None:
    output = served.refused("--limit", "spark-01", mem_fraction=0.5)
    assert "--limit leaves out spark-02 of the group" in output
    for state in ("stopped", "absent"):
        output = served.refused("--limit", "spark-02", state=state)
        assert "--limit leaves out spark-01, where ranks of the same group run" in output


def listener(port: int, login: str = "root") -> str:
    code = f"import socket,time; s=socket.create_server(('', {port})); time.sleep(1000)"
    begin = f'setsid runuser -u {login} -- python3 -c "{code}" >/dev/null 2>&1 &'
    return f"{begin} until ss -Htln sport = :{port} | grep -q .; do sleep 0.1; done"


# What harms the nodes, and what is said of it: in one deploy what one stage of it checks.
NODES: dict[str, tuple[list[Callable[[Cluster], object]], list[str]]] = {
    "no port Up": (
        [lambda c: c.link(1, "q1", "down")],
        ["spark-01: no QSFP port is Up", "plug the QSFP cable in"],
    ),
    "MTU mismatch": (
        [lambda c: c.node(2).run("ip link set enp1s0f1np1 mtu 1500")],
        [
            "spark-02: the MTU must be the same on all nodes: spark-01 enp1s0f1np1 has MTU 9000; "
            "spark-02 enp1s0f1np1 has MTU 1500",
            "sudo ip link set dev enp1s0f1np1 mtu 9000",
        ],
    ),
    "ports, GPU, cache": (
        [
            lambda c: c.node(2).run(listener(30000)),
            lambda c: c.node(1).run(listener(30000, login="nvidia")),
            lambda c: c.node(1).run(listener(50000)),
            lambda c: c.node(2).run("fakehw gpu lost"),
            lambda c: c.node(2).run("mv /var/hf-cache /var/elsewhere"),
            lambda c: c.node(1).run("chown root: /var/hf-cache; chmod 755 /var/hf-cache"),
        ],
        [
            *("spark-02: port 30000 is taken by", "sudo ss -ltnp"),
            "spark-01: port 30000 is taken by python3 (pid ",
            "spark-01: dist_port 50000 is taken by",
            "spark-02: nvidia-smi fails",
            *("spark-02: hf_cache /var/hf-cache does not exist", "sudo mkdir -p"),
            "spark-01: hf_cache /var/hf-cache is not writable",
        ],
    ),
    "Docker not installed, not running": (
        [
            lambda c: c.node(2).run("mv /usr/bin/docker /usr/bin/docker-away"),
            lambda c: c.node(1).run("systemctl stop docker.socket docker"),
        ],
        [
            *("spark-02: Docker is not installed", "apt-get install"),
            *("spark-01: the Docker daemon is not running", "systemctl enable --now docker"),
        ],
    ),
    "no permission, no NVIDIA runtime": (
        [
            lambda c: c.node(2).run("gpasswd -d nvidia docker"),
            lambda c: c.node(1).run("echo {} > /etc/docker/daemon.json; systemctl restart docker"),
        ],
        [
            *("spark-02: the login may not use Docker", "usermod -aG docker"),
            *("spark-01: Docker", "has no NVIDIA runtime", "nvidia-ctk"),
        ],
    ),
    "firewall": (
        # By address: twins in one subnet answer ARP for each other, so either may get the packets.
        [lambda c: c.node(2).run("iptables -A INPUT -d 169.254.2.1 -p tcp -j DROP")],
        [
            "spark-01: a firewall drops TCP to spark-02 (169.254.",
            "on spark-02: sudo ufw allow in on enp1s0f1np1 from 169.254.",
        ],
    ),
}


@pytest.mark.parametrize("name", NODES)
def test_a_node_is_refused(deploy: Deploy, name: str) -> None:
    cluster = deploy.cluster
    harms, words = NODES[name]
    for harm in harms:
        harm(cluster)
    output = deploy.refused()
    assert "refused, nothing was changed:\n" in output
    for part in words:
        assert part in output


def test_a_node_that_cannot_be_reached_is_refused(served: Deploy) -> None:
    cluster = served.cluster
    cluster.changed = True
    before = cluster.snapshot()
    cluster.link(2, "m", "down")
    output = served.fails(mem_fraction=0.5)
    assert "spark-02" in output
    cluster.link(2, "m", "up")
    assert cluster.snapshot() == before
    served.succeeds(mem_fraction=0.5)


def test_a_changed_host_key_is_refused(deploy: Deploy) -> None:
    cluster = deploy.cluster
    cluster.node(2).run("rm /etc/ssh/ssh_host_*; ssh-keygen -A -q; systemctl restart ssh")
    output = deploy.refused()
    assert "spark-02" in output
    assert "key" in output.lower()


def test_only_the_second_half_up_warns_and_serves(deploy: Deploy) -> None:
    cluster = deploy.cluster
    for number in (1, 2):
        cluster.link(number, "q1a", "down")
        # as NetworkManager and networkd do when a link loses its carrier
        cluster.node(number).run("ip addr flush dev enp1s0f1np1")
    output = deploy.succeeds()
    assert re.search(r"warning: spark-01: .*enP2p1s0f1np1", output)
    assert serves(cluster)
    deploy.unchanged()


def test_twins_in_one_subnet_warn(deploy: Deploy) -> None:
    output = deploy.succeeds("--dry")
    assert "warning: spark-02: the halves of QSFP port 1 share a subnet" in output
    assert "netplan" in output


def test_only_a_primary_ipv4_address_is_the_heads(deploy: Deploy) -> None:
    cluster = deploy.cluster
    cluster.node(1).run(
        "ip addr add fd00::1/64 dev enp1s0f1np1; ip addr add 169.254.77.7/16 dev enp1s0f1np1"
    )
    assert "meeting at 169.254.1.1 (enp1s0f1np1" in deploy.succeeds("--dry")
