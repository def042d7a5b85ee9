"""Bytes with the times they came at."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spark_bench.record import Exchange

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Tape:
    """What came, and when: of a whole response, of its body, or of its decoded body.

    data: the bytes
    ends: for each read, how many of these bytes had come by its end; never falls
    stamps: for each read, when it came, ns
    """

    data: bytes
    ends: Ints
    stamps: Ints

    @classmethod
    def of(cls, exchange: Exchange) -> Tape:
        """The raw bytes of an exchange; its arrays are seen, not copied."""
        return cls(exchange.data, np.asarray(exchange.ends), np.asarray(exchange.stamps))

    def reads(self, ends: Ints) -> Ints:
        """For each number of bytes, the index of the read that held the last of them."""
        return np.searchsorted(self.ends, ends, side="left")

    def seen_through(self, data: bytes, ends: Ints) -> Tape:
        """The same reads, of other bytes: those that these turned into."""
        return Tape(data, ends, self.stamps)
