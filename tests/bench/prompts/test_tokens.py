"""Where token counts come from: a file, the server, or nowhere."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from spark_bench.errors import BadInput, BenchError, Unreachable
from spark_bench.prompts import library
from spark_bench.prompts.library import LibraryTokens, batches
from spark_bench.prompts.served import ask_tokenize
from spark_bench.prompts.tokens import COMMON, PLAIN, ApproximateTokens, find_tokens
from tiny_tokenizers import KINDS, tiny, with_extras

TEXTS = ["able about above", "", "zebra, 42!", "good " * 300]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    KINDS["byte-level"]().save(str(tmp_path / "tokenizer.json"))
    return tmp_path


@pytest.fixture
def no_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty Hugging Face cache, and no network at all."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))

    def refuse(*_: object) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    return tmp_path / "hub"


def snapshot(cache: Path, revision: str, kind: str) -> Path:
    folder = cache / "models--org--name" / "snapshots" / revision
    folder.mkdir(parents=True)
    KINDS[kind]().save(str(folder / "tokenizer.json"))
    return folder


# Files


@pytest.mark.parametrize("given", [".", "tokenizer.json"])
def test_a_file_or_its_folder_counts_as_the_library_does(folder: Path, given: str) -> None:
    tokens = find_tokens(folder / given, None, "m")
    try:
        assert tokens.count(TEXTS) == tiny("byte-level").count(TEXTS)
        assert tokens.words() == tiny("byte-level").words()
        assert tokens.exact
        assert tokens.name == f"tokenizer.json of {folder}"
    finally:
        tokens.close()


def test_counting_after_close_starts_again(folder: Path) -> None:
    tokens = library.load_local_tokens(folder)
    tokens.close()
    tokens.close()
    assert tokens.count(["able"]) == tiny("byte-level").count(["able"])
    tokens.close()


def test_close_ends_the_process(folder: Path) -> None:
    tokens = library.load_local_tokens(folder)
    number = tokens.start()._popen.pid
    tokens.close()
    with pytest.raises(ProcessLookupError):
        os.kill(number, 0)


def test_a_process_that_dies_is_one_clear_error(folder: Path) -> None:
    tokens = library.load_local_tokens(folder)
    tokens.start()._popen.kill()
    with pytest.raises(BenchError, match=r"ended unexpectedly \(exit code -9\)"):
        tokens.count(["able"] * 100_000)
    tokens.close()


def test_truncation_and_padding_of_the_file_are_ignored() -> None:
    """Truncation and padding at 64, and a beginning-of-text token."""
    tokens = LibraryTokens(with_extras(), "extras")
    assert tokens.count(TEXTS) == tiny("byte-level").count(TEXTS)


def test_a_snapshot_of_the_cache_is_the_one_that_main_names(no_caches: Path) -> None:
    named = snapshot(no_caches, "aaa", "byte-level")
    newer = snapshot(no_caches, "bbb", "bytes-only")
    model = no_caches / "models--org--name"
    assert library.load_local_tokens(model).name.endswith(str(newer))
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text("aaa\n")
    assert library.load_local_tokens(model).name.endswith(str(named))
    assert find_tokens(None, None, "org/name").name.endswith(str(named))


def test_the_model_may_be_a_folder_of_this_machine(folder: Path, no_caches: Path) -> None:
    assert find_tokens(None, None, str(folder)).name == f"tokenizer.json of {folder}"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(None, "no tokenizer.json there; give the file, the folder", id="none"),
        pytest.param("{", "is not a tokenizer that the tokenizers library can read", id="half"),
        pytest.param("{}", "is not a tokenizer that the tokenizers library can read", id="other"),
    ],
)
def test_a_given_tokenizer_that_cannot_be_used(
    tmp_path: Path, content: str | None, message: str
) -> None:
    if content is not None:
        (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(BadInput, match=message):
        find_tokens(tmp_path, None, "m")


def test_without_any_lengths_are_approximate_and_nothing_is_downloaded(no_caches: Path) -> None:
    tokens = find_tokens(None, None, "org/name")
    assert not tokens.exact
    assert "approximate" in tokens.name


# The server


def reply(content: object) -> httpx.Response:
    return httpx.Response(200, json=content)


def fake_sglang(body: dict[str, object]) -> httpx.Response:
    prompt = body["prompt"]
    assert isinstance(prompt, list) and body["model"] == "m"
    assert body["add_special_tokens"] is False
    counts = tiny("byte-level").count(prompt)
    return reply({"tokens": [[0] * n for n in counts], "count": counts, "max_model_len": 2048})


def fake_vllm(body: dict[str, object]) -> httpx.Response:
    if not isinstance(body.get("prompt"), str):
        return httpx.Response(400, json={"error": {"message": "prompt: Input should be a string"}})
    assert body["add_special_tokens"] is False
    (count,) = tiny("byte-level").count([str(body["prompt"])])
    return reply({"count": count, "max_model_len": 2048, "tokens": [0] * count})


def fake_llamacpp(body: dict[str, object]) -> httpx.Response:
    """It answers what it doesn't know with no tokens."""
    (count,) = tiny("byte-level").count([str(body.get("content", ""))])
    return reply({"tokens": [0] * count})


SERVERS = {"sglang": fake_sglang, "vllm": fake_vllm, "llama.cpp": fake_llamacpp}


def client_of(fake: Callable[[dict[str, object]], httpx.Response]) -> httpx.Client:
    def handle(request: httpx.Request) -> httpx.Response:
        assert request.url.path == "/tokenize"
        return fake(json.loads(request.content))

    return httpx.Client(transport=httpx.MockTransport(handle), base_url="http://server")


@pytest.mark.parametrize("name", SERVERS)
def test_the_servers_own_tokenizer(name: str, no_caches: Path) -> None:
    tokens = find_tokens(None, client_of(SERVERS[name]), "m")
    assert tokens.count(TEXTS) == tiny("byte-level").count(TEXTS)
    assert tokens.exact
    assert tokens.name == "the server's /tokenize"
    assert set(tokens.words().first) <= set(COMMON)


def test_sglang_counts_in_few_requests() -> None:
    bodies = []

    def counting(body: dict[str, object]) -> httpx.Response:
        bodies.append(body)
        return fake_sglang(body)

    tokens = ask_tokenize(client_of(counting), "m")
    assert tokens
    tokens.count(["good " * 1000] * 100)
    assert len(bodies) == 1 + 2  # the probe, and half a megabyte in two


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(httpx.Response(404), id="404"),
        pytest.param(httpx.Response(401), id="401"),
        pytest.param(httpx.Response(200, json={}), id="empty"),
        pytest.param(httpx.Response(200, json={"count": [2], "tokens": [[1, 2]]}), id="too-few"),
        pytest.param(httpx.Response(200, json={"count": 0, "tokens": []}), id="zero"),
        pytest.param(httpx.Response(200, text="<html>"), id="no-json"),
    ],
)
def test_a_server_without_a_tokenizer(answer: httpx.Response) -> None:
    assert ask_tokenize(client_of(lambda _: answer), "m") is None


def test_an_unreachable_server_has_no_tokenizer() -> None:
    def refuse(_: dict[str, object]) -> httpx.Response:
        raise httpx.ConnectError("refused")

    assert ask_tokenize(client_of(refuse), "m") is None


def test_a_server_that_stops_answering_is_unreachable() -> None:
    bodies = []

    def dying(body: dict[str, object]) -> httpx.Response:
        bodies.append(body)
        return fake_sglang(body) if len(bodies) == 1 else httpx.Response(503)

    tokens = ask_tokenize(client_of(dying), "m")
    assert tokens
    with pytest.raises(Unreachable, match="stopped answering: HTTP 503; see the server's log"):
        tokens.count(["good"])


def test_a_given_file_goes_before_the_server(folder: Path) -> None:
    assert find_tokens(folder, client_of(fake_sglang), "m").name == f"tokenizer.json of {folder}"


# Words


def test_approximate_counts_words_and_signs() -> None:
    texts = ["good day", "", "internationally known", "no, 42!"]
    assert ApproximateTokens().count(texts) == [2, 0, 3, 4]


def test_approximate_words_are_one_token_each() -> None:
    tokens = ApproximateTokens()
    assert tokens.count(tokens.words().first) == [1] * len(tokens.words().first)


@pytest.mark.parametrize("kind", ["byte-level", "spaceless", "unigram", "wordpiece"])
def test_words_of_a_vocabulary_are_plain_and_of_one_token(kind: str) -> None:
    words = tiny(kind).words()
    assert tiny(kind).count(words.first) == [1] * len(words.first)
    assert all(PLAIN.fullmatch(word.strip()) for word in (*words.first, *words.rest))
    joined = words.first[0] + "".join(words.rest)
    assert tiny(kind).count([joined]) == [1 + len(words.rest)]


def test_batches_keep_order_and_size() -> None:
    texts = [str(number) * 10 for number in range(10)]
    sizes = list(batches(texts, 25))
    assert [text for batch in sizes for text in batch] == texts
    assert [len(batch) for batch in sizes] == [3, 3, 3, 1]
