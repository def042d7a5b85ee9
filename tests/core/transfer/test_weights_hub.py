"""The download itself: the real client against a small hub on loopback, in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hub_clients import HubClients, hub_clients
from local_hub import TOKEN, Hub, git, self_signed, serving, sha256

from cluster.catalog.models import Model
from cluster.transfer.description import describe_from_hub
from operations.download import SCRIPT

REPO = "org/tiny"
LARGE = "model-00001-of-00002.safetensors"
OTHER = "model-00002-of-00002.safetensors"
FILES = {
    "config.json": b"{}",
    "sub/notes.txt": b"a note",
    LARGE: bytes(range(256)) * (1 << 14),
    OTHER: b"second" * 1000,
}


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with serving(tmp_path / "hub") as server:
        server.add(REPO, FILES)
        yield server


@pytest.fixture(scope="module")
def clients() -> Iterator[HubClients]:
    with hub_clients(environment()) as forks:
        yield forks


@pytest.fixture
def client(hub: Hub, clients: HubClients, tmp_path: Path) -> Client:
    return Client(hub, clients, tmp_path / "cache/hub/models--org--tiny", tmp_path / "token")


@pytest.fixture
def encrypted(clients: HubClients, tmp_path: Path) -> Iterator[Client]:
    """A hub over TLS, its certificate trusted, and a token for it."""
    with serving(tmp_path / "hub", self_signed(tmp_path / "hub.pem")) as hub:
        hub.add(REPO, FILES)
        (tmp_path / "token").write_text(f"{TOKEN}\n")
        folder = tmp_path / "cache/hub/models--org--tiny"
        yield Client(hub, clients, folder, tmp_path / "token")


class Client:
    def __init__(self, hub: Hub, clients: HubClients, folder: Path, token: Path) -> None:
        self.hub, self.clients, self.folder, self.token = hub, clients, folder, token

    def task(self, do: str, **request: Any) -> str:
        if do == "fetch":
            self.folder.mkdir(parents=True, exist_ok=True)
            owner = [os.getuid(), os.getgid()]
            request = {"commit": self.hub.commit(REPO), "files": self.files(), "owner": owner,
                     "folder": str(self.folder), "stall": 20, **request}  # fmt: skip
        task = {"do": do, "repo": REPO, "endpoint": self.hub.url, "token_file": str(self.token)}
        return json.dumps(task | request)

    def words(self, do: str, **request: Any) -> list[str]:
        """A process of its own."""
        return [sys.executable, "-c", SCRIPT, self.task(do, **request)]

    def files(self) -> list[list[object]]:
        return [
            [path, len(c), "sha256", sha256(c)] if len(c) >= 100 else [path, len(c), "git", git(c)]
            for path, c in FILES.items()
        ]

    def run(self, do: str, **request: Any) -> dict[str, Any]:
        """The result, or the error."""
        trusted = {"SSL_CERT_FILE": str(self.hub.certificate),
                   "REQUESTS_CA_BUNDLE": str(self.hub.certificate)}  # fmt: skip
        env = environment() | (trusted if self.hub.certificate else {})
        done = self.clients.run(SCRIPT, [self.task(do, **request)], env)
        last: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        assert ("error" in last) == (done.returncode == 1), done.stderr
        return last

    @property
    def snapshot(self) -> Path:
        return self.folder / "snapshots" / self.hub.commit(REPO)

    def whole(self) -> bool:
        return all((self.snapshot / path).read_bytes() == c for path, c in FILES.items())


def environment() -> dict[str, str]:
    quiet = {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    return {
        "PATH": os.environ["PATH"],
        "HOME": "/nonexistent",
        "HF_HUB_DOWNLOAD_TIMEOUT": "1",
        **quiet,
    }


def test_a_repositorys_files_and_commit_are_listed(client: Client) -> None:
    reply = client.run("list", revision="")
    assert reply["commit"] == client.hub.commit(REPO)
    assert sorted(reply["files"]) == sorted(client.files())


def test_a_repository_is_described_without_its_weights(client: Client) -> None:
    config = {"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 256}
    index = {"metadata": {"total_size": 5}, "weight_map": {"a": LARGE, "b": OTHER}}
    client.hub.add(
        REPO,
        {
            "config.json": json.dumps(config).encode(),
            "model.safetensors.index.json": json.dumps(index).encode(),
        },
    )
    reply = client.run("describe", revision="")
    assert json.loads(reply["config"]) == config and reply["shards"] == [LARGE, OTHER]
    model, findings = describe_from_hub(Model(id=REPO), reply, "spark-1")
    assert findings == () and model.shape.layers == 2 and model.shape.kv_heads == 4
    assert model.weight_bytes == len(FILES[LARGE]) + len(FILES[OTHER])
    requested = (client.hub.folder / "log.jsonl").read_text()
    assert '/model.safetensors"' not in requested


def test_a_description_takes_the_token_from_stdin(encrypted: Client) -> None:
    task = {"do": "describe", "repo": REPO, "revision": "", "endpoint": encrypted.hub.url}
    words = [json.dumps({**task, "token_file": "-"})]
    trusted = dict.fromkeys(("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"), str(encrypted.hub.certificate))
    done = encrypted.clients.run(SCRIPT, words, environment() | trusted, f"{TOKEN}\n")
    assert "config" in json.loads(done.stdout.splitlines()[-1]), done.stderr
    assert TOKEN not in done.stdout + done.stderr


def test_downloaded_files_match_the_huggingface_cache_layout(client: Client) -> None:
    times = client.run("fetch")["times"]
    assert times.keys() == FILES.keys()
    assert client.whole()
    find = (
        "import sys, huggingface_hub as h; print(h.hf_hub_download(sys.argv[1], sys.argv[2], "
        "revision=sys.argv[3], cache_dir=sys.argv[4], local_files_only=True))"
    )
    words = [REPO, LARGE, client.hub.commit(REPO), str(client.folder.parent)]
    done = subprocess.run([sys.executable, "-c", find, *words], env=environment(),
                          capture_output=True, text=True, check=True)  # fmt: skip
    assert Path(done.stdout.strip()) == client.snapshot / LARGE
    blobs = {p.name for p in (client.folder / "blobs").iterdir()}
    assert blobs == {row[3] for row in client.files()}


def test_the_token_goes_to_the_hub_and_not_to_the_store_beside_it(encrypted: Client) -> None:
    client = encrypted
    client.run("fetch")
    assert client.whole()
    downloads = [r for r in client.hub.log if "/resolve/" in r["path"]]
    stored = [r for r in client.hub.log if "/store/" in r["path"]]
    assert {r["token"] for r in downloads} == {f"Bearer {TOKEN}"}
    assert len(stored) == 2
    assert {r["token"] for r in stored} == {""}


@pytest.mark.parametrize("faults", [{}, {"status": {"code": 500, "times": 999}}, {"gated": 403}])
def test_the_tokens_file_is_gone_however_the_client_ends(
    encrypted: Client, faults: dict[str, Any]
) -> None:
    encrypted.hub.fault(**faults)
    encrypted.run("list", revision="")
    assert not encrypted.token.exists()


def test_the_tokens_file_is_gone_before_a_client_can_be_killed(encrypted: Client) -> None:
    encrypted.hub.fault(stand=True)
    with subprocess.Popen(encrypted.words("fetch"), env=environment(), stdout=-1) as killed:
        assert killed.stdout
        killed.stdout.readline()
        assert not encrypted.token.exists()
        killed.kill()
    encrypted.hub.fault()


@pytest.mark.parametrize("do", ["list", "fetch"])
def test_a_token_is_never_sent_over_plain_http(client: Client, do: str) -> None:
    client.token.write_text(f"{TOKEN}\n")
    reply = client.run(do, **({"revision": ""} if do == "list" else {}))
    assert reply["error"] == "clear"
    assert client.hub.log == []
    assert not client.token.exists()


def test_without_a_token_none_is_looked_for(client: Client) -> None:
    client.run("fetch")
    assert {r["token"] for r in client.hub.log} == {""}


def test_a_cut_download_resumes_where_it_stopped(client: Client) -> None:
    client.hub.fault(cut={LARGE: 2_500_000})
    client.run("fetch")
    assert client.whole()
    ranges = [r["range"] for r in client.hub.log if r["path"].endswith(f"store/{REPO}/{LARGE}")]
    assert ranges == ["", "bytes=2097152-"]


def test_a_killed_download_is_resumed_by_the_next_run(client: Client) -> None:
    client.hub.fault(slow=0.02)
    words = client.words("fetch")
    with subprocess.Popen(words, env=environment(), stdout=subprocess.PIPE) as killed:
        half = client.folder / "blobs" / f"{sha256(FILES[LARGE])}.incomplete"
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and not (half.exists() and half.stat().st_size):
            time.sleep(0.05)
        killed.send_signal(signal.SIGKILL)
    size = half.stat().st_size
    assert 0 < size < len(FILES[LARGE])
    client.hub.fault()
    client.hub.forget()
    client.run("fetch")
    assert client.whole()
    assert f"bytes={size}-" in [r["range"] for r in client.hub.log]


def test_existing_files_are_not_requested_again(client: Client) -> None:
    client.run("fetch")
    client.hub.forget()
    client.run("fetch")
    assert client.hub.log == []


def test_a_file_that_comes_damaged_is_fetched_once_more(client: Client) -> None:
    client.hub.fault(wrong={LARGE: 1})
    client.run("fetch")
    assert client.whole()


def test_a_file_that_comes_damaged_twice_is_never_placed(client: Client) -> None:
    client.hub.fault(wrong={LARGE: 2})
    reply = client.run("fetch")
    assert reply["error"] == "wrong"
    assert LARGE in reply["text"]
    assert not (client.snapshot / LARGE).exists()
    assert not (client.folder / "blobs" / sha256(FILES[LARGE])).exists()


@pytest.mark.parametrize("status", [401, 403])
def test_a_gated_repository(client: Client, status: int) -> None:
    client.hub.fault(gated=status)
    reply = client.run("fetch")
    assert (reply["error"], reply["status"]) == ("gated", status)


@pytest.mark.parametrize(
    ("payload", "error"),
    [
        pytest.param({"revision": "nope"}, "revision", id="no such revision"),
        pytest.param({"revision": "", "repo": "org/none"}, "repository", id="no such repository"),
        pytest.param({"revision": "", "endpoint": "http://127.0.0.1:9"}, "network", id="no hub"),
    ],
)
def test_listing_errors_are_reported(client: Client, payload: dict[str, Any], error: str) -> None:
    assert client.run("list", **payload)["error"] == error


@pytest.mark.parametrize(
    ("code", "error"),
    [
        pytest.param(401, "denied", id="a token that is none"),
        pytest.param(403, "denied", id="a token that may not"),
        pytest.param(404, "other", id="no hub at all"),
        pytest.param(429, "limited", id="too many requests"),
        pytest.param(500, "server", id="a fault"),
        pytest.param(503, "server", id="overloaded"),
        pytest.param(504, "server", id="a gateway without its hub"),
    ],
)
def test_an_error_answer_is_not_an_unreachable_hub(client: Client, code: int, error: str) -> None:
    client.hub.fault(status={"code": code, "times": 999})
    reply = client.run("list", revision="")
    assert (reply["error"], reply["status"]) == (error, code)


@pytest.mark.parametrize("code", [429, 503])
def test_a_short_rate_limit_is_waited_out(client: Client, code: int) -> None:
    client.hub.fault(status={"code": code, "times": 1})
    client.run("fetch")
    assert client.whole()


def test_a_lasting_rate_limit_is_reported(client: Client) -> None:
    client.hub.fault(status={"code": 429, "times": 9999})
    reply = client.run("fetch", stall=1)
    assert (reply["error"], reply["status"]) == ("limited", 429)


def test_a_stalled_download_ends(client: Client) -> None:
    client.hub.fault(stand=True)
    try:
        assert client.run("fetch", stall=2)["error"] == "still"
    finally:
        client.hub.fault()


# ---- what a hub must not be able to do


def sibling(name: object, **changed: object) -> dict[str, object]:
    return {"rfilename": name, "size": 2, "blobId": git(b"{}"), **changed}


@pytest.mark.parametrize(
    "listed",
    [
        pytest.param({"sha": "/home/nvidia"}, id="a commit that is a path"),
        pytest.param({"sha": "main"}, id="a commit that is a name"),
        pytest.param({"siblings": [sibling("../../.bashrc")]}, id="a name that leaves"),
        pytest.param({"siblings": [sibling("/etc/passwd")]}, id="a path from the root"),
        pytest.param({"siblings": [sibling("a"), sibling("a/b")]}, id="a file and a folder"),
        pytest.param({"siblings": [sibling("a", blobId="../../x")]}, id="a hash that is a path"),
        pytest.param({"siblings": [sibling("a", size="2")]}, id="a size that is a string"),
        pytest.param({"siblings": [sibling("a", size=-1)]}, id="a size below nothing"),
        pytest.param({"siblings": []}, id="nothing at all"),
    ],
)
def test_an_impossible_file_list_is_refused(client: Client, listed: dict[str, Any]) -> None:
    client.hub.fault(listed=listed)
    assert client.run("list", revision="")["error"] == "unfit"


def test_the_clients_fetch_list_is_checked_too(client: Client) -> None:
    evil = [["../../../evil", 2, "git", git(b"{}")]]
    assert client.run("fetch", files=evil)["error"] == "unfit"
    assert client.run("fetch", commit="/tmp")["error"] == "unfit"
    assert client.hub.log == []


@pytest.mark.parametrize("path", ["config.json", LARGE])
def test_a_file_ends_at_its_listed_size(client: Client, path: str) -> None:
    client.hub.fault(longer={path: 20_000_000})
    assert client.run("fetch")["error"] == "longer"
    sizes = [p.stat().st_size for p in (client.folder / "blobs").iterdir()]
    assert max(sizes, default=0) <= max(map(len, FILES.values()))
    assert not (client.snapshot / path).exists()
    client.hub.fault()
    client.run("fetch")
    assert client.whole()


def test_duplicate_content_is_downloaded_once(client: Client) -> None:
    twins = {
        "tokenizer.model": b"same" * 50,
        "tokenizer.model.v3": b"same" * 50,
        "sub/t": b"same" * 50,
    }
    client.hub.add(REPO, twins)
    files = [[path, len(c), "sha256", sha256(c)] for path, c in twins.items()]
    reply = client.run("fetch", files=files)
    assert reply["times"].keys() == twins.keys()
    assert all((client.snapshot / path).read_bytes() == c for path, c in twins.items())
    gets = [r for r in client.hub.log if "/store/" in r["path"] and r["method"] == "GET"]
    assert len(gets) == 1


def test_a_task_comes_in_pieces(client: Client) -> None:
    task = client.task("list", revision="")
    pieces = [task[at : at + 40] for at in range(0, len(task), 40)]
    done = client.clients.run(SCRIPT, pieces, environment())
    assert json.loads(done.stdout)["commit"] == client.hub.commit(REPO)
