"""Bad input is reported in one line, with exit code 2, before anything is sent."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner
from faulty_network import tls_contexts
from faulty_server import FaultyServer
from run_here import run
from spark_bench import project
from spark_bench.cli import main
from spark_bench.reference_server.launcher import ReferenceServer

LINES = {
    "empty.jsonl": "",
    "no_json.jsonl": "what is this\n",
    "no_time.jsonl": '{"input_length": 3, "output_length": 4}\n',
    "no_output.jsonl": '{"timestamp": 0, "input_length": 3, "output_length": 0}\n',
    "trace.jsonl": '{"timestamp": 0, "input_length": 3, "output_length": 4}\n',
    "sharegpt.json": "[1, 2]",
    "empty.json": "[]",
    "no_json.json": "what is this",
    "profiles.toml": "[none]\n",
    "zero.toml": "[zero]\nnum_prompts = 0\ninput_len = 8\noutput_len = 8\n",
}


@pytest.mark.parametrize(
    ("words", "named"),
    [
        pytest.param("-r 0", "0 is not a number above 0", id="rate-0"),
        pytest.param("-r -1", "-1 is not a number above 0", id="rate-negative"),
        pytest.param("-r nan", "nan is not a number above 0", id="rate-nan"),
        pytest.param("-o 0", "0 is not a whole number of 1 or more", id="output-0"),
        pytest.param("-i 0", "0 is not a whole number of 1 or more", id="input-0"),
        pytest.param("-n 0", "0 is not a whole number of 1 or more", id="no-prompts"),
        pytest.param("-n 1.5", "1.5 is not a whole number", id="half-a-prompt"),
        pytest.param("-n 1000001", "1000000 at most", id="too-many-prompts"),
        pytest.param("-c 0", "0 is not", id="no-slot"),
        pytest.param("-c 11", "at most the number of prompts (10)", id="slots-above-prompts"),
        pytest.param("throughput -n 4", "at most the number of prompts (4)", id="too-few-prompts"),
        pytest.param("qick", "quick", id="unknown-profile"),
        pytest.param("none --profiles {profiles.toml}", "none", id="empty-profile"),
        pytest.param("zero --profiles {zero.toml}", "num_prompts", id="profile-of-nothing"),
        pytest.param("--timeout 0", "--timeout", id="no-time"),
        pytest.param("--duration -1", "--duration", id="duration"),
        pytest.param("--repeat 0", "--repeat", id="no-repeat"),
        pytest.param("--warmup -1", "--warmup", id="warmup"),
        pytest.param("--ramp 0:5", "--ramp", id="ramp-from-0"),
        pytest.param("--slo ttft=-1", "--slo", id="slo"),
        pytest.param("--sweep concurrency=0", "--sweep", id="sweep"),
        pytest.param("--sweep concurrency=1..20", "at most 10", id="sweep-above-prompts"),
        pytest.param("--max-failures -1", "--max-failures", id="max-failures"),
        pytest.param("--extra-body [1]", "not a JSON object", id="body"),
        pytest.param("--think-time 1", "needs --turns", id="think-time"),
        pytest.param("--endpoint chart", "chart", id="endpoint"),
        pytest.param("--tokenizer {trace.jsonl}", "tokenizer", id="tokenizer"),
        pytest.param("--trace {empty.jsonl}", "has no requests", id="empty-trace"),
        pytest.param("--trace {no_json.jsonl}", "line 1", id="trace-of-no-json"),
        pytest.param("--trace {no_time.jsonl}", "not a request with a time", id="trace-no-time"),
        pytest.param("--trace {no_output.jsonl}", "output_length", id="trace-no-output"),
        pytest.param("--trace {trace.jsonl} -r 1", "--request-rate", id="trace-and-rate"),
        pytest.param("--trace {trace.jsonl} -c 2", "number of prompts (1)", id="trace-and-slots"),
        pytest.param("--sharegpt {sharegpt.json}", "sharegpt.json", id="sharegpt"),
        pytest.param("--sharegpt {empty.json}", "empty.json", id="sharegpt-empty"),
        pytest.param("--sharegpt {no_json.json}", "no_json.json", id="sharegpt-no-json"),
        pytest.param("--output {here}", "is a folder", id="output-is-a-folder"),
    ],
)
def test_bad_input_sends_nothing(
    faulty: FaultyServer, tmp_path: Path, words: str, named: str
) -> None:
    for name, text in LINES.items():
        words = words.replace(f"{{{name}}}", str(tmp_path / name))
        (tmp_path / name).write_text(text)
    typed = words.replace("{here}", str(tmp_path)).split()
    ran = run(faulty.url, *typed)
    assert ran.code == 2, ran.err
    assert named in ran.err
    lines = ran.err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("Error: ")
    assert not ran.out
    assert not [call for call in faulty.calls if call.method == "POST"]
    assert not list(tmp_path.rglob("bench_*"))


@pytest.mark.parametrize("url", ["ftp://h", "http://", "127.0.0.1:1", "http://h:99999"])
def test_an_invalid_url_is_refused(url: str) -> None:
    ran = run(url)
    assert ran.code == 2 and f"--url {url} is not a server's URL" in ran.err


def test_a_question_shorter_than_the_template(faulty: FaultyServer, tmp_path: Path) -> None:
    ran = run(faulty.url, "-i", "1", "--shared-prefix", "3", here=tmp_path)
    assert ran.code == 2 and "--input-len 1 is too short" in ran.err


def test_no_such_host() -> None:
    ran = run("http://no-such-host.invalid:1")
    assert ran.code == 1 and "no-such-host.invalid: no such host" in ran.err


@pytest.mark.parametrize(
    "words",
    [
        pytest.param("--project {here}", id="project"),
        pytest.param("--inventory {here}/mine.py", id="inventory"),
        pytest.param("--power --url http://127.0.0.1:1", id="power"),
    ],
)
def test_a_missing_project_is_an_error(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    typed = words.replace("{here}", str(tmp_path)).split()
    result = CliRunner().invoke(main, ["run", *typed])
    assert result.exit_code == 2, result.output
    named = "--power" if "--power" in typed else " ".join(typed)
    assert result.stderr.startswith(f"Error: {named}: no project in")


def test_no_power_skips_a_project_that_cannot_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for path in ("deploys/listing.py", "inventories/spark.py"):
        (tmp_path / path).parent.mkdir()
        (tmp_path / path).write_text("")
    monkeypatch.setattr(project, "pyinfra_program", lambda _: "/bin/false")
    result = CliRunner().invoke(main, ["run", "--power", "--url", "http://127.0.0.1:1"])
    assert result.exit_code == 1 and result.stderr.strip().endswith("; leave --power out")


def test_a_server_that_speaks_no_tls() -> None:
    def answer() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer)
        thread.start()
        place = f"127.0.0.1:{listener.getsockname()[1]}"
        ran = run(f"https://{place}")
        thread.join()
    assert ran.code == 1 and ran.err.endswith(f"; if it does not speak TLS, http://{place}\n")


def test_a_server_that_speaks_tls(tmp_path: Path) -> None:
    with FaultyServer(tls=tls_contexts(tmp_path)[0]) as server:
        url = server.at("plain")
        ran = run(url.replace("https:", "http:"))
        assert ran.code == 1 and ran.err.endswith(f": check --url; if it speaks TLS, {url}\n")
        assert "speak TLS" not in run(url).err


@pytest.mark.parametrize(
    "words",
    [
        pytest.param("-i 131072 -o 1", id="one question"),
        pytest.param("-i 40000 -o 8000 --turns 3", id="in turns"),
    ],
)
def test_prompts_longer_than_the_context_are_not_sent(
    reference: ReferenceServer, words: str
) -> None:
    result = CliRunner().invoke(main, ["run", "--url", reference.url, *words.split()])
    assert result.exit_code == 2
    assert "the served model takes 131072" in result.stderr
    assert reference.stats().requests == 0
