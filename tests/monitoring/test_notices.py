"""What Alertmanager sends, with the configuration that a deploy gives it."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from waiting import until

from cluster.monitoring.alertmanager import (
    SECRETS,
    Receiver,
    alertmanager_config,
    read_receiver,
    receiver_files,
)

# Debian's reads its templates in /usr/share, where its package is not installed.
WITH_SHARE = 'mount -t overlay share -o "lowerdir=$0:/usr/share" /usr/share && exec "$@"'


class Hooks(ThreadingHTTPServer):
    """Webhooks on loopback: each notice with its path and the header Authorization."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Hook)
        self.notices: list[tuple[str, str, dict[str, Any]]] = []

    def states(self, path: str) -> set[tuple[str, str]]:
        """Which alerts came to a path, and in which state."""
        came = [notice for to, _, notice in self.notices if to == path]
        return {(a["labels"]["alertname"], a["status"]) for n in came for a in n["alerts"]}


class _Hook(BaseHTTPRequestHandler):
    server: Hooks

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        authorization = self.headers.get("Authorization", "")
        self.server.notices.append((self.path, authorization, json.loads(body)))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def hooks() -> Iterator[Hooks]:
    with Hooks() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@contextmanager
def alertmanager(programs: Path, folder: Path, receiver: Receiver) -> Iterator[str]:
    """A real one's URL. It has the product's configuration, with seconds instead of minutes."""
    secrets = folder / "secrets"
    secrets.mkdir()
    for path, secret in receiver_files(receiver).items():
        (secrets / Path(path).name).write_text(secret)
    text = json.dumps(alertmanager_config(receiver)).replace(SECRETS, str(secrets))
    for minutes in ('"group_wait": "30s"', '"group_interval": "5m"', '"group_interval": "1m"'):
        text = text.replace(minutes, f'{minutes.split(":")[0]}: "1s"')
    (folder / "alertmanager.yml").write_text(text)
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    options = {
        "config.file": folder / "alertmanager.yml",
        "storage.path": folder / "data",
        "web.listen-address": address,
        "cluster.listen-address": "",
    }
    command: list[object] = ["unshare", "--map-root-user", "--mount", "sh", "-c", WITH_SHARE]
    command += [programs.parent / "share", programs / "prometheus-alertmanager"]
    command += [f"--{name}={value}" for name, value in options.items()]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(list(map(str, command)), stdout=log, stderr=log)
    try:
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait(10)


def test_a_webhook_is_sent_alerts_their_end_and_the_dead_mans_notice(
    programs: Path, tmp_path: Path, hooks: Hooks
) -> None:
    url = f"http://127.0.0.1:{hooks.server_port}"
    text = f'webhook = "{url}/owner"\ntoken = "secret"\ndead_man = "{url}/dead-man"'
    now = datetime.now(UTC)
    node = {"group": "g", "node": "spark-2", "severity": "critical"}
    labels = (
        {"alertname": "node-silent", **node},
        {"alertname": "rank-silent", "rank": "1", **node},
        {"alertname": "half-idle", **node, "node": "spark-1", "severity": "warning"},
        {"alertname": "watching", "severity": "info"},
    )
    firing = [{"labels": each, "startsAt": now.isoformat()} for each in labels]
    with alertmanager(programs, tmp_path, read_receiver(text)) as api:

        def post(alerts: list[dict[str, Any]]) -> bool:
            headers = {"Content-Type": "application/json"}
            body = json.dumps(alerts).encode()
            request = urllib.request.Request(f"{api}/api/v2/alerts", body, headers)
            try:
                with urllib.request.urlopen(request, timeout=5) as answer:
                    return answer.status == 200
            except OSError:
                return False

        until(lambda: post(firing), "Alertmanager takes no alerts")
        wanted = {("node-silent", "firing"), ("half-idle", "firing")}
        until(lambda: hooks.states("/owner") == wanted, "the owner is not notified")
        until(lambda: bool(hooks.states("/dead-man")), "no dead-man notice")
        over = (now + timedelta(milliseconds=1)).isoformat()
        post([{**alert, "endsAt": over} for alert in firing[:1]])
        until(lambda: ("node-silent", "resolved") in hooks.states("/owner"), "no resolved notice")
    assert hooks.states("/dead-man") == {("watching", "firing")}
    keys = {authorization for to, authorization, _ in hooks.notices if to == "/owner"}
    assert keys == {"Bearer secret"}
