"""GPUs, as nvidia-smi tells of them."""

from __future__ import annotations

import re

from pyinfra.api import FactBase, StringCommand
from pyinfra.api.exceptions import FactProcessError

from cluster.node import Gpu
from cluster.words import bounded
from facts.shell import quoted, told

_FIELDS = "index,name,driver_version,compute_cap,memory.total,power.draw,temperature.gpu"


class Gpus(FactBase[list[Gpu]]):
    """Every GPU; [] where there is no nvidia-smi. A lost driver fails with nvidia-smi's words."""

    default = staticmethod(list[Gpu])

    def command(self) -> StringCommand:
        query = ("nvidia-smi", f"--query-gpu={_FIELDS}", "--format=csv,noheader")
        return StringCommand(
            "command -v nvidia-smi >/dev/null || exit 0;", told(quoted(bounded(30, *query)))
        )

    def process(self, output: list[str]) -> list[Gpu]:
        return [_gpu(line) for line in output]


def _gpu(line: str) -> Gpu:
    fields = [field.strip() for field in line.split(",")]
    if len(fields) != len(_FIELDS.split(",")):
        raise FactProcessError(line)
    index, name, driver, capability, memory, power, temperature = fields
    mebibytes = _number(memory)
    return Gpu(
        index=int(index),
        name=name,
        driver=driver,
        compute_capability=capability,
        memory_bytes=None if mebibytes is None else int(mebibytes) * 2**20,
        power_watts=_number(power),
        temperature_celsius=_number(temperature),
    )


def _number(value: str) -> float | None:
    """ "3.74 W" → 3.74; None for "[N/A]", "Not Supported" and the like."""
    number = re.match(r"\d+(\.\d+)?", value)
    return float(number[0]) if number else None
