"""Where pyinfra reads an ~/.ssh/config otherwise than ssh does.

pyinfra 3.10 has a reader of its own, on top of paramiko's (pyinfra/connectors/sshuserclient,
paramiko/config.py). Where both come to the same, there is nothing to say; where they do not, a node
is not reached, or another one is, by somebody else's key.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cluster.findings import Finding, error

# Values that pyinfra turns into a number; ssh takes 5m as well.
NUMBERS = ("port", "connecttimeout", "serveraliveinterval")
# ssh hands a ProxyCommand to a shell, paramiko runs its words.
_SHELL = re.compile(r"^exec\s|[|&;<>$`]")
# What paramiko fills in, in a ProxyCommand and in an IdentityFile.
_TOKENS = {"proxycommand": "hpr", "proxyjump": "hpr", "identityfile": "Cdhlur"}


@dataclass(frozen=True)
class Lookup:
    """What is known of the way to one node.

    + node: as the inventory names it; host: what is looked up in the file
    + file: the configuration file, as a user writes it
    + read: what paramiko reads for the host, keys in lower case
    + ssh: what `ssh -G` prints for it, values of one key in order; {} where ssh could not be asked
    + data: the inventory's ssh_* of the node: they win over the file
    + user: this machine's login
    + hops: what paramiko reads for each jump host
    + known: whether the host's key is known under the name that pyinfra looks for
    """

    node: str
    host: str
    file: str
    read: Mapping[str, Any]
    ssh: Mapping[str, Sequence[str]]
    data: Mapping[str, Any] = field(default_factory=dict)
    user: str = ""
    hops: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    known: bool = True

    def of_ssh(self, key: str) -> str:
        return next(iter(self.ssh.get(key, ())), "")


def printed(lines: Sequence[str]) -> dict[str, list[str]]:
    """`ssh -G`'s output: key → its values, in order."""
    found: dict[str, list[str]] = {}
    for line in lines:
        key, _, value = line.strip().partition(" ")
        found.setdefault(key.lower(), []).append(value)
    return found


def unreadable(file: str, why: str) -> Finding:
    """A file, or an entry of it, at which pyinfra's reader ends."""
    return error(
        f"pyinfra can't read {file}, although ssh may: {why}",
        cure=f"fix that line; or use a separate file: --data ssh_config_file=FILE, tested "
        f"with `ssh -F FILE NODE true` ({file} stays unchanged)",
    )


def differences(way: Lookup, there: Callable[[Path], bool]) -> Iterator[Finding]:
    """What must change before pyinfra goes where ssh goes; nothing where it does so already.

    + there: whether a file of this machine can be read
    """
    checks = (_numbers, _jump, _command, _places, _agent, _host_keys)
    found = [finding for check in checks for finding in check(way)]
    yield from found or _identities(way, there)


def hops(jump: str) -> list[str]:
    """The names of ProxyJump's hosts, as pyinfra looks them up; [] where there is no jump."""
    if not jump or jump.lower() == "none":
        return []
    return [re.sub(r":[0-9]*$", "", hop.strip().rpartition("@")[2]) for hop in jump.split(",")]


def _told(way: Lookup, what: str, cure: str) -> Finding:
    return error(f"{way.file}, for {way.host}: {what}", way.node, cure)


def _numbers(way: Lookup) -> Iterator[Finding]:
    for key in NUMBERS:
        value = way.read.get(key)
        if value is not None and not re.fullmatch(r"[0-9]{1,9}", str(value)):
            told = way.of_ssh(key)
            number = told if told.isdecimal() else "22" if key == "port" else "SECONDS"
            yield _told(
                way,
                f"pyinfra accepts only a plain number: {key} {value}",
                f"change it to: {key} {number}",
            )


def _jump(way: Lookup) -> Iterator[Finding]:
    jump = way.read.get("proxyjump")
    if "proxycommand" in way.read or jump is None:
        return
    if str(jump).lower() == "none":
        yield _told(way, *_none(way, "ProxyJump"))
        return
    if "://" in jump or "[" in jump:
        yield _told(
            way,
            f"pyinfra reads ProxyJump {jump} as plain names",
            "write it as USER@HOST:PORT; an IPv6 address needs a Host entry with its HostName",
        )
    elif foreign := _foreign("proxyjump", jump):
        yield _told(
            way, f"pyinfra does not expand {foreign}: ProxyJump {jump}", "write the name out"
        )
    for number, hop in enumerate(hops(jump)):
        read = way.hops.get(hop, {})
        if any(str(read.get(key) or "none").lower() != "none" for key in _PROXIES):
            yield _told(
                way,
                f"the jump host {hop} has a jump host of its own, which pyinfra ignores",
                f"name both: ProxyJump FIRST,{hop}",
            )
        elif number and (read.get("hostname", hop) != hop or "port" in read):
            to = f"{read.get('hostname', hop)}:{read.get('port', 22)}"
            yield _told(
                way,
                f"pyinfra ignores HostName and Port of the second jump host {hop}",
                f"write its address: ProxyJump …,{to}",
            )


_PROXIES = ("proxyjump", "proxycommand")


def _command(way: Lookup) -> Iterator[Finding]:
    if "proxycommand" not in way.read:
        return
    command = way.read["proxycommand"]
    if command is None:
        yield _told(way, *_none(way, "ProxyCommand"))
    elif _SHELL.search(command):
        yield _told(
            way,
            f"pyinfra runs a ProxyCommand without a shell: {command[:200]}",
            "use ProxyJump HOST, or a command without exec, |, >, $ and the like, such as a script",
        )
    elif foreign := _foreign("proxycommand", command):
        yield _told(
            way, f"pyinfra does not expand {foreign}: ProxyCommand {command[:200]}", "ProxyJump"
        )


def _none(way: Lookup, keyword: str) -> tuple[str, str]:
    return (
        f"pyinfra does not know `{keyword} none`: it reads `none` as a "
        f"{'host' if keyword == 'ProxyJump' else 'command'}",
        f"remove the line; if a later entry gives {way.host} a jump that it must not use, "
        f"exclude it there: Host * !{way.host}",
    )


def _foreign(key: str, value: str) -> str:
    """A token that paramiko leaves as it stands."""
    left = [token for token in re.findall(r"%.", value) if token[1] not in _TOKENS[key]]
    return left[0] if left else ""


def _places(way: Lookup) -> Iterator[Finding]:
    """Machine, port, login and jump: by pyinfra's reading and by ssh's."""
    if not way.ssh:
        return
    given, read = way.data, way.read
    pairs = {
        "ssh_hostname": (str(read.get("hostname", way.host)), way.of_ssh("hostname")),
        "ssh_port": (str(read.get("port", 22)), way.of_ssh("port") or "22"),
        "ssh_user": (str(read.get("user", way.user)), way.of_ssh("user")),
    }
    for setting, (ours, theirs) in pairs.items():
        # ssh prints a name in lower case. A ssh_hostname is what was looked up, not the answer.
        won = given.get(setting) and setting != "ssh_hostname"
        if theirs and ours.lower() != theirs.lower() and not won:
            what = setting.removeprefix("ssh_")
            yield _told(
                way,
                f"for ssh the {what} is {theirs}, for pyinfra {ours}: it reads Match, Include and "
                "patterns differently",
                f'set it in the inventory: ("{way.node}", {{"{setting}": {_literal(theirs)}}})',
            )
    ours = str(read.get("proxyjump") or "")
    # ssh prints an address with its port in brackets, of IPv4 as well.
    theirs = re.sub(r"[][]", "", way.of_ssh("proxyjump"))
    if ours.lower() != theirs.lower() and "%" not in ours + theirs and _plain(way):
        yield _told(
            way,
            f"ssh connects by ProxyJump {theirs or 'none'}, pyinfra by {ours or 'none'}",
            f"add an entry for {way.host} at the top of the file, with its ProxyJump",
        )
    told = way.of_ssh("proxycommand")
    if bool(told) != bool(read.get("proxycommand")) and "proxyjump" not in read:
        yield _told(
            way,
            f"ssh connects by ProxyCommand {told}, pyinfra without one"
            if told
            else "pyinfra connects by a ProxyCommand, ssh without one",
            f"add an entry for {way.host} at the top of the file, with its ProxyCommand",
        )


def _literal(value: str) -> str:
    return value if value.isdecimal() else f'"{value}"'


def _plain(way: Lookup) -> bool:
    """Whether ProxyJump `none` and ProxyCommand, which have words of their own, are not there."""
    jump = str(way.read.get("proxyjump") or "")
    return jump.lower() != "none" and "proxycommand" not in way.read


def _agent(way: Lookup) -> Iterator[Finding]:
    agent = str(way.read.get("identityagent") or "")
    if agent.lower() != "none" and (agent == "SSH_AUTH_SOCK" or re.search(r"[$%]", agent)):
        yield _told(
            way,
            f"pyinfra reads IdentityAgent {agent} as a file name",
            "remove the line (SSH_AUTH_SOCK is used anyway), or write the socket's full path",
        )


def _host_keys(way: Lookup) -> Iterator[Finding]:
    if way.data.get("ssh_known_hosts_file"):
        return
    files = str(way.read.get("userknownhostsfile") or "")
    if files.lower() == "none" or re.search(r"[$%]", files):
        yield _told(
            way,
            f"pyinfra reads UserKnownHostsFile {files} as a file name",
            "--data ssh_known_hosts_file=FILE, or write full paths",
        )
    alias = way.read.get("hostkeyalias")
    if alias and not way.known:
        port = str(way.data.get("ssh_port") or way.read.get("port", 22))
        host = str(way.read.get("hostname", way.host))
        name = host if port == "22" else f"[{host}]:{port}"
        yield _told(
            way,
            f"pyinfra ignores HostKeyAlias {alias}: it would accept any key of {name}, whose "
            "key is not known",
            f"record the key: ssh -o 'HostKeyAlias={name}' {way.host} true",
        )


def _identities(way: Lookup, there: Callable[[Path], bool]) -> Iterator[Finding]:
    files = list(way.read.get("identityfile") or ())
    if way.data.get("ssh_key") or not files:
        return
    if foreign := next(filter(None, (_foreign("identityfile", file) for file in files)), ""):
        yield _told(
            way,
            f"pyinfra does not expand {foreign}: IdentityFile {files[0]}",
            "write the full path, or --data ssh_key=FILE",
        )
    elif not there(Path(files[0])):
        # A later one would be tried, but paramiko ends at the first that it can't open.
        yield _told(
            way,
            f"IdentityFile {files[0]} can't be read: ssh skips it, pyinfra stops there",
            "remove the line, or put the key there, or --data ssh_key=FILE",
        )
