"""One case of a suite: deploy it, check what serves, measure it, and score its answers.

Measuring is a `spark-bench run` in a child process: its memory and accuracy are those of a single
run, and it can be ended whatever it does.
"""

import os
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from msgspec import UNSET

from spark_bench import formats, history, project, secret
from spark_bench.errors import BadInput, BenchError, TooManyFailures
from spark_bench.load.profile import NO_LIMIT, option
from spark_bench.results import codec, quality_schema, schema, suite_results
from spark_bench.suite import child, deploy, job, plan, suite_rows, variants

LAST_LINES = 3


def run_case(
    options: plan.SuiteOptions, progress: child.SuiteProgress, case: plan.Case, title: str
) -> suite_results.CaseRow:
    """Deploy, check and measure a case; returns its row. title: its name in the progress"""
    log = options.folder / f"{case.name}.log"
    tasks = options.quality.tasks if options.quality else ()
    for name in (result_name(case), *(quality_name(case, task) for task in tasks)):
        with suppress(FileNotFoundError):  # left by an earlier, failed attempt
            (options.folder / name).unlink()
    fields: dict[str, Any] = {"started": round(time.time(), 3), "log": log.name}
    result = None
    with log.open("wb") as file:
        commands = CaseCommands(options, progress, file)
        progress.step(f"{title}: deploying")
        ended, failure, warned = commands.deploy(case.data)
        fields["startup_seconds"] = round(ended.seconds, 3)
        fields["warned"] = warned or UNSET
        served = failure or _check_serving(options, case)
        if isinstance(served, suite_rows.CaseFailure):
            failure = served
        else:
            assert served.head
            progress.step(f"{title}: served after {formats.duration(ended.seconds)}, measuring")
            ended, result, fields["file"] = commands.measure(case)
            fields["bench_seconds"] = round(ended.seconds, 3)
            failure = run_failure(ended, result, options, served.head.spec)
            if options.quality and not failure:
                progress.step(f"{title}: {options.quality}")
                began = time.monotonic()
                fields["scores"], failure = commands.score(case, options.quality)
                fields["quality_seconds"] = round(time.monotonic() - began, 3)
    row = suite_rows.case_row(case, failure, result, **fields)
    outcome = f"{row.status}: {row.diagnosis}"
    if row.status == "OK":
        outcome = (
            f"OK: {formats.digits(row.output_throughput)} tok/s, TTFT "
            f"{formats.digits(row.ttft_ms)} ms"
        )
        outcome += "".join(f", {task} {s.score:.1%}" for task, s in row.by_task.items())
    if row.warned:
        outcome += f"; warned by the probes: {row.warned}"
    progress.step(f"{title}: {outcome}")
    return row


def _check_serving(
    options: plan.SuiteOptions, case: plan.Case
) -> project.ProjectListing | suite_rows.CaseFailure:
    """What runs after a deploy, or how it differs from what the case needs."""
    try:
        listing = project.find_listing(options.project, options.inventory)
        assert listing
        key = options.api_key or secret.project_key(listing.api_key_file)
    except (BenchError, BadInput) as error:
        return suite_rows.CaseFailure("STARTUP_FAILED", error.message)
    names = deploy.fetch_served_names(listing.url, key)
    problem = deploy.serving_problem(case, listing, names)
    return suite_rows.CaseFailure("STARTUP_FAILED", problem) if problem else listing


@dataclass(frozen=True)
class CaseCommands:
    """The commands of a case. Their output goes to `log`, their latest line to the progress."""

    options: plan.SuiteOptions
    progress: child.SuiteProgress
    log: BinaryIO

    def deploy(
        self, data: variants.Settings
    ) -> tuple[child.ChildExit, suite_rows.CaseFailure | None, str]:
        """Deploy with these settings.

        Returns how it ended, what went wrong (None: nothing), and what its probes doubt.
        """
        options, seconds = self.options, self.options.startup_timeout
        inventory = project.inventory_file(options.project, options.inventory)
        report = (options.folder / job.UNFINISHED / "deploy.json").absolute()
        report.parent.mkdir(parents=True, exist_ok=True)
        report.unlink(missing_ok=True)  # an earlier deploy's
        argv = deploy.deploy_argv(project.pyinfra_program(options.project), inventory, data, report)
        watch = deploy.TransferWatch(report)
        ended = self._follow(argv, seconds, cwd=options.project, restarts=watch)
        document = deploy.read_report(report)
        failure = deploy.deploy_failure(ended, document, seconds)
        return ended, failure, "" if failure else deploy.probe_warnings(document)

    def measure(self, case: plan.Case) -> tuple[child.ChildExit, schema.Result | None, str | None]:
        """Measure what is served; returns how it ended, the result, and its file's name.

        The last two are None if there is no valid result.
        """
        draft = self.options.folder / job.UNFINISHED / f"{case.name}.json"
        ended = self._follow_keyed(
            run_argv(self.options, case.served, draft), self.options.bench_timeout
        )
        try:
            result = codec.read_result(draft)
        except BadInput:
            return ended, None, None
        self._keep(draft, result_name(case), result)
        return ended, result, result_name(case)

    def score(
        self, case: plan.Case, quality: suite_results.SuiteQuality
    ) -> tuple[dict[str, suite_results.SuiteScore], suite_rows.CaseFailure | None]:
        """Score what is served; returns the scores so far by task, and what went wrong (None:
        nothing)."""
        scores: dict[str, suite_results.SuiteScore] = {}
        for task in quality.tasks:
            name = quality_name(case, task)
            draft = self.options.folder / job.UNFINISHED / name
            ended = self._follow_keyed(
                quality_argv(self.options, quality, task, case.served, draft),
                self.options.quality_timeout,
            )
            try:
                result = codec.read_quality(draft)
            except BadInput:
                result = None
            if failure := quality_failure(task, ended, result, self.options):
                return scores, failure
            assert result
            self._keep(draft, name, result)
            score = result.score
            assert score.score is not None and score.low is not None and score.high is not None
            scores[task] = suite_results.SuiteScore(
                right=score.right,
                answered=score.answered,
                score=score.score,
                low=score.low,
                high=score.high,
                file=name,
            )
        return scores, None

    def _keep(
        self, draft: Path, name: str, result: schema.Result | quality_schema.QualityResult
    ) -> None:
        """Move a result to its place, and add it to the history from there."""
        path = self.options.folder / name
        draft.replace(path)
        try:
            history.remember_result(result, path)
        except (BadInput, BenchError) as error:
            self.progress.step(f"not in the history: {error.message}")

    def _follow_keyed(self, argv: list[str], seconds: float) -> child.ChildExit:
        # Only a measurement needs the server's key, not the deploy. A key in a file stays there.
        key = self.options.api_key if not self.options.api_key_file else None
        environ = {secret.VARIABLE: key.reveal()} if key else {}
        return self._follow(argv, seconds, environ=environ)

    def _follow(
        self,
        argv: list[str],
        seconds: float,
        cwd: Path | None = None,
        environ: dict[str, str] | None = None,
        restarts: Callable[[str], bool] = lambda line: False,
    ) -> child.ChildExit:
        self.log.write(f"$ {' '.join(argv)}\n".encode())
        environment = os.environ | (environ or {})
        return child.follow_command(
            argv, cwd, self.log, seconds, self.progress.below, environment, restarts
        )


def result_name(case: plan.Case) -> str:
    """Name of a case's result file in the suite's folder."""
    return f"{case.name}_benchmark.json"


def quality_name(case: plan.Case, task: str) -> str:
    """Name of the file of a case's score of a task, in the suite's folder."""
    return f"{case.name}_quality_{task}.json"


def run_argv(options: plan.SuiteOptions, served: str, output: Path) -> list[str]:
    """The command line of a run. An API key is passed in the environment or in its file."""
    overrides = [
        (option(name), NO_LIMIT[name] if value is None else value)
        for name, value in options.overrides.items()
    ]
    words = [
        *("run", options.profile.name),
        *(word for pair in overrides for word in pair),
        *(word for file in options.profiles for word in ("--profiles", file)),
        *("--repeat", options.repeat, "--max-failures", "100%"),
    ]
    return _bench(options, served, output, map(str, words))


def quality_argv(
    options: plan.SuiteOptions,
    quality: suite_results.SuiteQuality,
    task: str,
    served: str,
    output: Path,
) -> list[str]:
    """The command line of a score. An API key is passed in the environment or in its file."""
    limit = ("--limit", str(quality.limit)) if quality.limit else ()
    words = ("quality", task, *limit, "--thinking", quality.thinking)
    return _bench(options, served, output, words)


def _bench(
    options: plan.SuiteOptions, served: str, output: Path, words: Iterable[str]
) -> list[str]:
    """A command of spark-bench, which measures what is served and writes a result."""
    where = (
        *(("--api-key-file", options.api_key_file) if options.api_key_file else ()),
        *("--model", served, "--output", output, "--no-history"),
        *("--project", options.project, "--inventory", options.inventory),
    )
    # -P: don't import modules from the current folder, which may have its own json.py.
    return [sys.executable, "-P", "-m", "spark_bench", *words, *map(str, where)]


def quality_failure(
    task: str,
    ended: child.ChildExit,
    result: quality_schema.QualityResult | None,
    options: plan.SuiteOptions,
) -> suite_rows.CaseFailure | None:
    """Why a task could not be scored; None: it was."""
    if ended.code is None:
        answered = f": {result.score.answered} items were answered" if result else ""
        limit = formats.duration(options.quality_timeout)
        why = f"no end within {limit} (--quality-timeout){answered}"
    elif result is None:
        why = last_output(ended)
    elif result.status == "partial" or result.score.score is None:
        why = f"it ended early: {result.reason}"
    else:
        return None
    return suite_rows.CaseFailure("BENCH_FAILED", f"{task}: {why}")


def last_output(ended: child.ChildExit) -> str:
    """What a command that failed printed: its errors, else its last lines."""
    lines = [line.removeprefix("Error: ") for line in ended.lines if line.strip()]
    errors = [line[7:] for line in ended.lines if line.startswith("Error: ")]
    return "; ".join(errors or lines[-LAST_LINES:]) or f"it ended with {ended.code}"


def run_failure(
    ended: child.ChildExit, result: schema.Result | None, options: plan.SuiteOptions, spec: str
) -> suite_rows.CaseFailure | None:
    """What went wrong with a run; None: nothing. spec: the head's spec before the run"""
    if ended.code is None:
        done = f": {result.summary.completed} requests were answered" if result else ""
        return suite_rows.CaseFailure(
            "BENCH_FAILED",
            f"no end within {formats.duration(options.bench_timeout)} (--bench-timeout){done}",
        )
    if result is None:
        return suite_rows.CaseFailure("BENCH_FAILED", last_output(ended))
    summary = result.summary
    total = summary.completed + summary.failed
    why = ", ".join(f"{count} {kind}" for kind, count in summary.failures.items())
    if not summary.completed or not summary.total_output_tokens:
        return suite_rows.CaseFailure(
            "NO_OUTPUT", f"none of {total} requests was answered{f' ({why})' if why else ''}"
        )
    if result.status == "partial":
        return suite_rows.CaseFailure("BENCH_FAILED", f"it ended early: {result.reason}")
    try:
        options.max_failures.check(summary.failed, total)
    except TooManyFailures:
        return suite_rows.CaseFailure(
            "BENCH_FAILED", f"{summary.failed} of {total} requests failed ({why})"
        )
    deployed = result.provenance.deployment
    if deployed and deployed.ranks and deployed.ranks[0].spec != spec:
        return suite_rows.CaseFailure(
            "BENCH_FAILED", f"meanwhile {deployed.model} was deployed anew"
        )
    return None
