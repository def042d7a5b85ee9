"""deploys/network.py and deploys/host.py on @fake Sparks: order, refusals, and putting back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fakes import Fakes, Run

from cluster.node.netplan import Half
from control.network import netplan_text

NETWORK, HOST = "deploys/network.py", "deploys/host.py"
ASKED, ARMED, APPLIED = "SSH_CONNECTION=", "systemd-run", "exec netplan apply"
PROBED, HELD, REVERTED, DONE = "ping -q", "mv armed held", "while [ -e", 'rm -rf "$1"; }'


def setup(*lines: str) -> list[str]:
    return ["ssh enP7s7", "netplan", 'routes [{"dst":"10.0.0.0/24","dev":"enP7s7"}]', *lines]


def fakes(folder: Path, **answers: Any) -> Fakes:
    cluster = Fakes.of(folder)
    for spark in cluster.sparks:
        spark.answers = {ASKED: setup(), **answers}
    return cluster


def steps(run: Run, node: str) -> list[str]:
    """Which of our commands the node got, in order."""
    marks = (ASKED, ARMED, REVERTED, HELD, APPLIED, PROBED, DONE)
    names = (next((m for m in marks if m in c), "") for c in run.commands[node])
    return [mark for mark in names if mark]


def as_wanted(cluster: Fakes) -> None:
    """Every node has its file and its addresses already."""
    for rank, spark in enumerate(cluster.sparks):
        addresses = [f"192.168.{100 + i}.{rank + 1}" for i in range(2)]
        links = json.dumps(spark.interfaces())
        for i, address in enumerate(addresses):
            links = links.replace(f'"{spark.address(i)}"', f'"{address}"')
        spark.sections["interfaces"] = (0, [links])
        names = ("enp1s0f1np1", "enP2p1s0f1np1")
        halves = [Half(n, f"{a}/24", 9000) for n, a in zip(names, addresses, strict=True)]
        spark.answers[ASKED] = setup("own", *netplan_text(tuple(halves)).splitlines())


def test_all_nodes_change_together_guarded(tmp_path: Path) -> None:
    cluster = fakes(tmp_path)
    run = cluster.deploy(file=NETWORK)
    assert run.code == 0, run.text
    for node in ("@fake/spark-1", "@fake/spark-2"):
        assert steps(run, node) == [ASKED, ARMED, APPLIED, PROBED, HELD, DONE]
    assert "@fake/spark-2: enp1s0f1np1: 192.168.100.11/24 -> 192.168.100.2/24" in run.text


def test_a_dry_run_touches_nothing(tmp_path: Path) -> None:
    run = fakes(tmp_path).deploy("--dry", "--diff", yes=False, file=NETWORK)
    assert run.code == 0, run.text
    assert [steps(run, node) for node in run.commands] == [[ASKED], [ASKED]]


@pytest.mark.parametrize(
    ("failing", "message", "reached"),
    [
        pytest.param(
            {APPLIED: {"success": False, "stderr": ["bad yaml"]}},
            "@fake/spark-1: netplan apply failed: bad yaml",
            [ASKED, ARMED, APPLIED, REVERTED],
            id="netplan",
        ),
        pytest.param(
            {PROBED: ["enP2p1s0f1np1 192.168.101.2 9000"]},
            "@fake/spark-1: 192.168.101.2 (@fake/spark-2 enP2p1s0f1np1) does not answer a ping of "
            "8972",
            [ASKED, ARMED, APPLIED, PROBED, REVERTED],
            id="a peer",
        ),
        pytest.param(
            {HELD: {"success": False, "stderr": ["mv: cannot stat 'armed'"]}},
            "@fake/spark-1: it reverted by itself: mv: cannot stat 'armed'",
            [ASKED, ARMED, APPLIED, PROBED, HELD, REVERTED],
            id="too late",
        ),
    ],
)
def test_a_failure_on_one_node_reverts_all_nodes(
    tmp_path: Path, failing: dict[str, Any], message: str, reached: list[str]
) -> None:
    cluster = fakes(tmp_path)
    # What reverts has the words of what holds in it.
    cluster.sparks[0].answers = {ASKED: setup(), ARMED: [], REVERTED: [], **failing}
    run = cluster.deploy(file=NETWORK)
    assert run.code == 1
    assert message in run.text
    assert "Traceback" not in run.text
    assert [steps(run, node) for node in run.commands] == [reached, reached]
    assert "@fake/spark-2: network restored" in run.text


def refused(cluster: Fakes, *args: str) -> str:
    run = cluster.deploy(*args, file=NETWORK)
    assert run.code == 1
    assert "refused, nothing was changed" in run.text
    assert all(set(steps(run, node)) <= {ASKED} for node in run.commands)
    return run.text


def test_a_running_group_keeps_its_addresses(tmp_path: Path) -> None:
    cluster = fakes(tmp_path)
    cluster.run_ranks()
    message = refused(cluster)
    assert "@fake/spark-1: sglang-head is running, and its addresses would change" in message
    assert "deploy.py --data state=stopped" in message


def test_a_network_as_wanted_needs_no_stopped_group(tmp_path: Path) -> None:
    cluster = fakes(tmp_path)
    as_wanted(cluster)
    cluster.run_ranks()
    run = cluster.deploy(file=NETWORK)
    assert run.code == 0, run.text
    assert [steps(run, node) for node in run.commands] == [[ASKED], [ASKED]]

    cluster.sparks[1].answers[ASKED] = setup("own", "# edited")
    message = refused(cluster)
    assert "sglang-worker-1 is running, and its addresses would change" in message


def test_only_nodes_that_change_apply_and_all_answer(tmp_path: Path) -> None:
    cluster = fakes(tmp_path)
    as_wanted(cluster)
    cluster.sparks[1].answers[ASKED] = setup("own", "# edited")
    run = cluster.deploy(file=NETWORK)
    assert run.code == 0, run.text
    assert steps(run, "@fake/spark-1") == [ASKED, PROBED]
    assert steps(run, "@fake/spark-2") == [ASKED, ARMED, APPLIED, PROBED, HELD, DONE]


def test_a_limit_is_refused(tmp_path: Path) -> None:
    assert "--limit leaves out @fake/spark-2" in refused(
        fakes(tmp_path), "--limit", "@fake/spark-1"
    )


def test_one_node_needs_no_network(tmp_path: Path) -> None:
    cluster = Fakes.of(tmp_path, 1)
    run = cluster.deploy(file=NETWORK)
    assert run.code == 0, run.text
    assert "one node: no fabric network is needed" in run.text
    assert run.changes == {}


def test_host_does_nothing_that_is_not_declared(tmp_path: Path) -> None:
    cluster = fakes(tmp_path, **{'echo "login': ["login me", "apt"]})
    run = cluster.deploy(file=HOST)
    assert run.code == 0, run.text
    assert "@fake/spark-2: linger=false: me's stays off" in run.text
    assert not [c for scripts in run.commands.values() for c in scripts if "apt-get install" in c]

    run = cluster.deploy("--data", "linger=true", file=HOST)
    lingering = [
        [c for c in scripts if "enable-linger me" in c] for scripts in run.commands.values()
    ]
    assert [len(scripts) for scripts in lingering] == [1, 1]


def test_earlyoom_is_installed_where_it_is_missing(tmp_path: Path) -> None:
    cluster = fakes(tmp_path, **{'echo "login': ["login me", "apt"]})
    run = cluster.deploy("--data", "earlyoom=true", file=HOST)
    assert run.code == 0, run.text
    assert json.dumps(run.commands).count("install earlyoom") == 2
