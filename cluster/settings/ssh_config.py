"""Where pyinfra reads an ~/.ssh/config differently than ssh does.

pyinfra 3.10 has its own reader, on top of paramiko's (pyinfra/connectors/sshuserclient,
paramiko/config.py). Where the two differ, a node is not reached, or a different one is, with
somebody else's key.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cluster.findings import Finding, error

# Values that pyinfra converts to a number; ssh also accepts 5m.
NUMBERS = ("port", "connecttimeout", "serveraliveinterval")
# ssh passes a ProxyCommand to a shell, paramiko runs it without one.
_SHELL = re.compile(r"^exec\s|[|&;<>$`]")
# The tokens that paramiko expands, by keyword.
_TOKENS = {"proxycommand": "hpr", "proxyjump": "hpr", "identityfile": "Cdhlur"}


@dataclass(frozen=True)
class Lookup:
    """What is read about how to reach one node.

    + node: its name in the inventory; host: what is looked up in the file
    + file: the configuration file, as a user writes it
    + read: what paramiko reads for the host, keys in lower case
    + ssh: what `ssh -G` prints for it, values of one key in order; {} if ssh could not be run
    + data: the node's ssh_* in the inventory, which override the file
    + user: this machine's login
    + hops: what paramiko reads for each jump host
    + key_recorded: whether known_hosts has a key under the name that pyinfra looks for
    """

    node: str
    host: str
    file: str
    read: Mapping[str, Any]
    ssh: Mapping[str, Sequence[str]]
    data: Mapping[str, Any] = field(default_factory=dict)
    user: str = ""
    hops: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    key_recorded: bool = True

    def of_ssh(self, key: str) -> str:
        return next(iter(self.ssh.get(key, ())), "")

    def difference(self, what: str, cure: str) -> Finding:
        return error(f"{self.file}, for {self.host}: {what}", self.node, cure, key="ssh-config")


def parse_ssh_output(lines: Sequence[str]) -> dict[str, list[str]]:
    """`ssh -G`'s output: key → its values, in order."""
    values: dict[str, list[str]] = {}
    for line in lines:
        key, _, value = line.strip().partition(" ")
        values.setdefault(key.lower(), []).append(value)
    return values


def unreadable_config(file: str, why: str) -> Finding:
    """The error for a file, or an entry of it, that pyinfra can't read."""
    return error(
        f"pyinfra can't read {file}, although ssh may: {why}",
        cure=f"fix that line; or use a separate file: --data ssh_config_file=FILE, tested "
        f"with `ssh -F FILE NODE true` ({file} stays unchanged)",
        key="ssh-config",
    )


def config_differences(lookup: Lookup, readable: Callable[[Path], bool]) -> Iterator[Finding]:
    """What must change so that pyinfra connects as ssh does; nothing if it already does.

    + readable: whether a file of this machine can be read
    """
    checks = (_numbers, _jump, _command, _places, _agent, _host_keys)
    findings = [finding for check in checks for finding in check(lookup)]
    yield from findings or _identities(lookup, readable)


def hops(jump: str) -> list[str]:
    """The names of ProxyJump's hosts, as pyinfra looks them up; [] where there is no jump."""
    if not jump or jump.lower() == "none":
        return []
    return [re.sub(r":[0-9]*$", "", hop.strip().rpartition("@")[2]) for hop in jump.split(",")]


def _numbers(lookup: Lookup) -> Iterator[Finding]:
    for key in NUMBERS:
        value = lookup.read.get(key)
        if value is not None and not re.fullmatch(r"[0-9]{1,9}", str(value)):
            number = lookup.of_ssh(key)
            if not number.isdecimal():
                number = "22" if key == "port" else "SECONDS"
            yield lookup.difference(
                f"pyinfra accepts only a plain number: {key} {value}",
                f"change it to: {key} {number}",
            )


def _jump(lookup: Lookup) -> Iterator[Finding]:
    jump = lookup.read.get("proxyjump")
    if "proxycommand" in lookup.read or jump is None:
        return
    if str(jump).lower() == "none":
        yield lookup.difference(*_none(lookup, "ProxyJump"))
        return
    if "://" in jump or "[" in jump:
        yield lookup.difference(
            f"pyinfra reads ProxyJump {jump} as plain names",
            "write it as USER@HOST:PORT; an IPv6 address needs a Host entry with its HostName",
        )
    elif foreign := _foreign("proxyjump", jump):
        yield lookup.difference(
            f"pyinfra does not expand {foreign}: ProxyJump {jump}", "write the name out"
        )
    for number, hop in enumerate(hops(jump)):
        read = lookup.hops.get(hop, {})
        if any(str(read.get(key) or "none").lower() != "none" for key in _PROXIES):
            yield lookup.difference(
                f"the jump host {hop} has a jump host of its own, which pyinfra ignores",
                f"name both: ProxyJump FIRST,{hop}",
            )
        elif number and (read.get("hostname", hop) != hop or "port" in read):
            to = f"{read.get('hostname', hop)}:{read.get('port', 22)}"
            yield lookup.difference(
                f"pyinfra ignores HostName and Port of the second jump host {hop}",
                f"write its address: ProxyJump …,{to}",
            )


_PROXIES = ("proxyjump", "proxycommand")


def _command(lookup: Lookup) -> Iterator[Finding]:
    if "proxycommand" not in lookup.read:
        return
    command = lookup.read["proxycommand"]
    if command is None:
        yield lookup.difference(*_none(lookup, "ProxyCommand"))
    elif _SHELL.search(command):
        yield lookup.difference(
            f"pyinfra runs a ProxyCommand without a shell: {command[:200]}",
            "use ProxyJump HOST, or a command without exec, |, >, $ and the like, such as a script",
        )
    elif foreign := _foreign("proxycommand", command):
        yield lookup.difference(
            f"pyinfra does not expand {foreign}: ProxyCommand {command[:200]}", "ProxyJump"
        )


def _none(lookup: Lookup, keyword: str) -> tuple[str, str]:
    return (
        f"pyinfra does not know `{keyword} none`: it reads `none` as a "
        f"{'host' if keyword == 'ProxyJump' else 'command'}",
        f"remove the line; if a later entry gives {lookup.host} a jump that it must not use, "
        f"exclude it there: Host * !{lookup.host}",
    )


def _foreign(key: str, value: str) -> str:
    """A token that paramiko does not expand, or ""."""
    left = [token for token in re.findall(r"%.", value) if token[1] not in _TOKENS[key]]
    return left[0] if left else ""


def _places(lookup: Lookup) -> Iterator[Finding]:
    """Host name, port, user and jump hosts that pyinfra and ssh read differently."""
    if not lookup.ssh:
        return
    given, read = lookup.data, lookup.read
    pairs = {
        "ssh_hostname": (str(read.get("hostname", lookup.host)), lookup.of_ssh("hostname")),
        "ssh_port": (str(read.get("port", 22)), lookup.of_ssh("port") or "22"),
        "ssh_user": (str(read.get("user", lookup.user)), lookup.of_ssh("user")),
    }
    for setting, (ours, theirs) in pairs.items():
        # ssh prints names in lower case. ssh_hostname is what is looked up, not the result.
        overridden = given.get(setting) and setting != "ssh_hostname"
        if theirs and ours.lower() != theirs.lower() and not overridden:
            what = setting.removeprefix("ssh_")
            literal = theirs if theirs.isdecimal() else f'"{theirs}"'
            yield lookup.difference(
                f"for ssh the {what} is {theirs}, for pyinfra {ours}: it reads Match, Include and "
                "patterns differently",
                f'set it in the inventory: ("{lookup.node}", {{"{setting}": {literal}}})',
            )
    ours = str(read.get("proxyjump") or "")
    # ssh prints an address with its port in brackets, of IPv4 as well.
    theirs = re.sub(r"[][]", "", lookup.of_ssh("proxyjump"))
    # ProxyJump none and ProxyCommand are reported elsewhere.
    plain = ours.lower() != "none" and "proxycommand" not in read and "%" not in ours + theirs
    if plain and ours.lower() != theirs.lower():
        yield lookup.difference(
            f"ssh connects by ProxyJump {theirs or 'none'}, pyinfra by {ours or 'none'}",
            f"add an entry for {lookup.host} at the top of the file, with its ProxyJump",
        )
    command = lookup.of_ssh("proxycommand")
    if bool(command) != bool(read.get("proxycommand")) and "proxyjump" not in read:
        yield lookup.difference(
            f"ssh connects by ProxyCommand {command}, pyinfra without one"
            if command
            else "pyinfra connects by a ProxyCommand, ssh without one",
            f"add an entry for {lookup.host} at the top of the file, with its ProxyCommand",
        )


def _agent(lookup: Lookup) -> Iterator[Finding]:
    agent = str(lookup.read.get("identityagent") or "")
    if agent.lower() != "none" and (agent == "SSH_AUTH_SOCK" or re.search(r"[$%]", agent)):
        yield lookup.difference(
            f"pyinfra reads IdentityAgent {agent} as a file name",
            "remove the line (SSH_AUTH_SOCK is used anyway), or write the socket's full path",
        )


def _host_keys(lookup: Lookup) -> Iterator[Finding]:
    if lookup.data.get("ssh_known_hosts_file"):
        return
    files = str(lookup.read.get("userknownhostsfile") or "")
    if files.lower() == "none" or re.search(r"[$%]", files):
        yield lookup.difference(
            f"pyinfra reads UserKnownHostsFile {files} as a file name",
            "--data ssh_known_hosts_file=FILE, or write full paths",
        )
    alias = lookup.read.get("hostkeyalias")
    if alias and not lookup.key_recorded:
        port = str(lookup.data.get("ssh_port") or lookup.read.get("port", 22))
        host = str(lookup.read.get("hostname", lookup.host))
        name = host if port == "22" else f"[{host}]:{port}"
        yield lookup.difference(
            f"pyinfra ignores HostKeyAlias {alias}: it would accept any key of {name}, whose "
            "key is not recorded",
            f"record the key: ssh -o 'HostKeyAlias={name}' {lookup.host} true",
        )


def _identities(lookup: Lookup, readable: Callable[[Path], bool]) -> Iterator[Finding]:
    files = list(lookup.read.get("identityfile") or ())
    if lookup.data.get("ssh_key") or not files:
        return
    if foreign := next(filter(None, (_foreign("identityfile", file) for file in files)), ""):
        yield lookup.difference(
            f"pyinfra does not expand {foreign}: IdentityFile {files[0]}",
            "write the full path, or --data ssh_key=FILE",
        )
    elif not readable(Path(files[0])):
        # ssh would try the next one, but paramiko stops at the first it can't open.
        yield lookup.difference(
            f"IdentityFile {files[0]} can't be read: ssh skips it, pyinfra stops there",
            "remove the line, or put the key there, or --data ssh_key=FILE",
        )
