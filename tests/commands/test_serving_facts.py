"""The facts that ask a group, run by a real shell against a small HTTP server and a fake docker."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from engine_replies import MODEL, NODES, body
from http_engine import FakeEngine, listening
from pyinfra.api import StringCommand

from cluster.engine import serving
from cluster.engine.readiness import RankHealth
from cluster.engine.serving import EndpointReply
from facts.serving import RankLook, Served


class Engine(FakeEngine):
    """Answers as the test says: path → (status, body)."""

    answers: ClassVar[dict[str, tuple[int, str]]] = {}
    requests: ClassVar[list[tuple[str, str]]] = []

    def answer(self) -> None:
        type(self).requests.append((self.path, self.requested_with()))
        self.say(*self.answers.get(self.path, (404, "")))

    do_GET = do_POST = answer


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with listening(Engine) as there:
        yield there


@pytest.fixture
def url(server: str) -> str:
    Engine.requests = []
    Engine.answers = {
        "/health": (200, ""),
        "/v1/models": (200, json.dumps({"data": [{"id": MODEL}]}, indent=2)),
        "/v1/chat/completions": (200, body(content="Line one\nline 'two' \\n %s $HOME")),
    }
    return server


NOWHERE = "http://127.0.0.1:9"


def sh(command: StringCommand, **environment: str) -> list[str]:
    done = subprocess.run(
        ["sh", "-c", command.get_raw_value()],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    return done.stdout.splitlines()


def ask(*urls: str, **more: Any) -> serving.GroupAnswers:
    return Served().process(sh(Served().command(urls, MODEL, runtime="process", **more)))


def test_a_serving_group(url: str) -> None:
    served = ask(url, url)
    assert serving.serving_problems(served, NODES, MODEL) == ()
    assert [reply.status for reply in served.health] == [200, 200]
    assert served.names == (MODEL,)
    assert serving.completion_text(served.completion) == "Line one\nline 'two' \\n %s $HOME"
    assert 0 < served.seconds < 10


def test_a_worker_that_does_not_answer(url: str) -> None:
    served = ask(url, NOWHERE)
    assert [reply.status for reply in served.health] == [200, 0]
    assert [str(f) for f in serving.serving_problems(served, NODES, MODEL)] == [
        "spark-2: /health of rank 1 does not answer"
    ]


def test_the_workers_200_does_not_hide_the_heads_503(url: str) -> None:
    Engine.answers["/health"] = (503, "")
    served = ask(url)
    assert [str(f) for f in serving.serving_problems(served, NODES[:1], MODEL)] == [
        "spark-1: /health of rank 0 answers 503"
    ]


def test_an_absent_server_answers_nothing() -> None:
    served = ask(NOWHERE)
    assert (served.models.status, served.models.body, served.completion.status) == (0, "", 0)
    assert [str(f) for f in serving.serving_problems(served, NODES[:1], MODEL)] == [
        "spark-1: /health of rank 0 does not answer"
    ]


def test_a_model_without_a_chat_template_gets_a_plain_prompt(url: str) -> None:
    Engine.answers["/v1/chat/completions"] = (400, '{"message": "no chat template"}')
    Engine.answers["/v1/completions"] = (
        200,
        json.dumps({"choices": [{"text": " Paris"}], "usage": {"completion_tokens": 2}}),
    )
    served = ask(url)
    assert serving.serving_problems(served, NODES[:1], MODEL) == ()
    assert serving.completion_text(served.completion) == " Paris"
    assert [path for path, _ in Engine.requests][-2:] == ["/v1/chat/completions", "/v1/completions"]


def test_a_working_chat_is_queried_once(url: str) -> None:
    ask(url)
    assert [path for path, _ in Engine.requests].count("/v1/completions") == 0


def test_each_endpoint_is_queried_once(url: str) -> None:
    """A converged run must not load the engine: one completion, one listing, a health a rank."""
    ask(url, url)
    assert sorted(path for path, _ in Engine.requests) == [
        "/health",
        "/health",
        "/v1/chat/completions",
        "/v1/models",
    ]


def test_an_odd_name_reaches_the_engine_as_it_is(url: str) -> None:
    name = 'it\'s $HOME "quoted" `x`'
    sh(Served().command([url], name, runtime="process"))
    question = next(content for path, content in Engine.requests if path == "/v1/chat/completions")
    assert json.loads(question)["model"] == name


def test_an_empty_body_is_no_completion(url: str) -> None:
    Engine.answers["/v1/chat/completions"] = (200, "")
    served = ask(url)
    assert served.completion.status == 200
    assert [f.what for f in serving.serving_problems(served, NODES[:1], MODEL)] == [
        "a completion returned no token: "
    ]


def test_more_ranks_than_ten_keep_their_order(url: str) -> None:
    served = ask(*[url] * 11, NOWHERE)
    assert [reply.status for reply in served.health] == [200] * 11 + [0]


def test_without_curl_nothing_answers(tmp_path: Path) -> None:
    for tool in ("sh", "tr", "printf", "sed"):
        if path := next((p for d in ("/bin", "/usr/bin") if (p := Path(d, tool)).exists()), None):
            (tmp_path / tool).symlink_to(path)
    lines = sh(Served().command([NOWHERE], MODEL, runtime="process"), PATH=str(tmp_path))
    assert Served().process(lines).health == (EndpointReply(0),)


# ---- one look at one rank, with a docker of our own

INSPECTED = {
    "Id": "4f1c",
    "Name": "/sglang-head",
    "Image": "sha256:ab",
    "RestartCount": 2,
    "State": {
        "Status": "running",
        "OOMKilled": False,
        "ExitCode": 0,
        "StartedAt": "2025-06-01T10:00:00Z",
        "FinishedAt": "0001-01-01T00:00:00Z",
    },
    "HostConfig": {"RestartPolicy": {"Name": "no"}},
    "Config": {"Labels": {"spark-serving.spec": "{}"}},
}
LOG = ["{not a container}", "health 999 9", "node somewhere-else", "weights 9", "a\tb\tc\td\te"]


@pytest.fixture
def docker(tmp_path: Path) -> Path:
    """A docker that knows one container; its log tries to look like our own lines."""
    (tmp_path / "inspected").write_text(json.dumps(INSPECTED) + "\n")
    (tmp_path / "log").write_text("\n".join(LOG) + "\n")
    program = tmp_path / "docker"
    program.write_text(
        f"""#!/bin/sh
case $1 in
  ps) [ ! -e {tmp_path}/down ] || {{ echo "is the docker daemon running?" >&2; exit 1; }}
      [ -e {tmp_path}/none ] || echo 4f1c;;
  inspect) cat {tmp_path}/inspected;;
  logs) cat {tmp_path}/log >&2;;
esac
"""
    )
    program.chmod(0o755)
    return tmp_path


def at(docker: Path, url: str) -> RankHealth:
    command = RankLook().command("spark-1", "docker", "sglang-head", url)
    return RankLook().process(sh(command, PATH=f"{docker}:{os.environ['PATH']}"))


def test_a_healthy_rank(docker: Path, url: str) -> None:
    reply = at(docker, url)
    assert (reply.node, reply.health, reply.lost) == ("spark-1", 200, "")
    assert reply.rank is not None
    assert (reply.rank.name, reply.rank.restarts, reply.rank.label) == ("sglang-head", 2, "{}")
    assert reply.healthy


def test_a_rank_with_a_long_nccl_log_keeps_its_phase(docker: Path) -> None:
    start = Path(__file__).parents[1] / "core" / "engine" / "logs" / "nccl-start.log"
    (docker / "log").write_text(start.read_text() * 8)
    assert at(docker, "http://127.0.0.1:9").phase == "initialising torch distributed"


def test_a_rank_names_the_nccl_that_it_loaded(docker: Path) -> None:
    start = Path(__file__).parents[1] / "core" / "engine" / "logs" / "nccl-start.log"
    version = "spark-1:412:981 [0] NCCL INFO NCCL version 2.28.9+cuda13.0\n"
    # Of a long log only the beginning is read for it.
    late = "NCCL version 2.1.1\n"
    (docker / "log").write_text(version + start.read_text() + "x\n" * 3_000 + late)
    assert at(docker, NOWHERE).nccl == ("2.28.9",)


def test_a_rank_that_captures_graphs_shows_how_far_it_is(docker: Path) -> None:
    bar = (
        "Capturing batches (bs=2 avail_mem=15.14 GB):  33%|███▎      | 1/3 [00:02<00:05,  3.00s/it]"
    )
    (docker / "log").write_text(f"Capture cuda graph begin. avail mem=15.30 GB\n{bar}\n")
    reply = at(docker, NOWHERE)
    assert (reply.phase, reply.progress) == ("capturing CUDA graphs", "1 of 3")
    assert "capturing CUDA graphs, 1 of 3" in str(reply)


def test_a_compiler_that_runs_on_the_node_is_seen(docker: Path) -> None:
    ps = docker / "ps"
    for running, seen in (("cicc", True), ("circus", False)):
        ps.write_text(f"#!/bin/sh\nprintf 'sshd\\n{running}\\n'\n")
        ps.chmod(0o755)
        assert at(docker, NOWHERE).compiling is seen


def test_a_rank_that_loads(docker: Path) -> None:
    reply = at(docker, NOWHERE)
    assert (reply.health, reply.healthy, reply.lost) == (0, False, "")


def test_a_missing_rank(docker: Path) -> None:
    (docker / "none").touch()
    reply = at(docker, NOWHERE)
    assert (reply.rank, reply.lost) == (None, "")


def test_an_unanswering_daemon_never_counts_as_a_missing_rank(docker: Path) -> None:
    (docker / "down").touch()
    assert at(docker, NOWHERE).lost == "its container engine does not answer"


def test_a_200_from_another_server_does_not_make_our_rank_healthy(docker: Path, url: str) -> None:
    (docker / "none").touch()
    assert not at(docker, url).healthy
