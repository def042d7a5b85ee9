"""One connection: opens, sends and receives in steps that never block."""

import errno
import fcntl
import os
import socket
import ssl
import termios
import time
from array import array
from bisect import bisect_right
from collections.abc import Callable
from enum import Enum, auto
from struct import Struct
from typing import NoReturn

from spark_bench.client import clock
from spark_bench.client.poller import DATA, WRITABLE
from spark_bench.client.response_store import Piece
from spark_bench.client.target import ServerTarget, SocketAddress
from spark_bench.protocol.http1 import HEAD_END, LONGEST_HEAD, Framing

SIZE = clock.TIMESPEC.size

# In place of an errno: the server's certificate is not trusted.
UNTRUSTED = -1

# `tcpi_data_segs_in` in struct tcp_info, linux/tcp.h, since Linux 4.6.
DATA_SEGMENTS, DATA_SEGMENTS_AT = Struct("I"), 152
TCP_INFO_SIZE = DATA_SEGMENTS_AT + DATA_SEGMENTS.size
NOTHING_UNREAD = Struct("i").pack(0)

# A read of more bytes than this may hold several events.
SEVERAL = 512
# Number of such reads that are left uncounted after one that had several segments.
UNCOUNTED = 16

# Most bytes of one read. Above 128 KiB, malloc would map each buffer anew.
READ = 32 * 1024
_buffer = bytearray(READ)
_view = memoryview(_buffer)
BUFFERS = [_view]


class State(Enum):
    """What a connection waits for."""

    CONNECTING = auto()
    TUNNEL = auto()  # waiting for the proxy's answer to CONNECT
    HANDSHAKE = auto()
    OPEN = auto()
    CLOSED = auto()


class Broken(Exception):
    """The connection can't be used any more; `args[0]` says why."""


class Connection:
    """A non-blocking socket with the current response's bytes and times.

    The constructor raises Broken if the connection can't be begun. For each read, the recorder's
    loop uses `recv`, `data`, `stamps`, `ends`, `direct` and `slow` without a method call.

    direct: what the loop reads are the response's own bytes, and nothing is left to send
    slow: each read must be examined (the head is incomplete, TLS, a body with a length …)
    data: bytes of the current response
    stamps: one kernel timespec per read; see clock.monotonic
    ends: length of `data` after each read
    unstamped: number of reads of this response without a time from the kernel
    kernel: the kernel stamps what the socket receives
    index, scheduled_ns, possible_ns, sent_ns, sent_by_ns, deadline_ns, retry: of the current
        request; index is -1 if there is none, sent_ns is 0 until it is sent, sent_by_ns until all
        of it is
    looked_ns: a moment before a look at all sockets that did not report what is read now
    looked: pairs: a number of reads of this response, and that moment for the last of them
    segments: pairs: a number of reads of this response, and how many TCP segments with data they
        had together
    uncounted: number of large reads to come after which segments are not counted
    reads_shed: number of its reads that are not in `ends` any more
    room: most bytes that `data` may have; the read that exceeds it is the last
    carried: number of earlier responses on this connection
    """

    __slots__ = (
        "_all_segments",
        "_earlier_segments",
        "_incoming",
        "_outgoing",
        "_pending",
        "_target",
        "_tls",
        "carried",
        "data",
        "deadline_ns",
        "direct",
        "ends",
        "eof",
        "failure",
        "fd",
        "framing",
        "index",
        "kernel",
        "looked",
        "looked_ns",
        "possible_ns",
        "reads_shed",
        "recv",
        "retry",
        "room",
        "scheduled_ns",
        "segments",
        "sent_by_ns",
        "sent_ns",
        "slow",
        "sock",
        "stamps",
        "state",
        "uncounted",
        "unstamped",
    )

    def __init__(self, target: ServerTarget, address: SocketAddress) -> None:
        self._target = target
        self._pending = b""
        self._tls: ssl.SSLObject | None = None
        self.state = State.CONNECTING
        self.carried = 0
        self.index = -1
        self.retry = self.direct = False
        self.scheduled_ns = self.possible_ns = self.deadline_ns = 0
        self.sent_ns = self.sent_by_ns = self.looked_ns = self._all_segments = 0
        self.room = LONGEST_HEAD  # until a request sets the limit for its response
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
        """Get ready for another response."""
        self.data = bytearray()
        self.stamps = bytearray()
        self.ends = array("q")
        self.framing = Framing()
        self.slow = True
        self.eof = False
        self.failure: Broken | None = None
        self.unstamped = self.reads_shed = self.uncounted = 0
        self.segments, self.looked = array("q"), array("q")
        self._earlier_segments = self._all_segments

    @property
    def plain(self) -> bool:
        """Whether reads are the response's own bytes (no TLS), stamped by the kernel."""
        return self.kernel and self._tls is None

    @property
    def unsent(self) -> bool:
        """Whether some bytes have not been handed to the kernel yet."""
        return bool(self._pending)

    @property
    def untouched(self) -> bool:
        """Whether nothing of a response has arrived yet."""
        return self.framing.body_end is None and not self.data

    def last_gap_ns(self) -> int | None:
        """Time between the last two reads, in ns; None if there are fewer than two."""
        if len(self.stamps) < 2 * SIZE:
            return None
        with memoryview(self.stamps) as stamps:
            return clock.last(stamps, 0) - clock.last(stamps[:-SIZE], 0)

    def note(self, error: OSError) -> None:
        """Record that a read by the recorder's loop has failed."""
        if not isinstance(error, BlockingIOError):
            self.failure = Broken(os.strerror(error.errno or 0), error.errno)

    def note_read(self, *, large: bool = True) -> None:
        """Note when the last read was not there yet; count the segments of a large one.

        They are not always counted if such reads had several: the client is late then, and counting
        would make it later.
        """
        self.looked.extend((self.reads_shed + len(self.ends), self.looked_ns))
        if large and self.uncounted:
            self.uncounted -= 1
        elif large:
            self.count_segments()

    def count_segments(self) -> None:
        """Note how many TCP segments with data the reads of this response have had so far.

        Segments that a network card or the kernel joined count one by one, as does data that was
        sent again. Nothing is noted if more has come that was not read yet, or if it is unknown.
        """
        reads, segments = self.reads_shed + len(self.ends), self.segments
        if not self.plain or self._target.tunnel or (segments and segments[-2] == reads):
            return
        try:
            info = self.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_SIZE)
            unread = fcntl.ioctl(self.fd, termios.FIONREAD, NOTHING_UNREAD)
        except OSError:
            return
        if len(info) == TCP_INFO_SIZE and unread == NOTHING_UNREAD:
            self._all_segments = DATA_SEGMENTS.unpack_from(info, DATA_SEGMENTS_AT)[0]
            segments.extend((reads, self._all_segments - self._earlier_segments))
            if len(segments) > 2 and reads - segments[-4] != segments[-1] - segments[-3]:
                self.uncounted = UNCOUNTED

    def no_stamp(self) -> bytes:
        """The current time as a stamp, in place of one that the kernel did not give."""
        self.unstamped += 1
        return clock.timespec(time.time_ns())

    def shed(self) -> Piece | None:
        """Remove and return the reads whose bytes are fully parsed; None if there are none."""
        reads = bisect_right(self.ends, self.framing.at) if self.framing.body_end else 0
        if not reads:
            return None
        cut = self.ends[reads - 1]
        piece = Piece(self.stamps[: SIZE * reads], self.ends[:reads], self.data[:cut])
        self.stamps = self.stamps[SIZE * reads :]
        self.ends = array("q", (end - cut for end in self.ends[reads:]))
        self.reads_shed += reads
        self.data = self.data[cut:]
        self.room -= cut
        self.framing.forget(cut)
        return piece

    def close(self) -> None:
        """Close the socket; the peer sees a normal end."""
        self.state = State.CLOSED
        self.sock.close()

    def ready(self, mask: int) -> None:
        """Handle an event on the socket: connect, send and read as far as possible.

        Afterwards the response's bytes are in `data`. `eof` is set once the peer has closed, and
        `failure` once an open connection breaks. Raises Broken if it breaks before it is open.
        """
        if self.state is State.CONNECTING and not self._connected():
            return
        if self._pending:
            self._guarded(self._push)
        if mask != WRITABLE or self.failure:
            self._guarded(self._receive, mask)

    def _guarded(self, step: Callable[..., None], *args: int) -> None:
        """Run a step; if an open connection breaks, only note it, so that a response can be read.

        A peer that accepts no more bytes, or is gone, may have answered before.
        """
        try:
            step(*args)
        except Broken as e:
            if self.state is not State.OPEN:
                raise
            self.failure, self._pending = self.failure or e, b""

    def _receive(self, mask: int) -> None:
        # A short read has emptied the socket; only the peer's close may still follow it.
        count = READ
        while count == READ or (count and (mask != DATA or self.failure)):
            count = self._read()
            if len(self.data) > self.room:  # a peer may send faster than we read
                return

    def send(self, wire: bytes) -> None:
        """Send bytes, now or as the kernel accepts them. Raises Broken."""
        self.slow = True
        if self._tls is None:
            self._pending = self._pending + wire if self._pending else wire
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
        self._pending = self._pending[done:] if done < len(self._pending) else b""

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
        """Read once and store the bytes with their stamp; returns how many, 0 if there are none."""
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
        self.note_read(large=len(read) > SEVERAL)

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
        if self._outgoing.pending:  # TLS's own replies, such as to a key update
            self._pending += self._outgoing.read()
            self._push()

    def _fail(self, code: int | None) -> NoReturn:
        raise Broken(os.strerror(code or 0), code)
