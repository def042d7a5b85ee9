"""What no exporter knows, for node_exporter: the GPUs' figures, and whether the node's rank is
meant to serve; two scripts, and the systemd timer that runs them.

No GPU exporter is used: those that there are need framebuffer memory, which a GB10 does not report.
"""

from dataclasses import dataclass

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
# Of the folder of figures only what the scripts here write: the watchdog's figures lie there too,
# and its unit could not write to a new folder of that name.
_REMOVE = """
timer=$1 folder=$2; shift 2
systemctl disable --quiet --now "$timer" 2>/dev/null
systemctl stop "${timer%.timer}.service" 2>/dev/null
for into in gpu rank; do set -- "$@" "$folder/$into.prom" "$folder/$into.prom.part"; done
rm -f -- "$@" "$folder/docker.words" && systemctl daemon-reload
rmdir "${3%/*}" "$folder" "${folder%/*}" 2>/dev/null || :
""".strip()


def unit_name(group: str) -> str:
    """The timer's name, and its service's, without their endings."""
    return f"spark-monitoring-{group}"


def textfile_folder(group: str) -> str:
    """Where the figures lie on the node: in memory, gone with a reboot."""
    return f"/run/spark-monitoring/{group}"


@dataclass(frozen=True)
class MetricsTimer:
    """What one node's timer reads.

    + rank: its container; "" if Docker's restart policy does not say whether it is meant to serve
    + load_seconds: that the rank may take to load; first_seconds: before it has ever served
    + gpus: it has some
    """

    group: str
    rank: str
    load_seconds: int
    first_seconds: int
    gpus: bool


def unit_paths(group: str) -> tuple[str, ...]:
    """Every file that a node may have for it: the service, the timer, the scripts of GPUs and
    rank."""
    unit, scripts = f"/etc/systemd/system/{unit_name(group)}", "/usr/local/lib/spark-monitoring"
    return (
        *(f"{unit}.service", f"{unit}.timer"),
        # No group's name has an @.
        *(f"{scripts}/{group}.sh", f"{scripts}/rank@{group}.sh"),
    )


def unit_files(reads: MetricsTimer) -> dict[str, str]:
    """Path → content of every file that the node has for it."""
    group, folder = reads.group, textfile_folder(reads.group)
    service_path, timer_path, gpu_script, rank_script = unit_paths(group)
    limits = f"{reads.load_seconds} {reads.first_seconds}"
    started = {
        # "-": what the other one reads counts all the same.
        rank_script: f"ExecStart=-/bin/sh {rank_script} {folder} {reads.rank} {limits}\n",
        gpu_script: f"ExecStart=/bin/sh {gpu_script} {folder}\n",
    }
    scripts = {
        rank_script: "rank_metrics.sh" if reads.rank else "",
        gpu_script: "gpu_metrics.sh" if reads.gpus else "",
    }
    there = {path: script for path, script in scripts.items() if script}
    # LogLevelMax: else each run would be four lines of the journal.
    service = f"""\
[Unit]
Description=Figures of the group {group} for node_exporter

[Service]
Type=oneshot
{"".join(started[path] for path in there)}\
RuntimeDirectory=spark-monitoring/{group}
RuntimeDirectoryPreserve=yes
TimeoutStartSec=14
Nice=10
NoNewPrivileges=yes
ProtectHome=yes
LogLevelMax=warning
"""
    timer = f"""\
[Unit]
Description=Figures of the group {group} for node_exporter

[Timer]
OnActiveSec=0
OnUnitActiveSec={EVERY}
AccuracySec=1

[Install]
WantedBy=timers.target
"""
    read = {path: load_script(__file__, script) + "\n" for path, script in there.items()}
    return {service_path: service, timer_path: timer, **read}


def unit_drift(reads: MetricsTimer, there: MonitoringReading) -> tuple[str, ...]:
    """Why the units are not as they should be."""
    wanted = digests(unit_files(reads))
    reasons = [
        f"{path} {'differs' if path in there.files else 'is not there'}"
        for path, digest in wanted.items()
        if there.files.get(path) != digest
    ]
    if not reasons and there.timer != "enabled active":
        reasons = [f"its timer is {there.timer or 'not there'}"]
    return tuple(reasons)


def place_units(reads: MetricsTimer) -> Command:
    """Write the files, and (re)start the timer."""
    words = [word for file in unit_files(reads).items() for word in file]
    script = as_root("sh", "-c", _PLACE, "sh", f"{unit_name(reads.group)}.timer", *words)
    return Command(script, 60, kill=False)


def remove_units(group: str) -> Command:
    """Stop the timer, and remove the files and its figures; the watchdog's stay."""
    names = (f"{unit_name(group)}.timer", textfile_folder(group), *unit_paths(group))
    return Command(as_root("sh", "-c", _REMOVE, "sh", *names), 60, kill=False)
