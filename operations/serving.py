"""The group as a whole: checked again, switched to."""

from __future__ import annotations

from collections.abc import Callable, Generator

from pyinfra import host
from pyinfra.api import FunctionCommand, Host, State, operation

from cluster.findings import Refused
from operations import outcome
from operations.switch import Switch, carry_out

SwitchNow = Callable[[], Switch | None]


@operation()
def checked(again: Callable[[], None], needed: bool) -> Generator[FunctionCommand, None, None]:
    """Read, plan and check everything again, after an image, weights or vocabularies have come.

    + again: does that; raises Refused, which ends the run before anything stops
    + needed: whether anything has come
    """
    if needed:
        yield FunctionCommand(_check, (again,), {})


@operation()
def switched(switch: SwitchNow) -> Generator[FunctionCommand, None, None]:
    """From what runs to what is wanted, until the model has answered; None: it serves already.

    What served before is kept until then, and put back after a failure.
    """
    if switch() is None:
        host.noop("every rank runs, and the model is served")
    else:
        yield FunctionCommand(_switch, (switch,), {})


def _check(state: State, host: Host, again: Callable[[], None]) -> bool:
    outcome.begin_step("recheck")
    try:
        again()
    except Refused as refused:
        host.log_styled("refused; what came is kept, no rank was touched:", fg="red")
        for finding in refused.findings:
            host.log(f"  {finding}")
        outcome.note("refused", refused.findings)
        return False
    return True


def _switch(state: State, host: Host, now: SwitchNow) -> bool:
    outcome.begin_step("switch")
    switch = now()
    return switch is None or carry_out(switch)
