"""The stream that nearly every server sends, taken apart at a third of the general cost.

A chunked body of which each chunk is one event of one line: `f5\\r\\ndata: {...}\\n\\n\\r\\n`. All
of that is checked; whatever is any different goes the general way (http1, sse), which gives the
same events.
"""

from __future__ import annotations

import re

import numpy as np

from spark_bench.protocol.tape import Ints

_BETWEEN = b"\n\n\r\n"
_OPENING = b"\r\ndata: "
_LAST = b"0\r\n\r\n"
# Of a chunk's content, what is not the event's data: "data: " and the blank line.
_AROUND = len(b"data: \n\n")
_SIZE = re.compile(rb"[0-9a-fA-F]{1,15}")


def split_events(data: bytes, start: int) -> tuple[list[bytes], Ints] | None:
    """The events of a chunked body that begins at `start`: the data of each, and how many bytes of
    the response there were when it was complete. None: not such a stream, or not a whole one."""
    parts = data[start:].split(_BETWEEN)
    if parts.pop() != _LAST or not parts:
        return None
    # With so many line ends and no more, there is none inside a size or an event.
    if (
        data.count(b"\n", start) != 4 * len(parts) + 2
        or data.count(b"\r", start) != 2 * len(parts) + 2
    ):
        return None
    sizes, _, contents = zip(*[part.partition(_OPENING) for part in parts], strict=True)
    if not _sizes_hold(sizes, contents):
        return None
    lengths = np.fromiter(map(len, parts), np.int64, len(parts)) + len(_BETWEEN)
    return list(contents), np.cumsum(lengths) + (start - len(b"\r\n"))


def _sizes_hold(sizes: tuple[bytes, ...], contents: tuple[bytes, ...]) -> bool:
    """Each chunk says a size and has it, and none of the events is empty. (A chunk that does not
    open as an event is all size here, and no size looks like that.)"""
    lengths = {size: int(size, 16) - _AROUND for size in set(sizes) if _SIZE.fullmatch(size)}
    if min(lengths.values(), default=0) <= 0:
        return False
    return [lengths.get(size) for size in sizes] == list(map(len, contents))
