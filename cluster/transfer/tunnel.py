"""A one-time SSH tunnel for files from node to node over the fabric: the commands for it.

Each target gets an ed25519 key of its own, kept in memory there. The source's login takes it for
a limited time, from that target's fabric address alone, and only to send the files of one folder,
or one image: sshd runs `DISPATCHER`, whatever command the target names. The target knows the source
by its real host keys, read beforehand over the management connection. What either node answers is
checked strictly: it ends up in the other's authorized_keys, and in ssh's arguments.
"""

import re
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address

from cluster import command, findings

# Marks everything that a tunnel leaves on nodes: lines of authorized_keys, folders in memory.
MARKER = "spark-serving-carry"
# The source's name in the target's known_hosts, whatever its address and port.
ALIAS = "spark-serving-source"
DISPATCHER = " ".join(command.load_script(__file__, "send_files.sh").splitlines())
_CLEAR = command.load_script(__file__, "clear_keys.sh")
_SURVEY = _CLEAR + "\n" + command.load_script(__file__, "survey_source.sh")
_ADMIT = _CLEAR + "\n" + command.load_script(__file__, "admit_keys.sh")
_MAKE_KEY = command.load_script(__file__, "make_key.sh")
# known_hosts from stdin to $1; the rest is an ssh command.
_PROBE = 'umask 077; cat >"$1" && shift && exec "$@" true'


# Valid output of nodes: it becomes arguments of ssh, and lines of authorized_keys.
_LOGIN = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*\$?")
_PORT = re.compile(r"[0-9]{1,5}")
_HOST_KEY = re.compile(r"[a-z0-9][a-z0-9@.-]* [A-Za-z0-9+/=]+")
_PUBLIC = re.compile(r"ssh-ed25519 [A-Za-z0-9+/=]+")
_FOLDER = re.compile(r"/[A-Za-z0-9_./@+-]+")


@dataclass(frozen=True)
class Source:
    """The sending node: its login, its sshd's port (0: unknown), its host keys ("type key")."""

    user: str
    port: int
    host_keys: tuple[str, ...]


@dataclass(frozen=True)
class Key:
    """A target's one-time key: its folder in memory, the target's own address, "type key"."""

    folder: str
    address: str
    public: str

    @property
    def known_hosts(self) -> str:
        return f"{self.folder}/known_hosts"


def survey_source() -> command.Command:
    """On the source: clear what killed runs left, and print what `parse_source` reads."""
    return command.Command(("sh", "-c", _SURVEY), 30)


def parse_source(lines: Sequence[str]) -> Source | None:
    """The output of `survey_source`; None where it is no answer."""
    fields = [line.partition(" ")[::2] for line in lines]
    first = dict(reversed(fields))
    keys = tuple(value for name, value in fields if name == "key" and _HOST_KEY.fullmatch(value))
    user, port = first.get("user", ""), first.get("port", "0")
    if not keys or not _LOGIN.fullmatch(user) or not _PORT.fullmatch(port):
        return None
    return Source(user, int(port), keys)


def make_key(address: str) -> command.Command:
    """On a target: create a key for the tunnel from the source's `address`; remove older ones."""
    return command.Command(("sh", "-c", _MAKE_KEY, "sh", address), 30)


def parse_key(lines: Sequence[str]) -> Key | None:
    """The output of `make_key`; None where it is no answer."""
    if len(lines) != 3:
        return None
    public = " ".join(lines[2].split()[:2])
    try:
        address = str(IPv4Address(lines[1]))
    except ValueError:
        return None
    fits = _FOLDER.fullmatch(lines[0]) and ".." not in lines[0] and _PUBLIC.fullmatch(public)
    return Key(lines[0], address, public) if fits else None


def admit_keys(
    keys: Sequence[Key], name: str, seconds: int, *, folder: str = "", image: str = ""
) -> command.Command:
    """On the source: take these keys for so many seconds; earlier ones go.

    + name: hexadecimal digits that no other tunnel has
    + folder, image: what they may read: the files of this folder (or this file), this image
    """
    granted = " ".join(b64encode(what.encode()).decode() or "-" for what in (folder, image))
    forced = f"exec timeout --kill-after=5 {seconds} sh -c '{DISPATCHER}' carry {granted}"
    # As sshd reads an option's value.
    quoted = forced.replace('"', '\\"')
    offered = "".join(f"{key.address} {key.public}\n" for key in keys)
    return command.Command(("sh", "-c", _ADMIT, "sh", name, str(seconds), quoted), 30, offered)


def try_tunnel(key: Key, source: Source, ssh: command.Argv) -> command.Command:
    """On a target: write the source into known_hosts, and connect once."""
    known_hosts = "".join(f"{ALIAS} {host_key}\n" for host_key in source.host_keys)
    return command.Command(("sh", "-c", _PROBE, "sh", key.known_hosts, *ssh), 40, known_hosts)


def clear_keys() -> command.Command:
    """On the source: no key of ours is taken any more."""
    return command.Command(("sh", "-c", f"{_CLEAR}\nclear"), 30)


def drop_key(key: Key) -> command.Command:
    """On a target: its key is gone."""
    return command.Command(("rm", "-rf", "--", key.folder), 30)


def ssh_argv(key: Key, port: int) -> command.Argv:
    """ssh and its options, as run on a target. aes128-gcm is the fastest where AES is in the
    processor; a peer that is silent for 30 s ends the transfer."""
    given = (
        *("IdentitiesOnly=yes", "IdentityAgent=none", "BatchMode=yes", "LogLevel=ERROR"),
        *("StrictHostKeyChecking=yes", f"HostKeyAlias={ALIAS}", "UpdateHostKeys=no"),
        *(f"UserKnownHostsFile={key.known_hosts}", "GlobalKnownHostsFile=/dev/null"),
        *("ConnectTimeout=10", "ServerAliveInterval=5", "ServerAliveCountMax=6"),
        *("Compression=no", "Ciphers=^aes128-gcm@openssh.com", f"BindAddress={key.address}"),
    )
    words = [word for option in given for word in ("-o", option)]
    return ("ssh", "-F", "none", "-T", "-p", str(port), "-i", f"{key.folder}/key", *words)


def source_unreadable(node: str, output: str) -> findings.Finding:
    """The source did not print its host keys, or did not accept ours."""
    return findings.error(
        f"cannot open the tunnel that other nodes copy files through: {_line(output)}",
        node,
        "on it: ls -la ~/.ssh /etc/ssh/ssh_host_*_key.pub; sudo apt install openssh-server",
        key="tunnel-not-opened",
    )


def key_not_made(node: str, address: str, output: str) -> findings.Finding:
    return findings.error(
        f"cannot create a one-time key to copy files from {address}: {_line(output)}",
        node,
        f"on it: ip route get {address}; sudo apt install openssh-client",
        key="tunnel-no-key",
    )


def tunnel_closed(node: str, sender: str, address: str, port: int, output: str) -> findings.Finding:
    """Why the tunnel does not work, from ssh's own output."""
    if "host key" in output.lower() or "HOST IDENTIFICATION" in output:
        return findings.error(
            f"what answers on {address} port {port} is not {sender}: it has a different host key",
            node,
            f"ip -br addr on every node shows who else has {address}",
            key="tunnel-other-host",
        )
    if "Permission denied" in output:
        return findings.error(
            f"sshd on {sender} rejects the key in ~/.ssh/authorized_keys: {_line(output)}",
            node,
            f"on {sender}: chmod go-w ~ ~/.ssh; sudo sshd -T | grep -E 'keysfile|allow|deny'",
            key="tunnel-key-rejected",
        )
    return findings.error(
        f"sshd on {sender} does not answer at its fabric address {address} port {port}: "
        f"{_line(output)}",
        node,
        f"on {sender}: sudo ss -ltnp 'sport = {port}' (ListenAddress in /etc/ssh/sshd_config), "
        "and sudo ufw status",
        key="tunnel-no-answer",
    )


def noisy_login(sender: str, output: str) -> findings.Finding:
    """The source's login shell prints text into the data stream, which breaks the transfer."""
    return findings.error(
        f"its shell prints text before the files that it sends to other nodes: {_line(output)}",
        sender,
        "put this first in the login's ~/.bashrc: [[ $- == *i* ]] || return",
        key="login-shell-prints",
    )


def _line(output: str) -> str:
    """The last line that is not empty."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return lines[-1][:200] if lines else "there was no output"
