"""Real SGLang with an API key: asked for, warmed up with, and shown nowhere. One node, on CPU."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import MODEL, SETTINGS, SHARED, START_SECONDS
from deploying import HEAD, Deploy
from sparks import Cluster

KEY = "sk-planted0real0key"
MODEL_FOLDER = "/var/tiny"
pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(2 * START_SECONDS)]


@pytest.fixture(scope="module")
def keyed(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deploy]:
    """Node 1 alone, serving with the key."""
    folder = tmp_path_factory.mktemp("keyed")
    (folder / "key").write_text(f"{KEY}\n")
    (folder / "key").chmod(0o600)
    data = {**SETTINGS, "model": MODEL_FOLDER, "api_key_file": str(folder / "key")}
    # The login's own: what is known of its files is kept beside them.
    cluster.node(1).run(f"cp -r {SHARED}/model {MODEL_FOLDER}; chown -R nvidia: {MODEL_FOLDER}")
    deployment = Deploy(cluster, cluster.inventory(folder, workers=(), **data))
    deployment.succeeds(timeout=START_SECONDS)
    yield deployment
    deployment.succeeds(state="absent")


@pytest.mark.parametrize(
    ("path", "without", "with_key"),
    [
        pytest.param("/health", 200, 200, id="health"),
        pytest.param("/metrics", 200, 200, id="metrics"),
        pytest.param("/v1/models", 401, 200, id="models"),
        pytest.param("/server_info", 401, 200, id="server_info"),
        pytest.param("/generate", 401, 405, id="generate"),
    ],
)
def test_sglang_requires_the_key(keyed: Deploy, path: str, without: int, with_key: int) -> None:
    ask = keyed.cluster.http
    assert ask(path, timeout=30).status == without
    assert ask(path, key="another", timeout=30).status == without
    answer = ask(path, key=KEY, timeout=30)
    assert answer.status == with_key
    assert KEY not in answer.body


def test_completions_require_the_key(keyed: Deploy) -> None:
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}
    assert keyed.cluster.http("/v1/chat/completions", body, timeout=60).status == 401
    assert keyed.cluster.http("/v1/chat/completions", body, key=KEY, timeout=60).status == 200


def test_the_key_is_shown_nowhere(keyed: Deploy) -> None:
    node = keyed.cluster.node(1)
    log = node.logs(HEAD)
    assert "The server is fired up and ready to roll!" in log, "SGLang's own warm-up had the key"
    assert "'api_key': '(hidden, not the key" in log
    places = [log, str(node.containers()), _processes()]
    assert "sglang::scheduler" in places[-1]
    assert not [text for text in places if KEY in text]


def _processes() -> str:
    """Arguments and environments of all processes, the node's among them."""
    files = [
        p
        for folder in Path("/proc").glob("[0-9]*")
        for p in (folder / "cmdline", folder / "environ")
    ]
    return "\n".join(_read(path) for path in files)


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode(errors="replace").replace("\0", " ")
    except OSError:
        return ""


def test_a_second_run_changes_nothing(keyed: Deploy) -> None:
    keyed.unchanged()
