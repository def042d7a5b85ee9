"""The watchdog on a node: its files, what differs from them, and the commands that place them.

Only the modules that `SHIPPED` names go to nodes; this one stays here.
"""

import base64
import io
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from cluster import findings
from cluster.command import Command
from cluster.engine.readiness import ready_limits
from cluster.monitoring.metrics_timer import textfile_folder
from cluster.monitoring.parts import digests, who_listens
from cluster.node.host import as_root, no_root
from cluster.node.readings import NodeFacts, Shown
from cluster.settings.declaration import Declaration
from cluster.settings.schema import NAMES

SHIPPED = ("__init__.py", "duties.py", "engine.py", "messages.py", "program.py", "proof.py")
# Debian 12's; Ubuntu 24.04 has 3.12.
OLDEST_PYTHON = (3, 11)
GB = 1_000_000_000
# Of templates/earlyoom.j2: below this share of memory it ends a process.
EARLYOOM_SHARE = 0.03
# The files come on stdin, a tar in base64.
_PLACE = """
unit=$1 folder=$2; umask 022
rm -rf -- "$folder" && base64 -d | tar -x -C / --no-same-owner && systemctl daemon-reload &&
  systemctl enable --quiet "$unit" && systemctl restart "$unit"
""".strip()
_REMOVE = """
unit=$1 folder=$2 state=$3 file=$4 metrics=$5
systemctl disable --quiet --now "$unit" 2>/dev/null
rm -f -- "$file" "$state" "$metrics" && rm -rf -- "$folder" && systemctl daemon-reload
rmdir "${folder%/*}" "${state%/*}" "${metrics%/*}" "${metrics%/*/*}" 2>/dev/null || :
""".strip()


@dataclass(frozen=True)
class WatchdogReading(Shown):
    """What a node has of a group's watchdog.

    + files: path → SHA-256, of the files that are there
    + config: its configuration's text; "" where there is none
    + unit: systemd's words on its service: "enabled active", "disabled inactive"; "" for none
    + python: the version of its python3; () where there is none
    + no_root: why the login can't become root; "" where it can
    + listens: "ADDRESS:PORT" of every TCP port that something listens on, as `ss` prints it
    """

    files: Mapping[str, str] = field(default_factory=dict)
    config: str = ""
    unit: str = ""
    python: tuple[int, ...] = ()
    no_root: str = ""
    listens: tuple[str, ...] = ()


@dataclass(frozen=True)
class WatchdogStep:
    """What happens to the watchdog of one node.

    + config: as it should be; None: it goes
    + reasons: why; () where nothing happens
    """

    group: str
    config: Mapping[str, Any] | None
    reasons: tuple[str, ...] = ()

    def __str__(self) -> str:
        verb = "remove" if self.config is None else "start"
        return f"{verb} its watchdog: {'; '.join(self.reasons)}"

    def command(self) -> Command:
        """Have it on the node as it should be."""
        unit, folder = f"{unit_name(self.group)}.service", code_folder(self.group)
        if self.config is None:
            state, file = f"/run/spark-watchdog/{self.group}.json", unit_path(self.group)
            metrics = f"{textfile_folder(self.group)}/watchdog.prom"
            words = ("sh", "-c", _REMOVE, "sh", unit, folder, state, file, metrics)
            return Command(as_root(*words), 60, kill=False)
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            for path, content in node_files(self.group, self.config).items():
                member = tarfile.TarInfo(path.lstrip("/"))
                member.size, member.mode = len(content.encode()), 0o644
                archive.addfile(member, io.BytesIO(content.encode()))
        text = base64.encodebytes(packed.getvalue()).decode()
        placed = Command(as_root("sh", "-c", _PLACE, "sh", unit, folder), 90, kill=False)
        return placed.with_stdin(text)


def unit_name(group: str) -> str:
    return f"spark-watchdog-{group}"


def unit_path(group: str) -> str:
    return f"/etc/systemd/system/{unit_name(group)}.service"


def code_folder(group: str) -> str:
    """Where a node has the watchdog's code and configuration."""
    return f"/usr/local/lib/spark-watchdog/{group}"


def config_path(group: str) -> str:
    return f"{code_folder(group)}/config.json"


def node_config(declaration: Declaration, rank: int, addresses: Sequence[str]) -> dict[str, Any]:
    """The configuration of one rank's node: the fields of `program.Config`.

    + addresses: of all ranks on the fabric
    """
    settings = declaration.common
    # What served has compiled its kernels, unless nothing of that is kept.
    first = settings.cache_dir == "none" and settings.gpus != "none"
    limits = ready_limits(settings.ready_timeout, len(addresses), first=first)
    return {
        "group": settings.group,
        "rank": rank,
        "addresses": list(addresses),
        "port": settings.watchdog_port,
        "floor": settings.memory_floor * GB,
        "load": int(limits.ready),
    }


def node_files(group: str, config: Mapping[str, Any]) -> dict[str, str]:
    """Path → content of every file that a node has for it."""
    here, folder = Path(__file__).parent, code_folder(group)
    code = {f"{folder}/cluster/watchdog/{n}": (here / n).read_text() for n in SHIPPED}
    # OOMScoreAdjust: it must outlive the rank that eats the memory. No PrivateTmp: a lease may lie
    # in /tmp.
    unit = f"""\
[Unit]
Description=Watchdog of the group {group}
After=docker.service
StartLimitIntervalSec=0

[Service]
Type=notify
WorkingDirectory={folder}
ExecStart=/usr/bin/python3 -B -s -m cluster.watchdog.program {config_path(group)}
Restart=always
RestartSec=5
TimeoutStopSec=10
WatchdogSec=90
RuntimeDirectory=spark-watchdog spark-monitoring/{group}
RuntimeDirectoryPreserve=yes
OOMScoreAdjust=-900
MemoryMax=100M
MemorySwapMax=0
LimitMEMLOCK=infinity
NoNewPrivileges=yes
ProtectHome=yes
ProtectSystem=strict

[Install]
WantedBy=multi-user.target
"""
    return {
        unit_path(group): unit,
        f"{folder}/cluster/__init__.py": '"""What of the project a node runs."""\n',
        **code,
        config_path(group): msgspec.json.format(msgspec.json.encode(config)).decode() + "\n",
    }


def plan_watchdog(
    group: str, config: Mapping[str, Any] | None, there: WatchdogReading
) -> WatchdogStep:
    """What makes a node's watchdog as it should be; config None: there should be none."""
    if config is None:
        return WatchdogStep(group, None, tuple(f"{path} is there" for path in sorted(there.files)))
    files = node_files(group, config)
    differ = [path for path, d in digests(files).items() if there.files.get(path) != d]
    reasons: list[str] = []
    if config_path(group) in there.files and config_path(group) in differ:
        reasons += _config_drift(config, there.config)
        differ.remove(config_path(group))
    if len(differ) == len(files):
        reasons.append("is not there")
    else:
        reasons += [f"{p} {'differs' if p in there.files else 'is not there'}" for p in differ]
    if not reasons and there.unit != "enabled active":
        reasons.append(f"its unit is {there.unit or 'not there'}")
    return WatchdogStep(group, config, tuple(reasons))


def _config_drift(config: Mapping[str, Any], text: str) -> list[str]:
    """Field by field: "load: 600 -> 900"."""
    try:
        old = msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.MsgspecError, RecursionError):
        return ["its configuration is none of ours"]
    return [
        f"{name}: {old.get(name, '(none)')!r} -> {config.get(name, '(none)')!r}"
        for name in sorted(old.keys() | config.keys())
        if old.get(name) != config.get(name)
    ] or ["its configuration is written differently"]


def watchdog_obstacles(
    node: str, step: WatchdogStep, there: WatchdogReading
) -> Iterator[findings.Finding]:
    """Why a node can't have it so."""
    if not step.reasons:
        return
    if there.no_root:
        yield no_root(node, there.no_root)
    if step.config is not None and there.python < OLDEST_PYTHON:
        version = ".".join(map(str, there.python))
        yield findings.error(
            f"the watchdog needs Python 3.11 as /usr/bin/python3; it is {version or 'not there'}",
            node,
            "sudo apt-get install python3, of Ubuntu 24.04 or later; --data watchdog=off",
            key="watchdog-python",
        )
    if step.config and step.config["rank"] == 0 and len(step.config["addresses"]) > 1:
        address, port = step.config["addresses"][0], step.config["port"]
        taken = who_listens(there.listens, address, port)
        if taken and not (there.unit.endswith(" active") and _listens_itself(there, port)):
            yield findings.error(
                f"the watchdog would listen on {address}:{port}, and something else does, on"
                f" {taken}",
                node,
                "ss -ltnp there says what; --data watchdog_port=… takes another port",
                key="port-taken",
            )


def _listens_itself(there: WatchdogReading, port: int) -> bool:
    """Whether the watchdog that is there has the port in its configuration."""
    try:
        return bool(msgspec.json.decode(there.config, type=dict[str, Any]).get("port") == port)
    except (msgspec.MsgspecError, RecursionError):
        return False


def settings_findings(
    declaration: Declaration, facts: Mapping[str, NodeFacts]
) -> Iterator[findings.Finding]:
    """What of the settings the watchdog can't work with, or should not.

    + facts: of the group's nodes
    """
    settings = declaration.common
    ports = [n for n in NAMES if n.endswith("port") and n != "watchdog_port"]
    same = [name for name in ports if getattr(settings, name) == settings.watchdog_port]
    if same and len(declaration.names) > 1:
        yield findings.error(
            f"watchdog_port and {same[0]} are both {settings.watchdog_port}: the head may listen on"
            " each",
            cure="--data watchdog_port=PORT, a number that no other setting has",
            key="watchdog-port-twice",
        )
    for name in declaration.names:
        memory, floor = facts[name].memory, settings.memory_floor * GB
        acts = EARLYOOM_SHARE * memory.total if memory and settings.earlyoom else floor
        if floor > acts:
            yield findings.warning(
                f"memory_floor is {settings.memory_floor} GB, and earlyoom acts below"
                f" {acts / GB:.1f} GB: where memory runs out fast, each ends a process",
                name,
                f"--data memory_floor={int(acts / GB)}",
                key="floor-above-earlyoom",
            )
