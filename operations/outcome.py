"""The record of a run, for its report: operations note here what failed and what serves again.

One run is one process. Nothing is written unless a report was requested.
"""

import os
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import msgspec
from pyinfra.api import Host

from cluster.findings import Finding
from cluster.printable import json_text
from cluster.reports.outcome import Outcome, Result, Step

Left = Literal["untouched", "unknown", "nothing", "previous"]


@dataclass
class RunRecord:
    """What one run has noted so far.

    + file: the report's; None: no report is written
    + describe: makes the document of this record
    + result: "refused" or "failed" once something was; None until then
    + left: what a switch leaves running while it is under way ("unknown") and once it has failed;
      "untouched": none has begun
    """

    file: Path | None = None
    describe: Callable[[Result], Outcome] | None = None
    step: Step = "start"
    result: Result | None = None
    findings: dict[Finding, None] = field(default_factory=dict)
    interrupted: bool = False
    left: Left = "untouched"


record = RunRecord()


def begin_step(step: Step) -> None:
    """The run begins a step; the report on the disk is updated at once."""
    record.step = step
    write("interrupted")


def note(result: Result, findings: Iterable[Finding]) -> None:
    """The run was refused or has failed. The first result stays; later findings are added."""
    record.result = record.result or result
    record.findings |= dict.fromkeys(findings)


def log_failure(at: Host, finding: Finding, indent: str = "") -> None:
    """Log, beside a node's name, why the run has failed, and note it."""
    at.log_styled(f"{indent}{finding}", fg="red")
    note("failed", [replace(finding, where=finding.where or at.name)])


def write(result: Result) -> None:
    """Replace the report as a whole, if there is to be one. An OSError costs the report alone."""
    if record.file is None or record.describe is None:
        return
    text = json_text(msgspec.json.encode(record.describe(result)))
    handle, name = tempfile.mkstemp(prefix=f".{record.file.name}.", dir=record.file.parent)
    try:
        with os.fdopen(handle, "w") as file:
            file.write(f"{text}\n")
        os.replace(name, record.file)
    except BaseException:
        os.unlink(name)
        raise
