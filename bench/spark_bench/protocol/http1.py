"""The only HTTP/1.x parser: finds a response's head, chunks and end, however its bytes are split.

It follows RFC 9112. During the run, the client uses it to see whether the last byte has come. After
the run, it goes over each whole response once more and collects where the content is. Decoding the
content is up to `content`.
"""

import re
from dataclasses import dataclass
from enum import Enum, auto

HEAD_END = b"\r\n\r\n"
CRLF = b"\r\n"

# Longer heads or trailers are not HTTP (servers' own limits are 8 to 64 KiB).
LONGEST_HEAD = 256 * 1024
# Nor are heads with more lines (limits of servers and clients are about 100). Joining equal names
# takes quadratic time.
MOST_FIELDS = 1000
# Nor are longer size lines of chunks.
LONGEST_LINE = 4096

_STATUS_LINE = re.compile(r"HTTP/1\.([0-9]) ([0-9]{3})(?: ([^\r\n]*))?")
_SIZE = re.compile(rb"([0-9a-fA-F]{1,15})[ \t]*(?:;[^\r\n]*)?")
# Caches of parsed size lines and header lines, since a server repeats most of them.
_sizes: dict[bytes, int] = {}
_fields: dict[str, tuple[str, str]] = {}
_MOST_CACHED = 4096
_LONGEST_CACHED = 256
_BLANKS = " \t\v\f\r\n"


class MalformedHttp(ValueError):
    """Bytes that are not an HTTP/1.x response; the message says what is wrong, and where."""


class BodyEnd(Enum):
    """How the end of a body is recognized (RFC 9112, 6.3)."""

    CHUNKED = auto()
    LENGTH = auto()
    CLOSE = auto()


@dataclass(slots=True)
class Head:
    """The final head of a response; interim ones (1xx) are skipped.

    headers: values by name in lower case; values of a repeated name are joined with ", "
    size: bytes before the body, including interim heads
    """

    status: int
    reason: str
    headers: dict[str, str]
    size: int

    @property
    def encodings(self) -> list[str]:
        """The encodings of the body, in the order in which they were applied, without identity."""
        named = self.headers.get("content-encoding", "").lower().split(",")
        return [name for each in named if (name := each.strip()) not in ("", "identity")]


class Framing:
    """Follows the framing of one response as its bytes come.

    head, body_end: None until the head is complete
    at: offset up to which the bytes are parsed
    keep_alive: whether the connection may carry another request after the end
    spans: where each chunk's content begins and ends; for the last one, where it will end. They are
        only collected if a list is given.
    """

    __slots__ = ("_ended", "_left", "_trailers", "at", "body_end", "head", "keep_alive", "spans")

    def __init__(self, spans: list[tuple[int, int]] | None = None) -> None:
        self.head: Head | None = None
        self.body_end: BodyEnd | None = None
        self.at = 0
        self.keep_alive = True
        self.spans = spans
        # Bytes from `at` to the end of the body, or of the chunk with its CRLF.
        self._left = 0
        self._trailers = False
        self._ended = False

    def ended(self, data: bytes | bytearray) -> bool:
        """Whether the response's last byte has come. Raises MalformedHttp.

        data: all its bytes so far, without those that were forgotten
        """
        if self._ended:
            return True
        if self.body_end is None and not self.read_head(data):
            return False
        if self.body_end is BodyEnd.CHUNKED:
            self._ended = (self._trailers or self._read_chunks(data)) and self._read_trailers(data)
        else:
            self._ended = self._read_plain(data)
        if self._ended and len(data) > self.at:
            self.keep_alive = False  # bytes beyond the end: the peer is out of step
        return self._ended

    def closed(self) -> bool:
        """Note that the peer has closed. Returns whether that was the body's end."""
        self.keep_alive = False
        return self.body_end is BodyEnd.CLOSE

    def forget(self, count: int) -> None:
        """Note that the first `count` bytes, all of them parsed, were removed from `data`."""
        self.at -= count

    def read_head(self, data: bytes | bytearray) -> bool:
        """Read the head, if not done before. Returns False while it is incomplete.

        Raises MalformedHttp.
        """
        while self.at <= LONGEST_HEAD:
            # Find the end of the head's last line and the start of the body. A bare LF ends a line,
            # too.
            end = data.find(b"\n\r\n", self.at)
            after = end + 3
            bare = data.find(b"\n\n", self.at, end + 1 if end >= 0 else len(data))
            if bare >= 0:
                end, after = bare, bare + 2
            if end < 0 or end - self.at > LONGEST_HEAD:
                break
            head, minor = _parse_head(bytes(data[self.at : end]), after)
            self.at = after
            # We never ask for 101 (switching protocols), but like other clients take it as final.
            if head.status >= 200 or head.status == 101:
                self.head = head
                self._choose_end(head, minor)
                return True
        if self.at > LONGEST_HEAD or len(data) - self.at > LONGEST_HEAD:
            raise MalformedHttp(f"no end of the response's head in {LONGEST_HEAD} bytes")
        if not b"HTTP/1.".startswith(data[self.at : self.at + 7]):
            raise _not_http(data[self.at : self.at + 40])
        return False

    def _choose_end(self, head: Head, minor: str) -> None:
        wish = head.headers.get("connection", "").lower()
        self.keep_alive = "close" not in wish and (minor > "0" or "keep-alive" in wish)
        coding = head.headers.get("transfer-encoding")
        if head.status in (101, 204, 304):
            self.body_end = BodyEnd.LENGTH
            self.keep_alive &= head.status != 101
        elif coding is not None and coding.lower().split(",")[-1].strip(_BLANKS) == "chunked":
            self.body_end = BodyEnd.CHUNKED
        elif coding is None and "content-length" in head.headers:
            text = head.headers["content-length"]
            lengths = {value.strip(_BLANKS) for value in text.split(",")}
            length = lengths.pop()
            if lengths or not (length.isascii() and length.isdigit()) or len(length) > 18:
                raise MalformedHttp(f"content-length {text[:40]!r}")
            self.body_end, self._left = BodyEnd.LENGTH, int(length)
        else:
            # With any other transfer-encoding, the body ends with the connection, whatever the
            # content-length.
            self.body_end, self.keep_alive = BodyEnd.CLOSE, False

    def _read_plain(self, data: bytes | bytearray) -> bool:
        came = len(data) - self.at
        step = came if self.body_end is BodyEnd.CLOSE else min(self._left, came)
        if self.spans is not None:
            self.spans.append((self.at, self.at + step))
        self.at += step
        if self.body_end is BodyEnd.CLOSE:
            return False
        self._left -= step
        return not self._left

    def _read_chunks(self, data: bytes | bytearray) -> bool:
        """True once the last chunk's size line has come. One method, as it runs for each chunk."""
        total, at, left, spans = len(data), self.at, self._left, self.spans
        while True:
            if left:
                end = at + left
                if total < end:
                    if total == end - 1 and data[-1:] != b"\r":
                        raise _wrong_chunk_end(data, end)
                    # Don't split the CRLF, which is checked as a whole.
                    step = min(left - 2, total - at)
                    self.at, self._left = at + step, left - step
                    return False
                if data[end - 2 : end] != CRLF:
                    raise _wrong_chunk_end(data, end)
                at = end
            line = data.find(CRLF, at, at + LONGEST_LINE)
            if line < 0:
                self.at, self._left = at, 0
                if total - at >= LONGEST_LINE or data.find(b"\n", at) >= 0:
                    raise _wrong_size(data[at:])
                return False
            text = bytes(data[at:line])
            size = _sizes.get(text)
            if size is None:
                match = _SIZE.fullmatch(text)
                if match is None:
                    raise _wrong_size(text)
                size = int(match[1], 16)
                if len(_sizes) < _MOST_CACHED:
                    _sizes[text] = size
            at = line + 2
            if not size:
                self.at, self._left, self._trailers = at, 0, True
                return True
            left = size + 2
            if spans is not None:
                spans.append((at, at + size))

    def _read_trailers(self, data: bytes | bytearray) -> bool:
        while (line := data.find(CRLF, self.at)) >= 0:
            empty, self.at = line == self.at, line + 2
            if empty:
                return True
        if len(data) - self.at > LONGEST_HEAD:
            raise MalformedHttp(f"no end of a trailer in {LONGEST_HEAD} bytes")
        return False


def _parse_head(data: bytes, size: int) -> tuple[Head, str]:
    """Parse one head; returns it with the minor version of its HTTP."""
    first, *lines = data.decode("latin-1").removesuffix("\r").replace("\r\n", "\n").split("\n")
    status = _STATUS_LINE.fullmatch(first)
    if status is None:
        raise _not_http(data[:80].split(b"\n")[0])
    if len(lines) > MOST_FIELDS:
        raise MalformedHttp(f"{len(lines)} lines in the response's head")
    headers: dict[str, str] = {}
    for line in lines:
        name, value = _fields.get(line) or _parse_field(line)
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return Head(int(status[2]), status[3] or "", headers, size), status[1]


def _parse_field(line: str) -> tuple[str, str]:
    """The name, in lower case, and the value of a header line."""
    name, colon, value = line.partition(":")
    name, value = name.strip(_BLANKS).lower(), value.strip(_BLANKS)
    if not colon or not name:
        raise MalformedHttp(f"header line {line[:80].encode('latin-1')!r}")
    if len(_fields) < _MOST_CACHED and len(line) <= _LONGEST_CACHED:
        _fields[line] = name, value
    return name, value


def _wrong_size(data: bytes | bytearray) -> MalformedHttp:
    return MalformedHttp(f"a chunk's size is {bytes(data[:40])!r}")


def _wrong_chunk_end(data: bytes | bytearray, end: int) -> MalformedHttp:
    return MalformedHttp(f"a chunk is followed by {bytes(data[end - 2 : end + 18])!r}")


def _not_http(data: bytes | bytearray) -> MalformedHttp:
    return MalformedHttp(f"not HTTP/1: it begins with {bytes(data)!r}")
