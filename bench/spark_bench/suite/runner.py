"""`spark-bench all` under way: each case in its turn, its row written at once, then restore."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

from msgspec.structs import replace

from spark_bench import project
from spark_bench.errors import BenchError
from spark_bench.results.suite_results import CaseRow, SuiteResults
from spark_bench.suite import job
from spark_bench.suite.case import CaseCommands, run_case
from spark_bench.suite.child import SuiteProgress
from spark_bench.suite.deploy import served_before
from spark_bench.suite.job import JobFile
from spark_bench.suite.plan import Case, SuiteOptions, list_project
from spark_bench.suite.rows import CaseFailure, case_row, mark_pareto

FAIL_FAST = "an earlier one failed (--fail-fast)"
INTERRUPTED = "stopped by Ctrl-C"
RESTORED = "is served again"
NOT_RESTORED = "is not served again"


@dataclass
class SuiteRun:
    """A suite under way.

    rows: by name, those of earlier sittings too
    earlier: seconds that sittings before this one took
    touched: whether any deploy was begun since the last restore
    restored: what became of the model served before, in words
    """

    options: SuiteOptions
    file: JobFile
    cases: list[Case]
    progress: SuiteProgress
    rows: dict[str, CaseRow] = field(default_factory=dict)
    earlier: float = 0.0
    touched: bool = False
    finished: bool = False
    restored: str = ""

    def write(self) -> SuiteResults:
        """Write all rows to all files."""
        rows = [self.rows[case.name] for case in self.cases if case.name in self.rows]
        results = SuiteResults(
            timestamp=self.file.created,
            config=self.file.job.load,
            total_time_seconds=round(self.earlier + time.monotonic() - self.progress.began, 3),
            models_tested=sum(row.status != "SKIPPED" for row in rows),
            results=tuple(mark_pareto(rows)),
            finished=self.finished,
            restored=self.restored,
        )
        job.write_results(results, self.options.folder)
        return results


@contextmanager
def begin_suite(
    options: SuiteOptions, cases: list[Case], progress: SuiteProgress
) -> Iterator[SuiteRun]:
    """A suite with its folder, new or resumed; the folder is ours alone meanwhile."""
    with job.lock_folder(options.folder):
        job.finished_names(options, cases)
        if not options.resume:
            yield SuiteRun(options, _begin_job(options, cases), cases, progress)
            return
        results = job.read_results(options.folder)
        run = SuiteRun(options, job.read_job(options.folder), cases, progress)
        if results is not None:
            run.rows = job.finished_rows(options.folder, results.results)
            run.earlier, run.restored = results.total_time_seconds, results.restored
            run.touched = not results.restored
        yield run


def _begin_job(options: SuiteOptions, cases: list[Case]) -> JobFile:
    before = None
    if options.restore:
        try:
            before = served_before(list_project(options))
        except BenchError as error:
            raise BenchError(
                "what is served now can't be read, so it could not be served again at the end: "
                f"{error.message.removesuffix('; measure with --url')}; "
                "--no-restore goes on without"
            ) from None
    file = JobFile(
        created=datetime.now().astimezone().isoformat(timespec="seconds"),
        typed=options.typed,
        job=job.describe_job(options, cases),
        before=before,
    )
    job.write_job(options.folder, file)
    return file


def run_suite(run: SuiteRun) -> tuple[SuiteResults, bool]:
    """Everything that is left to do: what the files hold then, and whether Ctrl-C came."""
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
            row = case_row(skipped, CaseFailure("SKIPPED", skipped.skip))
            run.progress.step(f"{title}: SKIPPED: {row.diagnosis}")
        else:
            run.touched, run.restored = True, ""
            row = run_case(run.options, run.progress, case, title)
            failed = not run.options.keep_going and row.status != "OK"
        run.rows[case.name] = row
        run.write()


def _restore(run: SuiteRun) -> str:
    """Serve again what was served before; what came of it, in words."""
    if not run.options.restore or not run.touched:
        return ""
    if run.file.before is None:
        return "nothing was served before: the last deployed model keeps running"
    before = run.file.before
    run.progress.step(f"deploying {before.model} again, which was served before")
    with (run.options.folder / "restore.log").open("wb") as log:
        _, failure = CaseCommands(run.options, run.progress, log).deploy(before.data)
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
