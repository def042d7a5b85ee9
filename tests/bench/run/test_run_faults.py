"""Failures are results: each under its own name, with its cure, and none of them a crash."""

from __future__ import annotations

import gzip
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from faulty_call import CHAT, Call, chunk
from faulty_network import closed_port
from faulty_server import FaultyServer
from run_here import run, short
from spark_bench.client.tally import peak_rss
from spark_bench.reference_server.launcher import ReferenceServer
from waiting import until

QUIET = ["--quiet", "--no-metrics"]


@pytest.mark.parametrize(
    ("behavior", "kind"),
    [
        pytest.param("rate_limited", "http_429", id="429"),
        pytest.param("server_error", "http_500", id="500"),
        pytest.param("bad_gateway", "http_502", id="502"),
        pytest.param("unavailable", "http_503", id="503"),
        pytest.param("cut_by_reset", "reset", id="reset"),
        pytest.param("cut_by_close", "cut", id="cut"),
        pytest.param("closes_unanswered", "cut", id="unanswered"),
        pytest.param("malformed_chunk", "malformed_http", id="malformed-chunk"),
        pytest.param("not_http", "malformed_http", id="not-http"),
        pytest.param("malformed_json", "malformed_json", id="malformed-json"),
        pytest.param("wrong_model", "wrong_model", id="wrong-model"),
        pytest.param("error_in_stream", "stream_error", id="error-in-stream"),
        pytest.param("no_tokens", "no_tokens", id="no-tokens"),
    ],
)
def test_each_fault_has_its_name_and_its_cure(
    faulty: FaultyServer, tmp_path: Path, behavior: str, kind: str
) -> None:
    ran = run(faulty.at(behavior), *short(n=3, c=3, o=4), "--no-metrics", here=tmp_path)
    assert ran.code == 1
    result = ran.result
    assert result.status == "complete" and result.summary.failures == {kind: 3}
    assert result.summary.completed == 0 and result.summary.mean_ttft_ms is None
    output = " ".join(ran.out.split())
    assert f"failed 3 {kind}: " in output
    assert "3 of 3 requests failed: see the failures above" in ran.err


@pytest.mark.parametrize("behavior", ["never_ends", "goes_silent", "never_answers"])
def test_no_answer_takes_longer_than_the_timeout(
    faulty: FaultyServer, tmp_path: Path, behavior: str
) -> None:
    words = [*short(n=3, c=3, o=4), "--timeout", "0.3", "--warmup", "0"]
    started = time.monotonic()
    ran = run(faulty.at(behavior), *words, *QUIET, here=tmp_path)
    assert ran.code == 1 and ran.result.summary.failures == {"timeout": 3}
    assert time.monotonic() - started < 30  # without the time-out it would not end


@pytest.mark.parametrize(
    ("behavior", "words"),
    [
        pytest.param("unauthorized", "401: set SPARK_BENCH_API_KEY or --api-key-file", id="401"),
        pytest.param("not_found", "check --url and --endpoint", id="404"),
        pytest.param("no_such_model", "to a name that the server lists", id="model"),
        pytest.param("ignores_stream", "use an endpoint that streams", id="no-stream"),
    ],
)
def test_an_unrecoverable_error_ends_the_run(
    faulty: FaultyServer, tmp_path: Path, behavior: str, words: str
) -> None:
    ran = run(faulty.at(behavior), *short(), *QUIET, here=tmp_path)
    assert ran.code == 1 and not ran.results
    assert words in ran.err and ran.err.count("\n") == 1


def test_a_closed_port_is_reported(tmp_path: Path) -> None:
    with closed_port() as url:
        ran = run(url, *short(), *QUIET, here=tmp_path)
    assert ran.code == 1 and not ran.results
    assert ran.err == f"Error: {url}: Connection refused; is the server running? check --url\n"


def test_a_server_that_dies_half_way(tmp_path: Path) -> None:
    """Answered requests count; the others are reported by kind, and the rest were refused."""
    with ReferenceServer() as reference:
        reference.configure(ttft_us=50_000, itl_us=10_000)
        answered = threading.Event()

        def kill_half_way() -> None:
            until(lambda: reference.stats().requests >= 20, "the load never began")
            answered.set()
            os.kill(reference.pid, signal.SIGKILL)

        killing = threading.Thread(target=kill_half_way)
        killing.start()
        words = [*short(n=60, c=4, o=32), "--warmup", "0", "--repeat", "2"]
        ran = run(reference.url, *words, "--no-metrics", here=tmp_path)
        killing.join()
    summary = ran.result.summary
    assert ran.code == 1
    assert summary.completed >= 4
    assert set(summary.failures) <= {"refused", "reset", "cut"} and "refused" in summary.failures
    # A first token that a busy machine delays is followed by shorter gaps: the server catches up.
    assert answered.is_set() and summary.mean_itl_ms and 7 < summary.mean_itl_ms < 15
    assert "start the server" in ran.out
    # The second repeat had no prompts: the server's tokenizer is gone with it.
    assert ran.result.status == "partial" and "/tokenize" in ran.result.reason


@pytest.mark.parametrize(("limit", "code"), [("1", 1), ("25%", 0)])
def test_the_exit_code_is_by_max_failures(
    reference: ReferenceServer, tmp_path: Path, limit: str, code: int
) -> None:
    reference.configure(ttft_us=1000, itl_us=1000, fail_every=4)
    words = [*short(), "--warmup", "0", "--max-failures", limit]
    ran = run(reference.url, *words, *QUIET, here=tmp_path)
    assert ran.result.summary.failures == {"http_500": 2}
    assert ran.code == code
    assert bool(ran.err) == bool(code)


# ---- hostile answers ---------------------------------------------------------------------------


def endless(call: Call, head: bytes, piece: bytes) -> bool:
    call.send(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n")
    while True:
        call.send(piece)


CHUNKED = b"transfer-encoding: chunked\r\n"
BOMB = gzip.compress(gzip.compress(bytes(1 << 28), 9), 9)
ENDLESS = {
    "line": (b"", b"a" * 65536),
    "events": (CHUNKED, chunk(b": ping\n\n") * 1000),
    "event": (CHUNKED, chunk(b"data: " + b"a" * 60_000)),
    "extensions": (CHUNKED, (b"1;" + b"x" * 4000 + b"\r\na\r\n") * 10),
    "trailers": (CHUNKED + b"\r\n5\r\n: a\n\n\r\n0\r\nc: d", b"a: b\r\n" * 1000),
    "length": (b"content-length: 99999999999999999\r\n", b"a" * 65536),
    "headers": (b"a: ", b"b" * 65536),
    "interim": (b"\r\n", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000),
}


class Hostile(FaultyServer):
    """Its third answer, of the first of the measured requests, is hostile."""

    def __init__(self, answer: Callable[[Call], bool]) -> None:
        super().__init__()
        self.hostile, self.requests = answer, 0

    def _answer(self, call: Call) -> bool:
        self.requests += call.path == CHAT
        return self.hostile(call) if self.requests == 3 else super()._answer(call)


@pytest.mark.alone  # the memory of its process counts
@pytest.mark.parametrize("name", ENDLESS)
def test_an_answer_without_end_is_one_failure(tmp_path: Path, name: str) -> None:
    """The others are measured, and nothing of it is kept but its beginning."""
    before = peak_rss()
    with Hostile(lambda call: endless(call, *ENDLESS[name])) as server:
        words = [*short(n=3, c=1, o=4), "--warmup", "0", "--timeout", "60"]
        ran = run(server.url, *words, *QUIET, here=tmp_path)
    assert ran.code == 1
    # A head without end is none of HTTP; much of it may have come before it was looked at.
    kinds = {"too_large"} | ({"malformed_http"} if name in ("headers", "interim") else set())
    (kind,) = ran.result.summary.failures
    assert kind in kinds and ran.result.summary.completed == 2
    assert ran.result.audit.peak_rss_bytes - before < 300e6


@pytest.mark.parametrize("status", ["200 OK", "500 Oops"])
def test_an_answer_that_inflates_without_end_is_one_failure(tmp_path: Path, status: str) -> None:
    def bomb(call: Call) -> bool:
        size = str(len(BOMB))
        call.send_head({"content-encoding": "gzip, gzip", "content-length": size}, status)
        call.send(BOMB)
        return True

    with Hostile(bomb) as server:
        words = [*short(n=3, c=1, o=4), "--warmup", "0"]
        ran = run(server.url, *words, *QUIET, here=tmp_path)
    assert ran.code == 1
    assert ran.result.summary.failures == {"too_large": 1} and ran.result.summary.completed == 2
    assert any(note.startswith("failed: too_large: more than") for note in ran.result.notes)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        pytest.param("/v1/models", b'{"data":' + b"[" * 200_000, id="deep-models"),
        pytest.param("/v1/models", b'{"data": 5}', id="a-number"),
        pytest.param("/v1/models", b'{"data":[{"id":"m\\ud800"}]}', id="half-a-surrogate"),
        pytest.param("/tokenize", b'{"count":' + b"[" * 200_000, id="deep-counts"),
        pytest.param("/tokenize", b'{"count": [1e400]}', id="infinite-counts"),
        pytest.param("/server_info", b'{"tp_size":' + b"[" * 200_000, id="deep-settings"),
        pytest.param("/server_info", b'{"tp_size": 1, "version": "\\udfff"}', id="odd-version"),
    ],
)
def test_odd_server_answers_beside_the_load_lose_no_run(
    tmp_path: Path, path: str, body: bytes
) -> None:
    class Telling(FaultyServer):
        def _answer(self, call: Call) -> bool:
            if call.path != path:
                return super()._answer(call)
            call.send_head({"content-length": str(len(body)), "x-odd": "\xff"})
            call.send(body)
            return True

    with Telling() as server:
        ran = run(server.url, *short(n=3, c=1, o=4), *QUIET, here=tmp_path)
    assert ran.code == 0, ran.err
    assert ran.result.summary.completed == 3


# ---- nowhere to write --------------------------------------------------------------------------


def test_a_full_disk_loses_nothing(
    reference: ReferenceServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    reference.configure(ttft_us=1000, itl_us=1000)
    ran = run(reference.url, *short(), "--no-metrics", "--output", "/dev/full")
    assert ran.code == 1
    assert "/dev/full can't be written: No space left on device" in ran.err
    assert f"It is printed, and written to {tmp_path / 'full'} instead." in ran.err
    assert (tmp_path / "full").read_text() == ran.out
    assert '"completed": 8' in ran.out
    assert "8 of 8 completed" in ran.err  # the tables make room for it


def test_unwritable_requests_are_saved_elsewhere(
    reference: ReferenceServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    reference.configure(ttft_us=1000, itl_us=1000)
    (tmp_path / "run" / "run.requests.jsonl").mkdir(parents=True)
    ran = run(reference.url, *short(), *QUIET, "--save-requests", here=tmp_path / "run")
    assert ran.code == 1
    (spare,) = tmp_path.glob("spark-bench-*/run.requests.jsonl")
    assert spare.read_text().count("\n") == 8
    assert f"The requests were written to {spare} instead." in ran.err
    assert ran.result.requests_file is None
