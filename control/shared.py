"""What a deploy file does once for the whole cluster, though it runs for every host."""

from collections.abc import Callable
from typing import TypeVar

from gevent.lock import RLock
from pyinfra.api import DeployError, State
from pyinfra.api.exceptions import PyinfraError

from cluster.findings import Finding, Level, Refused, error
from operations.outcome import note, record

T = TypeVar("T")
_lock = RLock()
_made: dict[tuple[State, Callable[[State], object]], object] = {}


def shared(state: State, make: Callable[[State], T]) -> T:
    """make(state), by whichever host asks first; the others get the same, or the same error.

    A Refused becomes pyinfra's DeployError, which ends the run with one message.
    """
    with _lock:
        if (state, make) not in _made:
            _made[state, make] = _result(state, make)
    made = _made[state, make]
    if isinstance(made, PyinfraError):
        raise made
    return made  # type: ignore[return-value]


def _result(state: State, make: Callable[[State], T]) -> T | PyinfraError:
    try:
        return make(state)
    except Refused as refused:
        note("refused", refused.findings)
        return DeployError(refusal(*refused.findings))
    except PyinfraError as e:
        if record.result is None:
            note("failed", [error(str(e))])
        return e


def refusal(*findings: Finding) -> str:
    """The one message of a refusal."""
    errors = [f for f in findings if f.level is Level.ERROR]
    return "\n    ".join(["refused, nothing was changed:", *map(str, errors)])
