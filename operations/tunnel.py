"""A one-time SSH tunnel for files and images from node to node, over the fabric."""

import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from pyinfra.api import Host

from cluster.findings import Finding, Refused, refuse_errors
from cluster.transfer import tunnel
from operations import shell


@dataclass(frozen=True)
class Tunnel:
    """An open tunnel: each target requests what it needs, the source only sends.

    + user, address, port: how the source's sshd is reached
    """

    user: str
    address: str
    port: int
    keys: Mapping[str, tunnel.Key] = field(repr=False)

    def ssh(self, target: str) -> tuple[str, ...]:
        """ssh up to and including the address, to be run on the target; what may follow: `send`,
        with the files' names on stdin (`tunnel.DISPATCHER`), or `docker save REFERENCE`."""
        options = tunnel.ssh_argv(self.keys[target], self.port)
        return (*options, "-l", self.user, "--", self.address)


@contextmanager
def open_tunnel(
    source: Host,
    targets: Mapping[str, Host],
    address: str,
    seconds: int,
    *,
    folder: str = "",
    image: str = "",
) -> Iterator[Tunnel]:
    """Open a tunnel from source to targets, and close it whatever happens.

    One tunnel from a source at a time: a new one removes the keys of older ones.

    + address: the source's, on the fabric
    + seconds: after which no new transfer begins, and running ones end; if nothing closes the
      tunnel (a killed controller), the keys are worthless from then on
    + folder, image: all that can be read: the files of a folder (or one file), an image
    Raises Refused, with nothing left behind, where a target can't use it.
    """
    keys: dict[str, tunnel.Key] = {}
    try:
        sender = _make_keys(source, targets, address, keys)
        name, given = secrets.token_hex(8), list(keys.values())
        command = tunnel.admit_keys(given, name, seconds, folder=folder, image=image)
        answer = shell.run_command(source, command)
        if not answer.ok:
            raise Refused(tunnel.source_unreadable(source.name, answer.text))
        port = sender.port or int(source.data.get("ssh_port") or 22)
        opened = Tunnel(sender.user, address, port, keys)

        def try_tunnel(target: Host) -> Finding | None:
            command = tunnel.try_tunnel(keys[target.name], sender, opened.ssh(target.name))
            answer = shell.run_command(target, command)
            if answer.ok:
                # `true` prints nothing: the source's shell did, and would before each file, too.
                return tunnel.noisy_login(source.name, answer.text) if answer.out else None
            return tunnel.tunnel_closed(target.name, source.name, address, port, answer.text)

        refuse_errors(filter(None, shell.on_all(targets.values(), try_tunnel).values()))
        yield opened
    finally:
        _close(source, targets, keys)


def _make_keys(
    source: Host, targets: Mapping[str, Host], address: str, keys: dict[str, tunnel.Key]
) -> tunnel.Source:
    """Create all targets' keys, into `keys`; returns the source's login, port and host keys."""
    senders: list[tunnel.Source] = []

    def prepare(host: Host) -> Finding | None:
        if host.name == source.name:
            answer = shell.run_command(host, tunnel.survey_source())
            sender = tunnel.parse_source(answer.out) if answer.ok else None
            senders.extend([sender] if sender else [])
            return None if sender else tunnel.source_unreadable(host.name, answer.text)
        answer = shell.run_command(host, tunnel.make_key(address))
        key = tunnel.parse_key(answer.out) if answer.ok else None
        keys.update({host.name: key} if key else {})
        return None if key else tunnel.key_not_made(host.name, address, answer.text)

    refuse_errors(filter(None, shell.on_all((source, *targets.values()), prepare).values()))
    return senders[0]


def _close(source: Host, targets: Mapping[str, Host], keys: Mapping[str, tunnel.Key]) -> None:
    def close(host: Host) -> None:
        command = (
            tunnel.clear_keys() if host.name == source.name else tunnel.drop_key(keys[host.name])
        )
        answer = shell.run_command(host, command)
        if not answer.ok:
            host.log_styled(
                f"a one-time key was left behind: {answer.text}; it expires, and the next run "
                "clears it",
                fg="yellow",
            )

    shell.on_all((source, *(targets[name] for name in keys)), close)
