"""The recorder against real sockets: every way in which an answer may come, or not."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise

import pytest
from faulty_network import closed_port, deaf_port
from faulty_server import FaultyServer
from spark_bench.client import pool
from spark_bench.client.in_flight import InFlight
from spark_bench.client.poller import READABLE, Epoll, Portable
from spark_bench.client.recorder import NEVER_NS, Recorder
from spark_bench.client.response_store import ResponseStore
from spark_bench.client.schedule import Schedule
from spark_bench.client.tally import Progress, Tally
from spark_bench.client.target import target
from spark_bench.errors import Unreachable
from spark_bench.record import Ended, Timing
from spark_bench.reference_server.launcher import ReferenceServer
from waiting import until
from wire_loads import (
    ANSWER,
    ScriptedServer,
    load,
    read_request,
    record,
    recorder,
    request,
    status,
)

pytestmark = pytest.mark.usefixtures("poller")


@pytest.fixture(params=[Epoll, Portable])
def poller(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Everything holds with epoll's edges and with what other platforms have."""
    monkeypatch.setattr(pool, "poller", request.param)
    yield


GOOD = [
    "plain",
    "byte_by_byte",
    "http_1_0",
    "content_length",
    "one_packet",
    "odd_chunks",
    "closes_each",
    "continues_first",
    "huge_headers",
    "gzipped",
    "two_events_a_send",
]


@pytest.mark.parametrize("behavior", GOOD)
def test_complete_answers_are_recorded_whole(behavior: str, faulty: FaultyServer) -> None:
    with recorder(faulty.url, 3) as client:
        plain = record(client, load([request("plain")]))
        got = record(client, load([request(behavior)] * 6, slots=3))
    assert got.ended == ["complete"] * 6
    assert got.bodies == plain.bodies * 6
    for exchange in got.exchanges:
        stamps, ends = list(exchange.stamps), list(exchange.ends)
        assert len(stamps) == len(ends)
        assert ends[-1] == len(exchange.data)
        assert all(a < b for a, b in pairwise(ends))
        assert all(a <= b for a, b in pairwise(stamps))
        assert exchange.scheduled_ns <= exchange.sent_ns < stamps[0]
        assert exchange.ended_ns == stamps[-1]
    assert got.recording.tally.done == got.recording.tally.sent == 6
    assert got.recording.store.reads == sum(len(e.ends) for e in got.exchanges)


def test_crlf_events_that_look_like_the_end(faulty: FaultyServer) -> None:
    with recorder(faulty.url) as client:
        got = record(client, load([request("crlf")] * 3, slots=1))
    assert got.ended == ["complete"] * 3
    assert all(body.endswith(b"data: [DONE]\r\n\r\n") for body in got.bodies)
    assert [exchange.reused for exchange in got.exchanges] == [False, True, True]


def test_connections_are_opened_in_advance_and_reused(faulty: FaultyServer) -> None:
    before = faulty.connections
    with recorder(faulty.url, 3) as client:
        got = record(client, load([request("plain")] * 9, slots=3))
    assert faulty.connections == before + 3
    assert sum(exchange.reused for exchange in got.exchanges) == 6


def test_connection_close_is_obeyed(faulty: FaultyServer) -> None:
    before = faulty.connections
    with recorder(faulty.url) as client:
        got = record(client, load([request("closes_each")] * 4, slots=1))
    assert faulty.connections == before + 4
    assert not any(exchange.reused for exchange in got.exchanges)


# ---- a keep-alive that has ended --------------------------------------------------------------


def test_an_idle_connection_that_closed_is_not_used(faulty: FaultyServer) -> None:
    timings = [Timing(), Timing(after=0, pause=0.3)]
    with recorder(faulty.url) as client:
        got = record(client, load([request("closes_idle")] * 2, timings=timings))
    assert got.ended == ["complete"] * 2
    assert not got.exchanges[1].reused
    assert len(faulty.calls) == 2, "it did not have to be asked twice"


def closes_on_second(connection: socket.socket, number: int) -> None:
    """Keep-alive, says the first answer; but the second request is not answered."""
    read_request(connection)
    connection.sendall(ANSWER)
    read_request(connection)


def test_a_keep_alive_that_breaks_is_tried_again_over_a_new_connection() -> None:
    with ScriptedServer(closes_on_second) as server, recorder(server.url, 2) as client:
        got = record(client, load([request()] * 4, slots=2))
        assert got.ended == ["complete"] * 4
        assert got.bodies == [b"fine"] * 4
        assert not any(exchange.reused for exchange in got.exchanges)
        assert server.connections == 4
        assert got.recording.tally.sent == 4
        waits = [exchange.sent_ns - exchange.scheduled_ns for exchange in got.exchanges]
        assert got.recording.tally.idle_ns == sum(waits), "each counts once"


def test_a_retry_uses_a_new_connection() -> None:
    """After one broken keep-alive, the other idle connections are not trusted either."""
    with ScriptedServer(closes_on_second) as server, recorder(server.url, 3) as client:
        assert record(client, load([request()] * 3, slots=3)).ended == ["complete"] * 3
        assert record(client, load([request()])).ended == ["complete"]
        assert server.connections == 4


def test_a_broken_keep_alive_is_retried_once(faulty: FaultyServer) -> None:
    with recorder(faulty.url) as client:
        got = record(client, load([request("plain"), request("closes_unanswered")], slots=1))
    assert got.ended == ["complete", "cut"]
    assert len(faulty.calls) == 3


def test_a_new_connection_is_not_retried(faulty: FaultyServer) -> None:
    with recorder(faulty.url) as client:
        got = record(client, load([request("closes_unanswered")]))
    assert got.ended == ["cut"]
    assert "closed the connection before the end of the response" in got.details
    assert len(faulty.calls) == 1


def test_a_started_answer_is_not_retried(faulty: FaultyServer) -> None:
    with recorder(faulty.url) as client:
        got = record(client, load([request("plain"), request("cut_by_close")], slots=1))
    assert got.ended == ["complete", "cut"]
    assert len(faulty.calls) == 2


# ---- no server ----------------------------------------------------------------------------------


def test_a_connection_with_unrequested_data_is_not_used() -> None:
    served: list[int] = []

    def serve(connection: socket.socket, number: int) -> None:
        if number < 2:
            connection.sendall(b"HTTP/1.1 408 Too slow\r\ncontent-length: 0\r\n\r\n")
        served.append(number)
        while read_request(connection):
            connection.sendall(ANSWER)

    with ScriptedServer(serve) as server, closing(Recorder(target(server.url))) as client:
        # Whether a connection that talks is seen while it is opened, or after, is a matter of luck.
        while len(served) < 2:
            with contextlib.suppress(Unreachable):
                client.open(2)
        client.open(1)
        got = record(client, load([request()] * 3, slots=1))
    assert got.bodies == [b"fine"] * 3


def test_a_server_that_hangs_up_is_unreachable() -> None:
    with (
        ScriptedServer(lambda connection, number: None) as server,
        closing(Recorder(target(server.url))) as client,
    ):
        # Whether that is seen while opening or after is a matter of luck.
        try:
            client.open(1)
        except Unreachable as error:
            assert "closes the connection at once" in error.message
        else:
            (ended,) = record(client, load([request()])).ended
            assert ended in ("cut", "reset")


def test_a_closed_port_is_refused() -> None:
    with closed_port() as url, pytest.raises(Unreachable, match=r"Connection refused.*--url"):
        Recorder(target(url)).open(3)


def test_a_connection_that_closed_unused_is_not_used() -> None:
    opened = threading.Event()

    def serve(connection: socket.socket, number: int) -> None:
        if number:
            read_request(connection)
            connection.sendall(ANSWER)
        else:
            opened.wait(10)

    with ScriptedServer(serve) as server, recorder(server.url) as client:
        opened.set()
        until(lambda: server.closed)
        assert record(client, load([request()])).ended == ["complete"]


def test_a_stopped_server_refuses() -> None:
    with FaultyServer() as server:
        client = Recorder(target(server.url))
        client.open(1)
        client.exchange(request())
    got = record(client, load([request()] * 5, slots=2))
    assert got.ended == ["refused"] * 5
    assert "Connection refused" in got.details
    assert [exchange.sent_ns for exchange in got.exchanges] == [0] * 5
    assert got.recording.tally.failed == 5
    assert client.open(4) == 0, "no error: its failures are a result"
    client.close()


def test_a_deaf_port_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "CONNECT_SECONDS", 0.3)
    with deaf_port() as url, pytest.raises(Unreachable, match=r"no connection within 0\.3 s"):
        Recorder(target(url)).open(1)


def test_connecting_times_out_in_a_load() -> None:
    with deaf_port() as url:
        client = Recorder(target(url))
        got = record(client, load([request()] * 2, timeout=0.2))
        client.close()
    assert got.ended == ["unreachable"] * 2
    assert "no connection: not done within 0.2 s" in got.details


def test_the_second_address_is_tried() -> None:
    with closed_port() as closed, FaultyServer() as server:
        there = target(server.url)
        both = type(there)(
            there.url, there.host, there.port, (*target(closed).addresses, *there.addresses)
        )
        client = Recorder(both)
        assert client.open(2) == 2
        assert record(client, load([request()] * 3, slots=2)).ended == ["complete"] * 3
        client.close()


# ---- answers that break off ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("behavior", "ended", "detail"),
    [
        pytest.param("cut_by_reset", "reset", "reset by peer"),
        pytest.param("cut_by_close", "cut", "before the end of the response"),
        pytest.param("malformed_chunk", "cut", "a chunk's size is b'zz"),
        pytest.param("not_http", "cut", "begins with b'SSH-2.0"),
    ],
)
def test_broken_answers(behavior: str, ended: str, detail: str, faulty: FaultyServer) -> None:
    with recorder(faulty.url, 2) as client:
        got = record(client, load([request(behavior)] * 3 + [request("plain")], slots=2))
    assert got.ended == [ended] * 3 + ["complete"]
    assert detail in got.exchanges[0].detail
    assert all(exchange.data for exchange in got.exchanges), "what came is kept"
    assert (got.recording.tally.done, got.recording.tally.failed) == (1, 3)


@pytest.mark.parametrize("behavior", ["never_answers", "goes_silent", "never_ends"])
def test_time_outs(behavior: str, faulty: FaultyServer) -> None:
    with recorder(faulty.url, 2) as client:
        wires = [request(behavior), request("plain"), request(behavior)]
        got = record(client, load(wires, slots=2, timeout=0.4))
    assert got.ended == ["timeout", "complete", "timeout"]
    assert "not done within 0.4 s" in got.details
    for exchange in (got.exchanges[0], got.exchanges[2]):
        assert 0.4 <= (exchange.ended_ns - exchange.sent_ns) / 1e9 < 10
        assert bool(exchange.data) == (behavior != "never_answers")


def test_wrong_framing_in_an_open_stream_does_not_wait_for_the_time_out() -> None:
    def serve(connection: socket.socket, number: int) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        time.sleep(0.05)
        connection.sendall(b"3\r\nabc\r\n")
        time.sleep(0.05)
        connection.sendall(b"zz\r\nabc\r\n")
        read_request(connection)

    with ScriptedServer(serve) as server, recorder(server.url) as client:
        got = record(client, load([request()]))
    assert got.ended == ["cut"]
    assert (got.exchanges[0].ended_ns - got.exchanges[0].sent_ns) / 1e9 < 20, "the time-out"


def test_bytes_after_the_end_drop_the_connection() -> None:
    def serve(connection: socket.socket, number: int) -> None:
        while read_request(connection):
            connection.sendall(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
            time.sleep(0.05)
            connection.sendall(b"4\r\nfine\r\n0\r\n\r\nand more")

    with ScriptedServer(serve) as server, recorder(server.url) as client:
        got = record(client, load([request()] * 3, slots=1))
        assert got.ended == ["complete"] * 3
        assert got.bodies == [b"fine"] * 3
        assert server.connections == 3


# ---- large requests -----------------------------------------------------------------------------


def test_a_large_request_to_a_slow_reader() -> None:
    sizes = []

    def serve(connection: socket.socket, number: int) -> None:
        while got := read_request(connection, lambda: time.sleep(0.001)):
            sizes.append(len(got))
            connection.sendall(ANSWER)

    wire = request(padding=1_000_000)
    with (
        ScriptedServer(serve, receive_buffer=8192) as server,
        recorder(server.url, 2) as client,
    ):
        got = record(client, load([wire] * 4, slots=2))
    assert got.ended == ["complete"] * 4
    assert sizes == [len(wire.partition(b"\r\n\r\n")[2])] * 4
    assert sum(exchange.reused for exchange in got.exchanges) == 2


TOO_LARGE = b"HTTP/1.1 413 Too Large\r\ncontent-length: 3\r\n\r\nno!"


@pytest.mark.parametrize("end", ["stays open", "reset", "closed"])
def test_an_answer_before_the_request_is_out(end: str) -> None:
    def serve(connection: socket.socket, number: int) -> None:
        connection.recv(1000)
        if number:
            connection.sendall(ANSWER)
            return
        connection.sendall(TOO_LARGE)
        # It reads no more: else all of the request might be out before the answer is seen.
        time.sleep(1.0 if end == "stays open" else 0.1)
        if end == "reset":
            linger = struct.pack("ii", 1, 0)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    wires = [request(padding=8_000_000), request()]
    with (
        ScriptedServer(serve, receive_buffer=8192) as server,
        recorder(server.url) as client,
    ):
        got = record(client, load(wires, slots=1))
    assert got.ended == ["complete"] * 2
    assert [status(exchange) for exchange in got.exchanges] == [413, 200]
    assert not got.exchanges[1].reused, "half a request is still in the first connection"


def test_a_server_that_stops_reading(faulty: FaultyServer) -> None:
    def serve(connection: socket.socket, number: int) -> None:
        connection.recv(1000)

    with ScriptedServer(serve, receive_buffer=8192) as server, recorder(server.url) as client:
        got = record(client, load([request(padding=8_000_000)]))
    assert got.ended == ["reset"]


def test_a_stream_that_begins_while_the_request_is_still_sent() -> None:
    def serve(connection: socket.socket, number: int) -> None:
        begin = connection.recv(1000)
        connection.sendall(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        for _ in range(5):
            connection.sendall(b"4\r\nwait\r\n")
            time.sleep(0.02)
        assert read_request(connection, begun=begin)
        connection.sendall(b"0\r\n\r\n")

    with ScriptedServer(serve, receive_buffer=8192) as server, recorder(server.url) as client:
        got = record(client, load([request(padding=8_000_000)]))
    assert got.ended == ["complete"]
    assert got.bodies == [b"wait" * 5]


# ---- stops --------------------------------------------------------------------------------------


def test_a_stop_preserves_what_has_arrived(faulty: FaultyServer) -> None:
    before = len(faulty.calls)

    def stop() -> None:
        until(lambda: len(faulty.calls) == before + 3)
        time.sleep(1)  # for the first bytes of the silent two to come
        client.stop()

    with recorder(faulty.url, 2) as client:
        stopper = threading.Thread(target=stop)
        stopper.start()
        wires = [request("plain"), *[request("goes_silent")] * 4]
        got = record(client, load(wires, slots=2))
        stopper.join()
        assert got.recording.interrupted
        assert got.ended == ["complete", "interrupted", "interrupted"], "the others are not there"
        assert all(exchange.data for exchange in got.exchanges)
        again = record(client, load([request("plain")]))
        assert (again.recording.interrupted, again.ended) == (True, []), "a stop holds"
        assert client.exchange(request("plain")).ended is Ended.COMPLETE, "but one may still ask"
        assert record(client, load([request("plain")])).ended == []


def test_a_stop_while_connecting() -> None:
    with deaf_port() as url:
        client = Recorder(target(url))
        threading.Timer(0.2, client.stop).start()
        got = record(client, load([request()] * 3))
        assert (got.recording.interrupted, got.ended) == (True, [])
        threading.Timer(0.2, client.stop).start()
        assert client.exchange(request()).ended is Ended.UNSENT
        client.close()


def test_a_stop_ends_an_exchange(faulty: FaultyServer) -> None:
    with recorder(faulty.url) as client:
        # Long after its first bytes, which are sent at once, and long before any time-out.
        threading.Timer(2, client.stop).start()
        exchange = client.exchange(request("goes_silent"))
    assert exchange.ended is Ended.INTERRUPTED
    assert exchange.data


def test_after_the_duration_nothing_is_sent(faulty: FaultyServer) -> None:
    timings = [Timing(0.05 * index) for index in range(9)] + [Timing(60.0)] * 9
    with recorder(faulty.url, 2) as client:
        got = record(client, load([request("plain")] * 18, timings=timings, duration=0.42))
    assert not got.recording.interrupted
    # A busy machine sends late, and then fewer.
    assert 1 <= len(got.ended) <= 9 and set(got.ended) == {"complete"}
    begun = got.recording.started_ns
    assert all(exchange.sent_ns - begun <= 0.42e9 for exchange in got.exchanges)
    assert (got.recording.ended_ns - begun) / 1e9 < 30, "it waited for those that were not due"


# ---- loads --------------------------------------------------------------------------------------


def test_turns_follow_each_other(faulty: FaultyServer) -> None:
    timings = [Timing(), Timing(after=0, pause=0.1), Timing(after=1)]
    with recorder(faulty.url) as client:
        got = record(client, load([request("plain")] * 3, timings=timings))
    first, second, third = got.exchanges
    assert second.scheduled_ns == first.ended_ns + 100_000_000
    assert second.sent_ns >= second.scheduled_ns
    assert third.scheduled_ns == second.ended_ns


def test_a_slot_sends_its_next_request_before_other_answers_are_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If answers are short, unless they come faster than they are read. What has ended is stored
    once there is time, or there is much of it."""
    monkeypatch.setattr("spark_bench.client.in_flight.HURRIED_NS", NEVER_NS)
    jobs = load([request()] * 9, slots=2)
    with socket.create_server(("127.0.0.1", 0)) as listener, contextlib.ExitStack() as stack:
        connections = pool.Pool(target(f"http://127.0.0.1:{listener.getsockname()[1]}"))
        stack.callback(connections.close)
        connections.open(2)
        clients = [stack.enter_context(listener.accept()[0]) for _ in range(2)]
        ours = list(connections.connections.values())
        schedule, store = Schedule(jobs, 0), ResponseStore(0)
        in_flight = InFlight(connections, jobs, schedule, store, Tally(9))
        in_flight.send_due(1)

        def answer() -> None:
            for client in clients:
                assert read_request(client)
                client.sendall(ANSWER)

        answer()
        for connection, client in zip(ours, clients, strict=True):
            in_flight.handle_event(connection, READABLE)
            assert client.recv(1, socket.MSG_PEEK), "it waited for the other answer"
        assert (len(in_flight.ended), store.reads, schedule.in_flight) == (2, 0, 2)
        in_flight.settle()
        assert (in_flight.ended, store.reads) == ([], 2)
        monkeypatch.setattr("spark_bench.client.in_flight.SHED", len(ANSWER))
        answer()
        in_flight.handle_event(ours[0], READABLE)
        assert (in_flight.ended, store.reads, schedule.in_flight) == ([], 3, 2)
        in_flight.unbroken = 100
        in_flight.handle_event(ours[1], READABLE)
        assert schedule.in_flight == 1
        in_flight.send_due(time.perf_counter_ns())
        assert schedule.in_flight == 2


def test_a_late_request_counts_from_its_scheduled_time(
    reference: ReferenceServer,
) -> None:
    reference.configure(ttft_us=100_000, itl_us=1000)
    timings = [Timing(0.01 * (index + 1)) for index in range(4)]
    with recorder(reference.url) as client:
        got = record(client, load([request(tokens=1)] * 4, slots=1, timings=timings))
    for index, exchange in enumerate(got.exchanges):
        meant = got.recording.started_ns + 10_000_000 * (index + 1)
        assert exchange.scheduled_ns == meant
        assert exchange.sent_ns - meant >= 90_000_000 * index


def test_progress_is_reported(reference: ReferenceServer) -> None:
    reference.configure(ttft_us=50_000, itl_us=20_000)
    reports: list[Progress] = []
    with recorder(reference.url, 4) as client:
        recording = client.record(load([request(tokens=30)] * 8, slots=4), reports.append)
        recording.store.close()
    assert len(reports) >= 3
    *during, end = reports
    assert all(0 <= p.in_flight <= 4 and p.total == 8 for p in reports)
    assert any(p.in_flight == 4 for p in during)
    assert (end.done, end.sent, end.failed, end.in_flight) == (8, 8, 0, 0)
    firsts = [ms for p in reports for ms in p.first_ms]
    assert len(firsts) == 8
    assert min(firsts) >= 49
    gaps = sorted(ms for p in during for ms in p.gap_ms)
    assert 0 < gaps[len(gaps) // 2] < 200


def test_a_burst_larger_than_the_open_connections(faulty: FaultyServer) -> None:
    with recorder(faulty.url) as client:
        got = record(client, load([request("plain")] * 150))
    assert got.ended == ["complete"] * 150


def test_a_refused_load_of_many_can_be_stopped() -> None:
    with FaultyServer() as server:
        client = Recorder(target(server.url))
        client.open(1)
        client.exchange(request())
    recording = client.record(load([request()] * 100_000, slots=4), lambda _: client.stop())
    client.close()
    assert recording.interrupted
    assert 0 < recording.tally.failed < 100_000


def test_exchanges_one_after_the_other(faulty: FaultyServer) -> None:
    with recorder(faulty.url) as client:
        assert client.exchange(request("plain")).ended is Ended.COMPLETE
        assert client.exchange(request("never_answers"), timeout=0.2).ended is Ended.TIMEOUT
        assert client.exchange(request("cut_by_reset")).ended is Ended.RESET
        assert client.exchange(request("plain")).ended is Ended.COMPLETE
