"""Ctrl-C in the middle of a switch: undone first, since the half of it serves nobody."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pyinfra.api import Host

from cluster.findings import Finding, error
from operations import outcome

GivenUp = Callable[[], Finding | None]
# Ctrl-C, a plain `kill`, a terminal that is closed.
ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def held_off(at: Host) -> Iterator[GivenUp]:
    """The first of these signals ends nothing, but is told by what this yields.

    A second Ctrl-C is as ever. What was ignored still is: `nohup` means it.

    + at: where it is told that it was heard
    """
    now = {number: signal.getsignal(number) for number in ENDS}
    usual = {number: how for number, how in now.items() if how not in (None, signal.SIG_IGN)}
    given_up = list[Finding]()

    def note(number: int, _: object) -> None:
        if signal.SIGINT in usual:
            signal.signal(signal.SIGINT, usual[signal.SIGINT])
        outcome.record.interrupted = True
        if not given_up:
            given_up.append(error(f"interrupted by {signal.Signals(number).name}"))
            said = "interrupted: what was begun is undone; Ctrl-C: all is left as it is then"
            at.log_styled(said, fg="yellow")

    for number in usual:
        signal.signal(number, note)
    try:
        yield lambda: next(iter(given_up), None)
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)
