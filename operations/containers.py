"""Ranks as containers (or processes) that shall not run: ended, removed, as the plan says.

The plan is asked when an operation runs: it is made again once an image has come.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass

from pyinfra.api import StringCommand, operation

from cluster.command import Command
from cluster.plan import phases
from cluster.plan.plan import Plan
from cluster.rank.runtime import Runtime
from facts.fact import render


@dataclass(frozen=True)
class Ranks:
    """One node's ranks: the plan as it is now, how ranks are run, and the node's name."""

    plan: Callable[[], Plan]
    runtime: Runtime
    node: str


@operation()
def released(ranks: Ranks) -> Generator[StringCommand, None, None]:
    """Turn the restart policy off on every rank that is about to end."""
    yield from _commands(phases.release(ranks.runtime, ranks.plan(), ranks.node))


@operation()
def stopped(ranks: Ranks, seconds: int, head: bool) -> Generator[StringCommand, None, None]:
    """Stop rank 0 (`head`), or the others; `seconds` until a rank is killed."""
    yield from _commands(phases.stop(ranks.runtime, ranks.plan(), ranks.node, seconds, head=head))


@operation()
def removed(ranks: Ranks) -> Generator[StringCommand, None, None]:
    """Remove what is no longer wanted."""
    yield from _commands(phases.replace(ranks.runtime, ranks.plan(), ranks.node))


def _commands(commands: list[Command]) -> Iterator[StringCommand]:
    return map(render, commands)
