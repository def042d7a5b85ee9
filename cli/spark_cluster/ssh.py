"""How a program runs on a node: OpenSSH's words, as the listing describes the way to it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

CONNECT_SECONDS = 5


def words(node: Mapping[str, Any], script: str, arguments: Sequence[str]) -> list[str] | None:
    """The command line that runs a POSIX sh script there; None where there is no way to it."""
    here = ["sh", "-c", script.strip(), "sh", *arguments]
    if node["here"]:
        return here
    return [*_ssh(node["ssh"]), shlex.join(["exec", *here])] if node["ssh"] else None


def _ssh(to: Mapping[str, Any]) -> list[str]:
    """A connection of our own: no shared one, no questions, no forwardings, given up when dead."""
    options = {
        "BatchMode": "yes",
        "ControlMaster": "no",
        "ControlPath": "none",
        "ClearAllForwardings": "yes",
        "ConnectTimeout": str(CONNECT_SECONDS),
        "ServerAliveInterval": "5",
        "LogLevel": "ERROR",
    }
    if to["strict_host_key_checking"]:
        options["StrictHostKeyChecking"] = to["strict_host_key_checking"]
    if to["known_hosts_file"]:
        options["UserKnownHostsFile"] = f'"{to["known_hosts_file"]}"'
    flags = {"-F": to["config_file"], "-i": to["key_file"], "-l": to["user"]}
    flags["-p"] = str(to["port"] or "")
    return [
        *("ssh", "-T"),
        *(word for name, value in options.items() for word in ("-o", f"{name}={value}")),
        *(word for flag, value in flags.items() if value for word in (flag, value)),
        *("--", to["hostname"]),
    ]
