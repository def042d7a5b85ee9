"""The watchdog's program on loopback: a Docker that is played over a real socket, real processes as
ranks, real connections between two watchdogs."""

from __future__ import annotations

import json
import os
import socket
import socketserver
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from waiting import until

from cluster.watchdog import duties, engine, messages, program, units

HEAD, WORKER = "127.0.0.1", "127.0.0.2"
MODEL = "org/model"


class Quiet(BaseHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass

    def reply(self, status: int, body: str) -> None:
        data = body.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@dataclass
class PlayedDocker:
    """One node's Docker with one rank, whose process is a real `sleep`."""

    path: Path
    rank: int
    port: int
    policy: str = "unless-stopped"
    live_restore: bool = False
    status: int = 204
    starts: int = 0
    process: Any = None
    requests: list[str] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)
    state: dict[str, object] = field(default_factory=dict)

    def start(self) -> None:
        self.starts += 1
        self.process = subprocess.Popen(["sleep", "60"])
        launch = {"host": "0.0.0.0", "port": self.port, "served_model_name": MODEL}
        spec = {"group": "g", "rank": self.rank, "volumes": [], "launch": launch}
        launch["enable_metrics"] = True  # type: ignore[assignment]
        self.labels = {engine.LABEL: json.dumps(spec)}

    def answer(self, path: str) -> object:
        if path.startswith("/containers/json"):
            return [{"Id": "c0ffee", "State": "running", "Labels": self.labels}]
        running = self.process.poll() is None
        if path == "/info":
            return {"LiveRestoreEnabled": self.live_restore}
        return {
            "Id": "c0ffee",
            "State": {
                "Running": True,
                "Restarting": not running,
                "Paused": False,
                "Pid": self.process.pid if running else 0,
                "StartedAt": f"2026-11-27T15:00:0{self.starts}Z",
                "FinishedAt": "0001-01-01T00:00:00Z",
                **self.state,
            },
            "Config": {"Labels": self.labels},
            "HostConfig": {"RestartPolicy": {"Name": self.policy}},
        }

    def serve(self) -> socketserver.UnixStreamServer:
        docker = self

        class Handler(Quiet):
            def address_string(self) -> str:
                return "unix"

            def do_GET(self) -> None:
                self.reply(200, json.dumps(docker.answer(self.path)))

            def do_POST(self) -> None:
                docker.requests.append(self.path)
                self.reply(docker.status, "")

        class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                """A watchdog that ends with its test hangs up."""

        return Server(str(self.path), Handler)


@dataclass
class PlayedEngine:
    """What the ranks' servers answer, by path."""

    answers: dict[str, tuple[int, str]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)

    def serve(self) -> ThreadingHTTPServer:
        engine = self
        self.answers = {
            "/health": (200, ""),
            "/v1/models": (200, json.dumps({"data": [{"id": MODEL}]})),
            "/metrics": (200, "sglang:num_running_reqs 0.0\n"),
            "/v1/completions": (200, json.dumps({"usage": {"completion_tokens": 1}})),
        }

        class Handler(Quiet):
            def do_GET(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                engine.requests.append(self.path)
                self.reply(*engine.answers[self.path])

            do_POST = do_GET

        return ThreadingHTTPServer(("0.0.0.0", 0), Handler)


@dataclass
class Nodes:
    head: program.Watchdog
    worker: program.Watchdog
    dockers: tuple[PlayedDocker, PlayedDocker]
    engine: PlayedEngine
    lease: Path
    clock: SimpleNamespace

    def step(self, seconds: float) -> None:
        """Later, both look, prove and query once."""
        self.clock.now += seconds
        for node in (self.head, self.worker):
            node.step()
        self.head.prove()
        self.worker.query()
        self.head.step()
        self.worker.step()


@pytest.fixture
def nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Nodes]:
    clock = SimpleNamespace(now=1000.0)
    clock.monotonic, clock.time, clock.sleep = (lambda: clock.now), time.time, time.sleep
    monkeypatch.setattr(program, "time", clock)
    ranks = PlayedEngine()
    servers: list[socketserver.BaseServer] = [ranks.serve()]
    port = servers[0].server_address[1]  # type: ignore[index]
    with socket.create_server((HEAD, 0)) as free:
        own = free.getsockname()[1]
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 100 kB\nMemAvailable: 5000 kB\n")
    pid = tmp_path / "docker.pid"
    pid.write_text(str(os.getpid()))
    dogs, dockers = [], []
    for rank in (0, 1):
        docker = PlayedDocker(tmp_path / f"docker{rank}", rank, int(port))
        docker.start()
        servers.append(docker.serve())
        dockers.append(docker)
        folder, leases = str(tmp_path / f"run{rank}"), (str(tmp_path),)
        config = program.Config("g", rank, (HEAD, WORKER), own, 4_096_000, 600)
        pace = program.Pace(
            look=0, folder=folder, leases=leases, meminfo=str(meminfo), metrics=str(tmp_path)
        )
        dogs.append(program.Watchdog(config, engine.Docker(str(docker.path), pid=str(pid)), pace))
    threads = [threading.Thread(target=s.serve_forever, args=[0.01]) for s in servers]
    threads.append(threading.Thread(target=dogs[0].answer_workers, daemon=True))
    for thread in threads:
        thread.start()
    with socket.socket() as probe:
        until(lambda: probe.connect_ex((HEAD, own)) == 0, "the head does not listen")
    yield Nodes(dogs[0], dogs[1], (dockers[0], dockers[1]), ranks, tmp_path / "g.lease", clock)
    for server in servers:
        server.shutdown()
        server.server_close()
    for docker in dockers:
        docker.process.kill()
        docker.process.wait()


def test_a_group_that_fails_is_restarted_worker_first(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Real processes are younger than the played clock has them.
    monkeypatch.setattr(engine, "seconds_since", lambda _: nodes.clock.now - 900.0)
    for _ in range(3):
        nodes.step(5)
    assert (nodes.head.duty, nodes.worker.duty) == ("serving", "following")
    assert nodes.engine.requests.count("/v1/completions") == 1
    nodes.engine.answers["/health"] = (503, "")
    for _ in range(10):
        nodes.step(9)
    head, worker = nodes.dockers
    assert (head.process.poll(), worker.process.poll()) == (None, None)
    for _ in range(3):
        nodes.step(9)
    assert (head.process.wait(5), worker.process.wait(5)) == (-9, -9)
    (event,) = nodes.head.events
    assert event["why"].startswith("failing for 9")
    assert "rank 0 /health: 503" in event["why"]
    assert event["failed"] == ""
    kept = json.loads(Path(nodes.head.pace.folder, "g.json").read_text())
    assert (kept["duty"], kept["events"]) == ("loading", [event])
    assert 'spark_watchdog_actions_total{key="group-restart"} 1' in nodes.head.metrics()
    again = program.Watchdog(nodes.head.config, nodes.head.docker, nodes.head.pace)
    assert again.head.generation == nodes.head.head.generation
    assert again.head.restarts == nodes.head.head.restarts
    assert again.counts == {"group-restart": 1}


def test_a_lease_is_passed_on_and_nobody_acts(nodes: Nodes) -> None:
    nodes.step(5)
    nodes.engine.answers["/health"] = (503, "")
    nodes.lease.write_text("{}")
    for _ in range(20):
        os.utime(nodes.lease)
        nodes.step(20)
    assert (nodes.head.duty, nodes.worker.duty) == ("held", "held")
    assert not nodes.head.events
    os.utime(nodes.lease, (0, 0))
    nodes.step(5)
    assert nodes.head.duty == "failing"


def test_memory_below_the_floor_ends_the_rank_then_stops_it(nodes: Nodes) -> None:
    nodes.step(5)
    Path(nodes.worker.pace.meminfo).write_text("MemAvailable: 1000 kB\n")
    docker = nodes.dockers[1]
    for _ in range(3):
        for _ in range(4):
            nodes.clock.now += 2
            nodes.worker.step()
            nodes.worker.keep_floor()
        if docker.process.poll() is not None or not docker.requests:
            docker.process.wait(5)
            docker.start()
    assert docker.starts == 3
    assert docker.requests[0] == "/containers/c0ffee/stop?t=1"
    assert [event["what"] for event in nodes.worker.events][:3] == ["end", "end", "stop"]
    assert "MemAvailable was 3 MB below the floor" in nodes.worker.events[0]["why"]


def test_the_floor_ends_a_rank_that_docker_does_not_stop(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes.step(5)
    Path(nodes.worker.pace.meminfo).write_text("MemAvailable: 1000 kB\n")
    monkeypatch.setattr(nodes.worker, "docker", engine.Docker("/none"))
    now = nodes.clock.now
    nodes.worker.low = duties.FloorState(below=now - 9, ends=(now, now))
    nodes.worker.keep_floor()
    assert nodes.dockers[1].process.wait(5) == -9
    (event,) = nodes.worker.events
    assert (event["what"], event["failed"]) == ("end", "")
    assert "it could not be stopped: Docker: FileNotFoundError" in event["why"]


@pytest.mark.parametrize(("status", "failed"), [(204, ""), (304, ""), (409, "Docker: 409 b''")])
def test_a_rank_that_is_stopped_already_is_no_failure(
    nodes: Nodes, status: int, failed: str
) -> None:
    rank = nodes.head.docker.find_rank("g", 0)
    nodes.dockers[0].status = status
    assert rank and nodes.head.docker.stop(rank) == failed


def test_a_worker_reports_a_generation_only_once_its_rank_has_ended(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "seconds_since", lambda _: nodes.clock.now - 900.0)
    for _ in range(3):
        nodes.step(5)
    head, worker = nodes.head, nodes.worker
    old, life = head.head.generation, head.reports[1][1].life
    head.head = replace(head.head, generation=old + 1, begun=nodes.clock.now, lives={})
    for failed in ("no answer", "no answer", ""):

        def end(*_: object, failed: str = failed, **__: object) -> str:
            worker.query()
            assert (head.reports[1][1].generation, head.reports[1][1].life) == (old, life)
            return failed

        monkeypatch.setattr(engine.Docker, "end", end)
        worker.query()
        worker.step()
        worker.query()
        new = (old, life) if failed else (old + 1, "")
        assert (head.reports[1][1].generation, head.reports[1][1].life) == new
    assert worker.counts == {"group-restart": 1}


def test_the_floor_acts_where_docker_does_not_answer(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes.step(5)
    Path(nodes.worker.pace.meminfo).write_text("MemAvailable: 1000 kB\n")
    monkeypatch.setattr(nodes.worker, "docker", engine.Docker("/none"))
    for _ in range(4):
        nodes.clock.now += 2
        nodes.worker.step()
        nodes.worker.keep_floor()
    assert nodes.worker.trouble.startswith("Docker: FileNotFoundError")
    assert nodes.dockers[1].process.wait(5) == -9
    assert [event["key"] for event in nodes.worker.events] == ["memory-floor"]
    (nodes.lease.parent / "g").mkdir()
    nodes.worker.save()
    lines = (nodes.lease.parent / "g" / "watchdog.prom").read_text().splitlines()
    assert 'spark_watchdog_actions_total{key="memory-floor"} 1' in lines
    assert 'spark_watchdog_duty{duty="off"} 1' in lines
    assert all(line.startswith(("# TYPE spark_watchdog_", "spark_watchdog_")) for line in lines)


def test_a_rank_is_ended_only_as_it_was_read(nodes: Nodes) -> None:
    docker, played = nodes.head.docker, nodes.dockers[0]
    rank = docker.find_rank("g", 0)
    assert rank and rank.own.on_duty and 0 <= rank.own.age < 60
    assert docker.find_rank("g", 1) is None and docker.find_rank("other", 0) is None
    played.policy = "no"
    assert docker.end(rank, armed=True) == "it was started or stopped meanwhile"
    played.policy, played.starts = "unless-stopped", 7
    assert docker.end(rank, armed=True) == "it was started or stopped meanwhile"
    assert played.process.poll() is None
    played.starts = 1
    other = replace(rank, started=rank.started - 1)
    assert docker.end(other, armed=False) == "it was started or stopped meanwhile"
    assert docker.end(rank, armed=True) == ""
    assert played.process.wait(5) == -9
    now = docker.find_rank("g", 0)
    assert now and (now.own.life, now.own.running) == ("", True)


DOWN = {"Running": False, "Restarting": False, "Pid": 0}


@pytest.mark.parametrize(
    ("started", "finished", "live_restore", "starts"),
    [
        # this process plays the dockerd
        ("2020-01-01T00:00:00.123456789Z", "2999-01-01T00:00:00Z", False, True),
        ("2020-01-01T00:00:00.123456789Z", "2999-01-01T00:00:00Z", True, False),
        ("2020-01-01T00:00:00Z", "2020-01-02T00:00:00Z", False, False),
        ("2998-01-01T00:00:00Z", "2999-01-01T00:00:00Z", False, False),
    ],
)
def test_a_rank_that_fell_with_its_dockerd_is_started(
    nodes: Nodes, started: str, finished: str, live_restore: bool, starts: bool
) -> None:
    nodes.step(5)
    docker = nodes.dockers[1]
    docker.live_restore = live_restore
    docker.state = {**DOWN, "StartedAt": started, "FinishedAt": finished}
    nodes.step(6)
    nodes.step(6)
    assert docker.requests == ["/containers/c0ffee/start"] * starts
    assert nodes.worker.counts == ({"docker-killed": 1} if starts else {})
    again = program.Watchdog(nodes.worker.config, nodes.worker.docker, nodes.worker.pace)
    assert again.fallen.starts == nodes.worker.fallen.starts


@pytest.mark.parametrize("step", [-86400, 0, 86400])
def test_a_clock_that_was_set_since_makes_no_rank_fallen(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Its dockerd started at noon, the rank at 13:00, and somebody stopped it at 14:00."""
    docker = nodes.worker.docker
    noon = engine.seconds_of("2026-11-27T12:00:00Z")
    os.utime(docker.pid, (noon, noon))
    monkeypatch.setattr(time, "time", lambda: noon + 3 * 3600 + step)
    assert not docker.fell("2026-11-27T13:00:00Z", "2026-11-27T14:00:00Z")
    assert docker.fell("2026-11-27T11:00:00Z", "2026-11-27T12:00:05Z")


@pytest.mark.parametrize("labels", [{}, {engine.LABEL: "{"}, {engine.LABEL: "[" * 9999}])
def test_a_label_that_is_none_of_ours_is_no_rank(nodes: Nodes, labels: dict[str, str]) -> None:
    nodes.dockers[0].labels = labels
    assert nodes.head.docker.find_rank("g", 0) is None


def test_a_rank_that_is_gone_is_a_stop_and_a_docker_that_is_silent_is_none(nodes: Nodes) -> None:
    nodes.step(5)
    nodes.dockers[1].labels = {}
    nodes.step(5)
    assert nodes.head.reports[1][1] == duties.RankReport(nodes.head.head.generation, "", False)
    nodes.step(5)
    assert nodes.head.duty == "off"
    nodes.worker.docker = engine.Docker("/none")
    nodes.step(5)
    assert nodes.head.reports[1][1].on_duty


def test_a_docker_that_does_not_answer_is_unreadable(tmp_path: Path) -> None:
    with pytest.raises(engine.Unreadable, match="Docker: FileNotFoundError"):
        engine.Docker(str(tmp_path / "none")).find_rank("g", 0)


@pytest.mark.parametrize(
    ("source", "data"),
    [
        (WORKER, b"GET / HTTP/1.1\r\n\r\n"),
        (WORKER, b"x" * 100_000),
        (WORKER, b""),
        ("127.0.0.3", messages.dump_report(1, duties.RankReport(0, "", True))),
        (HEAD, messages.dump_report(1, duties.RankReport(0, "", True))),
    ],
)
def test_who_is_no_worker_gets_no_answer(nodes: Nodes, source: str, data: bytes) -> None:
    at, reply = (HEAD, nodes.head.config.port), b""
    with socket.create_connection(at, 5, source_address=(source, 0)) as connection:
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            reply = connection.recv(600)
        except OSError:
            pass
    assert reply == b""
    assert not nodes.head.reports
    nodes.worker.query()
    assert not nodes.worker.answers
    nodes.worker.step()
    nodes.worker.query()
    assert isinstance(nodes.worker.answers[0], duties.HeadAnswer)


def test_a_port_that_is_in_use_is_printed_once_and_shown(
    nodes: Nodes, capsys: pytest.CaptureFixture[str]
) -> None:
    second = program.Watchdog(nodes.head.config, nodes.head.docker, nodes.head.pace)
    for _ in range(3):
        with pytest.raises(OSError, match="in use"):
            second.answer_workers()
    why = f"workers get no answer: watchdog_port {second.config.port} is in use on {HEAD}"
    assert capsys.readouterr().out.splitlines().count(why) == 1
    second.step()
    assert second.why == why
    second.docker = engine.Docker("/none")
    second.step()
    assert second.why.startswith(f"{why}; Docker: FileNotFoundError")


def test_a_head_whose_watchdog_is_gone_is_silent_only_if_its_rank_is_too(nodes: Nodes) -> None:
    nodes.step(5)
    with socket.create_server((HEAD, 0)) as free:
        closed = free.getsockname()[1]
    nodes.worker.config = replace(nodes.worker.config, port=closed)
    nodes.worker.query()
    nodes.engine.answers["/health"] = (503, "")
    nodes.worker.query()
    assert nodes.worker.answers[-2:] == [True, False]


def test_a_server_that_drips_its_headers_is_cut_off() -> None:
    def drip() -> None:
        connection, _ = server.accept()
        with connection:
            try:
                connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
                for _ in range(2000):
                    connection.sendall(b"x")
                    time.sleep(0.01)
                connection.sendall(b"\r\nContent-Length: 0\r\n\r\n")
            except OSError:
                pass

    with socket.create_server((HEAD, 0)) as server:
        thread = threading.Thread(target=drip)
        thread.start()
        assert engine.fetch(server.getsockname(), "/", 0.1, None, "") == (0, "")
        thread.join()


NET = "sl local_address rem_address st tx_queue:rx_queue tr:tm->when retrnsmt uid timeout inode\n"
# 127.0.0.1, all, and 127.0.0.1 as IPv6 has it, on port 30000; words of a little-endian processor.
ONE, ALL = "0100007F:7530", "00000000:7530"
ALL6, MAPPED = f"{'0' * 32}:7530", "0000000000000000FFFF00000100007F:7530"


@pytest.mark.parametrize(
    ("tcp", "tcp6", "why"),
    [
        ([(ONE, "0A", 0)], [], ""),
        ([(ALL, "0A", 0)], [], ""),
        ([], [(ALL6, "0A", 0)], ""),
        ([], [(MAPPED, "0A", 0)], ""),
        ([(ALL, "0A", 1000)], [], "user 1000 listens on 127.0.0.1:30000, not root"),
        ([(ONE, "0A", 1000), (ALL, "0A", 0)], [], "user 1000 listens"),
        ([], [(ALL6, "0A", 1000)], "user 1000 listens"),
        # another socket of the port, and no listener of it
        ([(ALL, "0A", 0)], [(ALL6, "0A", 1000)], ""),
        ([(ONE, "01", 0)], [], "nobody listens on 127.0.0.1:30000"),
        ([("0100007F:7531", "0A", 0), ("0200007F:7530", "0A", 0)], [], "nobody listens"),
    ],
)
def test_a_key_is_sent_only_where_root_listens(
    tmp_path: Path, tcp: list[tuple[str, str, int]], tcp6: list[tuple[str, str, int]], why: str
) -> None:
    for name, rows in {"tcp": tcp, "tcp6": tcp6}.items():
        lines = [f"0: {at} 00000000:0000 {state} 0:0 0:0 0 {user} 0 1" for at, state, user in rows]
        (tmp_path / name).write_text(NET + "\n".join(lines))
    reason = engine.distrust("127.0.0.1", 30000, str(tmp_path))
    assert why in reason and bool(why) == bool(reason)


def test_a_port_of_this_machine_is_its_users(tmp_path: Path) -> None:
    with socket.create_server((HEAD, 0)) as server:
        reason = engine.distrust(*server.getsockname())
    user = os.getuid()
    assert reason.startswith(f"user {user} listens") if user else reason == ""
    assert "FileNotFoundError" in engine.distrust(HEAD, 1, str(tmp_path))


def test_a_key_stays_where_a_stranger_listens(
    nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rank = nodes.head.docker.find_rank("g", 0)
    (tmp_path / "api_key").write_text("secret")
    assert rank
    rank = replace(rank, key=str(tmp_path / "api_key"))
    monkeypatch.setattr(engine, "distrust", lambda host, port: "" if port == rank.port else "no")
    assert nodes.head.failure(rank) == ""
    monkeypatch.setattr(engine, "distrust", lambda *_: "user 1000 listens")
    nodes.engine.requests.clear()
    assert nodes.head.failure(rank) == "the API's key is not sent: user 1000 listens"
    assert set(nodes.engine.requests) == {"/health"}


def test_a_configuration_has_exactly_its_fields(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    values = {
        "group": "g",
        "rank": 1,
        "addresses": [HEAD, WORKER],
        "port": 1,
        "floor": 0,
        "load": 1,
    }
    file.write_text(json.dumps(values))
    assert program.read_config(str(file)).addresses == (HEAD, WORKER)
    file.write_text(json.dumps({**values, "more": 1}))
    with pytest.raises(ValueError, match="must have exactly: addresses, floor"):
        program.read_config(str(file))


def test_a_node_gets_the_files_and_loses_them(tmp_path: Path) -> None:
    """The commands' own scripts in a real shell, below another root."""
    root, log = tmp_path / "root", tmp_path / "log"
    root.mkdir()
    for name, body in {"systemctl": f'echo "$*" >>{log}', "id": "echo 0"}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)

    def run(step: units.WatchdogStep) -> None:
        command = step.command()
        words = [
            word.replace("-C /", f"-C {root}") if "\n" in word else word for word in command.argv
        ]
        at = [f"{root}{w}" if w.startswith(("/usr/local", "/etc/", "/run/")) else w for w in words]
        environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
        done = subprocess.run(
            at, input=command.stdin, env=environment, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")

    config = {"group": "g-test", "rank": 0}
    old = root / "usr/local/lib/spark-watchdog/g-test/cluster/watchdog/old.py"
    old.parent.mkdir(parents=True)
    old.write_text("")
    run(units.WatchdogStep("g-test", config, ("is not there",)))
    files = units.node_files("g-test", config)
    assert {f"/{p.relative_to(root)}" for p in root.rglob("*") if p.is_file()} == set(files)
    assert all((root / path[1:]).read_text() == text for path, text in files.items())
    run(units.WatchdogStep("g-test", None, ("is there",)))
    assert not [p for p in root.rglob("*") if p.is_file()]
    assert log.read_text().splitlines() == [
        "daemon-reload",
        "enable --quiet spark-watchdog-g-test.service",
        "restart spark-watchdog-g-test.service",
        "disable --quiet --now spark-watchdog-g-test.service",
        "daemon-reload",
    ]
