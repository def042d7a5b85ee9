"""Read what a result was measured with. What can't be found is null, never an error."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import spark_bench
from spark_bench.results.redact import is_secret_name
from spark_bench.results.schema import (
    Client,
    Commit,
    DeployedGroup,
    DeployedRank,
    Machine,
    Provenance,
)
from spark_bench.results.server_info import read_server_info

if TYPE_CHECKING:
    import httpx

    from spark_bench.project import ProjectListing, ProjectRank


def gather_provenance(
    http: httpx.Client,
    url: str,
    *,
    model: str = "",
    project: Path | None = None,
    listing: ProjectListing | None = None,
) -> Provenance:
    """Gather the provenance; call it just before the run starts, for the load average.

    http: sends the API key, if any; it never gets into the result
    url: the server's, with or without /v1
    model: the one that will be requested; "": the first that the server lists
    project: the project's folder, for its git commit; None: there is none
    listing: what that project has deployed
    """
    return Provenance(
        client=client_versions(),
        machine=read_machine(),
        project=read_commit(project) if project else None,
        server=read_server_info(http, url, model),
        deployment=describe_deployment(listing) if listing else None,
    )


def client_versions() -> Client:
    """The client's versions."""
    return Client(
        version=spark_bench.__version__,
        python=platform.python_version(),
        httpx=_version("httpx"),
    )


def describe_deployment(listing: ProjectListing) -> DeployedGroup | None:
    """The part of a project's listing that determines figures; None if nothing is running."""
    head = listing.head
    if head is None:
        return None
    return DeployedGroup(
        model=head.model,
        revision=listing.revision,
        group=listing.group,
        launch={name: value for name, value in head.launch.items() if not is_secret_name(name)},
        ranks=tuple(map(_rank, listing.ranks)),
    )


def _rank(rank: ProjectRank) -> DeployedRank:
    return DeployedRank(
        rank=rank.rank,
        node=rank.node,
        image=rank.image,
        image_id=rank.image_id,
        engine_version=rank.sglang,
        spec=rank.spec,
    )


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


_GIT_SECONDS = 5.0

# Arm's own cores by part number (Linux, arch/arm64/include/asm/cputype.h). A GB10 has the last two.
_ARM_PARTS = {
    "0xd0c": "Neoverse-N1",
    "0xd40": "Neoverse-V1",
    "0xd49": "Neoverse-N2",
    "0xd4f": "Neoverse-V2",
    "0xd85": "Cortex-X925",
    "0xd87": "Cortex-A725",
}


def read_machine(root: Path = Path("/")) -> Machine:
    """This machine's state now. root: where /proc and /sys are."""
    cpus = root / "sys/devices/system"
    return Machine(
        hostname=platform.node() or None,
        product=_first_line(root / "sys/class/dmi/id/product_name"),
        cpu=cpu_model(_text(root / "proc/cpuinfo")) or platform.processor() or None,
        cores=os.cpu_count(),
        usable_cores=_usable_cores(),
        memory_bytes=_memory_bytes(),
        kernel=platform.release() or None,
        platform=f"{platform.system()} {platform.machine()}",
        load_average=_load_average(),
        governor=_first_line(cpus / "cpu/cpu0/cpufreq/scaling_governor"),
        clock_source=_first_line(cpus / "clocksource/clocksource0/current_clocksource"),
    )


def cpu_model(cpuinfo: str) -> str | None:
    """The CPU's name from /proc/cpuinfo, which has just part numbers on Arm.

    >>> cpu_model("model name\\t: AMD EPYC 9B45\\n")
    'AMD EPYC 9B45'
    >>> cpu_model("CPU implementer : 0x41\\nCPU part : 0xd85\\nCPU part : 0xd87\\n")
    'Cortex-X925 + Cortex-A725'
    """
    if name := re.search(r"^model name\s*:\s*(.+)$", cpuinfo, re.M):
        return name[1].strip()
    parts = dict.fromkeys(re.findall(r"^CPU part\s*:\s*(\w+)$", cpuinfo, re.M))
    return " + ".join(_ARM_PARTS.get(part, f"part {part}") for part in parts) or None


def read_commit(folder: Path) -> Commit | None:
    """The commit checked out in `folder`; None if git has no answer."""
    sha = _git(folder, "rev-parse", "HEAD")
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    if not sha or changes is None:
        return None
    return Commit(sha=sha, dirty=bool(changes))


def _git(folder: Path, *words: str) -> str | None:
    try:
        answer = subprocess.run(
            ["git", "-C", str(folder), *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_GIT_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _first_line(path: Path) -> str | None:
    return _text(path).strip() or None


def _usable_cores() -> int | None:
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return None


def _memory_bytes() -> int | None:
    with suppress(OSError, ValueError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def _load_average() -> tuple[float, float, float] | None:
    try:
        return os.getloadavg()
    except OSError:
        return None
