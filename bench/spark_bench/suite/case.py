"""One case: deploy it, check what is served, measure it; whatever goes wrong is its row.

`spark-bench run` is a process of its own: its memory and its client's accuracy are those of a
single run, and it can be ended whatever it does.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from spark_bench import project
from spark_bench.errors import BadInput, BenchError, TooManyFailures
from spark_bench.formats import digits, duration
from spark_bench.load.profile import NO_LIMIT, option
from spark_bench.project import ProjectListing
from spark_bench.results.codec import read_result
from spark_bench.results.schema import Result
from spark_bench.results.suite_results import CaseRow
from spark_bench.secret import VARIABLE, project_key
from spark_bench.suite import deploy
from spark_bench.suite.child import ChildExit, SuiteProgress, follow_command
from spark_bench.suite.job import UNFINISHED
from spark_bench.suite.plan import Case, SuiteOptions
from spark_bench.suite.rows import CaseFailure, case_row
from spark_bench.suite.variants import Settings

LAST_LINES = 3


def run_case(options: SuiteOptions, progress: SuiteProgress, case: Case, title: str) -> CaseRow:
    """The row of a case. title: what it is called in the progress."""
    log = options.folder / f"{case.name}.log"
    with suppress(FileNotFoundError):  # of an earlier sitting, where it failed
        (options.folder / result_name(case)).unlink()
    with log.open("wb") as file:
        fields: dict[str, Any] = {"started": round(time.time(), 3), "log": log.name}
        row = _deploy_and_measure(CaseCommands(options, progress, file), case, title, fields)
    outcome = f"{row.status}: {row.diagnosis}"
    if row.status == "OK":
        outcome = f"OK: {digits(row.output_throughput)} tok/s, TTFT {digits(row.ttft_ms)} ms"
    progress.step(f"{title}: {outcome}")
    return row


def _deploy_and_measure(
    commands: CaseCommands, case: Case, title: str, fields: dict[str, Any]
) -> CaseRow:
    commands.progress.step(f"{title}: deploying")
    ended, failed = commands.deploy(case.data)
    fields["startup_seconds"] = round(ended.seconds, 3)
    listing = failed or _check_serving(commands.options, case)
    if isinstance(listing, CaseFailure):
        return case_row(case, listing, **fields)
    assert listing.head
    commands.progress.step(f"{title}: served after {duration(ended.seconds)}, measuring")
    ended, result, file = commands.measure(case)
    fields |= {"bench_seconds": round(ended.seconds, 3), "file": file}
    failure = run_failure(ended, result, commands.options, listing.head.spec)
    return case_row(case, failure, result, **fields)


def _check_serving(options: SuiteOptions, case: Case) -> ProjectListing | CaseFailure:
    """What runs after a deploy, or why it is not what was asked for."""
    try:
        listing = project.find_listing(options.project, options.inventory)
        assert listing
        key = options.api_key or project_key(listing.api_key_file)
    except (BenchError, BadInput) as error:
        return CaseFailure("STARTUP_FAILED", error.message)
    names = deploy.fetch_served_names(listing.url, key)
    problem = deploy.serving_problem(case, listing, names)
    return CaseFailure("STARTUP_FAILED", problem) if problem else listing


@dataclass(frozen=True)
class CaseCommands:
    """The commands of a case: their output goes to `log`, their last line is shown."""

    options: SuiteOptions
    progress: SuiteProgress
    log: BinaryIO

    def deploy(self, data: Settings) -> tuple[ChildExit, CaseFailure | None]:
        """Deploy with these settings: how that ended, and what went wrong (None: nothing)."""
        options, seconds = self.options, self.options.startup_timeout
        inventory = project.inventory_file(options.project, options.inventory)
        report = (options.folder / UNFINISHED / "deploy.json").absolute()
        report.parent.mkdir(parents=True, exist_ok=True)
        report.unlink(missing_ok=True)  # an earlier deploy's
        argv = deploy.deploy_argv(project.find_pyinfra(options.project), inventory, data, report)
        watch = deploy.TransferWatch(report)
        ended = self._follow(argv, seconds, cwd=options.project, restarts=watch)
        return ended, deploy.deploy_failure(ended, deploy.read_report(report), seconds)

    def measure(self, case: Case) -> tuple[ChildExit, Result | None, str | None]:
        """Measure what is served: how that ended, the result, and its file's name."""
        draft = self.options.folder / UNFINISHED / f"{case.name}.json"
        # The server's key is for who asks the server, not for who deploys it; one that is in a
        # file stays there.
        key = self.options.api_key if not self.options.api_key_file else None
        ended = self._follow(
            run_argv(self.options, case.served, draft),
            self.options.bench_timeout,
            environ={VARIABLE: key.reveal()} if key else {},
        )
        try:
            result = read_result(draft)
        except BadInput:
            return ended, None, None
        os.replace(draft, self.options.folder / result_name(case))
        return ended, result, result_name(case)

    def _follow(
        self,
        argv: list[str],
        seconds: float,
        cwd: Path | None = None,
        environ: dict[str, str] | None = None,
        restarts: Callable[[str], bool] = lambda line: False,
    ) -> ChildExit:
        self.log.write(f"$ {' '.join(argv)}\n".encode())
        environment = os.environ | (environ or {})
        return follow_command(
            argv, cwd, self.log, seconds, self.progress.below, environment, restarts
        )


def result_name(case: Case) -> str:
    """Of the result file in the folder."""
    return f"{case.name}_benchmark.json"


def run_argv(options: SuiteOptions, served: str, output: Path) -> list[str]:
    """The command line of a run; an API key travels in the environment or its file."""
    overrides = [
        (option(name), NO_LIMIT[name] if value is None else value)
        for name, value in options.overrides.items()
    ]
    words = [
        *(word for pair in overrides for word in pair),
        *(word for file in options.profiles for word in ("--profiles", file)),
        *(("--api-key-file", options.api_key_file) if options.api_key_file else ()),
        *("--repeat", options.repeat, "--model", served),
        *("--project", options.project, "--inventory", options.inventory),
        *("--max-failures", "100%", "--output", output),
    ]
    # -P: people also work in folders that have a json.py of their own.
    run = [sys.executable, "-P", "-m", "spark_bench", "run", options.profile.name]
    return [*run, *map(str, words)]


def run_failure(
    ended: ChildExit, result: Result | None, options: SuiteOptions, spec: str
) -> CaseFailure | None:
    """What is wrong with a run; None: nothing. spec: what the head ran before it."""
    if ended.code is None:
        done = f": {result.summary.completed} requests were answered" if result else ""
        return CaseFailure(
            "BENCH_FAILED",
            f"no end within {duration(options.bench_timeout)} (--bench-timeout){done}",
        )
    if result is None:
        lines = [line.removeprefix("Error: ") for line in ended.lines if line.strip()]
        errors = [line[7:] for line in ended.lines if line.startswith("Error: ")]
        text = "; ".join(errors or lines[-LAST_LINES:])
        return CaseFailure("BENCH_FAILED", text or f"run ended with {ended.code}")
    summary = result.summary
    total = summary.completed + summary.failed
    why = ", ".join(f"{count} {kind}" for kind, count in summary.failures.items())
    if not summary.completed or not summary.total_output_tokens:
        return CaseFailure(
            "NO_OUTPUT", f"none of {total} requests was answered{f' ({why})' if why else ''}"
        )
    if result.status == "partial":
        return CaseFailure("BENCH_FAILED", f"it ended early: {result.reason}")
    try:
        options.max_failures.check(summary.failed, total)
    except TooManyFailures:
        return CaseFailure("BENCH_FAILED", f"{summary.failed} of {total} requests failed ({why})")
    deployed = result.provenance.deployment
    if deployed and deployed.ranks and deployed.ranks[0].spec != spec:
        return CaseFailure("BENCH_FAILED", f"meanwhile {deployed.model} was deployed anew")
    return None
