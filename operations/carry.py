"""A one-time way for files and images from node to node, over the fabric."""

from __future__ import annotations

import secrets
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from pyinfra.api import Host

from cluster import carry
from cluster.findings import Finding, Refused
from operations import shell

SECONDS = 60


@dataclass(frozen=True)
class Way:
    """An open way; each target asks for what it wants, the source only sends.

    + login: user@address of the source: a path there is f"{way.login}:{path}" for rsync
    """

    login: str
    port: int
    keys: Mapping[str, carry.Key] = field(repr=False)

    def ssh(self, target: str) -> tuple[str, ...]:
        """ssh up to and including the login, to be run on the target; what may follow: `rsync
        --server --sender …`, which rsync itself asks for, and `docker save REFERENCE`."""
        return (*carry.options(self.keys[target], self.port), self.login)

    def rsync(self, target: str) -> str:
        """What rsync's -e wants on the target."""
        return shlex.join(carry.options(self.keys[target], self.port))


@contextmanager
def way(source: Host, targets: Mapping[str, Host], address: str, seconds: int) -> Iterator[Way]:
    """Open the way from source to targets, and close it whatever happens.

    One way from a source at a time: a new one takes the keys of older ones away.

    + address: the source's, on the fabric
    + seconds: after which no new transfer begins, and running ones end; should nothing close the
      way (a killed controller), the keys are worthless from then on
    Raises Refused, with nothing left behind, where a target can't use it.
    """
    keys: dict[str, carry.Key] = {}
    try:
        yield _open(source, targets, address, seconds, keys)
    finally:
        _close(source, targets, keys)


def _open(
    source: Host,
    targets: Mapping[str, Host],
    address: str,
    seconds: int,
    keys: dict[str, carry.Key],
) -> Way:
    sender = _make_keys(source, targets, address, keys)
    name = secrets.token_hex(8)
    offered = carry.offered(list(keys.values()))
    answer = shell.ask(source, carry.admit(name, seconds), SECONDS, stdin=offered)
    if not answer.ok:
        raise Refused(carry.unreadable(source.name, answer.text))
    port = sender.port or int(source.data.get("ssh_port") or 22)
    opened = Way(f"{sender.user}@{address}", port, keys)

    def try_it(target: Host) -> Finding | None:
        words = carry.probe(keys[target.name], opened.ssh(target.name))
        answer = shell.ask(target, words, SECONDS, stdin=carry.known(sender))
        if answer.ok:
            return None
        return carry.closed(target.name, source.name, address, port, answer.text)

    _refuse(shell.on_all(targets.values(), try_it))
    return opened


def _make_keys(
    source: Host, targets: Mapping[str, Host], address: str, keys: dict[str, carry.Key]
) -> carry.Source:
    """The keys of all targets, into `keys`, and what the source says of itself."""
    senders: list[carry.Source] = []

    def prepare(host: Host) -> Finding | None:
        if host.name == source.name:
            answer = shell.ask(host, carry.survey(), SECONDS)
            found = carry.source(answer.out) if answer.ok else None
            senders.extend([found] if found else [])
            return None if found else carry.unreadable(host.name, answer.text)
        answer = shell.ask(host, carry.make_key(address), SECONDS)
        made = carry.key(answer.out) if answer.ok else None
        keys.update({host.name: made} if made else {})
        return None if made else carry.no_key(host.name, address, answer.text)

    _refuse(shell.on_all((source, *targets.values()), prepare))
    return senders[0]


def _refuse(found: Mapping[str, Finding | None]) -> None:
    if wrong := [finding for finding in found.values() if finding]:
        raise Refused(*wrong)


def _close(source: Host, targets: Mapping[str, Host], keys: Mapping[str, carry.Key]) -> None:
    def close(host: Host) -> None:
        words = carry.clear() if host.name == source.name else carry.drop(keys[host.name])
        answer = shell.ask(host, words, SECONDS)
        if not answer.ok:
            host.log_styled(
                f"a one-time key is left behind: {answer.text}; it expires, and the next run "
                "clears it",
                fg="yellow",
            )

    shell.on_all((source, *(targets[name] for name in keys)), close)
