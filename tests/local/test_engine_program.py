"""The embedded engine, really started on a loopback port."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
SECONDS = 30  # for anything that normally takes one

pytestmark = pytest.mark.local


class Program:
    """The program under a spec; its output is read as it comes."""

    def __init__(self, **spec: Any) -> None:
        self.url = f"http://127.0.0.1:{spec['port']}"
        command = [sys.executable, "-m", "engines.smollm2", "--spark-serving-name=sglang-head"]
        self.process = subprocess.Popen(
            [*command, "--spark-serving-spec=" + json.dumps({"launch": spec})],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def wait_until_ready(self) -> None:
        assert self.process.stdout
        assert any(line.startswith("ready: ") for line in self.process.stdout)

    def ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        data = json.dumps(body).encode() if body else None
        with urllib.request.urlopen(self.url + path, data, timeout=SECONDS) as answer:
            return json.load(answer)

    def start_long_answer(self) -> socket.socket:
        """A request for one whole answer, on which the engine is at work when this returns."""
        body = json.dumps({"prompt": "Once", "n_predict": 1900, "ignore_eos": True})
        head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        port = int(self.url.rpartition(":")[2])
        connection = socket.create_connection(("127.0.0.1", port), timeout=SECONDS)
        connection.sendall((head + body).encode())
        while not any(slot["is_processing"] for slot in self.ask("/slots")):
            time.sleep(0.02)
        return connection

    def end(self, number: signal.Signals) -> float:
        """Seconds that it takes to be gone after the signal."""
        began = time.monotonic()
        self.process.send_signal(number)
        self.process.wait(timeout=SECONDS)
        return time.monotonic() - began

    def failure(self) -> tuple[int, str]:
        """Exit code and error of a program that can't serve."""
        output, _ = self.process.communicate(timeout=SECONDS)
        (error,) = (line for line in output.splitlines() if line.startswith("ERROR: "))
        return self.process.returncode, error

    def close(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=SECONDS)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as s:
        return int(s.getsockname()[1])


def started(**spec: Any) -> Iterator[Program]:
    program = Program(**{"port": free_port(), "threads": 1, **spec})
    try:
        yield program
    finally:
        program.close()


@pytest.fixture
def program() -> Iterator[Program]:
    for running in started():
        running.wait_until_ready()
        yield running


@pytest.fixture(scope="module")
def shared() -> Iterator[Program]:
    for running in started(served_model_name="small"):
        running.wait_until_ready()
        yield running


def test_it_is_healthy_once_it_says_ready(shared):
    assert shared.ask("/health") == {"status": "ok"}


def test_it_serves_the_model_under_its_served_name(shared):
    assert [model["id"] for model in shared.ask("/v1/models")["data"]] == ["small"]


def test_without_a_served_name_it_is_the_models_own(program):
    assert [model["id"] for model in program.ask("/v1/models")["data"]] == [MODEL]


def test_it_knows_the_capital_of_france(shared):
    question = "What is the capital of France? Answer in one sentence."
    messages = [{"role": "user", "content": question}]
    chat = {"messages": messages, "temperature": 0, "max_tokens": 32}
    assert "Paris" in shared.ask("/v1/chat/completions", chat)["choices"][0]["message"]["content"]


def test_it_counts_what_it_answers(shared):
    shared.ask("/v1/completions", {"prompt": "The capital of France is", "max_tokens": 4})
    with urllib.request.urlopen(f"{shared.url}/metrics", timeout=SECONDS) as answer:
        assert "llamacpp:tokens_predicted_total" in answer.read().decode()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_at_once(program, number):
    assert program.end(number) < 3
    assert program.process.returncode == 0


def test_an_open_request_does_not_delay_the_stop(program):
    with program.start_long_answer():
        assert program.end(signal.SIGTERM) < 3


def test_a_taken_port_is_one_clear_error(shared):
    port = int(shared.url.rpartition(":")[2])
    for second in started(port=port):
        assert second.failure() == (
            1,
            f"ERROR: can't listen on 127.0.0.1:{port}: Address already in use",
        )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(None, "ERROR: model file '{}' does not exist", id="missing"),
        pytest.param(b"GGUF, not", "ERROR: llama.cpp can't load '{}'", id="corrupt"),
    ],
)
def test_weights_that_cannot_be_served_are_one_clear_error(tmp_path, content, message):
    file = tmp_path / "x.gguf"
    if content:
        file.write_bytes(content)
    for program in started(model_path=str(file)):
        assert program.failure() == (1, message.format(file))
