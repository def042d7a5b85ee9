"""The GPUs' figures for node_exporter: a script, and the systemd timer that runs it.

No GPU exporter is used: those that there are need framebuffer memory, which a GB10 does not report.
"""

from cluster.command import Command, load_script
from cluster.monitoring.parts import MonitoringReading, digests
from cluster.node.host import as_root

# Seconds between two readings: as often as Prometheus scrapes.
EVERY = 15
_PLACE = """
timer=$1; shift; umask 022
while [ $# -gt 1 ]; do
  mkdir -p "${1%/*}" && printf '%s' "$2" >"$1.part" && mv "$1.part" "$1" || exit; shift 2
done
systemctl daemon-reload && systemctl enable --quiet "$timer" && systemctl restart "$timer" &&
  systemctl start "${timer%.timer}.service"
""".strip()
_REMOVE = """
timer=$1 folder=$2; shift 2
systemctl disable --quiet --now "$timer" 2>/dev/null
systemctl stop "${timer%.timer}.service" 2>/dev/null
rm -f -- "$@" && rm -rf -- "$folder" && systemctl daemon-reload
rmdir "${3%/*}" "${folder%/*}" 2>/dev/null || :
""".strip()


def unit_name(group: str) -> str:
    """The timer's name, and its service's, without their endings."""
    return f"spark-monitoring-{group}"


def textfile_folder(group: str) -> str:
    """Where the figures lie on the node: in memory, gone with a reboot."""
    return f"/run/spark-monitoring/{group}"


def unit_files(group: str) -> dict[str, str]:
    """Path → content of every file that a node with GPUs has for it."""
    unit, script = unit_name(group), f"/usr/local/lib/spark-monitoring/{group}.sh"
    # LogLevelMax: else each run would be four lines of the journal.
    service = f"""\
[Unit]
Description=GPU figures of the group {group} for node_exporter

[Service]
Type=oneshot
ExecStart=/bin/sh {script} {textfile_folder(group)}
RuntimeDirectory=spark-monitoring/{group}
RuntimeDirectoryPreserve=yes
TimeoutStartSec=12
Nice=10
NoNewPrivileges=yes
ProtectHome=yes
LogLevelMax=warning
"""
    timer = f"""\
[Unit]
Description=GPU figures of the group {group} for node_exporter

[Timer]
OnActiveSec=0
OnUnitActiveSec={EVERY}
AccuracySec=1

[Install]
WantedBy=timers.target
"""
    return {
        f"/etc/systemd/system/{unit}.service": service,
        f"/etc/systemd/system/{unit}.timer": timer,
        script: load_script(__file__, "gpu_metrics.sh") + "\n",
    }


def unit_drift(group: str, there: MonitoringReading) -> tuple[str, ...]:
    """Why the units are not as they should be."""
    wanted = digests(unit_files(group))
    reasons = [
        f"{path} {'differs' if path in there.files else 'is not there'}"
        for path, digest in wanted.items()
        if there.files.get(path) != digest
    ]
    if not reasons and there.timer != "enabled active":
        reasons = [f"its timer is {there.timer or 'not there'}"]
    return tuple(reasons)


def place_units(group: str) -> Command:
    """Write the files, and (re)start the timer."""
    words = [word for file in unit_files(group).items() for word in file]
    script = as_root("sh", "-c", _PLACE, "sh", f"{unit_name(group)}.timer", *words)
    return Command(script, 60, kill=False)


def remove_units(group: str) -> Command:
    """Stop the timer, and remove the files and the figures."""
    names = (f"{unit_name(group)}.timer", textfile_folder(group), *unit_files(group))
    return Command(as_root("sh", "-c", _REMOVE, "sh", *names), 60, kill=False)
