"""One connection: opening it, sending, receiving, in steps that never block."""

import errno
import os
import socket
import ssl
import time
from array import array
from bisect import bisect_right
from collections.abc import Callable
from enum import Enum, auto
from typing import NoReturn

from spark_bench.client import clock
from spark_bench.client.poller import DATA, WRITABLE
from spark_bench.client.response_store import Piece
from spark_bench.client.target import SocketAddress, Target
from spark_bench.protocol.http1 import HEAD_END, LONGEST_HEAD, Framing

SIZE = clock.TIMESPEC.size

# In place of an errno: the server's certificate can't be trusted.
UNTRUSTED = -1

# One read takes at most this much. Above 128 KiB malloc maps each buffer anew.
READ = 32 * 1024
_buffer = bytearray(READ)
_view = memoryview(_buffer)
BUFFERS = [_view]


class State(Enum):
    """What a connection waits for."""

    CONNECTING = auto()
    TUNNEL = auto()  # for the proxy's answer to CONNECT
    HANDSHAKE = auto()
    OPEN = auto()
    CLOSED = auto()


class Broken(Exception):
    """The connection can't be used any more; `args[0]` says why."""


class Connection:
    """A non-blocking socket with what one response leaves on it. Making one raises Broken.

    Fields that the loop touches for every read, without a call: `recv`, `data`, `stamps`, `ends`,
    `slow`.

    slow: a read has to be looked at (the head is incomplete, TLS, a body by length …)
    stamps: one kernel timespec a read; see clock.monotonic
    ends: the length of `data` after each read
    unstamped: reads of this response that the kernel gave no time for
    kernel: it gives times at all
    index, scheduled_ns, possible_ns, sent_ns, deadline_ns, retry: of the request that is under way;
        index is -1 where none is, sent_ns 0 where it has yet to be sent
    room: bytes that `data` may have; a read that goes beyond is the last one
    carried: responses that came over it before
    """

    __slots__ = (
        "_incoming",
        "_outgoing",
        "_pending",
        "_target",
        "_tls",
        "carried",
        "data",
        "deadline_ns",
        "ends",
        "eof",
        "failure",
        "fd",
        "framing",
        "index",
        "kernel",
        "possible_ns",
        "recv",
        "retry",
        "room",
        "scheduled_ns",
        "sent_ns",
        "slow",
        "sock",
        "stamps",
        "state",
        "unstamped",
    )

    def __init__(self, target: Target, address: SocketAddress) -> None:
        self._target = target
        self._pending = b""
        self._tls: ssl.SSLObject | None = None
        self.state = State.CONNECTING
        self.carried = 0
        self.index = -1
        self.retry = False
        self.scheduled_ns = self.possible_ns = self.sent_ns = self.deadline_ns = 0
        self.room = LONGEST_HEAD  # until a request says how much its response may have
        self.clear()
        try:
            self.sock = socket.socket(address.family, socket.SOCK_STREAM)
        except OSError as e:
            self._fail(e.errno)
        self.sock.setblocking(False)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.kernel = clock.enable_stamps(self.sock)
        self.fd = self.sock.fileno()
        self.recv = self.sock.recvmsg_into
        code = self.sock.connect_ex(address.sockaddr)
        if code not in (0, errno.EINPROGRESS):
            self.sock.close()
            self._fail(code)

    def clear(self) -> None:
        """Ready for another response."""
        self.data = bytearray()
        self.stamps = bytearray()
        self.ends = array("q")
        self.framing = Framing()
        self.slow = True
        self.eof = False
        self.failure: Broken | None = None
        self.unstamped = 0

    @property
    def plain(self) -> bool:
        """Reads are the response's own bytes, and the kernel stamps them."""
        return self.kernel and self._tls is None

    @property
    def unsent(self) -> bool:
        """The kernel has not taken everything yet."""
        return bool(self._pending)

    @property
    def untouched(self) -> bool:
        """Nothing of a response has come."""
        return self.framing.body_end is None and not self.data

    def last_gap_ns(self) -> int | None:
        """Between the last two reads; None with fewer."""
        if len(self.stamps) < 2 * SIZE:
            return None
        with memoryview(self.stamps) as stamps:
            return clock.last(stamps, 0) - clock.last(stamps[:-SIZE], 0)

    def note(self, error: OSError) -> None:
        """A read by the loop has failed."""
        if not isinstance(error, BlockingIOError):
            self.failure = Broken(os.strerror(error.errno or 0), error.errno)

    def no_stamp(self) -> bytes:
        """In place of a time that the kernel did not give: now."""
        self.unstamped += 1
        return clock.timespec(time.time_ns())

    def shed(self) -> Piece | None:
        """Give away the reads whose bytes the framing has understood."""
        reads = bisect_right(self.ends, self.framing.at) if self.framing.body_end else 0
        if not reads:
            return None
        cut = self.ends[reads - 1]
        piece = Piece(self.stamps[: SIZE * reads], self.ends[:reads], self.data[:cut])
        self.stamps = self.stamps[SIZE * reads :]
        self.ends = array("q", (end - cut for end in self.ends[reads:]))
        self.data = self.data[cut:]
        self.room -= cut
        self.framing.forget(cut)
        return piece

    def close(self) -> None:
        """Give the socket back; the peer sees a normal end."""
        self.state = State.CLOSED
        self.sock.close()

    def ready(self, mask: int) -> None:
        """Something happened on the socket: go on as far as possible.

        Responses' bytes are in `data` afterwards; `eof` is set once the peer has closed, `failure`
        once the connection can't be used any more. Raises Broken if it never could.
        """
        if self.state is State.CONNECTING and not self._connected():
            return
        if self._pending:
            self._guarded(self._push)
        if mask != WRITABLE or self.failure:
            self._guarded(self._receive, mask)

    def _guarded(self, step: Callable[..., None], *args: int) -> None:
        """A peer that takes no more, or is gone, may have answered before."""
        try:
            step(*args)
        except Broken as e:
            if self.state is not State.OPEN:
                raise
            self.failure, self._pending = self.failure or e, b""

    def _receive(self, mask: int) -> None:
        # A short read has emptied the socket; only an end may still hide behind it.
        count = READ
        while count == READ or (count and (mask != DATA or self.failure)):
            count = self._read()
            if len(self.data) > self.room:  # a peer may send faster than anybody reads
                return

    def send(self, wire: bytes) -> None:
        """Hand bytes to the kernel, now or as it takes them. Raises Broken."""
        self.slow = True
        if self._tls is None:
            self._pending += wire
        else:
            self._encrypt(self._tls, wire)
        self._push()

    def _encrypt(self, tls: ssl.SSLObject, wire: bytes) -> None:
        try:
            tls.write(wire)
        except ssl.SSLError as e:
            raise Broken(f"TLS: {e.reason}") from None
        self._pending += self._outgoing.read()

    def _push(self) -> None:
        try:
            done = self.sock.send(self._pending)
        except BlockingIOError:
            return
        except OSError as e:
            self._fail(e.errno)
        self._pending = self._pending[done:]

    def _connected(self) -> bool:
        if code := self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._fail(code)
        try:
            self.sock.getpeername()
        except OSError:
            return False
        if self._target.tunnel:
            self.state, self._pending = State.TUNNEL, self._target.tunnel
        else:
            self._open()
        return True

    def _open(self) -> None:
        if self._target.tls is None:
            self.state = State.OPEN
            return
        self.state = State.HANDSHAKE
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = self._target.tls.wrap_bio(
            self._incoming, self._outgoing, server_hostname=self._target.host
        )
        self._shake()

    def _shake(self) -> None:
        assert self._tls is not None
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLCertVerificationError as e:
            raise Broken(f"TLS: {e.verify_message}", UNTRUSTED) from None
        except ssl.SSLError as e:
            raise Broken(f"TLS: {e.reason}") from None
        else:
            self.state = State.OPEN
        self._pending += self._outgoing.read()
        if self._pending:
            self._push()

    def _read(self) -> int:
        """One read, stored with its stamp; how many bytes, 0 once there is nothing more to read."""
        try:
            count, ancillary, _, _ = self.recv(BUFFERS, clock.ANCILLARY)
        except BlockingIOError:
            return 0
        except OSError as e:
            self._fail(e.errno)
        if not count:
            self.eof = True
            if self.state is not State.OPEN:
                raise Broken("the connection was closed while it was being opened")
            return 0
        self._keep(_view[:count], ancillary[0][2] if ancillary else self.no_stamp())
        return count

    def _keep(self, read: memoryview, stamp: bytes) -> None:
        if self.state is State.TUNNEL:
            self._tunnelled(read)
        elif self._tls is not None:
            self._decrypt(read, stamp)
        else:
            self._append(read, stamp)

    def _append(self, read: memoryview | bytes, stamp: bytes) -> None:
        self.data += read
        self.stamps += stamp
        self.ends.append(len(self.data))

    def _tunnelled(self, read: memoryview) -> None:
        self.data += read
        if HEAD_END not in self.data:
            if len(self.data) > LONGEST_HEAD:
                raise Broken(f"the proxy {self._target.proxy} sends a response head without end")
            return
        line = bytes(self.data).split(b"\r\n")[0]
        if b" 200" not in line[:13]:
            raise Broken(f"the proxy {self._target.proxy} answers {line.decode('latin-1')!r}")
        self.clear()
        self._open()

    def _decrypt(self, read: memoryview, stamp: bytes) -> None:
        assert self._tls is not None
        self._incoming.write(read)
        if self.state is State.HANDSHAKE:
            self._shake()
        if self.state is not State.OPEN:
            return
        plain = bytearray()
        try:
            while piece := self._tls.read(READ):
                plain += piece
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.eof = True
        except ssl.SSLError as e:
            raise Broken(f"TLS: {e.reason}") from None
        finally:
            if plain:
                self._append(bytes(plain), stamp)
        if self._outgoing.pending:  # the protocol's own answers, as to a new key
            self._pending += self._outgoing.read()
            self._push()

    def _fail(self, code: int | None) -> NoReturn:
        raise Broken(os.strerror(code or 0), code)
