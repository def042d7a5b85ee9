"""What a rank answers and says, asked by a real shell of a small HTTP server and a fake docker."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from http_engine import FakeEngine, listening
from pyinfra.api import StringCommand

from cluster.reports.status import ServerLoad
from facts import answers
from facts.answers import Answers, RankAnswers
from facts.serving import RankLog

PAGES = {
    "/health": "",
    "/v1/models": json.dumps({"data": [{"id": "acme/m"}]}, indent=2),
    "/metrics": '# HELP x\nsglang:num_running_reqs{model_name="acme/m"} 2.0\nother 1\n',
}
# What `docker logs` prints: a batch for each second of a long life, and what counts.
DOCKER = """#!/bin/sh
case $1 in
  inspect) echo 2026-01-01T00:00:00Z;;
  logs) echo 'x NCCL INFO NCCL version 2.29.7+cuda13.0'
        echo 'x NCCL INFO Using network IB'; echo 'Decode batch. #running-req: 1'
        echo 'CUDA out of memory' >&2;;
esac
"""


class Engine(FakeEngine):
    def do_GET(self) -> None:
        self.say(200 if self.path in PAGES else 404, PAGES.get(self.path, ""))


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with listening(Engine) as there:
        yield there


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A PATH on which docker is the fake one."""
    fake = tmp_path / "docker"
    fake.write_text(DOCKER)
    fake.chmod(0o755)
    return f"{tmp_path}:{os.environ['PATH']}"


def sh(command: StringCommand, **environment: str) -> list[str]:
    done = subprocess.run(
        ["sh", "-c", command.get_raw_value()],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_head_reports_health_model_load_and_log(url: str, path: str) -> None:
    reading = Answers().process(sh(Answers().command(url, "docker", "h", head=True), PATH=path))
    assert (reading.health, reading.models_status, reading.models) == (200, 200, ("acme/m",))
    assert reading.load == ServerLoad(model="acme/m", running=2.0)
    assert "CUDA out of memory" in reading.log
    assert reading.nccl == ("2.29.7",)


def test_workers_report_health_and_processes_their_age(url: str) -> None:
    command = Answers().command(url, "docker", "", pid=str(os.getpid()))
    reading = Answers().process(sh(command))
    assert (reading.health, reading.models, reading.log) == (200, (), ())
    assert reading.seconds is not None and reading.seconds >= 0


def test_no_listener_gives_an_empty_answer() -> None:
    command = Answers().command("http://127.0.0.1:9", "docker", "", head=True)
    assert Answers().process(sh(command)) == RankAnswers()


def test_what_a_watchdog_wrote_is_read(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "WATCHDOGS", str(tmp_path))
    command = Answers().command(url, "docker", "", group="g")
    assert Answers().process(sh(command)).watchdog is None
    event = {"at": 100.0, "what": "end", "key": "group-restart", "why": "failing", "failed": ""}
    document = {"at": 160.0, "duty": "serving", "why": "", "events": [event], "head": {}}
    file = tmp_path / "g.json"
    file.write_text(json.dumps(document))
    dog = Answers().process(sh(command)).watchdog
    assert dog and (dog.duty, dog.last, dog.last_why) == ("serving", "end", "failing")
    assert 60 <= dog.last_age == 60 + dog.age < 120
    assert dog.last_failed == ""
    file.write_text(json.dumps({**document, "events": [{**event, "failed": "timed out"}]}))
    dog = Answers().process(sh(command)).watchdog
    assert dog and (dog.last_why, dog.last_failed) == ("failing", "timed out")
    for text in ("", "{", json.dumps({**document, "duty": "x" * 3000}), "[" * 9999):
        file.write_text(text)
        reading = Answers().process(sh(command))
        assert (reading.watchdog, reading.health) == (None, 200)


def test_a_log_drops_batches_and_keeps_transport_lines(path: str) -> None:
    reading = RankLog().process(sh(RankLog().command("docker", "h"), PATH=path))
    assert set(reading.lines) == {
        "x NCCL INFO NCCL version 2.29.7+cuda13.0",
        "x NCCL INFO Using network IB",
        "CUDA out of memory",
    }
    assert reading.transport == ("x NCCL INFO Using network IB",)


def test_a_draft_model_late_in_the_arguments_is_reported(path: str) -> None:
    fake = Path(path.partition(":")[0]) / "docker"
    arguments = f"server_args=ServerArgs({'x' * 9_000}, speculative_draft_model_path='acme/d', y)"
    fake.write_text(f'#!/bin/sh\n[ "$1" != logs ] || echo "{arguments}"\n')
    reading = RankLog().process(sh(RankLog().command("docker", "h"), PATH=path))
    assert reading.lines == ("server_args=speculative_draft_model_path='acme/d'",)


def test_the_last_lines_show_the_startup_phase(path: str) -> None:
    fake = Path(path.partition(":")[0]) / "docker"
    fake.write_text(
        "#!/bin/sh\n[ $1 = logs ] || exit 0\necho 'Init parallel begin.'\n"
        'i=0; while [ $i -lt 300 ]; do i=$((i + 1)); echo "a [0] NCCL INFO Channel $i"; done\n'
    )
    reading = Answers().process(
        sh(Answers().command("http://127.0.0.1:9", "docker", "h"), PATH=path)
    )
    assert reading.log == ("Init parallel begin.",)


LONG = """#!/bin/sh
[ "$1" = logs ] || exit 0
n=0; while [ $n -lt 60 ]; do n=$((n + 1)); echo "line $n $(printf '%0100d')"; done
sleep 0.8; echo end
"""


class Slow(FakeEngine):
    """Metrics of more than a pipe's block, and an answer that comes while they are written."""

    def do_GET(self) -> None:
        if self.path == "/metrics":
            time.sleep(0.2)
            self.say(200, f"# HELP {'x' * 300}\n" * 40 + PAGES["/metrics"])
        else:
            time.sleep(0.4 if self.path == "/health" else 0)
            self.say(200, PAGES.get(self.path, ""))


def test_block_buffered_output_does_not_split_lines(path: str, tmp_path: Path) -> None:
    """sed ends its blocks in the middle of lines: a log that goes on for a while holds one back."""
    (tmp_path / "docker").write_text(LONG)
    with listening(Slow) as url:
        reading = Answers().process(sh(Answers().command(url, "docker", "h", head=True), PATH=path))
    assert (reading.health, reading.models) == (200, ("acme/m",))
    assert reading.load.running == 2.0
    assert reading.log[-1] == "end"
    assert len(reading.log) == 61
