"""Server-sent events (WHATWG HTML, 9.2), parsed from a whole body or directly from its chunks."""

import re
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

# LF, CRLF or CR. Lines are what is between these: a pattern for a whole line would take quadratic
# time on one without an end.
_LINE_END = re.compile(rb"\r\n|\n|\r")
_BOM = b"\xef\xbb\xbf"
_IGNORED = {b"id", b"retry"}


@dataclass(slots=True)
class Events:
    """The events of a body that have data.

    data: for each event, its data lines joined with LF
    ends: for each event, the offset at which it is complete: the end of the blank line that closes
        it
    errors: indices of events that call themselves an error
    problem: the first line that does not belong in an event stream; "" if there is none
    """

    data: list[bytes] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    errors: set[int] = field(default_factory=set)
    problem: str = ""


def parse_events(body: bytes, *, whole: bool = True) -> Events:
    """Parse the events of a body.

    whole: the body is complete, so a last event without its blank line counts; in a stream that was
        cut off, the unfinished rest is left out
    """
    parser = _Parser()
    at = len(_BOM) if body.startswith(_BOM) else 0
    for end in _LINE_END.finditer(body, at):
        line, at = body[at : end.start()], end.end()
        parser.feed(line, at)
    if whole:
        if at < len(body):
            parser.feed(body[at:], len(body))
        parser.dispatch(len(body))
    return parser.events


class _Parser:
    """Collects events line by line."""

    def __init__(self) -> None:
        self.events = Events()
        self.lines: list[bytes] = []
        self.name = b""

    def feed(self, line: bytes, end: int) -> None:
        """Process a line. end: the offset at which it ends"""
        if not line:
            self.dispatch(end)
            return
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self.lines.append(value)
        elif name == b"event":
            self.name = value
        elif name == b"error":
            # llama.cpp up to 2025 sends `error: {...}` in place of `data: {"error": ...}`.
            self.name = name
            self.lines.append(value)
        elif name and name not in _IGNORED and not self.events.problem:
            self.events.problem = line[:80].decode("utf-8", "replace")

    def dispatch(self, end: int) -> None:
        """Close the current event; without data, there is no event."""
        if data := b"\n".join(self.lines):
            if self.name == b"error":
                self.events.errors.add(len(self.events.data))
            self.events.data.append(data)
            self.events.ends.append(end)
        self.lines.clear()
        self.name = b""


# A chunk that is one event of one line, and the end of a body of such chunks.
_SIMPLE = re.compile(rb"([0-9a-fA-F]{1,15})\r\ndata: ([^\n]+)\n\n\r\n")
_BETWEEN = b"\n\n\r\n"
_END = _BETWEEN + b"0\r\n\r\n"
# Bytes of chunks that are parsed at once.
BLOCK = 256 * 1024
# Bytes of a chunk's content that are not the event's data; bytes around the content, besides its
# size; and those of them that follow the event.
_AROUND = len(b"data: \n\n")
_FRAME = len(b"\r\n\r\n")
_AFTER = len(b"\r\n")


def split_events(data: bytes, start: int) -> tuple[list[bytes], NDArray[np.int64]] | None:
    """Parse a chunked body, which begins at `start`, directly into events, if it is a simple one.

    Returns the data of each event, and the offset in the response at which it is complete. Returns
    None for any other stream, or an incomplete one.

    Nearly every server sends simple streams, in which each chunk is one event of one line
    (`f5\\r\\ndata: {...}\\n\\n\\r\\n`). This takes a sixth of the general parser's time. All of
    the form is checked, and any other body goes to the general parser (http1, content,
    `parse_events`), which gives the same events.
    """
    if not data.endswith(_END):
        return None
    end = len(data) - len(b"0\r\n\r\n")
    contents: list[bytes] = []
    steps: list[NDArray[np.int64]] = []
    at = start
    while at < end:
        # In blocks, so that an answer of any length takes little memory more than its events do.
        cut = end if end - at <= BLOCK else data.rfind(_BETWEEN, at, at + BLOCK) + len(_BETWEEN)
        chunks = _SIMPLE.findall(data, at, cut) if cut > at else []
        if not chunks:
            return None
        sizes, block = map(list, zip(*chunks, strict=True))
        lengths = {size: int(size, 16) - _AROUND for size in set(sizes)}
        # Each chunk has the size that it states; a CR inside an event would end a line.
        if list(map(lengths.get, sizes)) != list(map(len, block)) or b"\r" in b"".join(block):
            return None
        wires = {size: length + len(size) + _AROUND + _FRAME for size, length in lengths.items()}
        step = np.fromiter(map(wires.get, sizes), np.int64, len(sizes))
        # Nothing is between the chunks: together they are as long as the block.
        if int(step.sum()) != cut - at:
            return None
        contents += block
        steps.append(step)
        at = cut
    return (contents, np.cumsum(np.concatenate(steps)) + (start - _AFTER)) if steps else None
