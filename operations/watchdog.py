"""Converge one node's watchdog: its files and its unit."""

from collections.abc import Callable, Generator
from dataclasses import dataclass

from pyinfra import host
from pyinfra.api import FunctionCommand, Host, State, operation

from cluster.findings import Finding, error
from cluster.watchdog.units import WatchdogStep, unit_name
from operations import outcome, shell


@dataclass(frozen=True)
class WatchdogChange:
    """What one node's operation does.

    + step: as planned
    + lost: why this run may change nothing more, else None
    """

    step: WatchdogStep
    lost: Callable[[], Finding | None]


@operation()
def converged(change: WatchdogChange) -> Generator[FunctionCommand, None, None]:
    """Have the node's watchdog as it is planned; systemd waits until it is up."""
    if change.step.reasons:
        yield FunctionCommand(_converge, (change,), {})
    else:
        host.noop("the watchdog is as declared")


def _converge(state: State, host: Host, change: WatchdogChange) -> bool:
    if lost := change.lost():
        outcome.log_failure(host, lost)
        return False
    answer = shell.run_command(host, change.step.command())
    if not answer.ok:
        verb = "started" if change.step.config else "removed"
        cure = f"journalctl -u {unit_name(change.step.group)} on it"
        outcome.log_failure(
            host,
            error(
                f"its watchdog could not be {verb}: {answer.tail}",
                host.name,
                cure,
                key="watchdog-not-set",
            ),
        )
        return False
    host.log(f"its watchdog: {'started' if change.step.config else 'removed'}")
    return True
