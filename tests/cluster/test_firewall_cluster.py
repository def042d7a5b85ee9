"""The firewall on real ufw: the group serves behind it, strangers stay out, SSH is never cut."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from deploying import DATA, Deploy, combined_output, serves
from sparks import Cluster

PROGRAM = "deploys/firewall.py"
# The controller's own network, as the nodes see it.
OPEN = ["198.18.0.0/24"]


CLEAN = """
systemctl stop spark-serving-firewall.timer
rm -rf /run/spark-serving-firewall*
ufw --force disable
# its chains too: without their jumps, which a reset flushes, the next `ufw enable` drops everything
for t in iptables ip6tables; do
  $t-save | grep -v ufw | $t-restore
  $t -P INPUT ACCEPT
done
"""
CONNECT = """
import socket, sys
address, port, source = sys.argv[1:]
try:
    socket.create_connection((address, int(port)), 1.5, (source, 0) if source else None)
except ConnectionRefusedError:
    pass
except OSError:
    sys.exit(1)
"""


@pytest.fixture(autouse=True)
def ufw_off(cluster: Cluster, testbed: Cluster) -> Iterator[None]:
    """Afterwards no node has a firewall, whatever the test left."""
    # Even to ask ufw leaves its lock file in /run.
    testbed.each(lambda node: node.run("ufw status"))
    yield
    testbed.changed = True
    testbed.each(lambda node: node.run(CLEAN, check=False))


def rules(cluster: Cluster, node: int) -> list[str]:
    shown = cluster.node(node).run("ufw show added").stdout.splitlines()[1:]
    return [line for line in shown if line != "(None)"]


def reaches(cluster: Cluster, address: str, port: int, on: int = 0, source: str = "") -> bool:
    """Whether a TCP connection gets an answer of any kind: refused is open too."""
    done = cluster.ctl("python3", "-c", CONNECT, address, port, source, on=on)
    return done.returncode == 0


def ssh_works(cluster: Cluster, node: str) -> bool:
    words = ("ssh", "-F", cluster.state / "ssh_config", "-o", "ConnectTimeout=5", node, "true")
    return cluster.ctl(*words).returncode == 0


def test_group_serves_behind_it_and_strangers_stay_out(served: Deploy) -> None:
    cluster = served.cluster
    cluster.node(2).run("ufw allow 8080/tcp comment mine")
    done = served("--dry", "--diff", program=PROGRAM, api_networks=OPEN)
    assert "+ allow from 169.254.2.1 to any proto tcp" in combined_output(done), combined_output(
        done
    )
    assert rules(cluster, 1) == []

    done = served(program=PROGRAM, api_networks=OPEN)
    assert done.returncode == 0, combined_output(done)
    assert "a new SSH connection succeeded" in combined_output(done)
    comment = "comment 'spark-serving sglang, ufw was off'"
    assert rules(cluster, 1) == [
        f"ufw allow 22/tcp {comment}",
        f"ufw allow from 169.254.2.1 proto tcp {comment}",
        f"ufw allow from 169.254.2.2 proto tcp {comment}",
        f"ufw allow from 169.254.2.1 to any port 4791 proto udp {comment}",
        f"ufw allow from 169.254.2.2 to any port 4791 proto udp {comment}",
        f"ufw allow from 198.18.0.0/24 to any port 30000 proto tcp {comment}",
    ]
    assert rules(cluster, 2)[0] == "ufw allow 8080/tcp comment 'mine'"
    assert serves(cluster)
    # the worker's own port, and the rendezvous, for the other node on the fabric alone
    assert not reaches(cluster, "198.18.0.2", 30000)
    assert not reaches(cluster, "198.18.0.1", 50000)
    assert reaches(cluster, "169.254.1.1", 50000, on=2)
    assert reaches(cluster, "169.254.2.2", 45678, on=1)
    # a stranger on the fabric
    cluster.node(2).run("ip addr add 169.254.99.9/16 dev enp1s0f1np1")
    assert not reaches(cluster, "169.254.1.1", 50000, on=2, source="169.254.99.9")
    assert not reaches(cluster, "169.254.1.1", 30000, on=2, source="169.254.99.9")
    assert reaches(cluster, "169.254.1.1", 30000, on=2, source="169.254.2.1")
    cluster.node(2).run("ip addr del 169.254.99.9/16 dev enp1s0f1np1")

    before = cluster.snapshot()
    done = served(program=PROGRAM, api_networks=OPEN)
    assert "its firewall is up to date" in combined_output(done)
    assert done.returncode == 0
    assert cluster.snapshot() == before

    done = served(program=PROGRAM)
    assert done.returncode == 0, combined_output(done)
    assert not reaches(cluster, "198.18.0.1", 30000)

    done = served(program=PROGRAM, firewall="absent")
    assert done.returncode == 0, combined_output(done)
    assert rules(cluster, 1) == []
    assert "inactive" in cluster.node(1).run("ufw status").stdout
    # somebody's rule is there: switching ufw off is not ours to do
    assert "ufw stays on and keeps `allow from any to any port 22 proto tcp`" in combined_output(
        done
    )
    assert (
        cluster.ctl("ssh", "-F", cluster.state / "ssh_config", "spark-02", "true").returncode == 0
    )
    assert serves(cluster)


def test_group_comes_up_behind_it(deploy: Deploy) -> None:
    done = deploy(program=PROGRAM, api_networks=OPEN)
    assert done.returncode == 0, combined_output(done)
    deploy.mends()


def test_a_change_that_cuts_ssh_is_reverted_by_the_node(deploy: Deploy, tmp_path: Path) -> None:
    """A block that no rule shows, in ufw's own first chain: the living connection dies too."""
    cluster = deploy.cluster
    block = "-A ufw-before-input -i enP7s7 -p tcp --dport 22 -j DROP"
    cluster.node(2).run(f"sed -i 's/^# allow all on loopback/{block}/' /etc/ufw/before.rules")
    program = tmp_path / "quick.py"
    program.write_text(
        "from pyinfra import host\n"
        "from control.firewall import plan_firewall\n"
        "from control.run import shared\n"
        "from operations import firewall\n"
        "change = shared(host.state, plan_firewall)[host.name]\n"
        "firewall.changed(name='Firewall', change=change, seconds=14)\n"
    )
    one = cluster.inventory(tmp_path, head=2, workers=(), **DATA)
    output = deploy.fails(program=str(program), inventory=one)
    assert "a new SSH connection failed" in output, output
    assert "the firewall is restored, and SSH works" in output
    assert "inactive" in cluster.node(2).run("ufw status").stdout
    assert rules(cluster, 2) == []
    assert cluster.node(2).run("systemctl list-units 'spark-serving*' --no-legend").stdout == ""
    assert (
        cluster.ctl("ssh", "-F", cluster.state / "ssh_config", "spark-02", "true").returncode == 0
    )


def test_rules_of_others_that_block_are_refused(deploy: Deploy) -> None:
    node = deploy.cluster.node(2)
    node.run("ufw deny 22/tcp")
    assert "spark-02: its rule `deny from any to any port 22 proto tcp`" in deploy.refused(
        program=PROGRAM
    )
