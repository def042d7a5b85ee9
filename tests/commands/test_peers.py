"""The reachability probe, run for real on loopback addresses, and what its reports mean."""

from __future__ import annotations

import json
import random
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from cluster.fabric import Fabric, NodeFabric
from cluster.findings import Level
from cluster.node.peers import PROBE_PORT, PeerReport, Reach, reachability
from facts.network import SCRIPT, Peers

ONE, TWO, THREE = "127.0.0.1", "127.0.0.2", "127.0.0.3"


def free_port() -> int:
    """A port that no other program is given meanwhile: below Linux's range for port 0."""
    while True:
        with suppress(OSError), socket.create_server((ONE, random.randint(20_000, 32_000))) as s:
            return int(s.getsockname()[1])


@pytest.fixture
def ports() -> tuple[int, int]:
    return free_port(), free_port()


@contextmanager
def probe(
    address: str, peers: list[str], ports: tuple[int, ...], mark: int, seconds: float = 4
) -> Iterator[subprocess.Popen[str]]:
    task = {
        **{"address": address, "peers": peers, "ports": [*ports, mark]},
        **{"mark": mark, "mtu": 9000, "seconds": seconds},
    }
    words = [sys.executable, "-c", SCRIPT, json.dumps(task)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as running:
        try:
            yield running
        finally:
            running.kill()


def together(ports: tuple[int, ...], *addresses: str, seconds: float = 4) -> dict[str, PeerReport]:
    mark = free_port()
    with ExitStack() as stack:
        running = {
            a: stack.enter_context(probe(a, [b for b in addresses if b != a], ports, mark, seconds))
            for a in addresses
        }
        output = {a: r.communicate(timeout=20)[0] for a, r in running.items()}
    return {a: Peers().process(out.splitlines()) for a, out in output.items()}


def states(report: PeerReport, ports: tuple[int, ...]) -> dict[str, set[str]]:
    return {reach.peer: {reach.ports[p] for p in ports} for reach in report.peers}


def test_three_nodes_see_each_other_and_end_early(ports: tuple[int, int]) -> None:
    start = time.monotonic()
    reports = together(ports, ONE, TWO, THREE, seconds=60)
    assert time.monotonic() - start < 20
    assert {a: r.error for a, r in reports.items()} == {ONE: "", TWO: "", THREE: ""}
    assert states(reports[ONE], ports) == {TWO: {"open"}, THREE: {"open"}}
    assert states(reports[THREE], ports) == {ONE: {"open"}, TWO: {"open"}}
    assert all(r.ping in ("ok", "unknown") for report in reports.values() for r in report.peers)


def test_a_held_port_is_busy_here_and_refused_there(ports: tuple[int, int]) -> None:
    """Bound and not listening: the probe can't have it, and nobody answers on it."""
    with socket.socket() as held:
        held.bind((TWO, ports[0]))
        reports = together(ports, ONE, TWO, seconds=3)
    assert (reports[ONE].busy, reports[TWO].busy) == ((), (ports[0],))
    (peer,) = reports[ONE].peers
    assert (peer.ports[ports[0]], peer.ports[ports[1]]) == ("refused", "open")


def test_a_running_server_is_busy_yet_reached(ports: tuple[int, int]) -> None:
    with socket.create_server(("0.0.0.0", ports[0])):
        reports = together(ports, ONE, TWO)
    assert (reports[ONE].busy, reports[TWO].busy) == ((ports[0],), (ports[0],))
    assert states(reports[TWO], ports) == {ONE: {"open"}}


def test_an_absent_peer_ends_the_probe_in_time(ports: tuple[int, int]) -> None:
    start = time.monotonic()
    with probe(ONE, [TWO], ports, free_port(), seconds=1) as running:
        report = Peers().process(running.communicate(timeout=20)[0].splitlines())
    assert time.monotonic() - start < 20
    assert states(report, ports) == {TWO: {"refused"}}


def test_ports_are_free_for_a_server_right_after(ports: tuple[int, int]) -> None:
    together(ports, ONE, TWO)
    for port in ports:
        with socket.socket() as server:
            server.bind((TWO, port))


def test_an_address_that_is_not_here_is_an_error(ports: tuple[int, int]) -> None:
    with probe("203.0.113.9", [ONE], ports, free_port(), seconds=1) as running:
        report = Peers().process(running.communicate(timeout=20)[0].splitlines())
    assert report == PeerReport(error="203.0.113.9: Cannot assign requested address")


@pytest.fixture
def ping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for ping in front of PATH; the test writes its body."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path / "ping"


@pytest.mark.parametrize(
    ("body", "pings"),
    [
        pytest.param("exit 0", ("ok", "ok"), id="both"),
        pytest.param("exit 1", ("lost", "lost"), id="lost"),
        pytest.param("echo 'Operation not permitted' >&2; exit 2", ("unknown",) * 2, id="no-right"),
        pytest.param(
            'case "$*" in (*"-M do -s 8972"*) echo "local error: message too long, mtu=1500"; '
            "exit 1;; esac",
            ("ok", "too big"),
            id="small-mtu",
        ),
    ],
)
def test_ping_output_is_interpreted(
    body: str, pings: tuple[str, str], ping: Path, ports: tuple[int, int]
) -> None:
    ping.write_text(f"#!/bin/sh\n{body}\n")
    ping.chmod(0o755)
    (reach,) = together(ports, ONE, TWO, seconds=1.5)[ONE].peers
    assert (reach.ping, reach.full_ping) == pings


def test_the_command_quotes_its_task_and_runs() -> None:
    command = Peers().command(ONE, [TWO], [free_port()], deadline=1)
    words = shlex.split(str(command))
    assert words[:4] == ["timeout", "5", "python3", "-c"]
    assert json.loads(words[5])["ports"][-1] == PROBE_PORT
    run = subprocess.run(["sh", "-c", str(command)], capture_output=True, text=True, timeout=20)
    report = Peers().process(run.stdout.splitlines())
    assert [r.peer for r in report.peers] == [TWO]


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        pytest.param(["sh: 1: python3: not found", "exit status 127"], "not found", id="no-python"),
        pytest.param(["exit status 124"], "exit status 124", id="timed-out"),
        pytest.param(["127"], "127", id="not-an-object"),
    ],
)
def test_a_failed_probe_is_an_error_not_silence(output: list[str], expected: str) -> None:
    report = Peers().process(output)
    assert expected in report.error
    assert Peers.default().error


FABRIC = Fabric(
    tuple(
        NodeFabric(f"spark-{i}", f"10.0.0.{i}", "enp1s0f1np1", ("rocep1s0f1",), mtu=9000)
        for i in (1, 2)
    ),
    "rdma",
    "",
)
PORTS = (30000, PROBE_PORT)


def reach(
    peer: int, ping: str = "ok", full: str = "ok", state: str = "open", **ports: str
) -> Reach:
    by_port = dict.fromkeys(PORTS, state) | {int(p[1:]): s for p, s in ports.items()}
    return Reach(f"10.0.0.{peer}", ping, full, by_port)


def reports(reached: Reach, busy: tuple[int, ...] = ()) -> Mapping[str, PeerReport]:
    """What spark-1 saw of spark-2, while all is well the other way."""
    return {
        "spark-1": PeerReport("10.0.0.1", (), (reached,)),
        "spark-2": PeerReport("10.0.0.2", busy, (reach(1),)),
    }


def findings_of(reports_by_node: Mapping[str, PeerReport]) -> list[str]:
    return [f"{f.level.value} {f}" for f in reachability(FABRIC, reports_by_node)]


def test_reached_both_ways_is_ok() -> None:
    assert findings_of(reports(reach(2)))[0] == (
        "ok spark-1: reaches spark-2 (10.0.0.2) over enp1s0f1np1: "
        f"9000 bytes unfragmented, ports 30000, {PROBE_PORT}"
    )


@pytest.mark.parametrize(
    ("reached", "wanted"),
    [
        pytest.param(
            reach(2, "lost", "lost", "timeout"),
            "error spark-1: does not reach spark-2 (10.0.0.2) over enp1s0f1np1: no ping, no port "
            "answers -> check cable, subnet and firewall: ping -I enp1s0f1np1 10.0.0.2",
            id="cut-off",
        ),
        pytest.param(
            reach(2, "ok", "lost"),
            "error spark-1: 9000 bytes do not pass to spark-2 (10.0.0.2) in one piece: "
            "fragmentation needed -> set MTU 9000 on both ends and on any switch between, "
            "then ping -M do -s 8972 10.0.0.2",
            id="frames",
        ),
        pytest.param(
            reach(2, p30000="timeout"),
            "error spark-1: a firewall drops TCP to spark-2 (10.0.0.2), port 30000 -> "
            "on spark-2: sudo ufw allow in on enp1s0f1np1 from 10.0.0.1",
            id="dropped",
        ),
        pytest.param(
            reach(2, p30000="refused"),
            "error spark-1: a firewall rejects TCP to spark-2 (10.0.0.2), port 30000 -> "
            "on spark-2: sudo ufw allow in on enp1s0f1np1 from 10.0.0.1",
            id="rejected",
        ),
        pytest.param(
            reach(2, "lost", "lost"),
            "warning spark-1: spark-2 (10.0.0.2) does not answer ping, though its ports do -> "
            "allow ICMP echo on spark-2's enp1s0f1np1",
            id="no-icmp",
        ),
    ],
)
def test_each_cause_of_isolation_has_a_fix(reached: Reach, wanted: str) -> None:
    assert findings_of(reports(reached))[0] == wanted


def test_a_port_held_by_the_peer_is_no_firewall() -> None:
    answers = reports(reach(2, p30000="refused"), busy=(30000,))
    assert not any(line.startswith("error") for line in findings_of(answers))


def test_a_probe_that_failed_is_an_error() -> None:
    failed = {**reports(reach(2)), "spark-2": PeerReport(error="python3: not found")}
    assert (
        "error spark-2: reachability over enp1s0f1np1 could not be read: python3: not found -> "
        "ping -I enp1s0f1np1 10.0.0.1"
    ) in findings_of(failed)


def test_unprobed_and_single_nodes_have_no_findings() -> None:
    assert findings_of({}) == []
    single = Fabric((NodeFabric("a", ONE),), "none", "")
    assert not list(reachability(single, {"a": PeerReport(ONE)}))


def test_a_missing_peer_report_is_an_error() -> None:
    (finding, *_) = reachability(FABRIC, {"spark-2": PeerReport("10.0.0.2")})
    assert (finding.level, finding.where) == (Level.ERROR, "spark-1")


def test_a_report_can_be_printed_by_the_fact_command() -> None:
    shown = PeerReport("10.0.0.1", (30000,), (reach(2),)).to_json()
    assert json.loads(json.dumps(shown))["peers"][0]["ports"]["30000"] == "open"
