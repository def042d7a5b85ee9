"""The story of `spark-bench all`: each model in its turn, a record after each, then restore."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from msgspec.structs import replace

from spark_bench import project
from spark_bench.errors import BenchError
from spark_bench.suite import converge, output
from spark_bench.suite.asked import Asked
from spark_bench.suite.job import Before, JobFile
from spark_bench.suite.one import Stage, one
from spark_bench.suite.output import Results
from spark_bench.suite.pareto import marked
from spark_bench.suite.plan import Cell
from spark_bench.suite.rows import Row, skipped
from spark_bench.suite.steps import Steps

FAIL_FAST = "an earlier one failed (--fail-fast)"
INTERRUPTED = "stopped by Ctrl-C"
AGAIN = "is served again"
NOT_AGAIN = "is not served again"


@dataclass
class Run:
    """A run of `all` under way.

    rows: by name, those of earlier sittings too
    earlier: seconds that sittings before this one took
    touched: whether any deploy was begun since the last restore
    restored: what became of the model served before, in words
    """

    asked: Asked
    file: JobFile
    cells: list[Cell]
    steps: Steps
    rows: dict[str, Row] = field(default_factory=dict)
    earlier: float = 0.0
    touched: bool = False
    finished: bool = False
    restored: str = ""

    def write(self) -> Results:
        """All rows, to all files."""
        rows = [self.rows[cell.name] for cell in self.cells if cell.name in self.rows]
        written = Results(
            timestamp=self.file.created,
            config=self.file.job.load,
            total_time_seconds=round(self.earlier + time.monotonic() - self.steps.began, 3),
            models_tested=sum(row.status != "SKIPPED" for row in rows),
            results=tuple(marked(rows)),
            finished=self.finished,
            restored=self.restored,
        )
        output.write(written, self.asked.folder)
        return written


def carry_out(run: Run) -> tuple[Results, bool]:
    """Everything that is left to do: what the files hold then, and whether Ctrl-C came."""
    interrupted = False
    try:
        _measure_all(run)
        run.finished = True
    except KeyboardInterrupt:
        interrupted = True
        run.steps.step(f"{INTERRUPTED}; the model under way is dropped")
        run.write()
    except BenchError:  # the disk is full, say
        run.steps.step(_restore(run))
        raise
    try:
        run.restored = _restore(run) or run.restored
    except KeyboardInterrupt:
        interrupted = True
        run.restored = f"{run.file.before.model if run.file.before else ''} {NOT_AGAIN}"
    if run.restored:
        run.steps.step(run.restored)
    return run.write(), interrupted


def _measure_all(run: Run) -> None:
    failed = False
    for number, cell in enumerate(run.cells, start=1):
        place = f"{number}/{len(run.cells)} {cell.short} {cell.variant}".strip()
        if cell.name in run.rows:
            run.steps.step(f"{place}: done already")
            continue
        if cell.skip or failed:
            row = skipped(replace(cell, skip=cell.skip or FAIL_FAST))
            run.steps.step(f"{place}: SKIPPED: {row.diagnosis}")
        else:
            run.touched, run.restored = True, ""
            row = one(run.asked, run.steps, cell, place)
            failed = not run.asked.keep_going and row.status != "OK"
        run.rows[cell.name] = row
        run.write()


def _restore(run: Run) -> str:
    """Serve again what was served before; what came of it, in words."""
    if not run.asked.restore or not run.touched:
        return ""
    if run.file.before is None:
        return "nothing was served before: what was deployed last is left as it is"
    before = run.file.before
    run.steps.step(f"{before.model}, which was served before, is converged again")
    with (run.asked.folder / "restore.log").open("wb") as log:
        ended = Stage(run.asked, run.steps, log).deploy(before.data)
    if failure := converge.failure(ended, run.asked.startup_timeout):
        return f"{before.model} {NOT_AGAIN}: {failure.diagnosis}"
    return f"{before.model} {AGAIN}{_difference(run.asked, before)}"


def _difference(asked: Asked, before: Before) -> str:
    """What is to be said where it does not run just as before."""
    try:
        listing = project.find(asked.project, asked.inventory)
    except BenchError as error:
        return f" (whether just as before is not known: {error.message})"
    assert listing
    same = tuple(rank.spec for rank in listing.ranks) == before.specs
    return "" if same else ", but not with all the settings it had: deploy it by hand"
