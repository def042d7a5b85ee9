"""Run a suite: each case in turn, its row written at once; then restore what was served before.

If something goes wrong with a case, its row says what.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

from msgspec import UNSET
from msgspec.structs import replace

from spark_bench import project
from spark_bench.compare.scores import score_part
from spark_bench.errors import BenchError
from spark_bench.results import codec, suite_results
from spark_bench.suite import case_run, child, deploy, job, plan, suite_rows

FAIL_FAST = "an earlier one failed (--fail-fast)"
INTERRUPTED = "stopped by Ctrl-C"
RESTORED = "is served again"
NOT_RESTORED = "is not served again"


@dataclass
class SuiteRun:
    """A suite under way.

    rows: by the case's name, including those from before a resume
    earlier: seconds that the suite ran before it was resumed
    touched: whether a deploy was begun since the last restore
    restored: what became of the previously served model, in words
    """

    options: plan.SuiteOptions
    file: job.JobFile
    cases: list[plan.Case]
    progress: child.SuiteProgress
    rows: dict[str, suite_results.CaseRow] = field(default_factory=dict)
    earlier: float = 0.0
    touched: bool = False
    finished: bool = False
    restored: str = ""

    def write(self) -> suite_results.SuiteResults:
        """Write all rows to all files."""
        rows = [self.rows[case.name] for case in self.cases if case.name in self.rows]
        results = suite_results.SuiteResults(
            timestamp=self.file.created,
            config=self.file.job.load,
            total_time_seconds=round(self.earlier + time.monotonic() - self.progress.began, 3),
            models_tested=sum(row.status != "SKIPPED" for row in rows),
            results=tuple(suite_rows.mark_pareto(self._judged(rows))),
            quality=self.options.quality or UNSET,
            finished=self.finished,
            restored=self.restored,
        )
        self.rows |= {row.name: row for row in results.results}
        job.write_results(results, self.options.folder)
        return results

    def _judged(self, rows: list[suite_results.CaseRow]) -> list[suite_results.CaseRow]:
        """The rows, with those marked whose answers can't be used."""
        if not (quality := self.options.quality):
            return rows
        answers = {
            (row.name, task): score_part(path, codec.read_quality(path))
            for row in rows
            for task, each in row.by_task.items()
            for path in [self.options.folder / each.file]
        }
        return suite_rows.mark_wrong(rows, answers, quality.loss)


@contextmanager
def begin_suite(
    options: plan.SuiteOptions, cases: list[plan.Case], progress: child.SuiteProgress
) -> Iterator[SuiteRun]:
    """Begin or resume a suite; its folder is locked for this process during the block."""
    with job.lock_folder(options.folder):
        job.finished_names(options, cases)
        if options.resume:
            run = SuiteRun(options, job.read_job(options.folder), cases, progress)
            if results := job.read_results(options.folder):
                run.rows = job.finished_rows(options.folder, results.results)
                run.earlier, run.restored = results.total_time_seconds, results.restored
                run.touched = not results.restored
            yield run
            return
        try:
            ask = partial(plan.ask_feasibility, options)
            now = plan.list_project(options) if options.restore else None
            before = deploy.served_before(now, ask) if now else None
        except BenchError as error:
            raise BenchError(
                "what is served now can't be read, so it could not be served again at the end: "
                f"{error.message.removesuffix('; measure with --url')}; "
                "run with --no-restore to go on without restoring it"
            ) from None
        file = job.JobFile(
            created=datetime.now().astimezone().isoformat(timespec="seconds"),
            typed=options.typed,
            job=job.describe_job(options, cases),
            before=before,
        )
        job.write_job(options.folder, file)
        yield SuiteRun(options, file, cases, progress)


def run_suite(run: SuiteRun) -> tuple[suite_results.SuiteResults, bool]:
    """Do everything that is left to do.

    Returns what results.json then has, and whether Ctrl-C was pressed.
    """
    interrupted = False
    try:
        _measure_all(run)
        run.finished = True
    except KeyboardInterrupt:
        interrupted = True
        run.progress.step(f"{INTERRUPTED}; the model under way is dropped")
        run.write()
    except BenchError:  # the disk is full, say
        run.progress.step(_restore(run))
        raise
    try:
        run.restored = _restore(run) or run.restored
    except KeyboardInterrupt:
        interrupted = True
        run.restored = f"{run.file.before.model if run.file.before else ''} {NOT_RESTORED}"
    if run.restored:
        run.progress.step(run.restored)
    return run.write(), interrupted


def _measure_all(run: SuiteRun) -> None:
    failed = False
    for number, case in enumerate(run.cases, start=1):
        title = f"{number}/{len(run.cases)} {case.short} {case.variant}".strip()
        if case.name in run.rows:
            run.progress.step(f"{title}: done already")
            continue
        if case.skip or failed:
            skipped = replace(case, skip=case.skip or FAIL_FAST)
            row = suite_rows.case_row(skipped, suite_rows.CaseFailure("SKIPPED", skipped.skip))
            run.progress.step(f"{title}: SKIPPED: {row.diagnosis}")
        else:
            run.touched, run.restored = True, ""
            row = case_run.run_case(run.options, run.progress, case, title)
        run.rows[case.name] = row
        run.write()
        judged = run.rows[case.name]
        if judged.status != row.status:
            run.progress.step(f"{title}: {judged.status}: {judged.diagnosis}")
        failed = failed or (not run.options.keep_going and judged.status not in ("OK", "SKIPPED"))


def _restore(run: SuiteRun) -> str:
    """Deploy again what was served before; returns the outcome in words, "" if not needed."""
    if not run.options.restore or not run.touched:
        return ""
    if run.file.before is None:
        return "nothing was served before: the last deployed model keeps running"
    before = run.file.before
    run.progress.step(f"deploying {before.model} again, which was served before")
    with (run.options.folder / "restore.log").open("wb") as log:
        _, failure, _ = case_run.CaseCommands(run.options, run.progress, log).deploy(before.data)
    if failure:
        return f"{before.model} {NOT_RESTORED}: {failure.diagnosis}"
    try:
        listing = project.find_listing(run.options.project, run.options.inventory)
    except BenchError as error:
        return f"{before.model} {RESTORED} (whether just as before is not known: {error.message})"
    assert listing
    if tuple(rank.spec for rank in listing.ranks) == before.specs:
        return f"{before.model} {RESTORED}"
    return f"{before.model} {RESTORED}, but not with all the settings it had: deploy it by hand"
