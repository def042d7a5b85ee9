"""The kernel's receive times, on the clock that the rest of a run uses.

The kernel stamps each packet with CLOCK_REALTIME when it arrives (SO_TIMESTAMPNS); a TCP read gets
the stamp of its last packet. Everything else uses CLOCK_MONOTONIC. The offset between the two is
measured at the start and watched during the run, since the wall clock may be set.
"""

from __future__ import annotations

import socket
import sys
import time
from array import array
from collections.abc import Callable
from struct import Struct

import numpy as np

# asm-generic/socket.h; the constant is missing from Python's socket module.
SO_TIMESTAMPNS = 35

TIMESPEC = Struct("qq")

# Bytes for ancillary data: one timespec with its header, rounded up (CMSG_SPACE).
ANCILLARY = 64


def enable_stamps(sock: socket.socket) -> bool:
    """Have the kernel stamp what the socket receives. Returns False if it can't."""
    if sys.platform != "linux":
        return False
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    except OSError:
        return False
    return True


def read_clocks() -> tuple[int, int]:
    """Read both clocks: how long that took, and CLOCK_REALTIME minus CLOCK_MONOTONIC, in ns."""
    before = time.perf_counter_ns()
    wall = time.time_ns()
    after = time.perf_counter_ns()
    return after - before, wall - (before + after) // 2


def offset_ns(read: Callable[[], tuple[int, int]] = read_clocks) -> int:
    """CLOCK_REALTIME minus CLOCK_MONOTONIC, in ns.

    Taken from the quickest of several readings, since one that was interrupted takes longer.
    """
    return min(read() for _ in range(20))[1]


def monotonic(stamps: bytes | bytearray, offset: int) -> array[int]:
    """Convert raw timespecs to CLOCK_MONOTONIC nanoseconds. offset: see `offset_ns`"""
    pairs = np.frombuffer(stamps, np.int64).reshape(-1, 2)
    return array("q", (pairs[:, 0] * 1_000_000_000 + pairs[:, 1] - offset).tobytes())


def timespec(ns: int) -> bytes:
    """Encode nanoseconds as a timespec, the format of the kernel's stamps."""
    return TIMESPEC.pack(*divmod(ns, 1_000_000_000))


def last(stamps: bytes | bytearray | memoryview, offset: int) -> int:
    """The last of raw timespecs, as CLOCK_MONOTONIC nanoseconds."""
    seconds, ns = TIMESPEC.unpack_from(stamps, len(stamps) - TIMESPEC.size)
    return int(seconds * 1_000_000_000 + ns - offset)
