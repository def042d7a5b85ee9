"""One connection: opening it, sending, receiving, in steps that never block."""

from __future__ import annotations

import errno
import os
import socket
import ssl
import time
from array import array
from bisect import bisect_right
from enum import Enum, auto
from typing import NoReturn

from . import clock
from .framing import HEAD_END, Body, Framing
from .poller import WRITABLE
from .store import Piece
from .target import Address, Target

SIZE = clock.TIMESPEC.size

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
    """The connection is of no more use; `args[0]` says why."""


class Connection:
    """A non-blocking socket with what one response leaves on it.

    Fields that the recorder's loop touches for every read, without a call: `recv`, `data`,
    `stamps`, `ends`, `slow`.

    slow: reads need more than being kept (the head is not complete, TLS, a body by length …)
    stamps: one kernel timespec a read; see clock.monotonic
    ends: the length of `data` after each read
    """

    __slots__ = (
        "_incoming",
        "_outgoing",
        "_pending",
        "_target",
        "_tls",
        "carried",
        "data",
        "ends",
        "eof",
        "fd",
        "framing",
        "index",
        "kernel",
        "possible_ns",
        "recv",
        "retry",
        "scheduled_ns",
        "sent_ns",
        "slow",
        "sock",
        "stamps",
        "state",
    )

    def __init__(self, target: Target, address: Address) -> None:
        self._target = target
        self.sock = socket.socket(address.family, socket.SOCK_STREAM)
        self.sock.setblocking(False)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.kernel = clock.stamps_wanted(self.sock)
        self.fd = self.sock.fileno()
        self.recv = self.sock.recvmsg_into
        self._pending = b""
        self._tls: ssl.SSLObject | None = None
        self.state = State.CONNECTING
        self.carried = 0
        self.index = -1
        self.retry = False
        self.scheduled_ns = self.possible_ns = self.sent_ns = 0
        self.clear()
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

    @property
    def plain(self) -> bool:
        """Reads are the response's own bytes, and the kernel tells their times."""
        return self.kernel and self._tls is None

    @property
    def unsent(self) -> bool:
        """The kernel has not taken everything yet."""
        return bool(self._pending)

    def last_gap_ns(self) -> int | None:
        """Between the last two reads; None with fewer."""
        if len(self.stamps) < 2 * SIZE:
            return None
        before = self.stamps[:-SIZE]
        return clock.last(self.stamps, 0) - clock.last(before, 0)

    def shed(self) -> Piece | None:
        """Give away the reads whose bytes the framing has understood."""
        limit = len(self.data)
        if self.framing.body is Body.CHUNKED:
            self.framing.ended(self.data)
            limit = self.framing.at
        reads = bisect_right(self.ends, limit)
        if not reads:
            return None
        cut = self.ends[reads - 1]
        piece = Piece(self.stamps[: SIZE * reads], self.ends[:reads], self.data[:cut])
        self.stamps = self.stamps[SIZE * reads :]
        self.ends = array("q", (end - cut for end in self.ends[reads:]))
        self.data = self.data[cut:]
        self.framing.forget(cut)
        return piece

    def close(self) -> None:
        """Give the socket back; the peer sees a normal end."""
        self.state = State.CLOSED
        self.sock.close()

    def ready(self, mask: int) -> None:
        """Something happened on the socket: go on as far as possible. Raises Broken.

        Responses' bytes are in `data` afterwards; `eof` is set once the peer has closed.
        """
        if self.state is State.CONNECTING and not self._connected():
            return
        if self._pending:
            self._push()
        if mask == WRITABLE:
            return
        while self._read():
            pass

    def send(self, wire: bytes) -> None:
        """Hand bytes to the kernel, now or as it takes them. Raises Broken."""
        self.slow = True
        if self._tls is None:
            self._pending += wire
        else:
            self._tls.write(wire)
            self._pending += self._outgoing.read()
        self._push()

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
        except ssl.SSLError as e:
            raise Broken(f"TLS: {getattr(e, 'verify_message', '') or e.reason}") from None
        else:
            self.state = State.OPEN
        self._pending += self._outgoing.read()
        if self._pending:
            self._push()

    def _read(self) -> bool:
        """One read, kept with its stamp; False once there is nothing more to read now."""
        try:
            count, ancillary, _, _ = self.recv(BUFFERS, clock.ANCILLARY)
        except BlockingIOError:
            return False
        except OSError as e:
            self._fail(e.errno)
        if not count:
            self.eof = True
            if self.state is not State.OPEN:
                raise Broken("closed while it was being opened")
            return False
        stamp = ancillary[0][2] if ancillary else clock.timespec(time.time_ns())
        self._keep(_view[:count], stamp)
        return True

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
        if plain:
            self._append(bytes(plain), stamp)

    def _fail(self, code: int | None) -> NoReturn:
        raise Broken(os.strerror(code or 0), code)
