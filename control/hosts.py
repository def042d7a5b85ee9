"""An inventory and its hosts as pyinfra reads them; refused where it would read them otherwise than
their author, or none at all."""

import os
import pwd
import signal
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import click
from paramiko import HostKeys
from pyinfra.api import DeployError, Host, Inventory
from pyinfra.api.exceptions import PyinfraError
from pyinfra.connectors.sshuserclient.client import get_ssh_config
from pyinfra.context import ctx_state
from pyinfra_cli.inventory import make_inventory  # type: ignore[import-untyped]
from pyinfra_cli.util import exec_file  # type: ignore[import-untyped]

from cluster.findings import Finding, Refused, error, refuse_errors
from cluster.settings import ssh_config
from cluster.settings.inventory import unreachable_names, unreadable_groups
from control.invocation import called_with, given_data
from control.outcome import note_interrupts, open_report
from control.shared import refusal
from operations.outcome import note

CONFIG = "~/.ssh/config"
# `ssh -G` asks nobody, but for a Match exec, and for names where it shall canonicalize them.
SSH_SECONDS = 5


def load(
    inventory: str,
    data: Mapping[str, Any] | None = None,
    folders: Iterable[str] = (),
    *,
    ours: bool = True,
    ways: bool = True,
) -> Inventory:
    """pyinfra's own reading of an inventory: a file, a host, or hosts with commas between.

    + data: that wins over all that the inventory says; folders: further group data
    + ours: it shall have our groups
    + ways: its hosts shall be connected to
    Refused with every group and every name that it could not use as they are meant.
    """
    _refuse_place(inventory)
    if ours and Path(inventory).is_file():
        refuse_errors(unreadable_groups(inventory, _variables(inventory)))
    try:
        read: Inventory = make_inventory(
            inventory,
            override_data=dict(data or {}),
            cwd=os.getcwd(),
            group_data_directories=list(folders) or None,
        )
    except (PyinfraError, click.ClickException):
        raise
    except Exception as e:
        # What pyinfra does not expect of an inventory, it raises as it comes.
        raise Refused(_unusable(inventory, e)) from None
    if not len(read):
        raise Refused(
            error(
                f"{inventory} names no host: it is not an inventory file, and no host of that name "
                "is known",
                cure="pyinfra inventories/spark.py …; spark-cluster init writes one",
            )
        )
    refuse_errors(f for host in read for f in unreachable_names(host.name, _data(host)))
    if ways:
        refuse_errors(finding for host in read for finding in _differences(host))
    return read


def check_called() -> None:
    """Refuse what pyinfra itself was called with: it would end with exit code 0 where it finds no
    host, having done nothing."""
    params = called_with()
    named, operations = str(params.get("inventory") or ""), params.get("operations") or ()
    options = {f"ssh_{key}": params.get(f"ssh_{key}") for key in ("user", "port", "key")}
    data = given_data() | {name: value for name, value in options.items() if value}
    note_interrupts()
    try:
        open_report(data, ctx_state.get())  # type: ignore[no-untyped-call]
        read = load(
            named,
            data,
            params.get("group_data") or (),
            ours=all(str(word).endswith(".py") for word in operations),
        )
        _refuse_limit(read, params.get("limit") or (), params.get("exclude") or ())
    except Refused as refused:
        note("refused", refused.findings)
        raise DeployError(refusal(*refused.findings)) from None


def _refuse_limit(read: Inventory, limits: Sequence[str], excluded: Sequence[str]) -> None:
    """Refused where pyinfra's --limit and --exclude, groups or patterns of names, leave no host."""

    def meets(host: Host, patterns: Sequence[str]) -> bool:
        return any(p in host.groups or fnmatch(host.name, p) for p in patterns)

    left = [host for host in read if not limits or meets(host, limits)]
    if not [host for host in left if not meets(host, excluded)]:
        options = [f"--limit {p}" for p in limits] + [f"--exclude {p}" for p in excluded]
        names = ", ".join(host.name for host in read)
        raise Refused(error(f"{' '.join(options)} leaves no host; there are: {names}"))


def _refuse_place(inventory: str) -> None:
    path = Path(inventory)
    what = "is a folder" if path.is_dir() else ""
    if not path.exists() and (path.suffix == ".py" or "/" in inventory) and "@" not in inventory:
        what = "is not there"
    if what or not inventory.strip():
        raise Refused(
            error(
                f"the inventory {inventory!r} {what or 'has no name'}: it must be a file",
                cure="ls inventories; spark-cluster init writes one",
            )
        )
    if not path.exists() and not all(name.strip() for name in inventory.split(",")):
        raise Refused(error(f"{inventory!r} has a comma without a host", cure="remove the comma"))


def _variables(file: str) -> dict[str, Any]:
    """What the file's code leaves behind; Refused where it fails."""
    try:
        found: dict[str, Any] = exec_file(file, return_locals=True)
    except (Exception, SystemExit) as e:
        raise Refused(_unusable(file, getattr(e, "exception", e))) from None
    return found


def _unusable(file: str, e: BaseException) -> Finding:
    line = getattr(e, "lineno", None)
    at = f", line {line}" if line else ""
    cure = f"python3 {file} shows the error" if Path(file).is_file() else "name a file"
    if "U+FEFF" in str(e):
        # Python itself passes it over in a file, but not in the text that pyinfra reads from it.
        cure = f"save it without a byte order mark: sed -i '1s/^\\xef\\xbb\\xbf//' {file}"
    return error(
        f"the inventory {file} can't be used{at}: {type(e).__name__}: {e}",
        cure=cure,
    )


def _data(host: Host) -> dict[str, Any]:
    found: dict[str, Any] = host.data.dict()  # type: ignore[no-untyped-call]
    return found


# ---- ~/.ssh/config


def _differences(host: Host) -> Iterator[Finding]:
    """Where pyinfra would not go as ssh does."""
    if host.name.startswith("@") and not host.name.startswith("@ssh/"):
        return
    data = _data(host)
    file = str(data.get("ssh_config_file") or CONFIG)
    if not Path(file).expanduser().is_file():
        return
    name = str(data.get("ssh_hostname") or host.name)
    try:
        config = get_ssh_config(data.get("ssh_config_file"))
        read = config.lookup(name)
        jump = str(read.get("proxyjump") or "")
        hops = {hop: config.lookup(hop) for hop in ssh_config.hops(jump)}
    except Exception as e:
        # paramiko's and pyinfra's readers raise whatever a line makes them: KeyError, Exception.
        yield ssh_config.unreadable_config(file, f"{type(e).__name__}: {e}")
        return
    way = ssh_config.Lookup(
        node=host.name,
        host=name,
        file=file,
        read=read,
        ssh=_asked(Path(file).expanduser(), name, data),
        data=data,
        user=_login(),
        hops=hops,
        key_recorded="hostkeyalias" not in read or _known(name, read, data),
    )
    yield from ssh_config.config_differences(
        way, lambda path: os.access(path.expanduser(), os.R_OK)
    )


def _asked(file: Path, name: str, data: Mapping[str, Any]) -> dict[str, list[str]]:
    """What ssh itself reads for a name; {} where it can't say."""
    words = ["ssh", "-T", "-F", str(file), "-G"]
    words += ["-l", str(data["ssh_user"])] if data.get("ssh_user") else []
    try:
        ssh = subprocess.Popen(
            [*words, "--", name],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError:
        return {}
    with ssh:
        try:
            printed, _ = ssh.communicate(timeout=SSH_SECONDS)
        except subprocess.TimeoutExpired:
            # With what a Match exec has started, which would keep the pipe open.
            os.killpg(ssh.pid, signal.SIGKILL)
            return {}
    lines: Sequence[str] = printed.decode(errors="replace").splitlines()
    return ssh_config.parse_ssh_output(lines) if ssh.returncode == 0 else {}


def _login() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return ""


def _known(name: str, read: Mapping[str, Any], data: Mapping[str, Any]) -> bool:
    """Whether known_hosts has the key under the name that paramiko looks for."""
    host, port = str(read.get("hostname", name)), str(data.get("ssh_port") or read.get("port", 22))
    wanted = host if port == "22" else f"[{host}]:{port}"
    keys = HostKeys()
    for file in str(read.get("userknownhostsfile") or "~/.ssh/known_hosts").split():
        try:
            keys.load(os.path.expanduser(file))
        except Exception:  # as pyinfra does: paramiko may end at any odd line
            continue
    return keys.lookup(wanted) is not None
