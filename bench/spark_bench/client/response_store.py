"""Where finished responses wait to be read: memory, and beyond a budget a temporary file."""

from __future__ import annotations

import errno
import os
import tempfile
from array import array
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from spark_bench.client import clock
from spark_bench.record import Ended, Exchange

# Responses in memory before they go to the file, in bytes.
BUDGET = 16 * 1024 * 1024

# How much goes to the file at once: a millisecond's work.
STEP = 1024 * 1024

# What one response costs beside its bytes, roughly: its objects.
OVERHEAD = 600


@dataclass(slots=True)
class Piece:
    """A run of reads of one response: raw stamps, ends (counted from the piece's start), bytes."""

    stamps: bytes | bytearray
    ends: array[int]
    data: bytes | bytearray

    def __len__(self) -> int:
        return len(self.stamps) + 8 * len(self.ends) + len(self.data)

    def first(self, size: int) -> Piece:
        """The reads that lie within the first `size` bytes."""
        reads = bisect_right(self.ends, size)
        end = self.ends[reads - 1] if reads else 0
        stamps = self.stamps[: clock.TIMESPEC.size * reads]
        return Piece(stamps, self.ends[:reads], self.data[:end])


@dataclass(slots=True)
class RequestOutcome:
    """What became of a request, without its bytes; see Exchange."""

    index: int
    scheduled_ns: int
    sent_ns: int
    ended_ns: int
    ended: Ended
    detail: str
    reused: bool


class ResponseStore:
    """Keeps responses in the order in which they end; gives them back by request.

    held: bytes in memory, with what their objects cost
    spilled: bytes in the file
    reads: that all pieces hold
    note: why the file takes no more; empty while it does

    Memory stays below the budget, whatever the run's length. A file that can't be written to (a
    full disk) loses nothing: what it can't take stays in memory, and `note` says so.
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
        """The next piece of a response."""
        self.reads += len(piece.ends)
        self._memory[index].append(piece)
        self.held += len(piece) + OVERHEAD
        if self.held > self._budget and not self.note:
            self._spill()

    def end(self, outcome: RequestOutcome) -> None:
        """A request is over."""
        self._outcomes[outcome.index] = outcome

    def exchanges(self) -> Iterator[Exchange]:
        """Every request that ended, by index, with all its bytes; each is built when needed."""
        for index in sorted(self._outcomes):
            yield self._exchange(self._outcomes[index])

    def close(self) -> None:
        """Forget the file; it has no name that could be left behind."""
        if self._file:
            self._file.close()

    def _exchange(self, outcome: RequestOutcome) -> Exchange:
        stamps, ends, size = bytearray(), array("q"), 0
        parts: list[bytes | bytearray] = []
        for piece in self._pieces(outcome.index):
            stamps += piece.stamps
            ends.extend(array("q", (size + end for end in piece.ends)) if size else piece.ends)
            parts.append(piece.data)
            size += len(piece.data)
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
            b"".join(parts),  # of one part from the file: that itself, not a copy
        )

    def _pieces(self, index: int) -> Iterator[Piece]:
        for at, stamps, ends, data in self._places.get(index, ()):
            assert self._file is not None
            self._file.seek(at)
            raw = self._file.read(stamps), array("q", self._file.read(ends))
            yield Piece(*raw, self._file.read(data))
        yield from self._memory.get(index, ())

    def _spill(self) -> None:
        """The oldest responses go to the file, little by little: the loop must not pause."""
        try:
            while self.held > self._budget - STEP and self._memory:
                self._write(next(iter(self._memory)))
        except OSError as e:
            self.note = f"no room for responses in {tempfile.gettempdir()}: {e.strerror}"

    def _write(self, index: int) -> None:
        """All that is held of one response; what has been written is held no more."""
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="spark-bench-", buffering=0)  # noqa: SIM115
        pieces = self._memory[index]
        while pieces:
            piece = pieces[0]
            size = len(piece)
            self._file.seek(self.spilled)
            if os.writev(self._file.fileno(), (piece.stamps, piece.ends, piece.data)) != size:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            place = self.spilled, len(piece.stamps), 8 * len(piece.ends), len(piece.data)
            self._places[index].append(place)
            self.spilled += size
            self.held -= size + OVERHEAD
            del pieces[0]
        del self._memory[index]
