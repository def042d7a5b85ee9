"""Loads for the recorder's tests, and servers that the faulty one can't be."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

from faulty_call import CHAT
from spark_bench.client.recorder import Recorder, Recording
from spark_bench.client.target import target
from spark_bench.protocol.content import Tape, read_response
from spark_bench.protocol.http1 import Framing
from spark_bench.record import Exchange, Job, Load, Prompt, SlotStep, Timing


def request(behavior: str = "", tokens: int = 8, padding: int = 0) -> bytes:
    """A chat as bytes; the behavior is the faulty server's."""
    question = {
        "messages": [{"role": "user", "content": "why" + " so" * (padding // 3)}],
        "max_tokens": tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    body = json.dumps(question).encode()
    path = f"/{behavior}{CHAT}" if behavior else CHAT
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def load(
    wires: Sequence[bytes],
    slots: int | None = None,
    timings: Sequence[Timing] = (),
    timeout: float = 20.0,
    duration: float | None = None,
) -> Load:
    """These requests, at once or at these times."""
    jobs = [
        Job(index, wire, timings[index] if timings else Timing(), Prompt((), None, 8))
        for index, wire in enumerate(wires)
    ]
    return Load(jobs, (SlotStep(0.0, slots),) if slots else (), timeout, duration)


@contextlib.contextmanager
def recorder(url: str, connections: int = 1) -> Iterator[Recorder]:
    """With so many connections open."""
    with closing(Recorder(target(url))) as recorder:
        recorder.open(connections)
        yield recorder


@dataclass
class Recorded:
    """A recording, read."""

    recording: Recording
    exchanges: list[Exchange]

    @property
    def ended(self) -> list[str]:
        return [str(exchange.ended) for exchange in self.exchanges]

    @property
    def details(self) -> str:
        return "; ".join(exchange.detail for exchange in self.exchanges)

    @property
    def bodies(self) -> list[bytes]:
        return [body(exchange) for exchange in self.exchanges]


def record(client: Recorder, load: Load) -> Recorded:
    """Send it and read what came."""
    recording = client.record(load)
    with closing(recording.store):
        exchanges = list(recording.exchanges())
        for exchange in exchanges:
            exchange.data = bytes(exchange.data)
        return Recorded(recording, exchanges)


def body(exchange: Exchange) -> bytes:
    """What a response says; it must be there to its end."""
    _, content = read_response(Tape.of(exchange))
    assert content.ended is not False
    return bytes(content.tape.data)


def status(exchange: Exchange) -> int:
    framing = Framing()
    framing.read_head(exchange.data)
    return framing.head.status if framing.head else 0


class ScriptedServer:
    """Each connection is served by `serve(socket, how manieth it is)` in a thread of its own.

    errors: what went wrong in there, but for a client that was gone
    closed: how many connections it has closed
    """

    def __init__(
        self, serve: Callable[[socket.socket, int], None], receive_buffer: int = 0
    ) -> None:
        self._serve = serve
        self._listener = socket.socket()
        if receive_buffer:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(64)
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.errors: list[Exception] = []
        self.closed = 0
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    @property
    def connections(self) -> int:
        return len(self._open)

    def __enter__(self) -> ScriptedServer:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        for opened in [self._listener, *self._open]:
            with contextlib.suppress(OSError):
                opened.shutdown(socket.SHUT_RDWR)
            opened.close()
        for thread in self._threads:
            thread.join(timeout=5)
        assert not self.errors

    def _start(self, target: Callable[[], None]) -> None:
        thread = threading.Thread(target=target, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                number = len(self._open)
                self._open.append(connection)
                self._start(lambda c=connection, n=number: self._guarded(c, n))

    def _guarded(self, connection: socket.socket, number: int) -> None:
        try:
            self._serve(connection, number)
        except OSError:
            pass
        except Exception as error:
            self.errors.append(error)
        connection.close()
        self.closed += 1


def read_request(
    connection: socket.socket, pause: Callable[[], None] | None = None, begun: bytes = b""
) -> bytes:
    """One whole request, by its content-length; b"" at the connection's end.

    pause: between two reads
    begun: what has been read of it before
    """
    data = begun
    while b"\r\n\r\n" not in data:
        if not (more := connection.recv(65536)):
            return b""
        data += more
    head, _, rest = data.partition(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    while len(rest) < length:
        if pause:
            pause()
        if not (more := connection.recv(65536)):
            return b""
        rest += more
    return rest


ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfine"
