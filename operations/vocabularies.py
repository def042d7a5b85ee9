"""tiktoken's vocabularies: the head gets them, the other nodes copy them from there."""

import base64
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pyinfra import host
from pyinfra.api import FunctionCommand, Host, State, operation

from cluster.findings import Refused, error
from cluster.transfer.weights import copy_vocabulary, place_vocabulary
from operations import outcome, shell

SECONDS = 700


@dataclass(frozen=True)
class Vocabularies:
    """Which files which nodes lack; mappings are by node name, rank 0 first.

    + folders: on the node
    + lacking: name → SHA-256, for each node that lacks any
    + source: URL that has them, or a folder on the controller
    + address: the head's, for the other nodes
    """

    hosts: Mapping[str, Host]
    folders: Mapping[str, str]
    lacking: Mapping[str, Mapping[str, str]]
    source: str
    address: str

    @property
    def head(self) -> Host:
        return next(iter(self.hosts.values()))


@operation()
def vocabularies_present(order: Vocabularies) -> Generator[FunctionCommand, None, None]:
    """Have the vocabularies on every node, each checked by its hash before it gets its name."""
    if order.lacking:
        yield FunctionCommand(_bring_vocabularies, (order,), {})
    else:
        host.noop("the vocabularies are present")


def _bring_vocabularies(state: State, host: Host, order: Vocabularies) -> bool:
    outcome.begin_step("vocabularies")
    for name, sha256 in order.lacking.get(order.head.name, {}).items():
        if not _place(order.head, order.folders[order.head.name], order.source, name, sha256):
            return False
    workers = {n: order.hosts[n] for n in order.lacking if n != order.head.name}
    if not workers:
        return True
    from operations import copy  # where all are there already, nothing does it

    def copy_to(host: Host) -> bool:
        for name, sha256 in order.lacking[host.name].items():
            command = copy_vocabulary(order.folders[host.name], name, sha256, way.ssh(host.name))
            answer = shell.run_command(host, command)
            if not answer.ok:
                what = f"{name} could not be copied from {order.head.name}: {answer.tail}"
                outcome.log_failure(
                    host, error(what, cure="run this again", key="vocabulary-not-copied")
                )
                return False
        return True

    try:
        there = order.folders[order.head.name]
        with copy.open_tunnel(order.head, workers, order.address, SECONDS, folder=there) as way:
            return all(shell.on_all(workers.values(), copy_to).values())
    except Refused as refused:
        for finding in refused.findings:
            outcome.log_failure(order.head, finding)
        return False


def _place(host: Host, folder: str, source: str, name: str, sha256: str) -> bool:
    remote = source.startswith(("http://", "https://"))
    local = Path(source).expanduser() / name
    if not remote and not local.is_file():
        outcome.log_failure(
            host, error(f"tiktoken_source has no {local}", key="vocabulary-missing")
        )
        return False
    content = "" if remote else base64.b64encode(local.read_bytes()).decode()
    url = f"{source.rstrip('/')}/{name}" if remote else ""
    answer = shell.run_command(
        host, place_vocabulary(folder, name, sha256, url=url, content=content)
    )
    if not answer.ok:
        cure = "a folder here: --data tiktoken_source=/folder" if remote else "fix that file"
        what = f"{name} could not be placed from {source}: {answer.text}"
        outcome.log_failure(host, error(what, cure=cure, key="vocabulary-not-placed"))
    return answer.ok
