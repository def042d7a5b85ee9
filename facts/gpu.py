"""GPUs, as nvidia-smi tells of them."""

from __future__ import annotations

import re

from pyinfra.api import StringCommand

from cluster.node.readings import Gpu
from cluster.words import bounded
from facts.fact import Fact, count
from facts.shell import quoted, told

_FIELDS = "index,name,driver_version,compute_cap,memory.total,power.draw,temperature.gpu"
_COLUMNS = _FIELDS.count(",") + 1


class Gpus(Fact[list[Gpu]]):
    """Every GPU; [] where there is no nvidia-smi. A lost driver fails with nvidia-smi's words."""

    default = staticmethod(list[Gpu])

    def command(self) -> StringCommand:
        query = ("nvidia-smi", f"--query-gpu={_FIELDS}", "--format=csv,noheader")
        return StringCommand(
            "command -v nvidia-smi >/dev/null || exit 0;", told(quoted(bounded(30, *query)))
        )

    def parse(self, output: list[str]) -> list[Gpu]:
        rows = [_gpu(fields) for line in output if len(fields := line.split(",")) == _COLUMNS]
        if not rows:
            raise ValueError("no line of it is a GPU's")
        return rows


def _gpu(fields: list[str]) -> Gpu:
    index, name, driver, capability, memory, power, temperature = (f.strip() for f in fields)
    mebibytes = _number(memory)
    return Gpu(
        index=count(index),
        name=name,
        driver=driver,
        compute_capability=capability,
        memory_bytes=None if mebibytes is None else int(mebibytes) * 2**20,
        power_watts=_number(power),
        temperature_celsius=_number(temperature),
    )


def _number(value: str) -> float | None:
    """ "3.74 W" → 3.74; None for "[N/A]", "Not Supported" and the like."""
    number = re.match(r"[0-9]{1,15}(\.[0-9]+)?", value)
    return float(number[0]) if number else None
