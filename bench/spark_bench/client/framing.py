"""Where a response ends: HTTP/1.1 framing, found while the bytes still come.

The contents are left for later (protocol.http1); this follows RFC 9112 as far as needed to know
that the last byte is there, on any split of bytes.
"""

from __future__ import annotations

import re
from enum import Enum, auto

HEAD_END = b"\r\n\r\n"
CRLF = b"\r\n"

# Heads or trailers longer than this are no HTTP (servers' own limits are 8 to 64 KiB).
LONGEST_HEAD = 256 * 1024
# More lines than this in a head are none either (servers' and clients' own limits are about 100);
# equal names are joined, which takes the square of their number.
MOST_FIELDS = 1000
# A chunk's size line longer than this neither; the same limit as protocol.http1's.
LONGEST_LINE = 4096

_SIZE = re.compile(rb"([0-9a-fA-F]{1,15})[ \t]*(?:;.*)?", re.DOTALL)
# Size lines seen before: a stream has few different ones.
_sizes: dict[bytes, int] = {}
_MOST_SIZES = 4096


class NotHttp(ValueError):
    """The bytes follow no rule of HTTP/1.x."""


class Body(Enum):
    """How the end of a body is told (RFC 9112, 6.3)."""

    CHUNKED = auto()
    LENGTH = auto()
    CLOSE = auto()


class Framing:
    """Follows one response through its bytes.

    `body` is None until the head is complete. `at` is the offset up to which the bytes are
    understood. After the end, `keep_alive` tells whether the connection may carry another request.
    """

    __slots__ = ("_ended", "_left", "_trailers", "at", "body", "keep_alive")

    def __init__(self) -> None:
        self.body: Body | None = None
        self.at = 0
        self.keep_alive = True
        # Bytes from `at` to the end of the body or of the chunk, its CRLF included.
        self._left = 0
        self._trailers = False
        self._ended = False

    def ended(self, data: bytearray) -> bool:
        """Has the response's last byte come? `data` is everything since its first byte, or since
        what was forgotten.

        Raises NotHttp.
        """
        if self._ended:
            return True
        if self.body is None and not self._head(data):
            return False
        if self.body is Body.CHUNKED:
            self._ended = self._chunks(data)
        else:
            self._ended = self._plain(data)
        if self._ended and len(data) > self.at:
            self.keep_alive = False  # bytes that nobody asked for: a peer out of step
        return self._ended

    def closed(self) -> bool:
        """The peer has closed. True: that was the body's end."""
        self.keep_alive = False
        return self.body is Body.CLOSE

    def forget(self, count: int) -> None:
        """The first `count` bytes, all of them understood, are gone from `data`."""
        self.at -= count

    def _head(self, data: bytearray) -> bool:
        while (found := _blank_line(data, self.at)) is not None:
            end, after = found
            if end - self.at > LONGEST_HEAD:
                break
            lines = [line.rstrip(b"\r") for line in bytes(data[self.at : end]).split(b"\n")]
            self.at = after
            status, version = _status(lines[0])
            # Nobody asks for 101; as the last word, as everywhere else, it is at least an end.
            if not 100 <= status < 200 or status == 101:
                self._understand(status, version, _fields(lines[1:]))
                return True
        if len(data) > LONGEST_HEAD:
            raise NotHttp(f"no end of the response's head in {LONGEST_HEAD} bytes")
        if not b"HTTP/1.".startswith(data[self.at : self.at + 7]):
            raise NotHttp(f"starts with {bytes(data[self.at : self.at + 20])!r}")
        return False

    def _understand(self, status: int, version: bytes, fields: dict[bytes, bytes]) -> None:
        asked = fields.get(b"connection", b"").lower()
        self.keep_alive = b"close" not in asked and (version >= b"1.1" or b"keep-alive" in asked)
        coding = fields.get(b"transfer-encoding")
        if status in (101, 204, 304):
            self.body, self.keep_alive = Body.LENGTH, self.keep_alive and status != 101
        elif coding is not None and coding.lower().split(b",")[-1].strip() == b"chunked":
            self.body = Body.CHUNKED
        elif coding is None and b"content-length" in fields:
            self.body, self._left = Body.LENGTH, _length(fields[b"content-length"])
        else:
            self.body, self.keep_alive = Body.CLOSE, False

    def _plain(self, data: bytearray) -> bool:
        come = len(data) - self.at
        if self.body is Body.CLOSE:
            self.at += come
            return False
        step = min(self._left, come)
        self.at += step
        self._left -= step
        return not self._left

    def _chunks(self, data: bytearray) -> bool:
        total = len(data)
        while not self._trailers:
            if self._left and not self._rest(data, total):
                return False
            line = data.find(CRLF, self.at, self.at + LONGEST_LINE)
            if line < 0:
                if total - self.at >= LONGEST_LINE:
                    raise _no_size(data[self.at :])
                return False
            size = _size(bytes(data[self.at : line]))
            self.at = line + 2
            if size:
                self._left = size + 2
            else:
                self._trailers = True
        return self._after_trailers(data)

    def _rest(self, data: bytearray, total: int) -> bool:
        """The rest of a chunk: True once all of it is there."""
        end = self.at + self._left
        if total < end:
            # The CRLF is kept together, to be looked at.
            step = min(self._left - 2, total - self.at)
            self.at += step
            self._left -= step
            return False
        if data[end - 2 : end] != CRLF:
            raise NotHttp(f"a chunk is followed by {bytes(data[end - 2 : end + 18])!r}")
        self.at, self._left = end, 0
        return True

    def _after_trailers(self, data: bytearray) -> bool:
        while (line := data.find(CRLF, self.at)) >= 0:
            empty, self.at = line == self.at, line + 2
            if empty:
                return True
        if len(data) - self.at > LONGEST_HEAD:
            raise NotHttp(f"no end of a trailer in {LONGEST_HEAD} bytes")
        return False


def _blank_line(data: bytearray, start: int) -> tuple[int, int] | None:
    """Where the head's last line ends, and where the body begins; a bare LF ends lines, too."""
    usual = data.find(b"\n\r\n", start)
    bare = data.find(b"\n\n", start, usual if usual >= 0 else len(data))
    if bare >= 0:
        return bare, bare + 2
    return None if usual < 0 else (usual, usual + 3)


def _status(line: bytes) -> tuple[int, bytes]:
    words = line.split(b" ", 2)
    if not line.startswith(b"HTTP/1.") or len(words) < 2 or not words[1].isdigit():
        raise NotHttp(f"starts with {line[:40]!r}")
    return int(words[1][:9]), words[0].removeprefix(b"HTTP/")


def _fields(lines: list[bytes]) -> dict[bytes, bytes]:
    if len(lines) > MOST_FIELDS:
        raise NotHttp(f"{len(lines)} lines in the response's head")
    fields: dict[bytes, bytes] = {}
    for line in lines:
        name, _, value = line.partition(b":")
        key, told = name.strip().lower(), value.strip()
        fields[key] = fields[key] + b", " + told if key in fields else told
    return fields


def _length(told: bytes) -> int:
    values = {value.strip() for value in told.split(b",")}
    value = values.pop()
    if values or not value.isdigit() or len(value) > 18:
        raise NotHttp(f"content-length {told[:40]!r}")
    return int(value)


def _size(line: bytes) -> int:
    size = _sizes.get(line)
    if size is None:
        found = _SIZE.fullmatch(line)
        if found is None:
            raise _no_size(line)
        size = int(found[1], 16)
        if len(_sizes) < _MOST_SIZES:
            _sizes[line] = size
    return size


def _no_size(data: bytes | bytearray) -> NotHttp:
    return NotHttp(f"a chunk's size is {bytes(data[:20])!r}")
