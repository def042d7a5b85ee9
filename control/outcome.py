"""A run's outcome as data: `--data report=FILE` has it written as `cluster.reports.outcome`."""

import atexit
import signal
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from pyinfra import logger
from pyinfra.api import Host, State
from pyinfra.api.state import BaseStateCallback, StateStage

from cluster.engine.argv import Launch
from cluster.findings import Finding, Level, Refused, error
from cluster.reports.outcome import (
    Outcome,
    PreviousServed,
    Result,
    ServedNow,
    outcome_finding,
)
from cluster.settings.schema import Settings
from control.deployment import Deployment
from control.inventory import REPORT, address, api_url
from control.invocation import only_reads
from operations import outcome
from operations.outcome import record

INTERRUPTED = 128 + signal.SIGINT
_state: State | None = None
_deployment: Deployment | None = None
_addresses: dict[str, str] = {}


def open_report(data: Mapping[str, str], state: State) -> None:
    """Begin the report that `data` asks for, if any; Refused if its file can't be written."""
    global _state
    if not (name := data.get(REPORT, "")):
        return
    file = Path(name).expanduser().absolute()
    _state = state
    record.file, record.describe = file, _describe
    try:
        outcome.write("interrupted")
    except OSError as e:
        record.file = None
        cure = f"name a file in a folder that exists: --data {REPORT}=FILE"
        raise Refused(error(f"{REPORT} = {name!r} can't be written: {e}", cure=cure)) from None
    _follow_connections()
    atexit.register(_finish)


def follow(deployment: Deployment) -> None:
    """The report is about this deployment."""
    global _deployment
    _deployment = deployment
    if record.file is not None:
        # Connected now, and no longer when the document is written for the last time.
        _addresses.update((host.name, address(host)) for host in deployment.hosts.values())


def _finish() -> None:
    """Write what became of the run. pyinfra's exit code follows the same rules."""
    try:
        outcome.write(_result())
    except OSError as e:
        logger.warning(f"    warning: the report can't be written: {e}")


def _result() -> Result:
    state = _state
    stage = state.current_stage if state is not None else StateStage.Setup
    failed = state is None or not state.initialised or bool(state.failed_hosts)
    if stage is StateStage.Disconnect and not failed and record.result is None:
        record.step = "end"
        return "changed" if state is not None and _changed(state) else "converged"
    if record.interrupted:
        return "interrupted"
    if record.result is not None:
        return record.result
    if stage is StateStage.Prepare and not failed and only_reads():
        return "planned"
    return "failed"


def _changed(state: State) -> bool:
    """Whether any operation changed anything on any node, as pyinfra counts them."""
    return any(
        operation.operation_meta.did_change()
        for operations in state.ops.values()
        for operation in operations.values()
        if operation.operation_meta.did_succeed(_raise_if_not_complete=False)
    )


def _describe(result: Result) -> Outcome:
    deployment = _deployment
    findings = list(record.findings)
    if deployment is not None:
        findings += [
            f for f in deployment.findings if f.level is Level.WARNING and f not in findings
        ]
    reported = tuple(map(outcome_finding, findings))
    if deployment is None:
        return Outcome(outcome=result, step=record.step, findings=reported)
    return Outcome(
        outcome=result,
        step=record.step,
        group=deployment.settings.group,
        model=deployment.model_name,
        findings=reported,
        plan=tuple(deployment.plan.lines()),
        serves=_serves(deployment, result),
        previous=_previous(deployment),
    )


def _previous(deployment: Deployment) -> PreviousServed | None:
    if deployment.plan.previous is None or record.left in ("untouched", "unknown"):
        return None
    return PreviousServed(model=deployment.plan.previous.model, restored=record.left == "previous")


def _serves(deployment: Deployment, result: Result) -> ServedNow | None:
    """The declared group after a success; else the group before it, if a switch put it back; else
    what was read, if no switch began."""
    head = deployment.declaration.head
    if result in ("converged", "changed"):
        if not deployment.running or head not in deployment.hosts:
            return None
        url = _url(deployment, head, deployment.settings)
        return ServedNow(model=deployment.model_name, url=url, ready=True)
    if record.left == "previous" and (previous := deployment.plan.previous):
        node, spec = next(iter(previous.specs.items()))
        url = _url(deployment, node, spec.launch)
        return ServedNow(model=previous.model, url=url, ready=True)
    rank = deployment.decision.running_ranks.get(head)
    if record.left != "untouched" or rank is None or rank.spec is None:
        return None
    launch = rank.spec.launch
    url = _url(deployment, head, launch)
    ready = True if deployment.served else None
    return ServedNow(model=launch.served_model_name, url=url, ready=ready)


def _url(deployment: Deployment, node: str, to: Launch | Settings) -> str:
    return api_url(deployment.hosts[node], to, _addresses.get(node, ""))


def note_interrupts() -> None:
    """From now on Ctrl-C is noted, and ends the run with exit code 130; pyinfra's own handler,
    which still prints and stops, would exit with 0."""
    usual = signal.getsignal(signal.SIGINT)
    if not callable(usual):
        return

    def interrupted(number: int, frame: FrameType | None) -> None:
        record.interrupted = True
        try:
            usual(number, frame)
        except SystemExit:
            raise SystemExit(INTERRUPTED) from None

    signal.signal(signal.SIGINT, interrupted)


class _Failures(BaseStateCallback):
    """Notes what pyinfra itself finds wrong."""

    @staticmethod
    def host_connect_error(state: State, host: Host, error: Exception) -> None:
        what = f"it cannot be reached: {error}"
        unreachable = Finding(
            Level.ERROR, what, host.name, f"ssh {host.name} true", "node-unreachable"
        )
        outcome.note("failed", [unreachable])

    @staticmethod
    def operation_host_error(
        state: State, host: Host, op_hash: str, retry_count: int = 0, max_retries: int = 0
    ) -> None:
        names = ", ".join(sorted(state.op_meta[op_hash].names))
        if record.result is None:
            what = f"the operation failed: {names}"
            outcome.note("failed", [error(what, host.name, key="operation")])


def _follow_connections() -> None:
    """pyinfra makes a state's list of callbacks right before it connects: join it there."""
    initialise = State.init

    def init(self: State, *more: Any, **options: Any) -> None:
        initialise(self, *more, **options)
        if self is _state:
            self.add_callback_handler(_Failures())  # type: ignore[no-untyped-call]

    State.init = init  # type: ignore[method-assign]
