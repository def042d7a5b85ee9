"""Converge one node's monitoring: containers, their files, the metrics timer, data."""

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass

from pyinfra import host
from pyinfra.api import FunctionCommand, Host, State, operation

from cluster.command import Command
from cluster.findings import Finding, error
from cluster.monitoring import metrics_timer, parts
from cluster.monitoring.wanted import NodeSteps
from cluster.printable import printable
from operations import outcome, shell

# Seconds for a part to answer: Prometheus replays what it had not written to its blocks.
READY_SECONDS = 120
_READY = """
until curl -sf --noproxy '*' -m 3 -o /dev/null "$1"; do sleep 0.3; done
""".strip()


@dataclass(frozen=True)
class NodeChange:
    """What one node's operation does.

    + steps: as planned
    + fetched: an image comes first: the steps are planned again once it is there
    + again: reads the node and plans; Refused where that can't be
    + lost: why this run may change nothing more, else None
    """

    steps: NodeSteps
    fetched: bool
    again: Callable[[], NodeSteps]
    lost: Callable[[], Finding | None]


@operation()
def converged(change: NodeChange) -> Generator[FunctionCommand, None, None]:
    """Have the node's containers and units as they are planned; what was started must answer."""
    if change.steps or change.fetched:
        yield FunctionCommand(_converge, (change,), {})
    else:
        host.noop("monitoring is as declared")


def _converge(state: State, host: Host, change: NodeChange) -> bool:
    if lost := change.lost():
        outcome.log_failure(host, lost)
        return False
    steps = change.again() if change.fetched else change.steps
    # An image that has come may be another one than before.
    planned = tuple(change.steps.lines())
    for line in (line for line in steps.lines() if line not in planned):
        host.log(printable(line))
    for what, command in node_commands(steps):
        answer = shell.run_command(host, command)
        if not answer.ok:
            outcome.log_failure(
                host, error(f"could not {what}: {answer.tail}", host.name, key="monitoring-failed")
            )
            return False
        host.log(f"{what}: done")
    return all(_answers(host, step) for step in steps.parts)


def node_commands(steps: NodeSteps) -> Iterator[tuple[str, Command]]:
    """What is done on the node, in this order, each with its command."""
    if steps.units and steps.timer:
        yield "place the metrics timer", metrics_timer.place_units(steps.timer)
    for step in steps.parts:
        if step.there and (step.recreate or step.wanted is None):
            yield f"remove {step.name}", parts.remove_part(step.there)
        if step.wanted and step.recreate:
            part = step.wanted.part
            if part.data:
                yield f"keep the volume {part.data}", parts.create_data(part)
            yield f"create {step.name}", parts.create_part(part)
            if step.wanted.contents:
                yield f"configure {step.name}", parts.copy_files(step.wanted)
        if step.wanted:
            yield f"start {step.name}", parts.start_part(step.name)
    if steps.units and not steps.timer:
        yield "remove the metrics timer", metrics_timer.remove_units(steps.group)
    for volume in steps.volumes:
        yield f"remove the volume {volume}", parts.remove_data(volume)


def _answers(at: Host, step: parts.PartStep) -> bool:
    """Whether a part that was started answers; why not is logged."""
    if step.wanted is None:
        return True
    url = step.wanted.url
    ready = Command(("sh", "-c", _READY, "sh", url), READY_SECONDS)
    if shell.run_command(at, ready).ok:
        at.log(f"{step.name} answers at {url}")
        return True
    what = f"{step.name} does not answer at {url} within {READY_SECONDS} s"
    outcome.log_failure(
        at, error(what, at.name, f"docker logs {step.name} on it", key="monitoring-silent")
    )
    log = shell.run_command(at, parts.part_log(step.name))
    for line in (*log.out, *log.err)[-12:]:
        at.log(f"  | {line}")
    return False
