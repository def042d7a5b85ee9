"""Removing from a node what no group uses any more."""

import json
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any

from pyinfra import host
from pyinfra.api import FunctionCommand, Host, State, operation

from cluster.findings import Finding, error
from cluster.printable import printable, tail
from cluster.transfer.prune_plan import KINDS, Kept, parse_kept
from cluster.transfer.weights import TASK, run_script
from operations import outcome, scripts, shell

SCRIPT = scripts.bundle("unused_here.py")
# Seconds: a disk that is slow to list, and to remove, hundreds of GB.
READ_SECONDS = 300
REMOVE_SECONDS = 3600


@dataclass(frozen=True)
class Removal:
    """What a node is to remove.

    + hub: the hub's folder; root: `cache_dir`
    + items: kind and name, as `cluster.transfer.prune_plan.StoredItem` has them
    + lost: why this run may change nothing more, else None
    """

    hub: str
    root: str
    items: tuple[tuple[str, str], ...]
    lost: Callable[[], Finding | None]


def read_kept(
    hosts: Mapping[str, Host], folders: Mapping[str, tuple[str, str]]
) -> dict[str, shell.Reading[Kept]]:
    """What each node keeps, in its hub's folder, its `cache_dir`, and in Docker."""

    def read(at: Host) -> shell.Reading[Kept]:
        hub, root = folders[at.name]
        try:
            request = {"do": "look", "hub": hub, "root": root, "task": TASK}
            return shell.Reading(parse_kept(_ask(at, request, READ_SECONDS)))
        except ValueError as wrong:
            return shell.Reading(why=str(wrong))

    return shell.on_all(hosts.values(), read)


@operation()
def unused_removed(removal: Removal | None) -> Generator[FunctionCommand, None, None]:
    """Remove it; None, or no items: there is nothing to remove."""
    if removal and removal.items:
        yield FunctionCommand(_remove, (removal,), {})
    else:
        host.noop("nothing is unused")


def _remove(state: State, host: Host, removal: Removal) -> bool:
    if lost := removal.lost():
        outcome.log_failure(host, lost)
        return False
    request = {"do": "remove", "hub": removal.hub, "root": removal.root}
    try:
        reply = _ask(host, {**request, "items": removal.items}, REMOVE_SECONDS)
    except ValueError as wrong:
        outcome.log_failure(
            host, error(f"it could not remove what is unused: {wrong}", key="prune-failed")
        )
        return False
    left = reply.get("left")
    left = left if isinstance(left, dict) else {}
    for kind, name in removal.items:
        if why := left.get(f"{kind} {name}"):
            what = f"{KINDS[kind]} {name} could not be removed: {printable(str(why)[:300])}"  # type: ignore[index]
            outcome.log_failure(host, error(what, cure="run this again", key="prune-failed"))
        else:
            host.log(f"removed: {KINDS[kind]} {name}")  # type: ignore[index]
    return not left


def _ask(at: Host, request: Mapping[str, Any], seconds: int) -> dict[str, Any]:
    """The node's answer; ValueError, with its words, where there is none."""
    answer = shell.run_command(at, run_script(SCRIPT, seconds, json.dumps(request)))
    try:
        reply = json.loads(answer.out[-1]) if answer.ok else None
    except (ValueError, IndexError, RecursionError):
        reply = None
    if not isinstance(reply, dict) or "failed" in reply:
        raise ValueError(tail(str(reply["failed"]) if isinstance(reply, dict) else answer.text))
    return reply
