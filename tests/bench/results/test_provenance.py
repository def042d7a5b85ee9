from __future__ import annotations

import doctest
import http.server
import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from spark_bench.project import ProjectListing, ProjectRank
from spark_bench.results import provenance, redact
from spark_bench.results.provenance import (
    client_versions,
    cpu_model,
    describe_deployment,
    gather_provenance,
    read_commit,
    read_machine,
    read_server_info,
)
from spark_bench.results.provenance_schema import Provenance, ServerInfo
from spark_bench.results.redact import (
    HIDDEN,
    clean_body,
    clean_command,
    clean_text,
    without_credentials,
)

SECRET = "sk-this-is-secret"
MODELS = {
    "data": [
        {"id": "tiny", "object": "model", "max_model_len": 1024, "owned_by": "sglang"},
        {"id": "adapter", "object": "model", "max_model_len": 512},
    ]
}
# As sglang 0.5.23 answers, of its 556 keys those that matter here; 0.5.3 has them as well.
SGLANG = {
    "model_path": "/models/tiny",
    "tokenizer_path": "/models/tiny",
    "version": "0.5.23",
    "api_key": SECRET,
    "admin_api_key": SECRET,
    "ssl_keyfile_password": SECRET,
    "speculative_algorithm": "EAGLE3",
    "speculative_num_draft_tokens": 4,
    "speculative_draft_model_path": f"https://me:{SECRET}@weights.example/draft",
    "tp_size": 2,
    "nnodes": 2,
    "mem_fraction_static": 0.83,
    "max_total_num_tokens": 123456,
    "disable_cuda_graph": False,
    "cuda_graph_bs": [1, 2, 4],
    "quantization": None,
    "revision": None,
    "launch_command": f"python -m sglang.launch_server --api-key {SECRET}",
    "internal_states": [
        {"api_key": SECRET, "attention_backend": "triton", "memory_usage": {"weight": 1.5}}
    ],
}
LLAMA_CPP = {
    "default_generation_settings": {"n_ctx": 4096, "params": {"seed": 1}},
    "model_path": "/models/smollm2.gguf",
    "total_slots": 8,
    "build_info": "b6900-abc",
}


@contextmanager
def a_fake_server(answers: dict[str, Any]) -> Iterator[str]:
    """A server on loopback with these answers: bytes as they are, else as JSON; none is 404."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = answers.get(self.path)
            body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(404 if answer is None else 200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def server_info(answers: dict[str, Any], model: str = "") -> ServerInfo:
    with a_fake_server(answers) as url, httpx.Client(trust_env=False) as http:
        return read_server_info(http, f"{url}/v1", model)


@pytest.mark.parametrize("path", ["/server_info", "/get_server_info"])
def test_sglang_old_and_new(path: str) -> None:
    server = server_info({"/v1/models": MODELS, path: SGLANG})
    assert (server.engine, server.version) == ("sglang", "0.5.23")
    assert (server.model, server.models, server.max_model_len) == (
        "tiny",
        ("tiny", "adapter"),
        1024,
    )
    assert server.settings == {
        "attention_backend": "triton",
        "disable_cuda_graph": False,
        "max_total_num_tokens": 123456,
        "mem_fraction_static": 0.83,
        "model_path": "/models/tiny",
        "nnodes": 2,
        "speculative_algorithm": "EAGLE3",
        "speculative_draft_model_path": "https://weights.example/draft",
        "speculative_num_draft_tokens": 4,
        "tokenizer_path": "/models/tiny",
        "tp_size": 2,
    }


def test_sglang_that_does_not_decode_speculatively() -> None:
    info = {**SGLANG, "speculative_algorithm": None}
    settings = server_info({"/v1/models": MODELS, "/server_info": info}).settings
    assert not [name for name in settings if name.startswith("speculative")]


def test_no_secret_of_the_server_gets_into_the_result() -> None:
    assert SECRET.encode() in msgspec.json.encode(SGLANG)
    server = server_info({"/v1/models": MODELS, "/server_info": SGLANG})
    assert SECRET.encode() not in msgspec.json.encode(server)


def test_vllm() -> None:
    server = server_info({"/v1/models": MODELS, "/version": {"version": "0.11.0"}}, "adapter")
    assert (server.engine, server.version) == ("vllm", "0.11.0")
    assert (server.model, server.max_model_len) == ("adapter", 512)


def test_llama_cpp() -> None:
    server = server_info({"/v1/models": {"data": [{"id": "smollm2"}]}, "/props": LLAMA_CPP})
    assert (server.engine, server.version) == ("llama.cpp", "b6900-abc")
    assert server.settings == {
        "build_info": "b6900-abc",
        "model_path": "/models/smollm2.gguf",
        "n_ctx": 4096,
        "total_slots": 8,
    }


@pytest.mark.parametrize(
    "answers",
    [
        pytest.param({}, id="404 to everything"),
        pytest.param({"/v1/models": {}, "/server_info": {}, "/version": {}}, id="empty"),
        pytest.param({"/v1/models": b"<html>"}, id="no JSON"),
        pytest.param({"/v1/models": b"\xff"}, id="no text"),
        pytest.param({"/v1/models": b'{"data": "\\ud800"}'}, id="half a character"),
        pytest.param({"/v1/models": [1, 2]}, id="no object"),
        pytest.param({"/v1/models": {"data": [1, {}]}}, id="no ids"),
    ],
)
def test_a_server_that_reports_nothing(answers: dict[str, Any]) -> None:
    assert server_info(answers) == ServerInfo()


def test_a_number_that_json_cant_hold_is_left_out() -> None:
    info = {**SGLANG, "random_seed": 10**30, "max_running_requests": 64}
    settings = server_info({"/v1/models": MODELS, "/server_info": info}).settings
    assert "random_seed" not in settings
    assert settings["max_running_requests"] == 64


def test_a_model_that_is_not_served() -> None:
    server = server_info({"/v1/models": MODELS}, "nope")
    assert (server.model, server.models) == (None, ("tiny", "adapter"))


def test_a_missing_server_is_recognized_at_once() -> None:
    began = time.monotonic()
    with httpx.Client(trust_env=False) as http:
        provenance = gather_provenance(http, "http://127.0.0.1:1")
    assert provenance.server == ServerInfo()
    assert provenance.deployment is None
    assert time.monotonic() - began < 3


def test_provenance_survives_json() -> None:
    with a_fake_server({"/v1/models": MODELS}) as url, httpx.Client(trust_env=False) as http:
        provenance = gather_provenance(http, url, project=Path.cwd(), listing=a_listing())
    again = msgspec.json.decode(msgspec.json.encode(provenance), type=Provenance)
    assert again == provenance
    assert again.client == client_versions()
    assert again.client.httpx == httpx.__version__


def a_listing(*, runs: bool = True) -> ProjectListing:
    rank = ProjectRank(
        node="spark-1",
        rank=0,
        name="main-0",
        runtime="docker",
        model="openai/gpt-oss-120b",
        image="lmsysorg/sglang:spark",
        image_id="sha256:12",
        sglang="0.5.23",
        spec="ab",
        launch={"tp": 2, "api_key": SECRET},
        started_at="2026-11-23T12:00:00Z",
    )
    return ProjectListing(
        version=1,
        light=False,
        url="http://spark-1:30000",
        runs=runs,
        served_model_name="openai/gpt-oss-120b",
        model="openai/gpt-oss-120b",
        group="main",
        state="present",
        revision="cd",
        ranks=(rank, msgspec.structs.replace(rank, rank=1, node="spark-2")),
    )


def test_the_projects_deployment_is_recorded() -> None:
    provenance = describe_deployment(a_listing())
    assert provenance is not None
    assert (provenance.model, provenance.revision, provenance.group) == (
        "openai/gpt-oss-120b",
        "cd",
        "main",
    )
    assert provenance.launch == {"tp": 2}
    assert [(r.rank, r.node, r.spec, r.image_id) for r in provenance.ranks] == [
        (0, "spark-1", "ab", "sha256:12"),
        (1, "spark-2", "ab", "sha256:12"),
    ]


def test_a_project_that_runs_nothing() -> None:
    assert describe_deployment(a_listing(runs=False)) is None


def test_this_machine_is_described() -> None:
    machine = read_machine()
    assert machine.cores == os.cpu_count()
    assert machine.kernel == os.uname().release
    assert machine.load_average is not None
    assert 2**20 < (machine.memory_bytes or 0) < 2**60


def test_a_machine_is_described_from_its_files(tmp_path: Path) -> None:
    for name, text in {
        "proc/cpuinfo": "CPU implementer\t: 0x41\nCPU part\t: 0xd85\nCPU part\t: 0xabc\n",
        "sys/class/dmi/id/product_name": "NVIDIA DGX Spark\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "performance\n",
        "sys/devices/system/clocksource/clocksource0/current_clocksource": "arch_sys_counter\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    machine = read_machine(tmp_path)
    assert (machine.product, machine.cpu) == ("NVIDIA DGX Spark", "Cortex-X925 + part 0xabc")
    assert (machine.governor, machine.clock_source) == ("performance", "arch_sys_counter")


def test_a_machine_without_such_files(tmp_path: Path) -> None:
    machine = read_machine(tmp_path)
    assert (machine.product, machine.governor, machine.clock_source) == (None, None, None)


def test_cpu_model_reads_the_model_name() -> None:
    assert cpu_model("processor : 0\nmodel name\t: AMD EPYC 9B45\n") == "AMD EPYC 9B45"
    assert cpu_model("") is None


def test_the_commit_of_a_project(tmp_path: Path) -> None:
    def git(*words: str) -> str:
        who = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")
        result = subprocess.run(
            ["git", "-C", tmp_path, *who, *words], check=True, capture_output=True, text=True
        )
        return result.stdout.strip()

    assert read_commit(tmp_path) is None
    git("init", "-q")
    assert read_commit(tmp_path) is None
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-qm", "one")
    clean = read_commit(tmp_path)
    assert clean is not None
    assert (clean.sha, clean.dirty) == (git("rev-parse", "HEAD"), False)
    (tmp_path / "a").write_text("2")
    changed = read_commit(tmp_path)
    assert changed is not None
    assert changed.dirty


def test_no_git_on_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert read_commit(Path.cwd()) is None


def test_the_examples_in_the_docstrings() -> None:
    for module in (provenance, redact):
        assert doctest.testmod(module).attempted
        assert not doctest.testmod(module).failed


@pytest.mark.parametrize(
    ("words", "clean"),
    [
        pytest.param(["--api-key", SECRET, "-n", "1"], ["--api-key", HIDDEN, "-n", "1"], id="next"),
        pytest.param([f"--api-key={SECRET}"], [f"--api-key={HIDDEN}"], id="equals"),
        pytest.param(["--api-key-file", "k.txt"], ["--api-key-file", "k.txt"], id="a file's name"),
        pytest.param(["--url", "http://u:p@h:1/v1"], ["--url", "http://h:1/v1"], id="url"),
        pytest.param(["--url=http://u:p@h:1/v1"], ["--url=http://h:1/v1"], id="url, equals"),
        pytest.param(["-H", f"Bearer {SECRET}"], ["-H", HIDDEN], id="header"),
        pytest.param(["hf_abcdefghijkl"], [HIDDEN], id="hugging face"),
        pytest.param(
            ["--extra-body", '{"a": [{"authToken": "x1"}], "headers": {"X-Api-Key": "x2"}}'],
            ["--extra-body", '{"a": [{"authToken": "***"}], "headers": {"X-Api-Key": "***"}}'],
            id="body",
        ),
        pytest.param(
            [
                '--extra-body={"pairs": [["Authorization", "x"]], '
                '"n": {"name": "key", "value": "x"}}'
            ],
            [
                '--extra-body={"pairs": [["Authorization", "***"]], '
                '"n": {"name": "key", "value": "***"}}'
            ],
            id="pairs",
        ),
        pytest.param(
            ["--extra-body", '{"api_keys": ["x"], "credentials": {"user": "x"}, "top_p": 1}'],
            ["--extra-body", '{"api_keys": ["***"], "credentials": {"user": "***"}, "top_p": 1}'],
            id="lists",
        ),
        pytest.param(
            ["--extra-body", '{"inner": "{\\"password\\": \\"x\\"}"}'],
            ["--extra-body", '{"inner": "{\\"password\\": \\"***\\"}"}'],
            id="text of JSON",
        ),
        pytest.param(
            ["--extra-body", '{"top_p":0.9}'], ["--extra-body", '{"top_p":0.9}'], id="kept"
        ),
        pytest.param(
            ["--extra-body={password: x}"], ["--extra-body={password: ***}"], id="no JSON"
        ),
        pytest.param(
            ["--header", "X-Api-Key: x"], ["--header", "X-Api-Key: ***"], id="header line"
        ),
        pytest.param(["gsk_abcdefghijkl"], [HIDDEN], id="groq"),
        pytest.param(
            ["--max-tokens", "9", "latency"], ["--max-tokens", "9", "latency"], id="plain"
        ),
    ],
)
def test_a_command_line_without_its_secrets(words: list[str], clean: list[str]) -> None:
    assert clean_command(words) == tuple(clean)


@pytest.mark.parametrize(
    ("url", "clean"),
    [
        pytest.param("http://h:30000", "http://h:30000", id="plain"),
        pytest.param("https://a:b@[::1]:8000/v1", "https://[::1]:8000/v1", id="password, IPv6"),
        pytest.param("http://h/?token=abc&x=1", f"http://h/?token={HIDDEN}&x=1", id="query"),
        pytest.param("http://[broken", HIDDEN, id="no URL"),
        pytest.param(
            "http://h/#access_token=a&x=1", f"http://h/#access_token={HIDDEN}&x=1", id="#"
        ),
        pytest.param(
            "http://h/?X-Amz-Signature=a", f"http://h/?X-Amz-Signature={HIDDEN}", id="sig"
        ),
    ],
)
def test_a_url_without_its_secrets(url: str, clean: str) -> None:
    assert without_credentials(url) == clean
    assert clean_text(url) == clean


def test_a_body_without_its_secrets() -> None:
    body = {"stop": ["a", "Bearer xyz"], "n": None, "password": "pw", "auth": {"HF_TOKEN": "t"}}
    clean = {"stop": ["a", HIDDEN], "n": None, "password": HIDDEN, "auth": {"HF_TOKEN": HIDDEN}}
    assert clean_body(body) == clean


@pytest.mark.parametrize(
    "body",
    [
        {"headers": ["Authorization: Token SECRET"]},
        {"headers": "Authorization: ApiKey SECRET\nAccept: text/html"},
        {"header": "Cookie: a=1; session=SECRET"},
        {"header": "X-Api-Key:SECRET"},
        {"x": "bearer SECRET"},
        {"auth": {"type": "basic", "user": "u", "pass": "SECRET"}},
        {"authentication": "SECRET"},
        {"auth_header": "SECRET"},
        {"apitoken": "SECRET"},
        {"sessionToken": "SECRET"},
        {"otp": "SECRET", "passcode": "SECRET"},
        {"aws_access_key_id": "SECRET"},
        {"header": "Authorization", "val": "SECRET"},
        {"note": "-----BEGIN RSA PRIVATE KEY-----\nSECRET\n-----END RSA PRIVATE KEY-----"},
        *(
            {"note": f"{prefix}SECRET{'0' * 20}"}
            for prefix in ("ghr_", "xoxe-", "csk-", "ya29.", "fw_")
        ),
    ],
    ids=str,
)
def test_secrets_are_removed_in_every_form(body: dict[str, Any]) -> None:
    assert "SECRET" not in str(clean_body(body))
    assert "SECRET" not in str(clean_command(["--extra-body", json.dumps(body)]))


def test_fields_that_are_not_secret_stay() -> None:
    body = {"max_tokens": 5, "stop_token_ids": [1], "tokenizer": "a/b", "cache_salt": "basic words"}
    assert clean_body(body) == body


def test_urls_within_a_text() -> None:
    text = "from http://u:p@a/x to https://v:q@b/?token=t end"
    assert clean_text(text) == f"from http://a/x to https://b/?token={HIDDEN} end"
