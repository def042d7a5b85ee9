"""Keeps responses until they are read: in memory, and beyond a budget in a temporary file."""

from __future__ import annotations

import errno
import os
import tempfile
from array import array
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import IO

from spark_bench.client import clock
from spark_bench.record import Ended, Exchange

# Most bytes of responses to keep in memory; beyond that, they go to the file.
BUDGET = 16 * 1024 * 1024

# Bytes that go to the file at once, which takes some 50 us, and in how many pieces at most: writev
# takes 1024 buffers.
STEP = 64 * 1024
MOST_PIECES = 256

# Approximate memory in bytes that a response's objects take besides its content.
OVERHEAD = 600


@dataclass(slots=True)
class Piece:
    """Consecutive reads of one response: raw stamps, ends (from the piece's start), bytes."""

    stamps: bytes | bytearray
    ends: array[int]
    data: bytes | bytearray

    def __len__(self) -> int:
        return len(self.stamps) + 8 * len(self.ends) + len(self.data)

    def first(self, size: int) -> Piece:
        """The reads that lie fully within the first `size` bytes."""
        reads = bisect_right(self.ends, size)
        end = self.ends[reads - 1] if reads else 0
        stamps = self.stamps[: clock.TIMESPEC.size * reads]
        return Piece(stamps, self.ends[:reads], self.data[:end])


@dataclass(slots=True)
class RequestOutcome:
    """What became of a request, without its bytes; for each field, see Exchange."""

    index: int
    scheduled_ns: int
    sent_ns: int
    ended_ns: int
    ended: Ended
    detail: str
    reused: bool
    sent_by_ns: int = 0
    unstamped: bool = False
    segments: array[int] = field(default_factory=lambda: array("q"))
    looked: array[int] = field(default_factory=lambda: array("q"))


class StoredBytes:
    """The bytes of a response of which some are in a file: each part is read when it is needed,
    until the store is closed."""

    def __init__(self, file: IO[bytes] | None) -> None:
        self._file = file
        self._size = 0
        # Where each piece begins in the response, and its bytes or their places in the file.
        self._starts = array("q")
        self._pieces: list[range | bytes | bytearray] = []

    def append(self, piece: range | bytes | bytearray) -> None:
        """Append bytes, given as their places in the file or as they are."""
        self._starts.append(self._size)
        self._pieces.append(piece)
        self._size += len(piece)

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, part: slice, /) -> bytes:
        at, end, _ = part.indices(self._size)
        parts = list[bytes | bytearray]()
        number = bisect_right(self._starts, at) - 1
        while at < end:
            begin = at - self._starts[number]
            piece = self._pieces[number][begin : begin + end - at]
            number += 1
            at += len(piece)
            if isinstance(piece, range):
                assert self._file is not None
                piece = os.pread(self._file.fileno(), len(piece), piece.start)
            parts.append(piece)
        return b"".join(parts)

    def __bytes__(self) -> bytes:
        return self[:]


class ResponseStore:
    """Stores responses as they come, and returns them in the order of their requests.

    held: bytes in memory, including what the objects take
    spilled: bytes in the file
    reads: number of reads in all pieces
    note: why the file takes no more; empty while it does

    Memory stays below the budget however long the run is. If the file can't be written (a full
    disk), nothing is lost: the rest stays in memory, and `note` says so.
    """

    def __init__(self, offset_ns: int, budget: int | None = None) -> None:
        self.offset_ns = offset_ns
        self.spilled = 0
        self.reads = 0
        self.note = ""
        self._budget = BUDGET if budget is None else budget
        self.held = 0
        self._outcomes: dict[int, RequestOutcome] = {}
        self._memory: defaultdict[int, list[Piece]] = defaultdict(list)
        self._places: defaultdict[int, list[tuple[int, int, int, int]]] = defaultdict(list)
        self._file: IO[bytes] | None = None

    def keep(self, index: int, piece: Piece) -> None:
        """Store the next piece of a response."""
        self.reads += len(piece.ends)
        self._memory[index].append(piece)
        self.held += len(piece) + OVERHEAD
        if self.held > self._budget and not self.note:
            self._spill()

    def end(self, outcome: RequestOutcome) -> None:
        """Store the outcome of a request that has ended."""
        self._outcomes[outcome.index] = outcome

    def exchanges(self) -> Iterator[Exchange]:
        """Yield every ended request with all its bytes, in the order of their indices.

        Each is put together only when it is needed. What the file has of its bytes stays there.
        """
        for index in sorted(self._outcomes):
            yield self._exchange(self._outcomes[index])

    def take(self) -> Iterator[Exchange]:
        """Yield every request that has ended, in the order of their indices, and forget it."""
        for index in sorted(self._outcomes):
            yield self._exchange(self._outcomes.pop(index))
            self.held -= sum(len(piece) + OVERHEAD for piece in self._memory.pop(index, ()))
            self._places.pop(index, None)

    def close(self) -> None:
        """Forget all responses, and close the temporary file, which has no name and so leaves
        nothing behind."""
        for each in (self._outcomes, self._memory, self._places):
            each.clear()
        if self._file:
            self._file.close()

    def _exchange(self, outcome: RequestOutcome) -> Exchange:
        stamps, ends = bytearray(), array("q")
        places = self._places.get(outcome.index, ())
        memory = self._memory.get(outcome.index, ())
        data = StoredBytes(self._file)
        for its_stamps, its_ends, content in self._pieces(places, memory):
            stamps += its_stamps
            before = len(data)
            ends.extend(array("q", (before + end for end in its_ends)) if before else its_ends)
            data.append(content)
        return Exchange(
            outcome.index,
            outcome.scheduled_ns,
            outcome.sent_ns,
            outcome.ended_ns,
            outcome.ended,
            outcome.detail,
            outcome.reused,
            clock.monotonic(stamps, self.offset_ns),
            ends,
            data if places else b"".join([piece.data for piece in memory]),
            sent_by_ns=outcome.sent_by_ns,
            unstamped=outcome.unstamped,
            segments=outcome.segments,
            looked=outcome.looked,
        )

    def _pieces(
        self, places: Iterable[tuple[int, int, int, int]], memory: Iterable[Piece]
    ) -> Iterator[tuple[bytes | bytearray, array[int], range | bytes | bytearray]]:
        """Yield the stamps and ends of each piece, and its bytes or their places in the file."""
        for at, stamps, ends, data in places:
            assert self._file is not None
            self._file.seek(at)
            raw = self._file.read(stamps), array("q", self._file.read(ends))
            at += stamps + ends
            yield *raw, range(at, at + data)
        for piece in memory:
            yield piece.stamps, piece.ends, piece.data

    def _spill(self) -> None:
        """Move the oldest responses to the file, in small steps since the loop must not pause."""
        try:
            while self.held > self._budget - STEP and self._memory:
                self._write()
        except OSError as e:
            self.note = f"no room for responses in {tempfile.gettempdir()}: {e.strerror}"

    def _write(self) -> None:
        """Write the oldest pieces, up to STEP bytes if they are small, and free their memory."""
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="spark-bench-", buffering=0)  # noqa: SIM115
        batch, size = list[tuple[int, Piece]](), 0
        for index, pieces in self._memory.items():
            for piece in pieces:
                batch.append((index, piece))
                size += len(piece)
                if size >= STEP or len(batch) == MOST_PIECES:
                    break
            if size >= STEP or len(batch) == MOST_PIECES:
                break
        buffers = [
            buffer for _, piece in batch for buffer in (piece.stamps, piece.ends, piece.data)
        ]
        self._file.seek(self.spilled)
        if os.writev(self._file.fileno(), buffers) != size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        for index, piece in batch:
            place = self.spilled, len(piece.stamps), 8 * len(piece.ends), len(piece.data)
            self._places[index].append(place)
            self.spilled += len(piece)
            self.held -= len(piece) + OVERHEAD
            del self._memory[index][0]
            if not self._memory[index]:
                del self._memory[index]
