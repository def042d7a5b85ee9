"""All of deploys/firewall.py on @fake Sparks: which commands ufw gets, and when it gets none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fakes import Fakes, Run, Spark

READ, APPLY, REVERT = "### tuple", "systemd-run", "cp -p user.rules"
KEEP = 'mv -T "$kept" "$kept.$$" || exit\nrm'
PROGRAM = "deploys/firewall.py"
LOGIN = ["login 10.0.0.9 5000 10.0.0.5 22", "port 22", "listen LISTEN 0 9 0.0.0.0:22 0.0.0.0:*"]
COMMENT = b"spark-serving sglang".hex()


def ufw(spark: Spark, *rules: str, status: str = "active") -> list[str]:
    return [f"status {status}", "incoming DROP", *(f"rule 4 {rule}" for rule in rules), *LOGIN]


def converged(spark: Spark) -> list[str]:
    """The rules that a node of two has: SSH is somebody's, the rest ours."""
    peers = [f"192.168.{half}.{11 - spark.rank}" for half in (100, 101)]
    return [
        "allow tcp 22 0.0.0.0/0 any 0.0.0.0/0 OpenSSH - in",
        *(f"allow tcp any 0.0.0.0/0 any {peer} in comment={COMMENT}" for peer in peers),
        *(f"allow udp 4791 0.0.0.0/0 any {peer} in comment={COMMENT}" for peer in peers),
    ]


@pytest.fixture
def sparks(tmp_path: Path) -> Fakes:
    fakes = Fakes.of(tmp_path)
    for spark in fakes.sparks:
        spark.answers[READ] = ufw(spark, *converged(spark))
    return fakes


def firewall(sparks: Fakes, *words: str) -> Run:
    return sparks.deploy(*words, file=PROGRAM)


def nodes_with(run: Run, what: str) -> list[str]:
    """The nodes that were sent this."""
    return [node for node, scripts in run.commands.items() if any(what in c for c in scripts)]


def changed(run: Run) -> list[str]:
    return nodes_with(run, APPLY)


def test_a_converged_firewall_is_left_alone(sparks: Fakes) -> None:
    run = firewall(sparks)
    assert run.code == 0, run.text
    assert changed(run) == []
    assert run.text.count("its firewall is up to date") == 2
    assert all(len(scripts) == 2 for scripts in run.commands.values())


def test_one_node_that_differs_is_changed_alone_and_kept(sparks: Fakes) -> None:
    spark = sparks.sparks[1]
    spark.answers[READ] = ufw(spark, *converged(spark)[:2], status="inactive")
    run = firewall(sparks)
    assert run.code == 0, run.text
    assert changed(run) == [spark.name]
    assert f"plan: {spark.name}: + allow from 192.168.101.10 to any proto tcp" in run.text
    assert "ufw is off: turning it on" in run.text
    # armed, a new connection, kept
    after = run.commands[spark.name][-3:]
    assert APPLY in after[0]
    assert after[1] == "true"
    assert KEEP in after[2]


def test_dry_reports_and_changes_nothing(sparks: Fakes) -> None:
    run = sparks.deploy("--dry", "--diff", "--data", 'api_networks=["10.0.0.0/24"]', file=PROGRAM,
                        yes=False)  # fmt: skip
    assert run.code == 0, run.text
    assert changed(run) == []
    lines = [line for line in run.text.splitlines() if "plan:" in line and " + " in line]
    assert len(lines) == 1
    assert "allow from 10.0.0.0/24 to any port 30000 proto tcp" in lines[0]


@pytest.mark.parametrize(
    ("response", "words", "undone"),
    [
        pytest.param({APPLY: answer}, words, undone, id=name)
        for name, answer, words, undone in (
            ("ufw", {"success": False, "stderr": ["ufw allow"]}, "ufw failed: ufw allow", True),
            (
                "another run",
                {
                    "success": False,
                    "stdout": ["untouched"],
                    "stderr": ["nothing was changed: another run is in progress"],
                },
                "another run is in progress",
                False,
            ),
        )
    ],
)
def test_a_change_that_fails_is_taken_back(
    sparks: Fakes, response: dict[str, Any], words: str, undone: bool
) -> None:
    spark = sparks.sparks[1]
    spark.answers |= response | {READ: ufw(spark)}
    run = firewall(sparks)
    assert run.code == 1
    assert words in run.text
    assert not nodes_with(run, KEEP)
    takes_back = [c for c in run.commands[spark.name] if REVERT in c and APPLY not in c]
    assert bool(takes_back) == undone


@pytest.mark.parametrize(
    ("message", "words"),
    [
        pytest.param(["missing"], "ufw is not installed -> sudo apt-get install ufw", id="no ufw"),
        pytest.param(
            ["no-root sudo: a password is required"],
            "ufw needs root: sudo: a password is required -> give the login sudo",
            id="sudo",
        ),
        pytest.param(
            ["status active", "incoming DROP",
             "rule 4 deny tcp 50000 0.0.0.0/0 any 0.0.0.0/0 in", *LOGIN],
            "comes before ours and blocks the peer 192.168.100.10 -> "
            "sudo ufw delete deny from any to any port 50000 proto tcp",
            id="a rule in the way",
        ),
    ],
)  # fmt: skip
def test_a_refusal_sends_no_node_a_command(sparks: Fakes, message: Any, words: str) -> None:
    sparks.sparks[1].answers[READ] = message
    sparks.sparks[0].answers[READ] = ufw(sparks.sparks[0])
    run = firewall(sparks)
    assert run.code == 1
    assert run.text.count("refused, nothing was changed:") == 1
    assert words in run.text
    assert "Traceback" not in run.text
    assert changed(run) == []


@pytest.mark.parametrize(
    ("monitor", "address"),
    [
        pytest.param("('203.0.113.9', {})", "203.0.113.9", id="by its address"),
        pytest.param("('w', {'ssh_hostname': '203.0.113.9'})", "203.0.113.9", id="named"),
        pytest.param("('@local', {})", "10.0.0.9", id="this machine: where SSH came from"),
        pytest.param("('watcher.invalid', {})", "", id="unknown"),
        pytest.param("('127.0.0.1', {})", "", id="loopback"),
    ],
)
def test_a_host_that_only_monitors_is_let_in_where_it_scrapes(
    sparks: Fakes, monitor: str, address: str
) -> None:
    path = sparks.inventory()
    path.write_text(f"{path.read_text()}monitor = [{monitor}]\n")
    run = sparks.pyinfra(str(path), PROGRAM, "--dry")
    if not address:
        assert run.code == 1 and "is let in by its IPv4 address, and has none" in run.text
        assert "ssh_hostname" in run.text and not changed(run)
        return
    assert run.code == 0, run.text
    for spark in sparks.sparks:
        for port in (9100, 30000):
            rule = f"+ allow from {address} to any port {port} proto tcp"
            assert f"plan: {spark.name}: {rule}" in run.text


def test_limit_is_refused_but_for_taking_away(sparks: Fakes) -> None:
    name = sparks.sparks[0].name
    refusal = firewall(sparks, "--limit", name)
    assert "--limit leaves out @fake/spark-2" in refusal.text
    run = firewall(sparks, "--limit", name, "--data", "firewall=absent")
    assert run.code == 0, run.text
    assert changed(run) == [name]
    assert "- allow from 192.168.100.11 to any proto tcp" in run.text
    assert "ufw stays on" in run.text
