"""One run of pyinfra: what it was called with, what it does once for all hosts, and its outcome as
data (`--data report=FILE` has it written as `cluster.reports.outcome`)."""

import atexit
import signal
from collections.abc import Callable, Sequence
from fnmatch import fnmatch
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import msgspec
from gevent.lock import RLock
from pyinfra import logger
from pyinfra.api import DeployError, Host, Inventory, State
from pyinfra.api.exceptions import PyinfraError
from pyinfra.api.state import BaseStateCallback, StateStage
from pyinfra.context import ctx_state

from cluster.engine.argv import Launch
from cluster.findings import Finding, Level, Refused, error
from cluster.printable import json_text
from cluster.reports import outcome as report
from cluster.settings.schema import Settings
from control import inventory
from control.deployment import Deployment
from operations import outcome

T = TypeVar("T")
INTERRUPTED = 128 + signal.SIGINT
# The one deploy file that connects to a host which only monitors.
MONITORING = "monitoring.py"

# ---- once for all hosts


_lock = RLock()
_results: dict[tuple[State, Callable[[State], object]], object] = {}


def shared(state: State, make: Callable[[State], T]) -> T:
    """The result of make(state), which is called only for the host that comes first; the others get
    the same result, or the same error.

    A Refused becomes pyinfra's DeployError, which ends the run with one message.
    """
    with _lock:
        if (state, make) not in _results:
            try:
                _results[state, make] = make(state)
            except Refused as refused:
                _results[state, make] = _refusal(refused)
            except PyinfraError as e:
                if outcome.record.result is None:
                    outcome.note("failed", [error(str(e), key="operation")])
                _results[state, make] = e
    result = _results[state, make]
    if isinstance(result, PyinfraError):
        raise result
    return result  # type: ignore[return-value]


def _refusal(refused: Refused) -> DeployError:
    """A refusal as the error that ends the run, noted for the report."""
    outcome.note("refused", refused.findings)
    errors = [str(f) for f in refused.findings if f.level is Level.ERROR]
    return DeployError("\n    ".join(["refused, nothing was changed:", *errors]))


def print_document(document: object) -> None:
    """Print a document on stdout as JSON, alone: what pyinfra itself logs goes to stderr."""
    print(json_text(msgspec.json.encode(document)), flush=True)


# ---- before pyinfra reads the inventory


def check_command_line() -> None:
    """Refuse a command line that leaves no host: pyinfra would do nothing, and exit with 0.

    From here on the report is written, if one was requested.
    """
    params = inventory.command_line()
    data = dict(item.partition("=")[::2] for item in params.get("data") or ())
    options = {f"ssh_{key}": params.get(f"ssh_{key}") for key in ("user", "port", "key")}
    data |= {name: value for name, value in options.items() if value}
    operations = params.get("operations") or ()
    _note_interrupts()
    try:
        _open_report(data.get(inventory.REPORT, ""), ctx_state.get())  # type: ignore[no-untyped-call]
        ours = all(str(word).endswith(".py") for word in operations)
        monitors = not ours or MONITORING in {Path(str(word)).name for word in operations}
        hosts = inventory.load_inventory(
            str(params.get("inventory") or ""),
            data,
            params.get("group_data") or (),
            ours=ours,
            monitor=monitors,
        )
        if not monitors:
            _drop_monitor()
        elif ours and len(operations) > 1 and len(inventory.all_hosts(hosts)) < len(hosts):
            what = f"{MONITORING} runs with other files, which leave the group `monitor` alone"
            raise Refused(
                error(what, cure=f"run deploys/{MONITORING} by itself", key="monitoring-alone")
            )
        limits, excluded = params.get("limit") or (), params.get("exclude") or ()
        left = [host for host in hosts if not limits or _matches(host, limits)]
        if not [host for host in left if not _matches(host, excluded)]:
            words = [f"--limit {p}" for p in limits] + [f"--exclude {p}" for p in excluded]
            names = ", ".join(host.name for host in hosts)
            raise Refused(
                error(f"{' '.join(words)} leaves no host; there are: {names}", key="limit")
            )
    except Refused as refused:
        raise _refusal(refused) from None


def _drop_monitor() -> None:
    """Have pyinfra connect to no host that only monitors, in whatever state of this run."""
    initialize = State.init

    def init(self: State, hosts: Inventory, *more: Any, **options: Any) -> None:
        inventory.drop_monitor(hosts)
        initialize(self, hosts, *more, **options)

    State.init = init  # type: ignore[method-assign, assignment]


def _matches(host: Host, patterns: Sequence[str]) -> bool:
    """Whether a host is in one of these groups, or its name fits one of these patterns."""
    return any(p in host.groups or fnmatch(host.name, p) for p in patterns)


def _note_interrupts() -> None:
    """From now on Ctrl-C is noted, and ends the run with exit code 130; pyinfra's own handler,
    which still prints and stops, would exit with 0."""
    usual = signal.getsignal(signal.SIGINT)
    if not callable(usual):
        return

    def interrupted(number: int, frame: FrameType | None) -> None:
        outcome.record.interrupted = True
        try:
            usual(number, frame)
        except SystemExit:
            raise SystemExit(INTERRUPTED) from None

    signal.signal(signal.SIGINT, interrupted)


# ---- the report


_state: State | None = None
_deployment: Deployment | None = None
_addresses: dict[str, str] = {}


def _open_report(name: str, state: State) -> None:
    """Begin the report in the file of this name, if any; Refused if it can't be written."""
    global _state
    if not name:
        return
    _state = state
    outcome.record.file, outcome.record.describe = Path(name).expanduser().absolute(), _describe
    try:
        outcome.write("interrupted")
    except OSError as e:
        outcome.record.file = None
        cure = f"name a file in a folder that exists: --data {inventory.REPORT}=FILE"
        what = f"{inventory.REPORT} = {name!r} can't be written: {e}"
        raise Refused(error(what, cure=cure, key="report-not-writable")) from None
    # pyinfra creates a state's list of callbacks right before it connects, so add ours there.
    initialise = State.init

    def init(self: State, *more: Any, **options: Any) -> None:
        initialise(self, *more, **options)
        if self is state:
            self.add_callback_handler(_Failures())  # type: ignore[no-untyped-call]

    State.init = init  # type: ignore[method-assign]
    atexit.register(_finish)


def report_on(deployment: Deployment) -> None:
    """Make the report about this deployment."""
    global _deployment
    _deployment = deployment
    if outcome.record.file is not None:
        # Read now: when the document is written for the last time, nothing is connected any more.
        _addresses.update(
            (host.name, inventory.address(host)) for host in deployment.hosts.values()
        )


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
        if outcome.record.result is None:
            what = f"the operation failed: {names}"
            outcome.note("failed", [error(what, host.name, key="operation")])


def _finish() -> None:
    """Write what became of the run. pyinfra's exit code follows the same rules."""
    state = _state
    stage = state.current_stage if state is not None else StateStage.Setup
    failed = state is None or not state.initialised or bool(state.failed_hosts)
    result: report.Result = outcome.record.result or "failed"
    if state and stage is StateStage.Disconnect and not failed and outcome.record.result is None:
        outcome.record.step = "end"
        # Whether any operation changed anything on any node, as pyinfra counts them.
        changed = any(
            operation.operation_meta.did_change()
            for operations in state.ops.values()
            for operation in operations.values()
            if operation.operation_meta.did_succeed(_raise_if_not_complete=False)
        )
        result = "changed" if changed else "converged"
    elif outcome.record.interrupted:
        result = "interrupted"
    elif outcome.record.result is None and stage is StateStage.Prepare and not failed:
        result = "planned" if inventory.only_reads() else "failed"
    try:
        outcome.write(result)
    except OSError as e:
        logger.warning(f"    warning: the report can't be written: {e}")


def _describe(result: report.Result) -> report.Outcome:
    deployment, findings = _deployment, list(outcome.record.findings)
    if deployment is None:
        return report.Outcome(
            outcome=result,
            step=outcome.record.step,
            findings=tuple(map(report.outcome_finding, findings)),
        )
    findings += [f for f in deployment.findings if f.level is Level.WARNING and f not in findings]
    previous = deployment.plan.previous
    switched = previous is not None and outcome.record.left not in ("untouched", "unknown")
    return report.Outcome(
        outcome=result,
        step=outcome.record.step,
        group=deployment.settings.group,
        model=deployment.model_name,
        findings=tuple(map(report.outcome_finding, findings)),
        plan=tuple(deployment.plan.lines()),
        serves=_serves(deployment, result),
        previous=report.PreviousServed(
            model=previous.model, restored=outcome.record.left == "previous"
        )
        if previous and switched
        else None,
    )


def _serves(deployment: Deployment, result: report.Result) -> report.ServedNow | None:
    """The declared group after a success; else the group before it, if a switch put it back; else
    what was read, if no switch began."""
    head = deployment.declaration.head
    if result in ("converged", "changed"):
        if not deployment.running or head not in deployment.hosts:
            return None
        url = _served_url(deployment, head, deployment.settings)
        return report.ServedNow(model=deployment.model_name, url=url, ready=True)
    if outcome.record.left == "previous" and (previous := deployment.plan.previous):
        node, spec = next(iter(previous.specs.items()))
        url = _served_url(deployment, node, spec.launch)
        return report.ServedNow(model=previous.model, url=url, ready=True)
    rank = deployment.decision.running_ranks.get(head)
    if outcome.record.left != "untouched" or rank is None or rank.spec is None:
        return None
    launch = rank.spec.launch
    return report.ServedNow(
        model=launch.served_model_name,
        url=_served_url(deployment, head, launch),
        ready=True if deployment.served else None,
    )


def _served_url(deployment: Deployment, node: str, to: Launch | Settings) -> str:
    return inventory.api_url(deployment.hosts[node], to, _addresses.get(node, ""))
