"""The watchdogs of simulated nodes: what they wrote, their times, and what strikes a rank."""

from __future__ import annotations

import json
import time
from typing import Any

from spark_node import Node
from sparks import Cluster

PROGRAM = "deploys/watchdog.py"
UNIT = "spark-watchdog-sglang"
CLEAN = f"""
systemctl disable --now {UNIT}
rm -rf /etc/systemd/system/{UNIT}.service* /usr/local/lib/spark-watchdog
rm -rf /run/spark-watchdog /run/spark-monitoring
systemctl daemon-reload
"""
# The program that nodes have, with all its times divided by about 15.
HASTY = """\
import sys
from dataclasses import replace
sys.path.insert(0, "/usr/local/lib/spark-watchdog/sglang")
from cluster.watchdog import program
program.HEALTH_SECONDS = 2
dog = program.Watchdog(program.read_config(sys.argv[1]), pace=program.Pace(look=1, prove=2))
dog.limits = replace(dog.limits, fail=5, silent=8, confirm=5, back_off=1, load=30)
dog.run()
"""
DROP_IN = """\
[Service]
ExecStart=
ExecStart=/usr/bin/python3 -B -s /etc/hasty.py /usr/local/lib/spark-watchdog/sglang/config.json
"""


def make_hasty(cluster: Cluster) -> None:
    """Have every watchdog run with short times."""

    def one(node: Node) -> None:
        folder = node.root / f"etc/systemd/system/{UNIT}.service.d"
        folder.mkdir()
        (folder / "hasty.conf").write_text(DROP_IN)
        (node.root / "etc/hasty.py").write_text(HASTY)
        node.run(f"systemctl daemon-reload && systemctl restart {UNIT}")

    cluster.each(one)


def written(cluster: Cluster, number: int = 1) -> dict[str, Any]:
    """What a node's watchdog wrote last; {} where it has not, or the node is off."""
    text = cluster.node(number).run("cat /run/spark-watchdog/sglang.json", check=False).stdout
    document: dict[str, Any] = json.loads(text or "{}")
    return document


def wait_for(cluster: Cluster, duty: str, number: int = 1, seconds: float = 30) -> None:
    until = time.monotonic() + seconds
    while (now := written(cluster, number)).get("duty") != duty:
        assert time.monotonic() < until, f"{now}\n{journal(cluster)}"
        time.sleep(0.5)


def journal(cluster: Cluster) -> str:
    """The end of every watchdog's journal."""
    words = f"journalctl -u {UNIT} -o cat --no-pager | tail -40"
    texts = cluster.each(lambda node: f"{node.name}\n{node.run(words, check=False).stdout}")
    return "\n".join(texts)


def strike(cluster: Cluster, number: int, container: str, sent: str) -> None:
    """Send a signal to every process of a rank: STOP is a rank that hangs."""
    cluster.node(number).run(f"kill -{sent} $(docker top {container} -o pid | tail -n +2)")
