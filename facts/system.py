"""The machine itself: which one it is, its memory, file systems and GPUs."""

import hashlib
import re

from pyinfra.api import StringCommand

from cluster.command import Command, load_script
from cluster.node import readings
from facts.fact import Fact, count, decimal, home_path, join, output_or_errors, render

_IDENTITY = """
id= host=; { read -r id </etc/machine-id; read -r host </proc/sys/kernel/hostname; } 2>/dev/null
printf '%s\\n' "$id" "${host:-$(uname -n)}" "$HOME"; date +%s.%N
""".strip()


class Identity(Fact[readings.IdentityReading]):
    """Machine id, host name, clock and the login's home."""

    def command(self) -> str:
        return _IDENTITY

    def parse(self, output: list[str]) -> readings.IdentityReading:
        machine_id, hostname, home, clock = output
        if not home.startswith("/"):
            raise ValueError(f"no home folder: {home[:40]!r}")
        return readings.IdentityReading(
            machine_id=machine_id or hashlib.sha256(hostname.encode()).hexdigest()[:32],
            hostname=hostname,
            # macOS' date knows no %N and prints it as it stands.
            clock=decimal(clock.removesuffix("N").removesuffix(".")),
            home=home,
        )


_MEMORY = load_script(__file__, "scripts/memory.sh")


class Memory(Fact[readings.MemoryReading]):
    """Memory and swap: on a GB10 the GPU shares the memory, and nvidia-smi does not know it."""

    def command(self) -> str:
        return _MEMORY

    def parse(self, output: list[str]) -> readings.MemoryReading:
        kibibytes = dict(line.split(": ") for line in output if line.count(": ") == 1)
        return readings.MemoryReading(
            total=count(kibibytes["MemTotal"]) * 1024,
            available=count(kibibytes["MemAvailable"]) * 1024,
            swap=count(kibibytes.get("SwapTotal", "0")) * 1024,
        )


CLIMB = "; " + load_script(__file__, "scripts/disk.sh")


class Disk(Fact[readings.DiskReading]):
    """The file system of `path`, or of its nearest folder that exists."""

    def command(self, path: str) -> StringCommand:
        return join("path=", home_path(path), CLIMB.rstrip())

    def parse(self, output: list[str]) -> readings.DiskReading:
        path, flags, _header, *rest = output
        usage = next(line for line in reversed(rest) if "%" in line)
        # Device and mount point may hold spaces: the figures stand before the percentage.
        figures = usage[: usage.index("%")].split()
        exists, writable = flags.split()
        if not {exists, writable} <= {"yes", "no"}:
            raise ValueError(f"neither yes nor no: {flags[:40]!r}")
        return readings.DiskReading(
            path=path,
            exists=exists == "yes",
            writable=writable == "yes",
            total=count(figures[-4]) * 1024,
            free=count(figures[-2]) * 1024,
        )


_FIELDS = "index,name,driver_version,compute_cap,memory.total,power.draw,temperature.gpu"
_COLUMNS = _FIELDS.count(",") + 1


class Gpus(Fact[list[readings.Gpu]]):
    """Every GPU; [] if there is no nvidia-smi. A lost driver fails with nvidia-smi's words."""

    default = staticmethod(list[readings.Gpu])

    def command(self) -> StringCommand:
        query = ("nvidia-smi", f"--query-gpu={_FIELDS}", "--format=csv,noheader")
        return StringCommand(
            "command -v nvidia-smi >/dev/null || exit 0;",
            output_or_errors(render(Command(query, 30))),
        )

    def parse(self, output: list[str]) -> list[readings.Gpu]:
        gpus = []
        for line in output:
            fields = [field.strip() for field in line.split(",")]
            if len(fields) != _COLUMNS:
                continue
            index, name, driver, capability, memory, power, temperature = fields
            mebibytes = _leading_number(memory)
            gpus.append(
                readings.Gpu(
                    index=count(index),
                    name=name,
                    driver=driver,
                    compute_capability=capability,
                    memory_bytes=None if mebibytes is None else int(mebibytes) * 2**20,
                    power_watts=_leading_number(power),
                    temperature_celsius=_leading_number(temperature),
                )
            )
        if not gpus:
            raise ValueError("no line describes a GPU")
        return gpus


def _leading_number(value: str) -> float | None:
    """ "3.74 W" → 3.74; None for "[N/A]", "Not Supported" and the like."""
    number = re.match(r"[0-9]{1,15}(\.[0-9]+)?", value)
    return float(number[0]) if number else None
