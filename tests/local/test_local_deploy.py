"""The embedded default, deployed as a newcomer does: a real model on this machine, by pyinfra."""

from __future__ import annotations

import json
import os
import re
import socket
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pyinfra_runs import Completed, run_pyinfra

ROOT = Path(__file__).parents[2]
# The engine inherits it. Two threads wait for each other at every layer: minutes on a busy machine.
ONE_THREAD = {"OMP_THREAD_LIMIT": "1"}
pytestmark = pytest.mark.local


class Local:
    """inventories/local.py as a group of its own, on a port of its own, beside any other.

    + probes: the setting; they take seconds, so one deploy alone has them
    """

    def __init__(self, home: Path, probes: str = "off") -> None:
        self.home, self.probes = home, probes
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.name = f"test-{self.port}"

    def pyinfra(self, *words: str, deploy: str = "deploy.py") -> Completed:
        own = {"port": self.port, "group": self.name, "head_container": self.name}
        own["probes"] = self.probes
        ours = [word for item in own.items() for word in ("--data", "{}={}".format(*item))]
        yes = () if "--dry" in words else ("-y",)
        line = [*yes, "inventories/local.py", deploy, *ours, *words]
        environment = {**os.environ, **ONE_THREAD, "HOME": str(self.home)}
        return run_pyinfra(line, environment, timeout=300)

    def deploy(self, *words: str) -> str:
        done = self.pyinfra(*words)
        assert done.returncode == 0, done.stderr
        return done.stderr

    def models(self) -> list[str]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/v1/models", timeout=10) as reply:
            answer: dict[str, Any] = json.load(reply)
        return [entry["id"] for entry in answer["data"]]

    def pids(self) -> list[str]:
        """Our processes, by the name in their arguments."""
        marker = f"--spark-serving-name={self.name}".encode()
        processes = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                arguments = path.read_bytes().split(b"\0")
            except OSError:
                continue
            if marker in arguments and b"-m" in arguments:
                processes.append(path.parent.name)
        return processes


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Local]:
    here = Local(tmp_path)
    yield here
    here.pyinfra("--data", "state=absent")
    assert here.pids() == []


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Local, str]]:
    """A group that goes on serving, and what its deploy printed."""
    here = Local(tmp_path_factory.mktemp("served"), probes="auto")
    try:
        yield here, here.deploy()
    finally:
        here.pyinfra("--data", "state=absent")


def changes(log: str) -> int:
    """Operations that pyinfra counted as a success, that is, as a change."""
    total = re.search(r"Grand total +(\d+) +(\d+|-) ", log)
    assert total, log
    return 0 if total[2] == "-" else int(total[2])


def test_the_embedded_default_serves_a_real_answer_and_a_second_run_changes_nothing(
    served: tuple[Local, str],
) -> None:
    local, log = served
    assert "The capital of France is Paris." in log
    assert re.search(r"probes, [0-9.]+ s: .* right \(.*text", log), log
    assert local.models() == ["HuggingFaceTB/SmolLM2-135M-Instruct"]
    before = local.pids()
    assert changes(local.deploy()) == 0
    assert local.pids() == before != []


def test_drift_restarts_the_rank_and_dry_only_reports_it(local: Local) -> None:
    local.deploy()
    before = local.pids()
    output = local.deploy("--dry", "--data", "served_model_name=small")
    assert "served_model_name: 'HuggingFaceTB/SmolLM2-135M-Instruct' -> 'small'" in output
    assert local.pids() == before
    local.deploy("--data", "served_model_name=small")
    assert local.models() == ["small"]
    assert local.pids() != before


def test_verify_queries_every_endpoint_and_shows_how_to_use_it(served: tuple[Local, str]) -> None:
    local, _ = served
    output = local.pyinfra(deploy="deploys/verify.py")
    assert output.returncode == 0, output.stderr
    for path in ("/health", "/v1/models", "/v1/chat/completions", "/v1/completions", "/completion"):
        assert re.search(rf"200 +[\d.]+ s  {path}$", output.stderr, re.MULTILINE), output.stderr
    assert f"curl http://127.0.0.1:{local.port}/v1/chat/completions" in output.stderr


def test_verify_fails_where_nothing_runs(local: Local) -> None:
    output = local.pyinfra(deploy="deploys/verify.py")
    assert output.returncode == 1
    assert "no rank 0 of ours runs" in output.stderr


def test_check_shows_what_a_deploy_would_do(local: Local) -> None:
    output = local.pyinfra(deploy="deploys/check.py")
    assert output.returncode == 0, output.stderr
    assert "a deploy would go ahead: 0 error" in output.stderr


def test_stopped_and_absent_leave_nothing_running(local: Local) -> None:
    local.deploy()
    local.deploy("--data", "state=stopped")
    assert local.pids() == []
    assert changes(local.deploy("--data", "state=stopped")) == 0
    assert changes(local.deploy("--data", "state=absent")) == 0


def test_another_group_on_the_machine_is_left_alone(
    local: Local, served: tuple[Local, str]
) -> None:
    other, _ = served
    before = other.pids()
    local.deploy()
    local.deploy("--data", "state=absent")
    assert other.pids() == before != []


def test_a_taken_port_is_refused_with_its_holder(local: Local) -> None:
    with socket.create_server(("127.0.0.1", local.port)):
        refused = local.pyinfra()
    assert refused.returncode == 1
    assert f"port {local.port} is taken by " in refused.stderr
    assert local.pids() == []


def test_an_engine_that_ends_at_start_is_reported_with_its_log(
    local: Local, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF, not")
    begun = time.monotonic()
    failed = local.pyinfra("--data", f"model={broken}")
    assert failed.returncode == 1
    assert f"llama.cpp can't load '{broken}'" in failed.stderr
    assert "the rank is gone" in failed.stderr
    assert time.monotonic() - begun < 30
    assert local.pids() == []


def test_a_failed_switch_puts_the_old_process_back(local: Local) -> None:
    local.deploy()
    # An address of documentation: no machine listens there.
    failed = local.pyinfra("--data", "host=203.0.113.9")
    assert failed.returncode == 1
    assert "can't listen on 203.0.113.9" in failed.stderr
    assert "serves again, as before this run" in failed.stderr
    assert local.models() == ["HuggingFaceTB/SmolLM2-135M-Instruct"]
    assert changes(local.deploy()) == 0


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param("mdoel=x", "mdoel is not a setting; did you mean model?", id="unknown"),
        pytest.param("port=70000", "port = 70000 is not allowed", id="range"),
        pytest.param("model=qwen77b", "did you mean qwen7b or qwen72b", id="unknown-model"),
        pytest.param("model=qwen72b", "qwen72b needs runtime = 'docker'", id="wrong-runtime"),
        pytest.param("model=/no/such.gguf", "model /no/such.gguf is missing", id="no-file"),
    ],
)
def test_a_refusal_is_one_clear_message_and_starts_nothing(
    local: Local, data: str, message: str
) -> None:
    refused = local.pyinfra("--data", data)
    assert refused.returncode == 1
    assert message in refused.stderr
    assert "Traceback" not in refused.stderr + refused.stdout
    assert local.pids() == []
