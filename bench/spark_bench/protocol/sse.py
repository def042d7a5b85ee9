"""Server-sent events (WHATWG HTML, 9.2), parsed from a whole body or directly from its chunks."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import overload

import numpy as np

from spark_bench.arrays import Ints
from spark_bench.record import Bytes

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
_LAST = b"0\r\n\r\n"
_END = _BETWEEN + _LAST
# Bytes of a chunk's content that are not the event's data; bytes around the content, besides its
# size; and those of them that follow the event.
_AROUND = len(b"data: \n\n")
_FRAME = len(b"\r\n\r\n")
_AFTER = len(b"\r\n")
# Bytes of chunks that are parsed at once (glibc's malloc maps 128 KiB and more afresh each time),
# and of a body whose events are kept in memory.
BLOCK, SHORT = 120 * 1024, 2 * 1024 * 1024
# Most events whose bytes are read at once.
_READ = 256


class StoredEvents(Sequence[bytes]):
    """The data of a long stream's events, left in the response until they are needed."""

    def __init__(self, response: Bytes, starts: Ints, ends: Ints) -> None:
        """starts, ends: where each event's data begins and ends in the response"""
        self._response, self._starts, self._ends = response, starts, ends
        self._read, self._read_from = list[bytes](), 0

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[bytes]: ...
    def __getitem__(self, index: int | slice) -> bytes | Sequence[bytes]:
        if isinstance(index, int):
            number = range(len(self))[index]
            if not 0 <= number - self._read_from < len(self._read):
                self._read = list(self[number : number + _READ])
                self._read_from = number
            return self._read[number - self._read_from]
        starts, ends = self._starts[index], self._ends[index]
        if not 0 < len(ends) <= _READ:
            return StoredEvents(self._response, starts, ends)
        at = int(starts[0])
        block = self._response[at : int(ends[-1])]
        places = zip((starts - at).tolist(), (ends - at).tolist(), strict=True)
        return [block[start:end] for start, end in places]


def split_events(data: Bytes, start: int) -> tuple[Sequence[bytes], Ints] | None:
    """Parse a chunked body, which begins at `start`, directly into events, if it is a simple one.

    Returns the data of each event, and the offset in the response at which it is complete. Returns
    None for any other stream, or an incomplete one.

    Nearly every server sends simple streams, in which each chunk is one event of one line
    (`f5\\r\\ndata: {...}\\n\\n\\r\\n`). This takes a sixth of the general parser's time. All of
    the form is checked, and any other body goes to the general parser (http1, content,
    `parse_events`), which gives the same events.
    """
    if data[-len(_END) :] != _END:
        return None
    end = len(data) - len(_LAST)
    short = end - start <= SHORT
    steps, lengths = list[Ints](), list[Ints]()
    events = list[bytes]()
    at = start
    while at < end:
        # In blocks, so that an answer of any length takes little memory.
        until = min(at + BLOCK, end)
        block, first = (data, at) if isinstance(data, bytes) else (data[at:until], 0)
        cut = block.rfind(_BETWEEN, first, first + until - at) + len(_BETWEEN)
        chunks = _SIMPLE.findall(block, first, cut)
        if not chunks:
            return None
        sizes, contents = map(list, zip(*chunks, strict=True))
        sized = {size: int(size, 16) - _AROUND for size in set(sizes)}
        length = list(map(len, contents))
        # Each chunk has the size that it states; a CR inside an event would end a line.
        if list(map(sized.get, sizes)) != length or b"\r" in b"".join(contents):
            return None
        wires = {size: length + len(size) + _AROUND + _FRAME for size, length in sized.items()}
        step = np.fromiter(map(wires.get, sizes), np.int64, len(sizes))
        # Nothing is between the chunks: together they are as long as the block.
        if int(step.sum()) != cut - first:
            return None
        steps.append(step)
        at += cut - first
        if short:
            events += contents
        else:
            lengths.append(np.array(length, np.int64))
    if not steps:
        return None
    complete = np.cumsum(np.concatenate(steps)) + (start - _AFTER)
    if short:
        return events, complete
    ends = complete - len(b"\n\n")
    return StoredEvents(data, ends - np.concatenate(lengths), ends), complete
