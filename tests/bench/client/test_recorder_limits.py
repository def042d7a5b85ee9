"""What the recorder takes: time, CPU, memory, files; and how right its stamps are."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import numpy as np
import pytest
from faulty_server import FaultyServer
from numpy.typing import NDArray
from spark_bench.client import clock, in_flight, response_store
from spark_bench.client.connection import Connection
from spark_bench.client.judge import audit
from spark_bench.client.recorder import Recorder, Recording
from spark_bench.client.target import target
from spark_bench.metrics.figures import Summary
from spark_bench.record import Exchange, Timing
from spark_bench.reference_server.launcher import ReferenceServer
from spark_bench.reference_server.streams import Stream
from waiting import until
from wire_loads import ScriptedServer, body, load, read_request, record, recorder, request

pytestmark = pytest.mark.alone

TOKEN = re.compile(rb'"content":\s*"[^"]+"')
REFERENCE_ID = re.compile(rb"x-reference-id: (\d+)")
MS = 1e6


def judged(recording: Recording) -> Any:
    return audit(recording, tls=False, requests=[], summary=Summary(), bounds={}, parse_seconds=0.0)


def errors(
    exchanges: Sequence[Exchange], streams: Sequence[Stream], last_of_read: bool = False
) -> NDArray[np.int64]:
    """Stamp minus truth of each token, ns.

    last_of_read: only of the last token in each read, which the stamp is of
    """
    by_id = {stream.id: stream for stream in streams}
    errors_ms = []
    for exchange in exchanges:
        named = REFERENCE_ID.search(exchange.data)
        assert named
        places = [match.end() for match in TOKEN.finditer(exchange.data)]
        reads = np.searchsorted(np.asarray(exchange.ends), places)
        sent = by_id[int(named[1])].sent_ns
        assert len(places) == len(sent)
        error = np.asarray(exchange.stamps)[reads] - sent
        errors_ms.append(error[np.diff(reads, append=-1) != 0] if last_of_read else error)
    return np.concatenate(errors_ms)


def test_stamps_match_the_servers_log(reference: ReferenceServer) -> None:
    reference.configure(ttft_us=100_000, itl_us=10_000)
    with recorder(reference.url, 64) as client:
        time.sleep(0.1)
        got = record(client, load([request(tokens=128)] * 64, slots=64))
    assert got.ended == ["complete"] * 64
    # A busy machine preempts the reference server between its stamp and its send, or delays our
    # reads: then chunks merge and share a stamp.
    error = errors(got.exchanges, reference.dump(), last_of_read=True)
    assert len(error) > 64 * 60
    assert error.min() > -100_000, "nothing comes before it is sent (clocks agree to 0.1 ms)"
    assert np.median(error) < 1 * MS
    verdict = judged(got.recording)
    assert verdict.clock == "kernel"
    assert verdict.reads == sum(len(e.ends) for e in got.exchanges)


def test_without_kernel_stamps_the_result_says_so(
    reference: ReferenceServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock, "enable_stamps", lambda sock: False)
    reference.configure(ttft_us=20_000, itl_us=5000)
    with recorder(reference.url, 4) as client:
        got = record(client, load([request(tokens=20)] * 4, slots=4))
    verdict = judged(got.recording)
    assert verdict.clock == "process"
    assert all(exchange.unstamped for exchange in got.exchanges)
    error = errors(got.exchanges, reference.dump())
    assert error.min() > -100_000
    assert np.median(error) < 100 * MS


def test_one_token_answers_are_stamped_too(reference: ReferenceServer) -> None:
    reference.configure(ttft_us=0, itl_us=0)
    with recorder(reference.url, 8) as client:
        time.sleep(0.1)
        got = record(client, load([request(tokens=1)] * 200, slots=8))
    assert got.ended == ["complete"] * 200
    verdict = judged(got.recording)
    assert verdict.clock == "kernel"
    assert verdict.lag_us.max > 0


STOPPED = """
import json, sys
from wire_loads import load, record, recorder, request
with recorder(sys.argv[1], 8) as made:
    print("ready", flush=True)
    got = record(made, load([request(tokens=200)] * 8, slots=8))
lag = got.recording.tally.lags.most
told = [[e.data.decode(), list(e.stamps), list(e.ends)] for e in got.exchanges]
print(json.dumps([lag, told]))
"""


def child(code: str, *args: str) -> subprocess.Popen[str]:
    """Python with this project's paths, a pipe from its output."""
    paths = {"PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(
        [sys.executable, "-c", code, *args],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **paths},
    )


def test_a_client_that_paused_has_right_stamps(reference: ReferenceServer) -> None:
    """What came while it was stopped is stamped as it came; only what merged shares a stamp."""
    reference.configure(ttft_us=100_000, itl_us=10_000)
    with child(STOPPED, reference.url) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        until(lambda: reference.stats().running == 8)
        process.send_signal(signal.SIGSTOP)
        time.sleep(1)
        process.send_signal(signal.SIGCONT)
        lag, document = json.loads(process.stdout.read())
    exchanges = [
        Exchange(index, data=data.encode(), stamps=stamps, ends=ends)
        for index, (data, stamps, ends) in enumerate(document)
    ]
    assert lag < 800 * MS, "what it reads late was stamped when the last of it came"
    streams = reference.dump()
    assert np.percentile(errors(exchanges, streams, last_of_read=True), 95) < 5 * MS
    late = errors(exchanges, streams)
    merged = late > 500 * MS
    assert 8 <= merged.sum() <= 8 * 150, "of each stream those that came in the first half second"


# ---- time and CPU -------------------------------------------------------------------------------


def test_an_open_loop_is_punctual_without_burning_a_core(reference: ReferenceServer) -> None:
    reference.configure(ttft_us=1000, itl_us=0)
    timings = [Timing(0.005 * (index + 1)) for index in range(200)]
    with recorder(reference.url, 16) as client:
        got = record(client, load([request(tokens=1)] * 200, timings=timings))
    lates = np.array([(e.sent_ns - e.scheduled_ns) / MS for e in got.exchanges])
    assert lates.min() >= 0, "never early"
    assert np.median(lates) < 1.0
    wall = (got.recording.ended_ns - got.recording.started_ns) / 1e9
    assert got.recording.cpu_seconds < 0.15 * wall


def test_a_quiet_stream_costs_little(reference: ReferenceServer) -> None:
    reference.configure(ttft_us=100_000, itl_us=50_000)
    with recorder(reference.url) as client:
        got = record(client, load([request(tokens=20)], slots=1))
    wall = (got.recording.ended_ns - got.recording.started_ns) / 1e9
    assert got.recording.cpu_seconds < 0.05 * wall


# ---- memory -------------------------------------------------------------------------------------

PIECE = b"x" * 50_000
PIECES = 240


@pytest.mark.parametrize("framing", ["chunks", "one chunk", "length", "close"])
def test_a_large_answer_is_stored_as_it_arrives(
    framing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = len(PIECE) * PIECES

    def serve(connection: socket.socket, number: int) -> None:
        read_request(connection)
        head = {
            "length": b"content-length: %d\r\n\r\n" % size,
            "close": b"connection: close\r\n\r\n",
            "chunks": b"transfer-encoding: chunked\r\n\r\n",
            "one chunk": b"transfer-encoding: chunked\r\n\r\n%x\r\n" % size,
        }
        connection.sendall(b"HTTP/1.1 200 OK\r\n" + head[framing])
        for turn in range(PIECES):
            chunk = b"%x\r\n%b\r\n" % (len(PIECE), PIECE)
            connection.sendall(chunk if framing == "chunks" else PIECE)
            if turn % 20 == 0:
                time.sleep(0.05)
        connection.sendall(
            {"chunks": b"0\r\n\r\n", "one chunk": b"\r\n0\r\n\r\n"}.get(framing, b"")
        )

    shed: list[int] = []
    give = Connection.shed

    def counted(self: Connection) -> Any:
        piece = give(self)
        shed.append(len(piece.data) if piece else 0)
        return piece

    monkeypatch.setattr(Connection, "shed", counted)
    monkeypatch.setattr(in_flight, "BUDGET", 300_000)
    monkeypatch.setattr(response_store, "BUDGET", 500_000)
    monkeypatch.setattr("spark_bench.client.recorder.CHECK_NS", 20_000_000)
    with ScriptedServer(serve) as server, recorder(server.url) as client:
        recording = client.record(load([request()], slots=1))
        with closing(recording.store):
            assert recording.store.spilled > size / 2
            assert sum(shed) > size / 2
            (exchange,) = recording.exchanges()
            assert body(exchange) == PIECE * PIECES
    assert exchange.ended == "complete"
    assert exchange.ends[-1] == len(exchange.data)
    assert len(exchange.ends) == len(exchange.stamps) == recording.store.reads


def test_a_reset_after_everything_was_shed_is_not_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    numbers = []

    def serve(connection: socket.socket, number: int) -> None:
        while read_request(connection):
            numbers.append(number)
            if len(numbers) == 1:
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                continue
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 9999999\r\n\r\n" + PIECE)
            time.sleep(0.5)
            return

    monkeypatch.setattr(in_flight, "BUDGET", 0)
    monkeypatch.setattr(in_flight, "SHED", 0)
    with ScriptedServer(serve) as server, recorder(server.url) as client:
        got = record(client, load([request()] * 2, slots=1))
    assert got.ended == ["complete", "cut"]
    assert len(numbers) == 2
    assert got.exchanges[1].data.endswith(PIECE)


# ---- files --------------------------------------------------------------------------------------

FEW_FILES = """
import resource, sys
from wire_loads import load, record, request
from spark_bench.client.recorder import Recorder
from spark_bench.client.target import target
from spark_bench.metrics.figures import Summary
made = Recorder(target(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
print(made.open(200))
got = record(made, load([request("plain")] * 200))
print(sorted(set(got.ended)), "Too many open files" in got.details, got.ended.count("complete"))
"""


def test_few_files_are_a_failure_of_some_requests(faulty: FaultyServer) -> None:
    with child(FEW_FILES, faulty.url) as process:
        assert process.stdout
        opened, output = process.stdout.read().splitlines()
    assert int(opened) == 100 - 64
    assert output.startswith("['complete', 'unreachable'] True ")
    assert int(output.split()[-1]) > 36


def test_the_limit_of_files_is_raised() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with FaultyServer() as server:
        resource.setrlimit(resource.RLIMIT_NOFILE, (150, hard))
        try:
            client = Recorder(target(server.url))
            assert client.open(180) == 180
            client.close()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
