"""The machine that the client runs on, as the kernel and the firmware tell."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from contextlib import suppress
from pathlib import Path

from spark_bench.results.facts import Commit, Machine

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


def machine(root: Path = Path("/")) -> Machine:
    """This machine, now. root: where /proc and /sys are."""
    cpus = root / "sys/devices/system"
    return Machine(
        hostname=platform.node() or None,
        product=_line(root / "sys/class/dmi/id/product_name"),
        cpu=cpu_model(_text(root / "proc/cpuinfo")) or platform.processor() or None,
        cores=os.cpu_count(),
        usable_cores=_usable_cores(),
        memory_bytes=_memory_bytes(),
        kernel=platform.release() or None,
        platform=f"{platform.system()} {platform.machine()}",
        load_average=_load_average(),
        governor=_line(cpus / "cpu/cpu0/cpufreq/scaling_governor"),
        clock_source=_line(cpus / "clocksource/clocksource0/current_clocksource"),
    )


def cpu_model(cpuinfo: str) -> str | None:
    """The CPU's name from /proc/cpuinfo, which on Arm has part numbers alone.

    >>> cpu_model("model name\\t: AMD EPYC 9B45\\n")
    'AMD EPYC 9B45'
    >>> cpu_model("CPU implementer : 0x41\\nCPU part : 0xd85\\nCPU part : 0xd87\\n")
    'Cortex-X925 + Cortex-A725'
    """
    if name := re.search(r"^model name\s*:\s*(.+)$", cpuinfo, re.M):
        return name[1].strip()
    parts = dict.fromkeys(re.findall(r"^CPU part\s*:\s*(\w+)$", cpuinfo, re.M))
    return " + ".join(_ARM_PARTS.get(part, f"part {part}") for part in parts) or None


def commit(folder: Path) -> Commit | None:
    """The commit that is checked out in `folder`; None where git has no answer."""
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


def _line(path: Path) -> str | None:
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
