"""Ctrl-C in the middle of a switch: undone first, since the half of it serves nobody."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pyinfra.api import Host

from cluster.findings import Finding, error

GivenUp = Callable[[], Finding | None]


@contextmanager
def held_off(at: Host) -> Iterator[GivenUp]:
    """The first Ctrl-C ends nothing, but is told by what this yields; the second one is as ever.

    + at: where it is told that it was heard
    """
    usual = signal.getsignal(signal.SIGINT)
    given_up = list[Finding]()

    def note(*_: object) -> None:
        signal.signal(signal.SIGINT, usual)
        given_up.append(error("interrupted by Ctrl-C"))
        at.log_styled("Ctrl-C: what was begun is undone; once more: left as it is", fg="yellow")

    signal.signal(signal.SIGINT, note)
    try:
        yield lambda: next(iter(given_up), None)
    finally:
        signal.signal(signal.SIGINT, usual)
