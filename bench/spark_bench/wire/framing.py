"""Where a response ends: HTTP/1.1 framing, found while the bytes still come.

The contents are left for later (api.http1); this follows RFC 9112 as far as needed to know that the
last byte is there, on any split of bytes.
"""

from __future__ import annotations

from enum import Enum, auto

HEAD_END = b"\r\n\r\n"

# A head or a chunk's size line longer than this is no HTTP (servers' own limits are 8 to 64 KiB).
LONGEST_HEAD = 256 * 1024
LONGEST_LINE = 8 * 1024


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
        self._left = 0
        self._trailers = False
        self._ended = False

    def ended(self, data: bytearray) -> bool:
        """Has the response's last byte come? `data` is everything since its first byte.

        Raises NotHttp.
        """
        if self.body is None and not self._head(data):
            return False
        if self.body is Body.CHUNKED:
            self._ended = self._chunks(data)
        elif self.body is Body.LENGTH:
            self._ended = len(data) >= self.at + self._left
            self.at += self._left if self._ended else 0
        if self._ended and len(data) > self.at:
            self.keep_alive = False  # bytes that nobody asked for: a peer out of step
        return self._ended

    def closed(self) -> bool:
        """The peer has closed. True: that was the body's end."""
        self.keep_alive = False
        return self.body is Body.CLOSE

    def _head(self, data: bytearray) -> bool:
        end = data.find(HEAD_END, self.at)
        if end < 0:
            if len(data) - self.at > LONGEST_HEAD:
                raise NotHttp(f"no end of the response's head in {LONGEST_HEAD} bytes")
            if not b"HTTP/1.".startswith(data[self.at : self.at + 7]):
                raise NotHttp(f"starts with {bytes(data[self.at : self.at + 20])!r}")
            return False
        lines = bytes(data[self.at : end]).split(b"\r\n")
        self.at = end + len(HEAD_END)
        status, version = _status(lines[0])
        if 100 <= status < 200:
            return self._head(data)
        self._understand(status, version, _fields(lines[1:]))
        return True

    def _understand(self, status: int, version: bytes, fields: dict[bytes, bytes]) -> None:
        asked = fields.get(b"connection", b"").lower()
        self.keep_alive = b"close" not in asked and (version >= b"1.1" or b"keep-alive" in asked)
        length = fields.get(b"content-length")
        if status in (204, 304):
            self.body = Body.LENGTH
        elif b"chunked" in fields.get(b"transfer-encoding", b"").lower():
            self.body = Body.CHUNKED
        elif length is not None:
            if not length.isdigit():
                raise NotHttp(f"Content-Length: {length!r}")
            self.body, self._left = Body.LENGTH, int(length)
        else:
            self.body, self.keep_alive = Body.CLOSE, False

    def _chunks(self, data: bytearray) -> bool:
        while not self._trailers:
            line = data.find(b"\r\n", self.at, self.at + LONGEST_LINE)
            if line < 0:
                if len(data) - self.at >= LONGEST_LINE:
                    raise NotHttp(f"a chunk's size is {bytes(data[self.at : self.at + 20])!r}")
                return False
            size = _size(data[self.at : line])
            if size == 0:
                self._trailers = True
                self.at = line + 2
            elif len(data) < line + 2 + size + 2:
                return False
            else:
                self.at = line + 2 + size + 2
        return self._after_trailers(data)

    def _after_trailers(self, data: bytearray) -> bool:
        while (line := data.find(b"\r\n", self.at)) >= 0:
            empty, self.at = line == self.at, line + 2
            if empty:
                return True
        return False

    def forget(self, count: int) -> None:
        """The first `count` bytes, all of them understood, are gone from `data`."""
        self.at -= count


def _status(line: bytes) -> tuple[int, bytes]:
    words = line.split(b" ", 2)
    if not line.startswith(b"HTTP/1.") or len(words) < 2 or not words[1].isdigit():
        raise NotHttp(f"starts with {line[:40]!r}")
    return int(words[1]), words[0].removeprefix(b"HTTP/")


def _fields(lines: list[bytes]) -> dict[bytes, bytes]:
    pairs = (line.partition(b":") for line in lines)
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


def _size(line: bytearray) -> int:
    digits = bytes(line).split(b";")[0].strip()
    try:
        if not digits or digits[:1] in b"+-":
            raise ValueError
        return int(digits, 16)
    except ValueError:
        raise NotHttp(f"a chunk's size is {bytes(line[:20])!r}") from None
