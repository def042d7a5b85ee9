"""The inventory and the command line as pyinfra reads them; refused where pyinfra would read them
otherwise than their author means, or would find no host."""

import os
import pwd
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import click
from paramiko import Channel, HostKeys, ProxyCommand
from pyinfra.api import Host, Inventory, State
from pyinfra.api.exceptions import PyinfraError
from pyinfra.connectors.sshuserclient.client import get_ssh_config

from cluster.catalog.models import include
from cluster.engine.argv import Launch
from cluster.findings import Finding, Refused, error, refuse_errors
from cluster.rank.spec import EVERYWHERE
from cluster.settings import declaration, inventory as names, schema, ssh_config

GROUPS = ("head", "workers")
# The group of a host that serves nothing: deploys/monitoring.py alone connects to it.
MONITOR = "monitor"
# The file for the run's outcome (control/run.py). It comes from --data alone, for any deploy.
REPORT = "report"
CONFIG = "~/.ssh/config"
# `ssh -G` contacts nothing, except for a Match exec, and for names that it must canonicalize.
SSH_SECONDS = 5


# ---- the command line


def command_line() -> dict[str, Any]:
    """Option -> value of the pyinfra command that runs, by pyinfra's own parser."""
    from pyinfra_cli.cli import cli  # type: ignore[import-untyped] # loaded wherever a deploy runs

    context = cli.make_context("pyinfra", sys.argv[1:], resilient_parsing=True)
    return dict(context.params)


def only_reads() -> bool:
    """Whether pyinfra ends before it executes anything."""
    params = command_line()
    ends = any(params.get(option) for option in ("dry", "debug_facts", "debug_operations"))
    # --json never asks: without -y it is a dry run.
    return ends or bool(params.get("json_output") and not params.get("yes"))


# ---- an inventory


def load_inventory(
    name: str,
    data: Mapping[str, Any] | None = None,
    folders: Iterable[str] = (),
    *,
    ours: bool = True,
    connect: bool = True,
    monitor: bool = False,
) -> Inventory:
    """pyinfra's own reading of an inventory: a file, a host, or hosts with commas between.

    From then on, the catalog includes the entries beside the file. Raises Refused with every group
    and name that pyinfra would read differently than its author means, or with an entry that is
    wrong.

    + data: overrides everything that the inventory says
    + folders: further group data
    + ours: it must have our groups
    + connect: its hosts will be connected to, so ~/.ssh/config is checked too
    + monitor: a host that only monitors is among them
    """
    _refuse_no_inventory(name)
    if Path(name).is_file():
        include(Path(name).with_name("catalog"))
    inventory = _make_inventory(name, data or {}, folders, ours=ours)
    if not monitor:
        drop_monitor(inventory)
    if not len(inventory):
        raise Refused(
            error(
                f"{name} names no host: it is not an inventory file, and no host of that name "
                "is known",
                cure="pyinfra inventories/spark.py …; spark-cluster init writes one",
                key="no-such-inventory",
            )
        )
    refuse_errors(
        f for host in inventory for f in names.unreachable_names(host.name, host.data.dict())
    )
    if connect:
        refuse_errors(finding for host in inventory for finding in _ssh_differences(host))
    return inventory


def _make_inventory(
    name: str, data: Mapping[str, Any], folders: Iterable[str], *, ours: bool
) -> Inventory:
    """As pyinfra makes it; Refused for a file that raises, and with every group that pyinfra would
    ignore or cut short. Parameters as for `load_inventory`."""
    # Imported only when needed: pyinfra's CLI replaces the threads of the process (gevent).
    from pyinfra_cli.inventory import make_inventory  # type: ignore[import-untyped]
    from pyinfra_cli.util import exec_file  # type: ignore[import-untyped]

    if ours and Path(name).is_file():
        try:
            variables = exec_file(name, return_locals=True)
        except (Exception, SystemExit) as e:
            raise Refused(_unusable(name, getattr(e, "exception", e))) from None
        refuse_errors(names.unreadable_groups(name, variables))
    try:
        inventory: Inventory = make_inventory(
            name,
            override_data=dict(data),
            cwd=os.getcwd(),
            group_data_directories=list(folders) or None,
        )
    except (PyinfraError, click.ClickException):
        raise
    except Exception as e:
        # pyinfra lets errors through that it does not expect of an inventory.
        raise Refused(_unusable(name, e)) from None
    return inventory


def _refuse_no_inventory(name: str) -> None:
    """Refused if the name is neither a file's nor those of hosts."""
    file = Path(name)
    what = "is a folder" if file.is_dir() else ""
    if not file.exists() and (file.suffix == ".py" or "/" in name) and "@" not in name:
        what = "is not there"
    if what or not name.strip():
        raise Refused(
            error(
                f"the inventory {name!r} {what or 'has no name'}: it must be a file",
                cure="ls inventories; spark-cluster init writes one",
                key="no-such-inventory",
            )
        )
    if not file.exists() and not all(host.strip() for host in name.split(",")):
        raise Refused(
            error(
                f"{name!r} has a comma without a host",
                cure="remove the comma",
                key="no-such-inventory",
            )
        )


def _unusable(file: str, e: BaseException) -> Finding:
    """The finding about an inventory that raises."""
    line = getattr(e, "lineno", None)
    at = f", line {line}" if line else ""
    cure = f"python3 {file} shows the error" if Path(file).is_file() else "name a file"
    if "U+FEFF" in str(e):
        # Python itself skips the mark in a file, but not in the text that pyinfra reads from it.
        cure = f"save it without a byte order mark: sed -i '1s/^\\xef\\xbb\\xbf//' {file}"
    return error(
        f"the inventory {file} can't be used{at}: {type(e).__name__}: {e}",
        cure=cure,
        key="inventory-raises",
    )


# Inventory → what `drop_monitor` took out of it.
_monitors: WeakKeyDictionary[Inventory, Host] = WeakKeyDictionary()


def drop_monitor(inventory: Inventory) -> None:
    """Make an inventory as if it named no host that only monitors: none is connected to."""
    serving = {host.name for host in all_hosts(inventory)}
    for name in [name for name in inventory.hosts if name not in serving]:
        host = inventory.hosts.pop(name)
        _monitors.setdefault(inventory, host)
        for group in host.groups:
            inventory.groups[group] = [h for h in inventory.groups[group] if h is not host]


def monitor(state: State) -> Host | None:
    """The host that only monitors, which a run of anything else has left out; None if there is
    none. It can be connected to like any other."""
    host = _monitors.get(state.inventory)
    if host and not hasattr(host, "state"):
        host.init(state)
    return host


def all_hosts(inventory: Inventory) -> list[Host]:
    """Every host, rank order: the head, then the workers as the inventory lists them; none that
    only monitors."""
    grouped = [host for group in GROUPS for host in inventory.groups.get(group, [])]
    others = [host for host in inventory if MONITOR not in host.groups]
    return list(dict.fromkeys([*grouped, *others]))


def declared_data(host: Host) -> declaration.HostData:
    """What the inventory says of a host, with every layer's `env`, weakest first."""
    inventory = host.inventory
    layers = [
        inventory.get_data(),
        *(inventory.get_group_data(group) for group in host.groups),
        inventory.get_host_data(host.name),
        inventory.get_override_data(),
    ]
    data: dict[str, Any] = host.data.dict()
    overridden = frozenset(inventory.get_override_data())
    if REPORT in overridden:
        # It says where this run's outcome is written, and nothing about the cluster.
        data.pop(REPORT, None)
    env = [layer["env"] for layer in layers if "env" in layer]
    return declaration.HostData(host.name, tuple(host.groups), data, env, overridden)


def declared_settings(hosts: list[Host]) -> declaration.Declaration:
    """What the inventory says of all of these hosts together; Refused if it is invalid."""
    return declaration.parse_declaration([declared_data(host) for host in hosts])


def refuse_limit(
    state: State, hosts: list[Host], why: str, cure: str = "run without --limit"
) -> None:
    """Refused if `--limit` leaves out any of these hosts, which must be changed together.

    + why: what follows their names in the message
    """
    if left_out := [host.name for host in hosts if not state.is_host_in_limit(host)]:
        what = f"--limit leaves out {', '.join(left_out)}{why}"
        raise Refused(error(what, cure=cure, key="limit"))


# ---- addresses


def api_url(head: Host, to: Launch | schema.Settings, reached_at: str = "") -> str:
    """The URL of the head's API as the reader reaches it.

    Its host is the address at which the API listens; if that is every address, the one that SSH
    connected to, or would (the name may be one that only SSH knows).

    + reached_at: that address, if the caller has it
    """
    host = to.host
    if host == EVERYWHERE:
        host = "localhost" if head.name.startswith("@local") else reached_at or address(head)
    return f"http://{f'[{host}]' if ':' in host else host}:{to.port}"


def address(host: Host) -> str:
    """A host's address, as SSH came to it or would."""
    transport = _transport(host)
    # Through a jump host, the other end of the socket is that host's.
    if transport and not jumps(host):
        came_to = str(transport.getpeername()[0]).removeprefix("::ffff:")
        # The API listens on IPv4: if SSH came by IPv6, the name may still lead to IPv4.
        if ":" not in came_to:
            return came_to
    name = str(host.data.get("ssh_hostname") or host.name)
    config = get_ssh_config(host.data.get("ssh_config_file"))
    return str(config.lookup(name).get("hostname", name)) if config else name


def jumps(host: Host) -> bool:
    """Whether SSH came to it through another host."""
    transport = _transport(host)
    return transport is not None and isinstance(transport.sock, Channel | ProxyCommand)


def _transport(host: Host) -> Any:
    """paramiko's transport to a host; None where it is not connected by SSH."""
    client = getattr(getattr(host, "connector", None), "client", None)
    return client.get_transport() if client else None


# ---- ~/.ssh/config


def _ssh_differences(host: Host) -> Iterator[Finding]:
    """Where pyinfra would connect otherwise than ssh does."""
    if host.name.startswith("@") and not host.name.startswith("@ssh/"):
        return
    data: dict[str, Any] = host.data.dict()
    file = Path(data.get("ssh_config_file") or CONFIG).expanduser()
    if not file.is_file():
        return
    name, shown = (
        str(data.get("ssh_hostname") or host.name),
        str(data.get("ssh_config_file") or CONFIG),
    )
    try:
        config = get_ssh_config(data.get("ssh_config_file"))
        options = config.lookup(name)
        hops = {
            hop: config.lookup(hop) for hop in ssh_config.hops(str(options.get("proxyjump") or ""))
        }
    except Exception as e:
        # paramiko's and pyinfra's readers raise whatever a line makes them: KeyError, Exception.
        yield ssh_config.unreadable_config(shown, f"{type(e).__name__}: {e}")
        return
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        user = ""
    lookup = ssh_config.Lookup(
        node=host.name,
        host=name,
        file=shown,
        read=options,
        ssh=_ssh_options(file, name, data),
        data=data,
        user=user,
        hops=hops,
        key_recorded="hostkeyalias" not in options or _key_recorded(name, options, data),
    )
    yield from ssh_config.config_differences(
        lookup, lambda path: os.access(path.expanduser(), os.R_OK)
    )


def _ssh_options(file: Path, name: str, data: Mapping[str, Any]) -> dict[str, list[str]]:
    """What ssh itself reads for a name; {} if it can't say."""
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
            # Also kill what a Match exec has started, which would keep the pipe open.
            os.killpg(ssh.pid, signal.SIGKILL)
            return {}
    lines: list[str] = printed.decode(errors="replace").splitlines()
    return ssh_config.parse_ssh_output(lines) if ssh.returncode == 0 else {}


def _key_recorded(name: str, options: Mapping[str, Any], data: Mapping[str, Any]) -> bool:
    """Whether known_hosts has the key under the name that paramiko looks up."""
    host = str(options.get("hostname", name))
    port = str(data.get("ssh_port") or options.get("port", 22))
    keys = HostKeys()
    for file in str(options.get("userknownhostsfile") or "~/.ssh/known_hosts").split():
        try:
            keys.load(os.path.expanduser(file))
        except Exception:  # as pyinfra does: paramiko may end at any odd line
            continue
    return keys.lookup(host if port == "22" else f"[{host}]:{port}") is not None
