"""Secrets on a node: the API key's file, which the login may neither read nor write."""

from collections.abc import Callable, Generator

from pyinfra import host
from pyinfra.api import FunctionCommand, Host, State, operation

from cluster.findings import error
from cluster.rank import api_key
from operations import outcome, shell


@operation()
def key_placed(
    find: Callable[[], str], group: str, image: str, needed: Callable[[], bool]
) -> Generator[FunctionCommand, None, None]:
    """Put the group's API key where its rank 0 reads it; an equal one is not written again.

    + find: returns the key; called at the last moment, so that no plan holds the secret
    + image: any local image with a shell
    + needed: whether a rank will read it
    """

    def place(state: State, host: Host) -> bool:
        outcome.begin_step("api_key")
        answer = shell.run_command(host, api_key.place_key(group, image, find()))
        if not answer.ok:
            what = f"the API key could not be placed in {api_key.key_folder(group)}: {answer.text}"
            outcome.log_failure(host, error(what, key="api-key-not-placed"))
        return answer.ok

    if needed():
        yield FunctionCommand(place, (), {})
    else:
        host.noop("no rank is started")


@operation()
def key_removed(group: str, image: str) -> Generator[FunctionCommand, None, None]:
    """Remove the group's API key from this node."""

    def remove(state: State, host: Host) -> bool:
        answer = shell.run_command(host, api_key.remove_key(group, image))
        if not answer.ok:
            what = f"the API key could not be removed: {answer.text}"
            cure = f"on the node: sudo rm -r {api_key.key_folder(group)}"
            outcome.log_failure(host, error(what, cure=cure, key="api-key-not-removed"))
        return answer.ok

    yield FunctionCommand(remove, (), {})
